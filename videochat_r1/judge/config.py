"""Which judge is asked, and how hard: the `judge` mapping of a recipe, or a YAML file of its own."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from videochat_r1.errors import ConfigError
from videochat_r1.options import as_type, check_keys, read_yaml

RESPONSE_FORMATS = ("json_schema", "json_object", "text")
OUTAGE_POLICIES = ("pause", "stop")


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """An OpenAI-compatible server and the manners of asking it.

    Args:
        base_url: address of the API, with its version part: `http://localhost:8000/v1`.
        model: name that the server knows the judge by.
        api_key_env: environment variable that holds the key; None for servers that want none.
        concurrency: questions under way at once, over all processes of a run, but at least one for each.
        requests_per_minute: limit over all processes of a run; None for none.
        timeout_seconds: of one request.
        max_attempts: requests per question before it is given up, or the judge taken to be out.
        backoff_seconds: wait before the second attempt; it doubles with each further one. A server's own Retry-After
            goes first.
        on_outage: `pause` goes on asking until the judge answers again or `max_wait_seconds` are over; `stop` does not
            wait.
        max_wait_seconds: longest that a step waits for the judge, outages included; it has to be shorter than the time-out
            of collective operations, in which the other processes wait meanwhile.
        temperature: of the judge; None leaves it to the server. A reply that cannot be read is asked for again a little
            warmer.
        max_tokens: of a reply.
        response_format: how replies are bound to JSON: `json_schema` (vLLM, SGLang, OpenAI), `json_object`, or `text` for
            servers that know neither.
        decoy: put an event that no video shows among those to label; a reply that finds it entailed is thrown away.
        max_description_chars: more of a caption than this is not shown to the judge.
        extra_body: further fields of every request, as the server documents them.
        cache_dir: folder of the answers' cache; None for no cache.
        cache_megabytes: size that the cache is kept under; the longest unused answers go first.

    Raises:
        ConfigError: a value that cannot work.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    concurrency: int = 64
    requests_per_minute: float | None = None
    timeout_seconds: float = 60.0
    max_attempts: int = 5
    backoff_seconds: float = 0.5
    on_outage: str = "pause"
    max_wait_seconds: float = 1200.0
    temperature: float | None = 0.0
    max_tokens: int = 1024
    response_format: str = "json_schema"
    decoy: bool = True
    max_description_chars: int = 8000
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: str | None = "outputs/judge_cache"
    cache_megabytes: float = 512.0

    def __post_init__(self) -> None:
        if not _is_address(self.base_url):
            raise ConfigError(
                f"judge.base_url is {self.base_url!r}; expected an address such as http://localhost:8000/v1"
            )
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"judge.model is {self.model!r}; expected the name that the server knows the judge by")
        for name, least in (
            ("concurrency", 1),
            ("max_attempts", 1),
            ("max_tokens", 16),
            ("max_description_chars", 100),
        ):
            if type(getattr(self, name)) is not int or getattr(self, name) < least:
                raise ConfigError(f"judge.{name} is {getattr(self, name)!r}; expected a whole number from {least}")
        for name in (
            "requests_per_minute",
            "timeout_seconds",
            "backoff_seconds",
            "max_wait_seconds",
            "cache_megabytes",
        ):
            value = getattr(self, name)
            if not _positive(value) and not (name == "requests_per_minute" and value is None):
                raise ConfigError(f"judge.{name} is {value!r}; expected a number above 0")
        for name, allowed in (("on_outage", OUTAGE_POLICIES), ("response_format", RESPONSE_FORMATS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"judge.{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name in ("api_key_env", "cache_dir"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise ConfigError(f"judge.{name} is {value!r}; expected a name, or null for none")
        if self.temperature is not None and self.temperature != 0 and not _positive(self.temperature):
            raise ConfigError(f"judge.temperature is {self.temperature!r}; expected a number from 0, or null")
        if not isinstance(self.decoy, bool):
            raise ConfigError(f"judge.decoy is {self.decoy!r}; expected true or false")
        if not isinstance(self.extra_body, Mapping) or not _is_json(dict(self.extra_body)):
            raise ConfigError(f"judge.extra_body is {self.extra_body!r}; expected a mapping that JSON can carry")

    @classmethod
    def from_dict(cls, values: Any, where: str = "judge") -> "JudgeConfig":
        """The configuration in a YAML mapping.

        Raises:
            ConfigError: no mapping, an unknown key (naming the nearest), or a value that cannot work.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a mapping with base_url and model, got {values!r}")
        check_keys(values, [each.name for each in dataclasses.fields(cls)], where=where)
        if missing := [key for key in ("base_url", "model") if key not in values]:
            raise ConfigError(
                f"{where} has no {' and no '.join(missing)}: it names the server and the model that judges"
            )
        return cls(**as_type(values, cls, "judge"))

    def api_key(self) -> str:
        """The key, or a placeholder for servers that want none.

        Raises:
            ConfigError: the environment variable is not set, or holds no key.
        """
        if self.api_key_env is None:
            return "none"
        key = os.environ.get(self.api_key_env)
        if not key:
            raise ConfigError(
                f"the judge's key should be in the environment variable {self.api_key_env}, which is not set: "
                f"export {self.api_key_env}=..., or name another with judge.api_key_env (null for servers without keys)"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"the judge's key in the environment variable {self.api_key_env} holds a space, a line break or a letter that "
                "no HTTP header can carry; export the bare key"
            )
        return key

    def share_of(self, num_processes: int) -> "JudgeConfig":
        """The part of the limits that one of several processes may use."""
        rate = self.requests_per_minute
        return replace(
            self,
            concurrency=max(1, self.concurrency // num_processes),
            requests_per_minute=None if rate is None else rate / num_processes,
        )


def read_judge_config(path: str | Path) -> JudgeConfig:
    """The judge of a YAML file: the mapping itself, or the `judge` of a recipe.

    Raises:
        ConfigError: the file cannot be read or is no such mapping.
    """
    path = Path(path)
    values = read_yaml(path, "a judge's YAML file")
    if not values.get("judge") and not {"base_url", "model"} & values.keys():
        raise ConfigError(f"{path} names no judge; expected base_url and model, or a recipe with `judge`")
    if "judge" in values:
        return JudgeConfig.from_dict(values["judge"], where=f"`judge` of {path}")
    return JudgeConfig.from_dict(values, where=str(path))


def _is_address(value: Any) -> bool:
    try:
        parts = urlsplit(value) if isinstance(value, str) and not any(map(str.isspace, value)) else None
        return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False  # no such port, or half an IPv6 address


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
