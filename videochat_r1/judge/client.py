"""The judge as the rest of the package sees it: questions go in, checked answers come out, each asked once."""

import asyncio
import hashlib
import json
import logging
from collections import Counter
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

from videochat_r1.judge.cache import JudgeCache
from videochat_r1.judge.check import check_judge
from videochat_r1.judge.config import JudgeConfig
from videochat_r1.judge.prompts import PROMPT_VERSION, BadReplyError, Question, reply_object
from videochat_r1.judge.server import UnscoredError
from videochat_r1.judge.session import Session

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Answers that arrive within this time are written to the cache together.
_GATHER_SECONDS = 0.005


class Judge:
    """Asks a judge, through the cache. Usable from any event loop, from one thread at a time.

    `counts` says what was done: `requests`, `retries`, `bad_replies`, `cache_hits`, `joined` (questions that waited for an
    equal one under way) and `unscorable`.

    Args:
        config: which judge.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        self.counts: Counter[str] = Counter()
        self._cache: JudgeCache | None = None
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, Session] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The judge's model and the version of the prompts, for result files."""
        return f"{self.config.model}, prompts {PROMPT_VERSION}"

    @property
    def is_out(self) -> bool:
        """Whether questions are waiting for an outage to end."""
        return any(session.is_out for session in self._sessions.values())

    async def ask(self, question: Question[T]) -> T:
        """The answer, from the cache if it is there.

        Raises:
            UnscoredError: there is none, see `Session.ask`.
        """
        key = self.key(question)
        kept = self._open_cache().get(key) if self.config.cache_dir is not None else None
        if kept is not None:
            try:
                answer = question.read(reply_object(kept))
            except BadReplyError as error:
                logger.warning(
                    "an answer in %s cannot be read (%s) and is asked for again", self.config.cache_dir, error
                )
                self._open_cache().drop(key)
            else:
                self.counts["cache_hits"] += 1
                return answer
        in_flight = self._session().in_flight
        task = in_flight.get(key)
        if task is None:
            task = asyncio.create_task(self._ask_server(question, key))
            in_flight[key] = task
            task.add_done_callback(lambda done: _forget(in_flight, key, done))
        else:
            self.counts["joined"] += 1
        # Shielded: who stops waiting must not take the answer from others, nor from the cache.
        kept = await asyncio.shield(task)
        try:
            return question.read(reply_object(kept))
        except BadReplyError as error:  # what another process has kept meanwhile
            raise UnscoredError(f"an answer in {self.config.cache_dir} cannot be read: {error}") from error

    async def check(self) -> None:
        """See that the judge can be asked and answers as agreed, before anything depends on it.

        Raises:
            ConfigError: the key is not set.
            JudgeError: with the address, the reason and the mend.
        """
        if self.config.cache_dir is not None:
            self._open_cache()
        await check_judge(self._session())

    def key(self, question: Question[Any]) -> bytes:
        """What an answer is kept under: model, version of the prompts, and all that goes into the request but limits.

        Not the address: the same model may be served elsewhere tomorrow.
        """
        config = self.config
        settings = [config.temperature, config.response_format, dict(config.extra_body)]
        parts = [PROMPT_VERSION, config.model, settings, question.messages]
        text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(text.encode()).digest()

    async def close(self) -> None:
        """Close this event loop's connections, and the cache."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.close()

    async def _ask_server(self, question: Question[Any], key: bytes) -> str:
        try:
            answer = await self._session().ask(question)
        except UnscoredError:
            self.counts["unscorable"] += 1
            raise
        return answer if self.config.cache_dir is None else await self._keep(key, answer)

    async def _keep(self, key: bytes, answer: str) -> str:
        """The answer that the cache keeps: another process may have been faster, and all go by the same."""
        session = self._session()
        session.unwritten[key] = answer
        if session.writing is None:
            session.writing = asyncio.create_task(self._write(session))
        return (await asyncio.shield(session.writing))[key]

    async def _write(self, session: Session) -> dict[bytes, str]:
        await asyncio.sleep(_GATHER_SECONDS)
        answers, session.unwritten, session.writing = session.unwritten, {}, None
        return self._open_cache().put_all(answers)

    def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = Session(self.config, self.counts)
        return self._sessions[loop]

    def _open_cache(self) -> JudgeCache:
        if self._cache is None:
            assert self.config.cache_dir is not None
            self._cache = JudgeCache(self.config.cache_dir, self.config.cache_megabytes)
        return self._cache


def _forget(in_flight: dict[bytes, asyncio.Task[str]], key: bytes, done: asyncio.Task[str]) -> None:
    in_flight.pop(key, None)
    if not done.cancelled():
        done.exception()  # seen: nobody may be waiting any more
