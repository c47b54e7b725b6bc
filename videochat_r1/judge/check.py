"""Refuses a judge that cannot be used before anything depends on it: with its address, the reason and the mend."""

import json
from urllib.parse import urlsplit

from videochat_r1.errors import JudgeError
from videochat_r1.judge.config import JudgeConfig
from videochat_r1.judge.rules import MODEL
from videochat_r1.judge.server import TroubleError, UnscoredError
from videochat_r1.judge.session import PROBE, PROBE_EVENTS, Session


async def check_judge(session: Session) -> None:
    """See that the server is there, takes the key, knows the model and answers as agreed, with one question.

    Raises:
        JudgeError: it does not.
    """
    config = session.config
    where = f"the judge {config.model!r} at {config.base_url}"
    try:
        # What will not pass by itself is not tried again.
        reply = await session.attempts(PROBE, give_up_on=(None, 401, 403, 404))
    except TroubleError as trouble:
        raise JudgeError(f"{where} cannot be asked: {trouble}. {await _mend(session, trouble)}") from trouble
    except UnscoredError as error:
        raise JudgeError(
            f"{where} does not answer as agreed: {error}. {await _other_models(session)}If its server cannot bind replies to a "
            "schema, set judge.response_format: text; if it thinks first, raise judge.max_tokens or turn thinking off with "
            "judge.extra_body; if it is no OpenAI-compatible server, correct judge.base_url; else use a more capable model"
        ) from error
    first, second = PROBE.read(json.loads(reply))
    if first != "entailment" or second == "entailment":
        raise JudgeError(
            f"{where} answers, but its verdicts are useless: of the events {list(PROBE_EVENTS)} a description tells the "
            f"first and not the second, and it labels them {first} and {second}. Use a more capable model"
        )


async def _mend(session: Session, trouble: TroubleError) -> str:
    """What a person can do about a server that refuses every question."""
    config = session.config
    if trouble.status in (401, 403):
        if config.api_key_env is None:
            return "It wants a key: put it in an environment variable and name that with judge.api_key_env"
        return f"Put the right key in the environment variable {config.api_key_env}"
    if trouble.status == 404:
        return (
            f"{await _other_models(session)}Set judge.model to one that it serves, and let judge.base_url end where "
            "/chat/completions begins"
        )
    if trouble.status is None:
        return f"{_start(config)}, correct judge.base_url, or raise judge.timeout_seconds if it is only slow"
    return "See the server's log; `videochat-r1 judge check` asks again"


def _start(config: JudgeConfig) -> str:
    """How a server comes to be where the judge is looked for."""
    address = urlsplit(config.base_url)
    if address.hostname not in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):
        return f"See that the server on {address.hostname} runs and can be reached from this machine (network, proxy)"
    port = address.port or 8000
    if config.model == MODEL:
        return f"Start it (`videochat-r1 judge serve-rules --port {port}`)"
    return f"Start a server there (`vllm serve {config.model} --port {port}`; docs/judge.md names others)"


async def _other_models(session: Session) -> str:
    """A sentence on what the server serves, if it is not this judge."""
    known = await session.server.models()
    return f"It serves {', '.join(known)}. " if known and session.config.model not in known else ""
