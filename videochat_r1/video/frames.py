"""A video as the model sees it: frames on an exact time grid, resized to a pixel budget, with their true times."""

import contextlib
import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from qwen_vl_utils.vision_process import smart_resize
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video.backends import DEFAULT_BACKEND
from videochat_r1.video.decode import SamplingPlan, SamplingRequest, decode
from videochat_r1.video.pictures import Image
from videochat_r1.video.probe import VideoInfo
from videochat_r1.video.process import decode_in_process
from videochat_r1.video.sampling import TEMPORAL_PATCH

ISOLATIONS = ("process", "none")
_TOKENS = {"total_pixels": 3584, "min_pixels": 16, "max_pixels": 768}
"""The paper's limits, in tokens: of all pairs of frames together, and of a pair."""


@dataclass(frozen=True)
class VideoBudget:
    """How densely a video is sampled in time and space, and how it is decoded.

    Args:
        fps: frames per second to sample.
        min_frames: a shorter video is sampled more densely.
        max_frames: a longer video is sampled more sparsely.
        total_pixels: pixels of all pairs of frames together; this and the next two None for as many as the paper's tokens
            (3584, 16 and 768) take in the model that sees them, see `sized`.
        min_pixels: least pixels of a frame, kept even where all frames together then exceed `total_pixels`.
        max_pixels: most pixels of a frame.
        backend: pyav, decord, torchcodec, or a function of your own as `package.module:function`.
        timeout_seconds: longest wait for the decoder, over one whole video.
        num_threads: decoding threads per video; 0 lets the decoder choose.
        isolation: `process` decodes in a child process, which a hanging or crashing decoder cannot outlive; `none`
            decodes in this process, without time limit, for files that are known to be sound.
    """

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    total_pixels: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    backend: str = DEFAULT_BACKEND
    timeout_seconds: float = 60.0
    num_threads: int = 1
    isolation: str = "process"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0.0):
            raise ConfigError(f"fps must be positive, got {self.fps}")
        if not 1 <= self.min_frames + self.min_frames % 2 <= self.max_frames:
            raise ConfigError(
                f"need an even number of frames within 1 <= min_frames <= max_frames, got {self.min_frames} and"
                f" {self.max_frames}"
            )
        pixels = {name: getattr(self, name) for name in _TOKENS}
        least, most = pixels["min_pixels"], pixels["max_pixels"]
        known = [number for number in pixels.values() if number is not None]
        if min(known, default=1) < 1 or (None not in (least, most) and least > most):
            stated = ", ".join(f"{name} {number}" for name, number in pixels.items() if number is not None)
            raise ConfigError(f"need 1 <= min_pixels <= max_pixels and total_pixels >= 1, got {stated}")
        if not (self.timeout_seconds > 0.0 and self.num_threads >= 0):
            raise ConfigError(
                f"need timeout_seconds > 0 and num_threads >= 0, got {self.timeout_seconds} and {self.num_threads}"
            )
        if self.isolation not in ISOLATIONS:
            raise ConfigError(f"isolation must be one of {', '.join(ISOLATIONS)}, got {self.isolation!r}")

    def sized(self, factor: int) -> "SizedBudget":
        """With numbers for all limits, for a model whose tokens are `factor` pixels wide and high.

        Raises:
            ConfigError: a stated limit does not go with the paper's others at that size.
        """
        unsaid = {name: tokens * factor**2 for name, tokens in _TOKENS.items() if getattr(self, name) is None}
        return SizedBudget(**{**vars(self), **unsaid})


@dataclass(frozen=True, kw_only=True)
class SizedBudget(VideoBudget):
    """A budget whose limits all are numbers, as `VideoBudget.sized` gives it."""

    total_pixels: int
    min_pixels: int
    max_pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """A sampled video: T frames (even) of H x W pixels (multiples of the factor).

    Args:
        pixels: (T, 3, H, W) uint8 RGB.
        timestamps: (T,) seconds of the grid, from the start of the clip.
        source: the clip before sampling and resizing.
        sample_fps: frames per second of the grid.
        num_frames: how many of the T frames are the video's own: T, or T - 1 where the last one is repeated because
            an odd number of images or times was given.
    """

    pixels: torch.Tensor
    timestamps: tuple[float, ...]
    source: VideoInfo
    sample_fps: float
    num_frames: int

    @property
    def duration(self) -> float:
        """Seconds of the clip."""
        return self.source.duration

    @property
    def original_size(self) -> tuple[int, int]:
        """(width, height) as displayed, before resizing."""
        return self.source.width, self.source.height


def load_frames(video: Video, budget: VideoBudget, *, factor: int, times: tuple[float, ...] | None = None) -> Frames:
    """The video's frames on the budget's time grid (or at `times`), resized.

    The frame at an instant is the one a player shows then: the last whose display time is not after it. A list of
    images is used whole, at its own times, unless it is longer than `max_frames`.

    Args:
        video: a file, a clip of one, or a list of images.
        budget: rates, limits and decoder.
        factor: pixels of a token's side, of which frames' sides become multiples.
        times: seconds from the start of the clip, ascending, instead of the grid.

    Raises:
        VideoError: missing, empty, truncated, without pictures, undecodable, too slow, or the clip is outside.
        ConfigError: the backend does not exist or is not usable on this machine, or see `VideoBudget.sized`.
    """
    plan, images = _decode(video, budget, times)
    num_frames = len(plan.times)
    padded = plan.times + tuple(plan.times[-1] + 1.0 / plan.sample_fps for _ in range(num_frames % TEMPORAL_PATCH))
    with contextlib.closing(images):
        size, distinct = _resize_all(video, images, plan.num_images, len(padded), budget, factor)
    image_of = plan.image_of + plan.image_of[-1:] * (len(padded) - num_frames)
    pixels = distinct if image_of == tuple(range(len(distinct))) else distinct[list(image_of)]
    return Frames(pixels, padded, VideoInfo.of(plan, size), plan.sample_fps, num_frames)


def frame_size(width: int, height: int, num_frames: int, budget: VideoBudget, factor: int) -> tuple[int, int]:
    """Width and height that every frame is resized to, as `qwen_vl_utils.fetch_video` does.

    A frame's pixels are limited by `max_pixels` and by its pair's share of `total_pixels`, but never to less than
    1.05 * min_pixels: with more than 2 * total_pixels / (1.05 * min_pixels) frames the minimum wins over the total.
    Sides are rounded down to the factor under a limit, so the least size may be missed by a part of one row.
    """
    limits = budget.sized(factor)
    share = limits.total_pixels / num_frames * TEMPORAL_PATCH
    most = max(min(limits.max_pixels, share), int(limits.min_pixels * 1.05))
    return size_within(width, height, (limits.min_pixels, int(most)), factor)


def size_within(width: int, height: int, limits: tuple[int, int], factor: int) -> tuple[int, int]:
    """Width and height, multiples of the factor, of an image with the least and most pixels `limits`; no side vanishes, whatever
    these say. Raises ValueError for more than 200 : 1."""
    resized_height, resized_width = smart_resize(height, width, factor, *limits)
    return max(factor, resized_width), max(factor, resized_height)


def _decode(
    video: Video, budget: VideoBudget, times: tuple[float, ...] | None
) -> tuple[SamplingPlan, Generator[Image]]:
    request = SamplingRequest(
        video=video,
        fps=budget.fps,
        min_frames=budget.min_frames,
        max_frames=budget.max_frames,
        times=times,
        backend=budget.backend,
        num_threads=budget.num_threads,
    )
    return decode(request) if budget.isolation == "none" else decode_in_process(request, budget.timeout_seconds)


def _resize_all(
    video: Video, images: Generator[Image], num_images: int, num_frames: int, budget: VideoBudget, factor: int
) -> tuple[tuple[int, int], torch.Tensor]:
    """Original (width, height), and the resized images (num_images, 3, H, W)."""
    size, pixels = (0, 0), torch.empty(0)
    for number, image in enumerate(images):
        if number == 0:
            size = (image.shape[1], image.shape[0])
            width, height = _size_of(video, size, num_frames, budget, factor)
            pixels = torch.empty((num_images, 3, height, width), dtype=torch.uint8)
        pixels[number] = resize(image, *pixels.shape[:1:-1])
    return size, pixels


def _size_of(video: Video, size: tuple[int, int], num_frames: int, budget: VideoBudget, factor: int) -> tuple[int, int]:
    try:
        return frame_size(*size, num_frames, budget, factor)
    except ValueError as error:
        raise VideoError(f"{video.name}: {size[0]} x {size[1]} pixels cannot be resized: {error}") from error


def resize(image: Image, width: int, height: int) -> torch.Tensor:
    """(3, height, width) uint8, bicubic with antialiasing; may share memory with the image, which is (H, W, 3)."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    resized: torch.Tensor = transforms.resize(tensor, [height, width], InterpolationMode.BICUBIC, antialias=True)
    return resized
