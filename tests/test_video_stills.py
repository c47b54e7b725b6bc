"""Pictures within a budget: sizes, order, every format, and what is refused without harm to the next."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.test_video_pictures import QUARTERS, bomb, encoded, with_alpha
from tests.video_files import numbered_image
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Pictures
from videochat_r1.video import stills
from videochat_r1.video.frames import resize, size_within
from videochat_r1.video.pictures import read_image
from videochat_r1.video.stills import PictureBudget, load_pictures

WHOLE = (1, 16384 * 28 * 28)
QWEN2 = (4 * 28 * 28, 16384 * 28 * 28)


def saved(path: Path, image: Image.Image | NDArray[np.uint8], kind: str = "PNG", **options: Any) -> str:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, kind, **options)
    return str(path)


@pytest.mark.parametrize(
    ("size", "budget", "factor", "expected"),
    [
        ((1920, 1080), PictureBudget(), 28, (1932, 1092)),
        ((1920, 1080), PictureBudget(), 32, (1920, 1088)),
        ((1920, 1080), PictureBudget(max_pixels=200_000), 28, (588, 308)),
        ((20, 10), PictureBudget(), 28, (84, 56)),
        ((20, 10), PictureBudget(max_pixels=28 * 28), 28, (28, 28)),
        ((56, 28), PictureBudget(min_pixels=8 * 28 * 28), 28, (112, 56)),
        ((8000, 6000), PictureBudget(), 28, (4116, 3080)),
        ((90, 40), PictureBudget(max_pixels=2 * 28 * 28), 28, (56, 28)),
        ((10, 1900), PictureBudget(max_pixels=4 * 28 * 28), 28, (28, 756)),
        ((60, 60), PictureBudget(min_pixels=16385 * 28 * 28), 28, (3612, 3612)),
    ],
)
def test_sizes(size: tuple[int, int], budget: PictureBudget, factor: int, expected: tuple[int, int]) -> None:
    assert size_within(*size, budget.limits(QWEN2), factor) == expected


def test_several_pictures_keep_their_order_and_each_has_the_budget_for_itself(tmp_path: Path) -> None:
    large = numbered_image(7)
    paths = (saved(tmp_path / "a", large), saved(tmp_path / "b", QUARTERS), saved(tmp_path / "c", QUARTERS[:28, :28]))
    found = load_pictures(Pictures(paths), (28 * 28, 4 * 28 * 28), factor=28)
    assert [still.original_size for still in found] == [(128, 64), (64, 32), (28, 28)]
    assert [tuple(still.pixels.shape) for still in found] == [(3, 28, 56), (3, 28, 56), (3, 28, 28)]
    assert torch.equal(found[0].pixels, resize(large, 56, 28)), "resized as frames are"
    assert torch.equal(found[2].pixels, torch.from_numpy(QUARTERS[:28, :28].copy()).permute(2, 0, 1))
    assert all(still.pixels.dtype == torch.uint8 and still.pixels.is_contiguous() for still in found)


@pytest.mark.parametrize(("kind", "error"), [("PNG", 0), ("BMP", 0), ("JPEG", 12), ("WEBP", 12), ("GIF", 3)])
@pytest.mark.parametrize("exif", [1, 6])
def test_formats_are_read_as_they_are_displayed(tmp_path: Path, kind: str, error: int, exif: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = exif
    turns = kind not in ("BMP", "GIF") and exif == 6
    path = saved(tmp_path / "a", QUARTERS, kind, **({"exif": tags} if turns else {}))
    [still] = load_pictures(Pictures((path,)), WHOLE, factor=4)
    expected = np.rot90(QUARTERS, -1) if turns else QUARTERS
    assert still.original_size == expected.shape[1::-1] == tuple(still.pixels.shape[:0:-1])
    middles = still.pixels.permute(1, 2, 0).numpy().astype(int)[4::8, 4::8] - expected[4::8, 4::8]
    assert np.abs(middles).max() <= error


def animated() -> Image.Image:
    return Image.fromarray(numbered_image(5))


@pytest.mark.parametrize(
    ("make", "options", "first"),
    [
        (animated, {"save_all": True, "append_images": [Image.fromarray(QUARTERS).resize((128, 64))]}, numbered_image(5)),
        (lambda: with_alpha("RGBA"), {}, None),
    ],
)  # fmt: skip
def test_a_gif_shows_its_first_frame_and_white_where_it_is_transparent(
    tmp_path: Path, make: Callable[[], Image.Image], options: dict[str, Any], first: NDArray[np.uint8] | None
) -> None:
    path = saved(tmp_path / "a.gif", make(), "GIF", **options)
    [still] = load_pictures(Pictures((path,)), WHOLE, factor=4)
    assert np.array_equal(still.pixels.permute(1, 2, 0).numpy(), read_image(path))
    if first is None:
        assert still.pixels[:, :4].min() == 255
    else:
        assert (np.abs(read_image(path).astype(int) - first) < 40).mean() > 0.9


BAD: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "no such file"),
    "empty": (b"", "the file is empty"),
    "a page": (b"<html>403 Forbidden</html>", "cannot be read as an image"),
    "truncated": (encoded("JPEG", keep=0.5), "[Tt]runcated"),
    "a bomb": (bomb(), "decompression bomb"),
    "a thread": (encoded("PNG", size=(1, 402)), "1 x 402 pixels cannot be resized"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_an_error_that_names_its_file_and_the_next_is_read(tmp_path: Path, name: str) -> None:
    content, reason = BAD[name]
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    good = saved(tmp_path / "good.png", QUARTERS)
    with pytest.raises(VideoError, match=rf"bad\.png: .*{reason}"):
        load_pictures(Pictures((good, str(tmp_path / "bad.png"))), WHOLE, factor=4)
    assert len(load_pictures(Pictures((good, good)), WHOLE, factor=4)) == 2


def test_a_picture_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", QUARTERS)
    # Large, so that its decoder cannot have answered by then.
    Image.new("L", (8000, 8000)).save(tmp_path / "large.png", compress_level=1)
    monkeypatch.setattr(stills, "READ_SECONDS", 0.0)
    with pytest.raises(VideoError, match=r"large\.png: no answer after 0 s"):
        load_pictures(Pictures((str(tmp_path / "large.png"),)), WHOLE, factor=4)
    monkeypatch.undo()
    assert load_pictures(Pictures((path,)), WHOLE, factor=4)


@pytest.mark.parametrize("limits", [(0, None), (None, 0), (5, 4), (-1, 4)])
def test_impossible_budgets_are_refused(limits: tuple[int | None, int | None]) -> None:
    with pytest.raises(ConfigError, match=r"1 <= min_pixels <= max_pixels, got"):
        PictureBudget(*limits)
