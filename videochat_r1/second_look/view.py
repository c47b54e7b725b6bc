"""A closer look at parts of a video, at a higher rate and resolution, within a number of tokens (paper, Algorithm 1, Upsample)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from videochat_r1.geometry import Span
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.sample import Video
from videochat_r1.second_look.options import ClueOptions, ClueTime
from videochat_r1.second_look.segments import clip_time, longest_segments, segment_times
from videochat_r1.video.frames import Frames, VideoBudget, frame_size, load_frames
from videochat_r1.video.probe import VideoInfo
from videochat_r1.video.sampling import TEMPORAL_PATCH

# What `frame_size` allows a frame above `min_pixels`.
_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class Look:
    """What a prompt shows of a video.

    Args:
        segments: parts of the video, in its time; empty for the whole video.
        time: see `ClueOptions`.
        num_frames: of all segments.
        fps: frames per second within them.
        frame_size: (width, height) in pixels.
        num_tokens: of the video in the prompt.
        times: of the frames, in seconds of the video; empty for the whole video, whose grid is even.
    """

    segments: tuple[Span, ...]
    time: ClueTime
    num_frames: int
    fps: float
    frame_size: tuple[int, int]
    num_tokens: int
    times: tuple[float, ...] = ()

    @property
    def is_clip(self) -> bool:
        """Whether its time is that of the segments played as one clip."""
        return bool(self.segments) and self.time == "relative"

    def to_json(self) -> dict[str, Any]:
        """For result files."""
        return {
            **asdict(self),
            "segments": [list(segment) for segment in self.segments],
            "frame_size": list(self.frame_size),
            "times": [round(time, 3) for time in self.times],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Which frames to take, and at which size."""

    segments: tuple[Span, ...]
    times: tuple[float, ...]
    budget: VideoBudget
    frame_size: tuple[int, int]
    num_tokens: int


def source_of(inputs: PromptInputs) -> VideoInfo:
    """The video of a prompt about one, before sampling and resizing."""
    (video,) = inputs.media
    assert video.source is not None
    return video.source


def first_look(inputs: PromptInputs, *, factor: int) -> Look:
    """What a prompt shows of a whole video; one token is `factor` x `factor` pixels of a pair of frames."""
    (video,) = inputs.media
    assert video.sample_fps is not None
    return Look(
        segments=(),
        time="absolute",
        num_frames=video.steps * TEMPORAL_PATCH,
        fps=video.sample_fps,
        frame_size=(video.columns * factor, video.rows * factor),
        num_tokens=video.num_tokens,
    )


def plan_look(
    segments: Sequence[Span],
    first: Look,
    video: VideoInfo,
    budget: VideoBudget,
    options: ClueOptions,
    *,
    number: int,
    max_tokens: Callable[[int], int],
    factor: int,
) -> Plan:
    """The closest look that `max_tokens` allow: frames shrink first, to no less than the first pass's, then they become fewer.

    Where one pair of frames per segment is still too much, the shortest segments are left out, and at last frames get
    smaller than in the first pass. Only a frame that the factor keeps from shrinking can exceed the limit.

    Args:
        segments: disjoint, in order of time, at least one.
        first: what the first pass saw.
        video: its own rate and size, above which nothing is boosted.
        budget: of the first pass.
        options: how much to boost.
        number: of the pass, from 1: the boosts are raised to this power.
        max_tokens: of the video, by its temporal steps.
        factor: sides are multiples of it; factor x factor pixels of a pair of frames are one token.
    """
    fps = max(first.fps, min(first.fps * options.fps_boost**number, video.fps))
    first_pixels = first.frame_size[0] * first.frame_size[1]
    max_frames = budget.max_frames
    chosen = longest_segments(segments, max_frames // TEMPORAL_PATCH)
    while True:
        times = segment_times(chosen, fps, max_frames)
        steps = len(times) // TEMPORAL_PATCH
        most_tokens = max_tokens(steps)
        total_pixels = most_tokens * factor**2
        least = max(1, math.ceil(min(first_pixels, total_pixels) / _MARGIN))
        most = max(least, int(first_pixels * options.resolution_boost ** (2 * number)))
        boosted = replace(budget, min_pixels=least, max_pixels=most, total_pixels=total_pixels)
        width, height = frame_size(video.width, video.height, len(times), boosted, factor)
        tokens = steps * (width // factor) * (height // factor)
        if tokens > most_tokens and len(times) > TEMPORAL_PATCH * len(chosen):
            max_frames = len(times) - TEMPORAL_PATCH
        elif tokens > most_tokens and len(chosen) > 1:
            chosen = longest_segments(chosen, len(chosen) - 1)
        else:
            return Plan(chosen, times, boosted, (width, height), tokens)


def closer_prompt(
    builder: PromptBuilder,
    video: Video,
    text: str,
    plan: Plan,
    time: ClueTime,
    *,
    load: Callable[..., Frames] = load_frames,
) -> tuple[PromptInputs, Look]:
    """The rendered prompt again with the planned frames, and what it shows.

    Args:
        builder: of the first pass's prompt.
        video: of the first pass.
        text: rendered, with one placeholder for the video.
        plan: of the look.
        time: whether frames keep their time in the whole video.
        load: reads frames as `load_frames` does.

    Raises:
        VideoError: the frames cannot be read.
    """
    frames = load(video, plan.budget, factor=builder.factor, times=plan.times)
    fps = len(plan.times) / sum(segment.length for segment in plan.segments)
    timed = replace(frames, sample_fps=fps)
    if time == "relative":
        timed = _as_clip(timed, plan.segments)
    look = Look(plan.segments, time, len(plan.times), fps, plan.frame_size, plan.num_tokens, plan.times)
    return builder.from_frames(timed, text), look


def _as_clip(frames: Frames, segments: Sequence[Span]) -> Frames:
    """The frames as one clip in which the segments follow each other without the gaps between them."""
    return replace(frames, timestamps=tuple(clip_time(time, segments) for time in frames.timestamps))
