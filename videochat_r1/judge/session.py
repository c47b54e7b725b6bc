"""The judge's questions from one event loop: bounded, paced, tried again, and patient in an outage."""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from typing import Any

from videochat_r1.judge.config import JudgeConfig
from videochat_r1.judge.prompts import BadReplyError, Question, label_question, reply_object
from videochat_r1.judge.server import Server, TroubleError, UnscoredError

logger = logging.getLogger(__name__)

PROBE_EVENTS = ("A man opens a door.", "A dog sleeps on a boat.")
PROBE = label_question(PROBE_EVENTS, "A man opens a door and walks into a kitchen, where he switches on the light.")
"""Asked to see whether a judge works; any judge finds the first event entailed and the second not."""

_LONGEST_BACKOFF_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 120.0
_PROBE_SECONDS = 10.0
# A question that fails this often, `max_attempts` each time, while the judge answers others is left alone.
_ROUNDS = 3
# Added to the temperature with every reply that could not be read.
_WARMER = 0.3


class Session:
    """The questions of one event loop.

    Args:
        config: server and limits.
        counts: `requests`, `retries` and `bad_replies` are counted here.
    """

    def __init__(self, config: JudgeConfig, counts: Counter[str]) -> None:
        self.config = config
        self.counts = counts
        self.server = Server(config)
        self.in_flight: dict[bytes, asyncio.Task[str]] = {}
        self.unwritten: dict[bytes, str] = {}
        self.writing: asyncio.Task[dict[bytes, str]] | None = None
        self._slots = asyncio.Semaphore(config.concurrency)
        self._interval = 60.0 / config.requests_per_minute if config.requests_per_minute else 0.0
        self._next_turn = 0.0
        self._not_before = 0.0
        self._last_reply = 0.0
        self._down_since: float | None = None
        self._recovery: asyncio.Task[str | None] | None = None
        self._random = random.Random(0)

    @property
    def is_out(self) -> bool:
        """Whether the server has stopped answering and was not seen alive since."""
        return self._down_since is not None

    async def ask(self, question: Question[Any]) -> str:
        """A reply that `question.read` takes, as canonical JSON.

        Raises:
            UnscoredError: no such reply came; in an outage, not before it was waited for.
        """
        for _ in range(_ROUNDS):
            began = time.monotonic()
            try:
                return await self.attempts(question)
            except TroubleError as trouble:
                problem = trouble
                if self._last_reply < began:
                    await self._recovered(str(trouble))
        raise UnscoredError(f"{problem}, while the judge answers other questions") from problem

    async def attempts(self, question: Question[Any], *, give_up_on: tuple[int | None, ...] = ()) -> str:
        """As `ask`, without waiting for an outage to end.

        Args:
            question: to ask.
            give_up_on: statuses of a trouble that is not tried again.

        Raises:
            TroubleError: the server was in trouble, at least in the last attempt.
            UnscoredError: no reply could be read.
        """
        warmth = 0.0
        problem: BadReplyError | TroubleError | None = None
        for attempt in range(self.config.max_attempts):
            if problem is not None:
                self.counts["retries"] += 1
                await asyncio.sleep(self._backoff(attempt))
            try:
                reply = reply_object(await self._request(question, warmth))
                question.read(reply)
                return json.dumps(reply, ensure_ascii=False)
            except BadReplyError as error:
                self.counts["bad_replies"] += 1
                warmth += _WARMER
                problem = error
            except TroubleError as error:
                problem = error
                if error.status in give_up_on:
                    raise
        times = f"in {self.config.max_attempts} attempts"
        if isinstance(problem, TroubleError):
            raise TroubleError(f"{problem} {times}", problem.status) from problem
        raise UnscoredError(f"no usable reply {times}: {problem}") from problem

    async def close(self) -> None:
        """Close the connections."""
        await self.server.close()

    async def _request(self, question: Question[Any], warmth: float = 0.0) -> str:
        """One reply's text, within the limits. Raises what `Server.reply` does."""
        async with self._slots:
            await self._turn()
            self.counts["requests"] += 1
            try:
                text = await self.server.reply(question, warmth)
            except TroubleError as trouble:
                if trouble.retry_after is not None:
                    wait = min(trouble.retry_after, _LONGEST_RETRY_AFTER_SECONDS)
                    self._not_before = max(self._not_before, time.monotonic() + wait)
                raise
            except BadReplyError:
                self._saw_life()
                raise
        self._saw_life()
        return text

    def _saw_life(self) -> None:
        self._last_reply = time.monotonic()
        self._down_since = None

    async def _turn(self) -> None:
        """Wait until the rate limit and the server's Retry-After allow a request."""
        turn = max(time.monotonic(), self._next_turn)
        self._next_turn = turn + self._interval
        while (wait := max(turn, self._not_before) - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def _backoff(self, attempt: int) -> float:
        """Seconds before an attempt (from 1): doubling, half of it by chance, so that requests do not come back in step."""
        longest = min(_LONGEST_BACKOFF_SECONDS, self.config.backoff_seconds * 2.0 ** (attempt - 1))
        return longest * self._random.uniform(0.5, 1.0)

    # --- an outage ----------------------------------------------------------------------------------------------

    async def _recovered(self, reason: str) -> None:
        """Return once the judge answers; all questions in trouble wait for the same probes.

        Raises:
            UnscoredError: it does not answer in the time that `on_outage` allows.
        """
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._probe_until_answered(reason))
        problem = await asyncio.shield(self._recovery)
        if problem is not None:
            raise UnscoredError(problem, outage=True)

    async def _probe_until_answered(self, reason: str) -> str | None:
        """None once a probe is answered, else why none was."""
        config = self.config
        if self._down_since is None:
            self._down_since = time.monotonic()
        began = self._down_since
        patience = config.max_wait_seconds if config.on_outage == "pause" else 0.0
        logger.warning("the judge at %s does not answer (%s); waiting up to %.0f s", config.base_url, reason, patience)
        attempt = 0
        while (problem := await self._probe()) is not None:
            attempt += 1
            left = began + patience - time.monotonic()
            if left <= 0 and attempt >= config.max_attempts:
                seconds = time.monotonic() - began
                return f"the judge at {config.base_url} has not answered for {seconds:.0f} s: {problem}"
            wait = min(_PROBE_SECONDS, self._backoff(attempt))
            await asyncio.sleep(min(wait, left) if left > 0 else wait)
        logger.warning("the judge at %s answers again after %.0f s", config.base_url, time.monotonic() - began)
        return None

    async def _probe(self) -> TroubleError | None:
        try:
            await self._request(PROBE)
        except TroubleError as trouble:
            return trouble
        except (BadReplyError, UnscoredError):
            return None  # not well, but there
        return None
