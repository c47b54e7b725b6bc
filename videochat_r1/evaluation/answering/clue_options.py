"""How to look again at the clues of an answer, as options; what they do is in `evaluation.clue_perception`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from videochat_r1.errors import ConfigError

ClueTime = Literal["absolute", "relative"]
CLUE_FLAGS = {
    "resolution_boost": "resolution_boost",
    "fps_boost": "fps_boost",
    "clue_tokens": "max_tokens",
    "clue_time": "time",
    "clue_rounds": "rounds",
    "clue_padding": "padding",
}
"""The command's argument -> the field of `ClueOptions`."""


@dataclass(frozen=True, slots=True)
class ClueOptions:
    """How a second pass looks at the clues of the first.

    Args:
        resolution_boost: width and height of a frame are multiplied by it, up to those of the video.
        fps_boost: frames per second are multiplied by it, up to those of the video.
        max_tokens: of the video in the second pass; None for as many as the first pass may have.
        time: `absolute` gives every frame its time in the whole video; `relative` plays the segments as one clip from 0.
        rounds: second passes; each looks at the clues of the pass before it and boosts once more.
        padding: seconds added before and after every clue.

    Raises:
        ConfigError: a value out of range.
    """

    resolution_boost: float = 2.0
    fps_boost: float = 2.0
    max_tokens: int | None = None
    time: ClueTime = "absolute"
    rounds: int = 1
    padding: float = 1.0

    def __post_init__(self) -> None:
        for name in ("resolution_boost", "fps_boost"):
            if not 1.0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0.0 <= self.padding < math.inf:
            raise ConfigError(f"clue padding is {self.padding}; expected seconds, 0 or more")
        if self.rounds < 1 or (self.max_tokens is not None and self.max_tokens < 1):
            raise ConfigError(
                f"clue rounds are {self.rounds}, clue tokens {self.max_tokens}; expected at least 1 of each"
            )
        if self.time not in get_args(ClueTime):
            raise ConfigError(f"clue time is {self.time!r}; expected one of {', '.join(get_args(ClueTime))}")


def clue_options(values: Mapping[str, Any]) -> ClueOptions | None:
    """From the command's arguments; None without `clue_perception`.

    Raises:
        ConfigError: a value out of range, or an option of a second pass that there is none of.
    """
    given = {name: values[flag] for flag, name in CLUE_FLAGS.items() if values[flag] is not None}
    if values["clue_perception"]:
        return ClueOptions(**given)
    if given:
        flags = [f"--{flag.replace('_', '-')}" for flag, name in CLUE_FLAGS.items() if name in given]
        raise ConfigError(f"{', '.join(flags)} say how to look again: add --clue-perception, or leave them out")
    return None
