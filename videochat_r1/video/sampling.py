"""Which instants of a video the model sees, and which frame is on screen at each. Pure arithmetic, no decoder."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from videochat_r1.errors import VideoError

TEMPORAL_PATCH = 2
# Stored times are rounded to the container's clock, and k / fps to a double: far below one tick of any container.
TIME_TOLERANCE_SECONDS = 1e-6


class TimeGrid(NamedTuple):
    """Instants in seconds from the start of the clip, and how many of them there are per second."""

    times: tuple[float, ...]
    fps: float


def time_grid(duration: float, fps: float, min_frames: int, max_frames: int) -> TimeGrid:
    """The instants k / fps with k / fps < duration, an even number of them.

    An odd number loses its last instant, so that the grid never leaves the video. That count equals
    `qwen_vl_utils.smart_nframes` (which rounds duration * fps down to an even number) or is 2 larger, where the
    latter would leave a whole further pair of instants inside the video unseen.
    Fewer than `min_frames` or more than `max_frames` instants: the rate becomes that many over the duration, so the
    grid still covers the whole video evenly. Odd limits are tightened to even ones, between which there must be room.
    """
    if not math.isfinite(duration) or duration <= 0.0:
        raise VideoError(f"a video needs a positive duration to be sampled, got {duration} seconds")
    lowest = max(TEMPORAL_PATCH, min_frames + min_frames % TEMPORAL_PATCH)
    highest = max_frames - max_frames % TEMPORAL_PATCH
    count = math.ceil(duration * fps - TIME_TOLERANCE_SECONDS)
    count -= count % TEMPORAL_PATCH
    if not lowest <= count <= highest:
        count = min(max(count, lowest), highest)
        fps = count / duration
    return TimeGrid(tuple(k / fps for k in range(count)), fps)


def displayed(times: Sequence[float] | NDArray[np.float64], instants: Sequence[float]) -> list[int]:
    """For each instant the index of the last frame whose time is not after it; of the first time where none is.

    Args:
        times: display times of all frames, ascending; of equal ones the last counts.
        instants: seconds on the same clock.
    """
    until = np.maximum(np.asarray(instants, dtype=np.float64) + TIME_TOLERANCE_SECONDS, times[0])
    return [int(index) for index in np.searchsorted(times, until, side="right") - 1]
