"""From a video and a rate to a plan of instants and the images that are on screen at them. No torch."""

import itertools
import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video.backends import BACKENDS, DEFAULT_BACKEND
from videochat_r1.video.pictures import Image, read_image
from videochat_r1.video.sampling import TIME_TOLERANCE_SECONDS, TimeGrid, displayed, time_grid
from videochat_r1.video.timeline import read_timeline


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """What to decode of one video.

    Args:
        times: seconds from the start of the clip to decode at, ascending; None samples the grid of `fps`.
        backend: key of `BACKENDS`, or `package.module:function` of the same signature.
        num_threads: decoding threads; 0 lets the decoder choose.
    """

    video: Video
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    times: tuple[float, ...] | None = None
    backend: str = DEFAULT_BACKEND
    num_threads: int = 1


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Which images come, and when each is on screen.

    Args:
        times: (T,) instants, in seconds from the start of the clip.
        image_of: (T,) number of the image on screen at each instant, in the order in which the images come.
        sample_fps: instants per second; their mean rate where the instants were given.
        duration: seconds of the clip.
        num_source_frames: frames that the source shows within the clip.
    """

    times: tuple[float, ...]
    image_of: tuple[int, ...]
    sample_fps: float
    duration: float
    num_source_frames: int

    @property
    def num_images(self) -> int:
        """How many images come; fewer than T where one is on screen at several instants."""
        return self.image_of[-1] + 1


def decode(request: SamplingRequest) -> tuple[SamplingPlan, Generator[Image]]:
    """The plan, and its images as (H, W, 3) RGB in order of time, decoded while they are asked for.

    Raises:
        VideoError: the video cannot be read or the clip lies outside it; also while iterating.
        ConfigError: the backend does not exist or is not usable on this machine.
    """
    video, path = request.video, request.video.path
    if path is None:
        plan, files = _plan_images(request)
        return plan, _checked(map(read_image, files), len(files), video.name)
    backend = BACKENDS[request.backend]
    timeline = read_timeline(path)
    start, duration = clip_bounds(video, timeline.duration)
    grid = _instants(request, duration)
    shown = displayed(timeline.times, [start + time for time in grid.times])
    first, last = displayed(timeline.times, [start, start + duration - 2 * TIME_TOLERANCE_SECONDS])
    plan, wanted = _plan(grid, shown, duration, last + 1 - first)
    images = backend(path, timeline, wanted, request.num_threads)
    if not isinstance(images, Iterable):
        raise ConfigError(f"video backend {request.backend} returns {type(images).__name__}, expected images")
    return plan, _checked(images, len(wanted), path)


def _checked(images: Iterable[Image], count: int, name: str) -> Generator[Image]:
    """The images, of which there must be `count`, all of one size."""
    number, shape = 0, None
    for number, image in enumerate(images, 1):
        if number > count:
            raise VideoError(f"{name}: the decoder yields more than the {count} wanted frames")
        if not isinstance(image, np.ndarray):
            raise VideoError(f"{name}: image {number} is a {type(image).__name__}, expected a numpy array")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise VideoError(
                f"{name}: image {number} is {image.dtype} {image.shape}, expected uint8 (height, width, 3)"
            )
        if image.shape != (shape or image.shape):
            sizes = " x ".join(map(str, image.shape[1::-1])), " x ".join(map(str, (shape or ())[1::-1]))
            raise VideoError(f"{name}: image {number} has {sizes[0]} pixels, the first one {sizes[1]}")
        shape = image.shape
        yield np.require(image, requirements=["C", "W"])
    if number != count:
        raise VideoError(f"{name}: {count - number} of the {count} wanted frames do not decode")


def clip_bounds(video: Video, duration: float) -> tuple[float, float]:
    """Start of the clip in the source and length of the clip, in seconds; an end past the source's end is that end.

    Raises:
        VideoError: the clip is empty or begins outside the source.
    """
    start = 0.0 if video.start is None else video.start
    end = duration if video.end is None else min(video.end, duration)
    if not 0.0 <= start < end:
        raise VideoError(
            f"{video.name}: the clip from {start} to {video.end} s is empty or outside its {duration:.2f} s"
        )
    return start, end - start


def _instants(request: SamplingRequest, duration: float) -> TimeGrid:
    if request.times is None:
        return time_grid(duration, request.fps, request.min_frames, request.max_frames)
    times = request.times
    if not times or not _ascend(times) or times[0] < 0.0 or times[-1] > duration + TIME_TOLERANCE_SECONDS:
        raise VideoError(
            f"{request.video.name}: the times to decode at must ascend within its {duration:.2f} s, got {times}"
        )
    return TimeGrid(times, _mean_rate(times, request.fps))


def _plan(
    grid: TimeGrid, shown: Sequence[int], duration: float, num_source_frames: int
) -> tuple[SamplingPlan, list[int]]:
    wanted = sorted(set(shown))
    place = {index: number for number, index in enumerate(wanted)}
    image_of = tuple(place[index] for index in shown)
    return SamplingPlan(grid.times, image_of, grid.fps, duration, num_source_frames), wanted


def _plan_images(request: SamplingRequest) -> tuple[SamplingPlan, list[str]]:
    """All images of the clip at their own times; more than `max_frames` of them are thinned like a file."""
    video = request.video
    if not _ascend(video.frame_times):
        raise VideoError(f"{video.name}: the times of the frames must ascend, got {video.frame_times}")
    step = 1.0 / _mean_rate(video.frame_times, request.fps)
    start, duration = clip_bounds(video, video.frame_times[-1] + step)
    end = start + duration - TIME_TOLERANCE_SECONDS
    own = [
        (time - start, name) for time, name in zip(video.frame_times, video.frames, strict=True) if start <= time < end
    ]
    if not own:
        raise VideoError(f"{video.name}: none of the frames lies in the clip from {video.start} to {video.end} s")
    times = tuple(time for time, _ in own)
    if request.times is not None:
        grid = _instants(request, duration)
    elif len(own) <= request.max_frames:
        grid = TimeGrid(times, _mean_rate(times, 1.0 / step))
    else:
        grid = time_grid(duration, request.max_frames / duration, request.min_frames, request.max_frames)
    plan, wanted = _plan(grid, displayed(times, grid.times), duration, len(own))
    return plan, [own[index][1] for index in wanted]


def _ascend(times: Sequence[float]) -> bool:
    finite = all(math.isfinite(time) for time in times)
    return finite and all(earlier < later for earlier, later in itertools.pairwise(times))


def _mean_rate(times: Sequence[float], default: float) -> float:
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else default
