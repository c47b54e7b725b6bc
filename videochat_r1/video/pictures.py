"""Pictures as the model sees them: upright, RGB of 8 bits, what is transparent white. No torch."""

import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from videochat_r1.errors import VideoError
from videochat_r1.video.timeline import regular_file

if TYPE_CHECKING:
    from PIL import Image as PillowImage

Image = NDArray[np.uint8]

# What Pillow's readers raise for damaged files, which differs from format to format.
_PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, RuntimeError, AttributeError, TypeError, LookupError, ArithmeticError),
    *(EOFError, MemoryError, struct.error, zlib.error),
)


def upright(image: Image, matrix: Sequence[int]) -> Image:
    """The image (H, W, C) mirrored and turned by quarters as its display matrix says, without a copy.

    Args:
        image: as stored.
        matrix: nine numbers a, b, u, c, d, v, x, y, w: column p, row q is shown at column a p + c q + x, row b p + d q + y.
            Scales and angles between the quarters are passed over, as is a matrix that leaves no picture.
    """
    a, b, _, c, d = matrix[:5]
    if a * d == b * c:
        return image
    if abs(b) > abs(a):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def on_white(image: Image) -> Image:
    """RGB of an RGBA image (H, W, 4); what is transparent becomes white, as in `qwen_vl_utils`."""
    alpha = image[..., 3:].astype(np.uint16)
    mixed = image[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def read_image(file: str) -> Image:
    """An image file as (H, W, 3): its first picture, turned as its Exif data say. 16 bits of grey are scaled to 8.

    Raises:
        VideoError: it is missing or damaged, or its numbers have no agreed black and white.
    """
    from PIL import Image as PillowImage  # here, as most decoder processes never need it
    from PIL import ImageOps

    name = regular_file(file)
    try:
        with PillowImage.open(name) as image:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode not in ("I", "F") or image.format == "PPM":
                return _rgb(image)
            mode = image.mode
    except (*_PILLOW_ERRORS, PillowImage.DecompressionBombError) as error:
        raise VideoError(f"{file}: cannot be read as an image: {error}") from error
    kind = "fractions" if mode == "F" else "whole numbers of 32 bits"
    raise VideoError(
        f"{file}: its pixels are {kind}, of which none is agreed to be white; save it with 8 or 16 bits a colour"
    )


def _rgb(image: "PillowImage.Image") -> Image:
    if image.mode.startswith("I"):
        values = np.asarray(image.convert("I"))
        grey = ((values + 128) // 257).astype(np.uint8)
        grey[values == image.info.get("transparency", -1)] = 255
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        return on_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))
