"""One request to the judge's server, and what its failures mean."""

import email.utils
import json
import ssl
import time
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from videochat_r1.errors import JudgeError
from videochat_r1.judge.config import JudgeConfig
from videochat_r1.judge.prompts import BadReplyError, Question
from videochat_r1.text import load_json

if TYPE_CHECKING:
    import openai

# The connection pool looks at each of its connections for every request, so many connections go to several pools.
_CONNECTIONS_PER_POOL = 8


class UnscoredError(JudgeError):
    """A question got no usable answer.

    Args:
        reason: why, in a few words.
        outage: whether the judge as a whole does not answer, so that further questions are useless.
    """

    def __init__(self, reason: str, *, outage: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outage = outage


class TroubleError(Exception):
    """The server could not be reached, or would not do its work: not the question's fault, as far as one request tells.

    Args:
        reason: in a few words.
        status: HTTP status; None without a response.
        retry_after: seconds that the server wants to be left alone for; None if it does not say.
    """

    def __init__(self, reason: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class Server:
    """The server of one event loop's requests.

    Args:
        config: its address, key and manners.

    Raises:
        ConfigError: the key is not set.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._clients = _clients(config)
        self._next_client = cycle(self._clients)

    async def reply(self, question: Question[Any], warmth: float = 0.0) -> str:
        """The text of one reply.

        Args:
            question: to ask.
            warmth: added to the temperature.

        Raises:
            BadReplyError: there is a response without text, or with an incomplete one.
            TroubleError: there is no response, or a refusal that has nothing to do with the question.
            UnscoredError: the server refuses this very question.
        """
        import openai

        client = next(self._next_client)
        try:
            body = await client.post("/chat/completions", body=self._body(question, warmth), cast_to=str)
        except openai.APIStatusError as error:
            raise _refusal(error) from error
        except openai.APITimeoutError as error:
            raise TroubleError(f"no reply within {self._config.timeout_seconds:g} s") from error
        except openai.APIError as error:
            raise TroubleError(_connection_problem(error)) from error
        return reply_text(body)

    async def models(self) -> list[str]:
        """Names of the first models that the server lists; none if it lists none."""
        import openai

        try:
            listed = json.loads(await self._clients[0].get("/models", cast_to=str))
            return [str(model["id"]) for model in listed["data"]][:10]
        except (openai.APIError, ValueError, KeyError, TypeError):
            return []

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()

    def _body(self, question: Question[Any], warmth: float) -> dict[str, Any]:
        config = self._config
        body: dict[str, Any] = {"model": config.model, "messages": question.messages, "max_tokens": config.max_tokens}
        if config.temperature is not None:
            body["temperature"] = min(1.0, config.temperature + warmth) if warmth else config.temperature
        if config.response_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif config.response_format == "json_schema":
            schema = {"name": question.kind, "schema": dict(question.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | dict(config.extra_body)


def reply_text(body: str) -> str:
    """The text in the body of a chat completion.

    Raises:
        BadReplyError: there is none, or it was cut off.
    """
    try:
        choice = load_json(body)["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadReplyError(f"the response is no chat completion: {body[:80]!r}") from error
    if finish == "length":
        raise BadReplyError("it was cut off: raise judge.max_tokens")
    if not isinstance(text, str) or not text.strip():
        raise BadReplyError(f"it is empty (finish_reason {finish!r})")
    return text


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or a date; None without one that can be read."""
    value = headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    date = email.utils.parsedate_tz(value)
    try:
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):
        return None  # in a year that no calendar has


def _refusal(error: "openai.APIStatusError") -> TroubleError | UnscoredError:
    """What an HTTP status other than success means for the question."""
    status = error.status_code
    reason = f"HTTP {status}: {_message(error)}"
    if status in (401, 403, 404, 408, 409, 429) or status >= 500:
        return TroubleError(reason, status, retry_after(error.response.headers))
    return UnscoredError(f"the server refuses the question: {reason}")


def _message(error: "openai.APIStatusError") -> str:
    """What the server says, cut to a line."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    text = " ".join(str(body or error.response.reason_phrase).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _connection_problem(error: Exception) -> str:
    """The innermost reason of a connection that failed."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"no connection ({type(cause).__name__}: {str(cause) or 'closed by the server'})"


def _clients(config: JudgeConfig) -> "list[openai.AsyncOpenAI]":
    # Takes seconds to import, and most runs have no judge.
    import openai

    # Making one takes as long as a hundred requests, so all share it.
    tls = ssl.create_default_context()
    local = urlsplit(config.base_url).hostname in ("localhost", "127.0.0.1", "::1")
    key = config.api_key()
    return [
        openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=key,
            timeout=config.timeout_seconds,
            max_retries=0,
            # No proxy leads back to this machine.
            http_client=openai.DefaultAsyncHttpxClient(verify=tls, trust_env=not local),
        )
        for _ in range(-(-config.concurrency // _CONNECTIONS_PER_POOL))
    ]
