"""The exceptions of this package: each says what was expected, what came, where, and what to do; and how they list many things."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


class VideoChatR1Error(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(VideoChatR1Error, ValueError):
    """A setting, a recipe or a combination of them cannot work."""


class DataError(VideoChatR1Error, ValueError):
    """An annotation file, a manifest or an input row does not have the stated format."""


class VideoError(VideoChatR1Error, RuntimeError):
    """A video is missing, cannot be decoded, or took longer than the time limit."""


class DivergedError(VideoChatR1Error, RuntimeError):
    """The model's weights, or what it computes, are NaN or infinite."""


class JudgeError(VideoChatR1Error, RuntimeError):
    """Rewards cannot be had: the LLM judge cannot be reached or does not answer as agreed, or too many rollouts stay unscored."""


def shown(text: str, limit: int = 80) -> str:
    """A text as messages show it: a long one is cut, with its length behind it."""
    return text if len(text) <= limit else f"{text[: limit - 20]}... ({len(text):,} characters)"


def keys_shown(keys: Iterable[object], limit: int = 12) -> list[str]:
    """The first keys of an object in order of name, as messages list them."""
    return [shown(key, 40) for key in sorted(map(str, keys))[:limit]]


def counted(number: int, what: str) -> str:
    """A number of things in words: `1 sample`, `2 samples`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def first_ten(names: Sequence[str]) -> str:
    """The first ten of the names, long ones cut, and how many there are in all."""
    listed = ", ".join(shown(name, 200) for name in names[:10])
    return f"{listed}, ... ({len(names):,} in all)" if len(names) > 10 else f"{listed} ({len(names)})"


def without_folders(message: str, names: Mapping[str, str]) -> str:
    """A message that tells nobody where files lie: each stands by its name, others of its folder by theirs alone.

    Args:
        message: that may name files as they were given, or with links followed.
        names: path -> what people call it.
    """
    told = {spelt: name for path, name in names.items() for spelt in (path, str(Path(path).resolve()))}
    folders = {folder for path in told if (folder := Path(path).parent).is_absolute() and folder.name}
    told |= {path: name for folder in folders for path, name in ((str(folder), folder.name), (f"{folder}/", ""))}
    longest_first = sorted(told, key=len, reverse=True)
    return (
        re.sub("|".join(map(re.escape, longest_first)), lambda found: told[found.group()], message) if told else message
    )
