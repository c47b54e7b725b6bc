"""Pictures as the model sees them: each resized to a pixel budget of its own."""

from dataclasses import dataclass

import torch

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Pictures
from videochat_r1.video.frames import resize, size_within
from videochat_r1.video.process import read_in_process

READ_SECONDS = 60.0


@dataclass(frozen=True)
class PictureBudget:
    """How large pictures are shown; where only one limit is given, it wins over the other's default.

    Args:
        min_pixels: least pixels of a picture; None for the default of the model family.
        max_pixels: most pixels of a picture; None for the default of the model family.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.min_pixels, self.max_pixels) if value is not None]
        if not all(value >= 1 for value in given) or sorted(given) != given:
            raise ConfigError(
                f"pictures need 1 <= min_pixels <= max_pixels, got {self.min_pixels} and {self.max_pixels}"
            )

    def limits(self, default: tuple[int, int]) -> tuple[int, int]:
        """Least and most pixels, those that are not stated from `default`."""
        if self.max_pixels is None:
            least = default[0] if self.min_pixels is None else self.min_pixels
            return least, max(default[1], least)
        return min(default[0] if self.min_pixels is None else self.min_pixels, self.max_pixels), self.max_pixels

    def stated(self) -> dict[str, int] | None:
        """The limits that are not the default's; None without any."""
        return {name: value for name, value in vars(self).items() if value is not None} or None


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """One picture, resized.

    Args:
        pixels: (3, H, W) uint8 RGB, sides multiples of the factor.
        original_size: (width, height) as displayed, before resizing.
    """

    pixels: torch.Tensor
    original_size: tuple[int, int]


def load_pictures(pictures: Pictures, limits: tuple[int, int], *, factor: int) -> tuple[Still, ...]:
    """Every picture in its order, upright and opaque, each within the limits.

    A file is read in the decoder process, so that a crash of a native image decoder costs one sample and not the run.

    Args:
        pictures: their files.
        limits: least and most pixels of each.
        factor: sides become multiples of it: the vision patch times the spatial merge.

    Raises:
        VideoError: naming the file: missing, empty, truncated, no image, too large to be one, or too slow.
    """
    return tuple(_load(path, limits, factor) for path in pictures.paths)


def _load(path: str, limits: tuple[int, int], factor: int) -> Still:
    image = read_in_process(path, READ_SECONDS)
    height, width = image.shape[:2]
    try:
        size = size_within(width, height, limits, factor)
    except ValueError as error:
        raise VideoError(f"{path}: {width} x {height} pixels cannot be resized: {error}") from error
    return Still(resize(image, *size).contiguous(), (width, height))
