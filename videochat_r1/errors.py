"""The exceptions of this package: each says what was expected, what came, where, and what to do; and how they list many things."""

from collections.abc import Sequence


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


def first_ten(names: Sequence[str]) -> str:
    """The first ten of the names and how many there are in all."""
    shown = ", ".join(names[:10])
    return f"{shown}, ... ({len(names):,} in all)" if len(names) > 10 else f"{shown} ({len(names)})"
