"""A closer look at parts of a video, at a higher rate and resolution, within a number of tokens (paper, Algorithm 1, Upsample)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, get_args

from videochat_r1.errors import DataError
from videochat_r1.geometry import Span
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.sample import Video
from videochat_r1.second_look.options import ClueOptions, ClueTime
from videochat_r1.second_look.segments import clip_time, gaps_between, longest_segments, sampled_times
from videochat_r1.video.frames import Frames, VideoBudget, frame_size, load_frames
from videochat_r1.video.probe import VideoInfo
from videochat_r1.video.sampling import TEMPORAL_PATCH

# What `frame_size` allows a frame above `min_pixels`.
_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class Look:
    """What a prompt shows of a video, or of pictures.

    Args:
        segments: parts of the video, in its time; empty for the whole video.
        time: see `ClueOptions`.
        num_frames: of all parts; or of the pictures.
        fps: frames per second within the segments; None for pictures.
        rest_fps: frames per second of the rest of the video; 0 where it is not shown.
        frame_size: (width, height) in pixels; of the first picture.
        num_tokens: of what is shown.
        times: of the frames, in seconds of the video; empty for the whole video, whose grid is even.
    """

    segments: tuple[Span, ...]
    time: ClueTime
    num_frames: int
    fps: float | None
    rest_fps: float
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

    @classmethod
    def from_json(cls, value: Any) -> "Look":
        """What `to_json` told, which may have come from anybody; the whole video and evenly, where nothing is said of that.

        Raises:
            DataError: no prompt can have shown it.
        """
        try:
            width, height = map(int, value["frame_size"])
            look = cls(
                segments=tuple(Span(float(start), float(end)) for start, end in value["segments"]),
                time=value.get("time", "absolute"),
                num_frames=int(value["num_frames"]),
                fps=None if value["fps"] is None else float(value["fps"]),
                rest_fps=float(value.get("rest_fps", 0.0)),
                frame_size=(width, height),
                num_tokens=int(value["num_tokens"]),
                times=tuple(map(float, value.get("times", ()))),
            )
        except (AttributeError, TypeError, KeyError, ValueError, OverflowError) as error:
            raise DataError("this is no look of a model") from error
        numbers = [look.rest_fps, *look.times, *(at for segment in look.segments for at in segment)]
        whole = min(look.num_frames, width, height) >= 1 and look.num_tokens >= 0
        rated = look.fps is None or 0.0 < look.fps < math.inf
        if not (whole and rated and look.time in get_args(ClueTime) and all(map(math.isfinite, numbers))):
            raise DataError("this is no look of a model: a number is out of bounds")
        if look.rest_fps < 0.0 or len(look.times) > look.num_frames:
            raise DataError("this is no look of a model: it has more times than frames, or a rate below 0")
        return look


class Plan(NamedTuple):
    """A look that is yet to be taken, and the budget that makes frames of its size."""

    look: Look
    budget: VideoBudget


def source_of(inputs: PromptInputs) -> VideoInfo:
    """The video of a prompt about one, before sampling and resizing."""
    (video,) = inputs.media
    assert video.source is not None
    return video.source


def first_look(inputs: PromptInputs, *, factor: int) -> Look:
    """What a prompt shows of a whole video, or of pictures; one token is `factor` x `factor` pixels of a pair of frames, or of one."""
    first = inputs.media[0]
    return Look(
        segments=(),
        time="absolute",
        num_frames=first.steps * TEMPORAL_PATCH if first.kind == "video" else len(inputs.media),
        fps=first.sample_fps,
        rest_fps=first.sample_fps or 0.0,
        frame_size=(first.columns * factor, first.rows * factor),
        num_tokens=sum(medium.num_tokens for medium in inputs.media),
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
    """The closest look that `max_tokens` allow: frames shrink first, to no less than the first look's, then they become fewer.

    Where one pair of frames per segment is still too much, the shortest segments are left out, and at last frames get
    smaller than in the first look. Only a frame that the factor keeps from shrinking can exceed the limit.

    Args:
        segments: disjoint, in order of time, at least one.
        first: what the first prompt shows.
        video: its own rate and size, above which nothing is boosted.
        budget: of the first look.
        options: how much to boost.
        number: of the look, from 1: the boosts are raised to this power.
        max_tokens: of the video, by its temporal steps.
        factor: sides are multiples of it; factor x factor pixels of a pair of frames are one token.
    """
    assert first.fps is not None
    fps = max(first.fps, min(first.fps * options.fps_boost**number, video.fps))
    first_pixels = first.frame_size[0] * first.frame_size[1]
    max_frames = budget.max_frames
    chosen = longest_segments(segments, max_frames // TEMPORAL_PATCH)
    while True:
        rest = gaps_between(chosen, video.duration) if options.time == "dense" else ()
        times = sampled_times(chosen, fps, max_frames, rest=rest, rest_fps=first.fps)
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
            look = Look(
                segments=chosen,
                time=options.time,
                num_frames=len(times),
                fps=_rate(times, chosen),
                rest_fps=_rate(times, rest),
                frame_size=(width, height),
                num_tokens=tokens,
                times=times,
            )
            return Plan(look, boosted)


def _rate(times: Sequence[float], parts: Sequence[Span]) -> float:
    """Instants per second of the parts of a video; 0 without any."""
    inside = sum(part.start <= time < part.end for time in times for part in parts)
    return inside / sum(part.length for part in parts) if parts else 0.0


def closer_prompt(
    builder: PromptBuilder,
    video: Video,
    text: str,
    plan: Plan,
    *,
    load: Callable[..., Frames] = load_frames,
) -> PromptInputs:
    """The rendered prompt again with the planned frames.

    Args:
        builder: of the first prompt.
        video: of the first prompt.
        text: rendered, with one placeholder for the video.
        plan: of the look, made for the builder's factor.
        load: reads frames as `load_frames` does.

    Raises:
        VideoError: the frames cannot be read.
    """
    look = plan.look
    frames = load(video, plan.budget, factor=builder.factor, times=look.times)
    if look.is_clip:
        frames = replace(frames, timestamps=tuple(clip_time(time, look.segments) for time in frames.timestamps))
    return builder.from_frames(frames, text)
