"""How to look again at the clues of an answer, as options; `next_look` follows them."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from videochat_r1.errors import ConfigError

ClueTime = Literal["absolute", "relative", "dense"]


@dataclass(frozen=True, slots=True)
class ClueOptions:
    """How a second look shows the clues of the first answer.

    Args:
        resolution_boost: width and height of a frame are multiplied by it, up to those of the video.
        fps_boost: frames per second are multiplied by it, up to those of the video.
        max_tokens: of the video in a second look; None for as many as the first look may have.
        time: what is shown, and at which times: with `absolute` the padded clues alone, each frame at its time in the whole video;
            with `relative` the same played as one clip from 0; with `dense` the whole video, each frame at its time, the
            rate boosted in the padded clues alone.
        rounds: second looks; each shows the clues of the answer before it and boosts once more.
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
