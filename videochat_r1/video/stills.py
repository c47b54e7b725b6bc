"""Pictures as the model sees them: each resized to a pixel budget of its own."""

from dataclasses import dataclass

import torch
from qwen_vl_utils.vision_process import smart_resize

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Pictures
from videochat_r1.video.frames import resize
from videochat_r1.video.process import read_in_process

READ_SECONDS = 60.0
# In tokens, as the processors of the public releases have them.
_LEAST_TOKENS, _MOST_TOKENS = 4, 16384


@dataclass(frozen=True)
class PictureBudget:
    """How large pictures are shown; where only one limit is given, it wins over the other's default.

    Args:
        min_pixels: least pixels of a picture; None for what 4 tokens show.
        max_pixels: most pixels of a picture; None for what 16384 tokens show.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.min_pixels, self.max_pixels) if value is not None]
        if not all(value >= 1 for value in given) or sorted(given) != given:
            raise ConfigError(
                f"pictures need 1 <= min_pixels <= max_pixels, got {self.min_pixels} and {self.max_pixels}"
            )

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


def load_pictures(pictures: Pictures, budget: PictureBudget, *, factor: int) -> tuple[Still, ...]:
    """Every picture in its order, upright and opaque, within the budget, which each has for itself.

    A file is read in the decoder process, so that a crash of a native image decoder costs one sample and not the run.

    Args:
        pictures: their files.
        budget: least and most pixels of each.
        factor: sides become multiples of it: the vision patch times the spatial merge.

    Raises:
        VideoError: naming the file: missing, empty, truncated, no image, too large to be one, or too slow.
    """
    return tuple(_load(path, budget, factor) for path in pictures.paths)


def still_size(width: int, height: int, budget: PictureBudget, factor: int) -> tuple[int, int]:
    """Width and height that a picture is resized to, as `qwen_vl_utils.fetch_image` does. Raises ValueError for more than 200 : 1."""
    least = _LEAST_TOKENS * factor**2 if budget.min_pixels is None else budget.min_pixels
    most = max(_MOST_TOKENS * factor**2, least) if budget.max_pixels is None else budget.max_pixels
    resized_height, resized_width = smart_resize(height, width, factor, min(least, most), most)
    return resized_width, resized_height


def _load(path: str, budget: PictureBudget, factor: int) -> Still:
    image = read_in_process(path, READ_SECONDS)
    height, width = image.shape[:2]
    try:
        size = still_size(width, height, budget, factor)
    except ValueError as error:
        raise VideoError(f"{path}: {width} x {height} pixels cannot be resized: {error}") from error
    return Still(resize(image, *size).contiguous(), (width, height))
