"""Pictures come upright, in RGB of 8 bits, on white, and in one size, whatever the file holds."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.video_files import numbered_image, write_pictures
from videochat_r1.errors import VideoError
from videochat_r1.sample import Video
from videochat_r1.video.backends import decode_with_decord, decode_with_pyav
from videochat_r1.video.frames import VideoBudget, load_frames
from videochat_r1.video.pictures import on_white, read_image, upright
from videochat_r1.video.timeline import read_timeline

ONE, END = 1 << 16, 1 << 30
# Exif's number -> the display matrix that does the same.
MATRICES = {
    1: (ONE, 0, 0, 0, ONE, 0, 0, 0, END),
    2: (-ONE, 0, 0, 0, ONE, 0, 0, 0, END),
    3: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, END),
    4: (ONE, 0, 0, 0, -ONE, 0, 0, 0, END),
    5: (0, ONE, 0, ONE, 0, 0, 0, 0, END),
    6: (0, ONE, 0, -ONE, 0, 0, 0, 0, END),
    7: (0, -ONE, 0, -ONE, 0, 0, 0, 0, END),
    8: (0, -ONE, 0, ONE, 0, 0, 0, 0, END),
}
NO_TURN = {
    "none": (0,) * 9,
    "no height": (ONE, 0, 0, 0, 0, 0, 0, 0, END),
    "twice as large": (2 * ONE, 0, 0, 0, 2 * ONE, 0, 0, 0, END),
    "a little askew": (ONE, 900, 0, -900, ONE, 0, 0, 0, END),
}
QUARTERS = np.zeros((32, 64, 3), np.uint8)
QUARTERS[:16, :32], QUARTERS[:16, 32:], QUARTERS[16:, :32], QUARTERS[16:, 32:] = (
    (200, 0, 0),
    (0, 200, 0),
    (0, 0, 200),
    200,
)


def shown(image: NDArray[np.uint8], exif: int) -> NDArray[np.uint8]:
    """The image as Pillow turns it by the same Exif number."""
    picture, tags = Image.fromarray(image), Image.Exif()
    tags[0x0112] = exif
    file = io.BytesIO()
    picture.save(file, "PNG", exif=tags)
    return np.array(ImageOps.exif_transpose(Image.open(file)))


# --- orientation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [decode_with_pyav, decode_with_decord])
@pytest.mark.parametrize("exif", MATRICES)
def test_turned_and_mirrored_videos_are_shown_as_a_player_shows_them(tmp_path: Path, exif: int, backend: Any) -> None:
    path = str(write_pictures(tmp_path / "a.mov", [QUARTERS] * 4, matrix=MATRICES[exif]))
    [image] = backend(path, read_timeline(path), [2], 1)
    assert np.array_equal(image, shown(QUARTERS, exif))


@pytest.mark.parametrize("name", NO_TURN)
def test_a_matrix_without_turn_or_extent_changes_nothing(tmp_path: Path, name: str) -> None:
    assert np.array_equal(upright(QUARTERS, NO_TURN[name]), QUARTERS)
    path = str(write_pictures(tmp_path / "a.mov", [QUARTERS] * 4, matrix=NO_TURN[name]))
    [image] = decode_with_pyav(path, read_timeline(path), [2], 1)
    assert np.array_equal(image, QUARTERS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("exif", MATRICES)
def test_images_are_turned_as_their_exif_data_say(tmp_path: Path, exif: int, kind: str) -> None:
    tags = Image.Exif()
    tags[0x0112] = exif
    Image.fromarray(QUARTERS).save(tmp_path / "a", kind, exif=tags, quality=100)
    image = read_image(str(tmp_path / "a"))
    assert image.shape == shown(QUARTERS, exif).shape
    assert np.abs(image.astype(int)[4::8, 4::8] - shown(QUARTERS, exif)[4::8, 4::8]).max() < 20


# --- colours ----------------------------------------------------------------------------------------------------------

GREY = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
COLOUR = np.repeat(GREY[..., None], 3, axis=2)
CLEAR = np.zeros((8, 8), np.uint8)
CLEAR[4:] = 255
ON_WHITE = np.where(CLEAR[..., None] > 0, COLOUR, 255)


def with_alpha(mode: str) -> Image.Image:
    picture = Image.fromarray(COLOUR)
    picture.putalpha(Image.fromarray(CLEAR))
    return picture.convert(mode)


def palette_with_transparent_entries() -> Image.Image:
    picture = Image.fromarray(np.where(CLEAR > 0, GREY, 7)).convert("P")
    picture.putpalette([value for value in range(256) for _ in range(3)])
    return picture


OPAQUE: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "grey": (lambda: Image.fromarray(GREY), "PNG"),
    "grey of 16 bits": (lambda: Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
    "grey of 16 bits, TIFF": (lambda: Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
    "grey of 16 bits, big-endian": (lambda: Image.fromarray((GREY.astype(np.uint16) * 257).astype(">u2")), "TIFF"),
    "grey of 16 bits, PGM": (lambda: Image.fromarray(GREY.astype(np.int32) * 257), "PPM"),
    "CMYK": (lambda: Image.fromarray(COLOUR).convert("CMYK"), "TIFF"),
    "palette": (lambda: Image.fromarray(GREY).convert("P"), "PNG"),
}
TRANSPARENT: dict[str, tuple[Callable[[], Image.Image], str, dict[str, Any]]] = {
    "RGBA": (lambda: with_alpha("RGBA"), "PNG", {}),
    "RGBA, WebP": (lambda: with_alpha("RGBA"), "WEBP", {"lossless": True}),
    "LA": (lambda: with_alpha("LA"), "PNG", {}),
    "palette, one entry": (palette_with_transparent_entries, "PNG", {"transparency": 7}),
    "palette, bytes": (palette_with_transparent_entries, "PNG", {"transparency": bytes([255] * 7 + [0] + [255] * 248)}),
    "GIF": (palette_with_transparent_entries, "GIF", {"transparency": 7}),
    "one grey": (lambda: Image.fromarray(np.where(CLEAR > 0, GREY, 7)), "PNG", {"transparency": 7}),
    "one grey of 16 bits": (
        lambda: Image.fromarray(np.where(CLEAR > 0, GREY.astype(np.uint16) * 257, 7).astype(np.uint16)),
        "PNG",
        {"transparency": 7},
    ),
    "one colour": (
        lambda: Image.fromarray(np.where(CLEAR[..., None] > 0, COLOUR, [1, 2, 3]).astype(np.uint8)),
        "PNG",
        {"transparency": (1, 2, 3)},
    ),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_images_of_every_mode_keep_their_brightness(tmp_path: Path, name: str) -> None:
    make, kind = OPAQUE[name]
    make().save(tmp_path / "a", kind)
    assert np.abs(read_image(str(tmp_path / "a")).astype(int) - COLOUR).max() <= 1


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_pixels_of_images_become_white(tmp_path: Path, name: str) -> None:
    make, kind, options = TRANSPARENT[name]
    make().save(tmp_path / "a", kind, **options)
    assert np.abs(read_image(str(tmp_path / "a")).astype(int) - ON_WHITE).max() <= 2


@pytest.mark.parametrize(("codec", "pixels"), [("png", "rgba"), ("qtrle", "argb")])
def test_transparent_pixels_of_videos_become_white(tmp_path: Path, codec: str, pixels: str) -> None:
    picture = np.dstack([QUARTERS, np.full((32, 64), 255, np.uint8)])
    picture[:, :16, 3], picture[:, 16:32, 3] = 0, 51
    path = str(write_pictures(tmp_path / "a.mov", [picture] * 3, codec=codec, formats=[pixels]))
    [image] = decode_with_pyav(path, read_timeline(path), [1], 1)
    assert (image[:, :16] == 255).all() and np.array_equal(image[:, 32:], QUARTERS[:, 32:])
    assert image[0, 20].tolist() == [244, 204, 204]


def test_unused_byte_of_uncompressed_pictures_is_no_transparency(tmp_path: Path) -> None:
    picture = np.dstack([QUARTERS, np.zeros((32, 64), np.uint8)])
    path = str(write_pictures(tmp_path / "a.avi", [picture] * 3, codec="rawvideo", formats=["bgra"]))
    [image] = decode_with_pyav(path, read_timeline(path), [1], 1)
    assert np.array_equal(image, QUARTERS)


def test_mixing_with_white_equals_the_exact_sum() -> None:
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = np.dstack([colour, colour, colour, alpha]).astype(np.uint8)
    exact = (colour * alpha + 255 * (255 - alpha)) / 255
    assert np.abs(on_white(image)[..., 0] - exact).max() <= 0.5


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), "TIFF", "fractions"),
        (np.arange(64, dtype=np.int32).reshape(8, 8), "TIFF", "32 bits"),
    ],
)
def test_numbers_without_an_agreed_white_are_refused(tmp_path: Path, values: Any, kind: str, reason: str) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff", kind)
    with pytest.raises(VideoError, match=rf"a\.tiff: its pixels are .*{reason}.*8 or 16 bits"):
        read_image(str(tmp_path / "a.tiff"))


def bomb() -> bytes:
    """A header of a picture of 60,000 x 60,000 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "BMP")
    content = bytearray(file.getvalue())
    content[18:26] = struct.pack("<ii", 60_000, 60_000)
    return bytes(content)


def encoded(kind: str, keep: float = 1.0, at: int = 0, put: bytes = b"", size: tuple[int, int] | None = None) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(np.tile(QUARTERS, (2, 2, 1)))
    (image if size is None else image.resize(size)).save(file, kind)
    content = bytearray(file.getvalue())
    content[at : at + len(put)] = put
    return bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>403 Forbidden</html>",
        bomb(),
        *(encoded(kind, keep=0.5) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000")),
        encoded("AVIF", at=200, put=bytes(120)),
        encoded("DDS", at=80, put=bytes(8)),
        encoded("PNG", at=16, put=bytes(8)),
    ],
)
def test_damaged_images_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.png: "):
        read_image(str(tmp_path / "a.png"))


@pytest.mark.parametrize("name", ["nowhere.png", "", "x" * 300, "a\0b.png", "half \ud83d.png", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    for video in (Video(frames=(f"{tmp_path}/{name}",), frame_times=(0.0,)), Video(path=f"{tmp_path}/{name}")):
        with pytest.raises(VideoError, match=r"no such file|not a regular file|cannot be opened"):
            load_frames(video, VideoBudget(isolation="none"), factor=28)


# --- changes in the middle --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("codec", "suffix", "formats"),
    [
        ("png", "mov", ["rgb24"]),
        ("libx264", "mkv", ["yuv420p"]),
        ("png", "mov", ["rgb24", "rgb24", "rgba"]),
        ("mjpeg", "mkv", ["yuvj420p", "yuvj444p"]),
        ("libx264", "mkv", ["yuv420p"] * 4 + ["yuv444p"]),
    ],
)
def test_a_video_whose_size_and_format_change_has_the_first_size(
    tmp_path: Path, codec: str, suffix: str, formats: list[str], backend: str
) -> None:
    large = np.repeat(np.repeat(QUARTERS, 2, axis=0), 2, axis=1)
    path = write_pictures(tmp_path / f"a.{suffix}", [QUARTERS] * 4 + [large] * 4, codec=codec, formats=formats)
    frames = load_frames(Video(path=str(path)), VideoBudget(fps=10.0, backend=backend, isolation="none"), factor=28)
    assert frames.original_size == (64, 32) and len(frames.pixels) == 8
    middles = frames.pixels[:, :, 21::42, 21::42].float()
    assert (middles - middles[:1]).abs().max() < 8


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    names = tuple(str(tmp_path / f"{number}.png") for number in range(2))
    Image.fromarray(numbered_image(0)).save(names[0])
    Image.fromarray(QUARTERS).save(names[1])
    with pytest.raises(VideoError, match="image 2 has 64 x 32 pixels, the first one 128 x 64"):
        load_frames(Video(frames=names, frame_times=(0.0, 1.0)), VideoBudget(isolation="none"), factor=28)
