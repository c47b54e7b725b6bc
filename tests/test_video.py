"""Loading a video: the time grid, the frame on screen at each instant, the pixel budget, and what comes back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from qwen_vl_utils import vision_process

from tests.video_files import HEIGHT, WIDTH, number_of, numbered_image, write_video
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video.frames import (
    Frames,
    VideoBudget,
    frame_size,
    load_frames,
    resize,
)
from videochat_r1.video.probe import probe
from videochat_r1.video.sampling import displayed, time_grid

BUDGET = VideoBudget(isolation="none")


def numbers(frames: Frames) -> list[int]:
    return [number_of(frame.permute(1, 2, 0).numpy()) for frame in frames.pixels]


# --- the grid of time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "count", "fps"),
    [
        (30.0, 60, 2.0),
        (35.1415, 70, 2.0),  # 71 instants fit, the last makes no pair
        (9.72, 20, 2.0),  # one pair more than qwen-vl-utils, which leaves 9.0 and 9.5 s unseen
        (1.9, 4, 2.0),
        (1.0, 4, 4.0),  # too short: the rate is raised
        (384.0, 768, 2.0),
        (768.0, 768, 1.0),  # too long: the rate is lowered
        (0.04, 4, 100.0),
    ],
)
def test_grid_is_exact_even_and_inside_the_video(duration: float, count: int, fps: float) -> None:
    grid = time_grid(duration, 2.0, 4, 768)
    assert len(grid.times) == count
    assert grid.fps == pytest.approx(fps)
    assert grid.times == pytest.approx([k / fps for k in range(count)])
    assert grid.times[-1] < duration


def test_grid_keeps_odd_limits_on_the_safe_side() -> None:
    assert len(time_grid(1.0, 2.0, 5, 768).times) == 6
    assert len(time_grid(100.0, 2.0, 4, 31).times) == 30


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf")])
def test_grid_needs_a_duration(duration: float) -> None:
    with pytest.raises(VideoError, match="duration"):
        time_grid(duration, 2.0, 4, 768)


@pytest.mark.parametrize("duration", [30.0, 35.1415, 6.09, 60.7, 12.99, 400.0])
def test_grid_has_the_count_of_qwen_vl_utils_or_one_more_pair(duration: float) -> None:
    theirs = vision_process.smart_nframes({"fps": 2.0}, total_frames=round(duration * 30), video_fps=30)
    ours = len(time_grid(duration, 2.0, 4, 768).times)
    assert ours - theirs in (0, 2)
    if ours == theirs:
        assert (ours + 2 - 1) / 2.0 >= duration or ours == 768  # no further pair would fit


def test_displayed_frame_is_the_last_one_not_after_the_instant() -> None:
    times = [0.1, 0.5, 0.9, 1.0]
    assert displayed(times, [0.0, 0.1, 0.49, 0.5, 0.899, 0.95, 1.0, 7.0]) == [0, 0, 0, 1, 1, 2, 3, 3]


# --- the budget of pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [28, 32])
def test_limits_that_are_not_stated_are_the_papers_in_tokens(factor: int) -> None:
    area = factor**2
    sized = VideoBudget(max_pixels=20000).sized(factor)
    assert (sized.total_pixels, sized.min_pixels, sized.max_pixels) == (3584 * area, 16 * area, 20000)
    assert sized.sized(2 * factor) == sized, "numbers stay what they are"
    with pytest.raises(ConfigError, match=f"got total_pixels {3584 * area}, min_pixels {16 * area}, max_pixels 100"):
        VideoBudget(max_pixels=100).sized(factor)


@pytest.mark.parametrize(("factor", "size"), [(28, (336, 252)), (32, (384, 288))])
def test_half_a_minute_of_480x360_costs_3240_tokens(factor: int, size: tuple[int, int]) -> None:
    assert frame_size(480, 360, 60, VideoBudget(), factor) == size
    assert 60 // 2 * (size[0] // factor) * (size[1] // factor) == 3240


@pytest.mark.parametrize("size", [(480, 360), (640, 360), (1920, 1080), (224, 224), (90, 1200), (20, 20)])
@pytest.mark.parametrize("num_frames", [4, 60, 300, 426])
@pytest.mark.parametrize("factor", [28, 32])
def test_tokens_stay_within_the_total(size: tuple[int, int], num_frames: int, factor: int) -> None:
    width, height = frame_size(*size, num_frames, VideoBudget(), factor)
    assert width % factor == 0 and height % factor == 0
    assert num_frames // 2 * (width // factor) * (height // factor) <= 3584
    assert (
        12 <= (width // factor) * (height // factor) <= 768
    )  # rounding sides down may cost a row below the least of 16


@pytest.mark.parametrize("factor", [28, 32])
def test_no_side_is_rounded_down_to_nothing(factor: int) -> None:
    token = VideoBudget(min_pixels=1, total_pixels=factor**2)
    assert frame_size(128, 64, 2, token, factor) == frame_size(64, 128, 20, token, factor) == (factor, factor)


def test_least_size_wins_over_the_total_for_very_long_videos() -> None:
    assert frame_size(448, 448, 768, VideoBudget(), 28) == (112, 112)  # 16 tokens x 384 pairs = 6144


def test_resizing_equals_qwen_vl_utils(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (90, 160, 3), dtype=np.uint8) for _ in range(4)]
    theirs = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    theirs = vision_process.transforms.functional.resize(
        theirs, [84, 140], interpolation=vision_process.InterpolationMode.BICUBIC, antialias=True
    )
    assert torch.equal(torch.stack([resize(image, 140, 84) for image in images]), theirs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0.0},
        {"fps": float("nan")},
        {"min_frames": 8, "max_frames": 4},
        {"min_frames": 1, "max_frames": 1},
        {"min_frames": 5, "max_frames": 5},
        {"min_frames": 0},
        {"min_pixels": 1000, "max_pixels": 100},
        {"total_pixels": 0},
        {"timeout_seconds": 0.0},
        {"num_threads": -1},
        {"isolation": "thread"},
    ],
)
def test_budget_refuses_what_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        VideoBudget(**wrong)  # type: ignore[arg-type]


# --- files ------------------------------------------------------------------------------------------------------------


def test_frames_of_a_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 60, fps=25)
    frames = load_frames(Video(path=str(path)), BUDGET, factor=28)
    assert frames.pixels.dtype == torch.uint8 and frames.pixels.shape == (4, 3, 84, 168)
    assert frames.timestamps == (0.0, 0.5, 1.0, 1.5) and frames.sample_fps == 2.0
    assert frames.duration == pytest.approx(2.4) and frames.original_size == (WIDTH, HEIGHT)
    assert numbers(frames) == [0, 12, 25, 37]  # 12.5 and 37.5 frames are shown until 0.52 s and 1.52 s
    assert frames.num_frames == 4


def test_uneven_frames_are_taken_by_their_true_times(tmp_path: Path) -> None:
    ticks = [0, 400, 510, 600, 990, 1000, 1490, 1501, 1600, 2000]
    path = write_video(tmp_path / "a.mkv", 10, ticks=ticks)
    frames = load_frames(Video(path=str(path)), BUDGET, factor=28)
    assert frames.timestamps == (0.0, 0.5, 1.0, 1.5)
    assert numbers(frames) == [0, 1, 5, 6]


def test_clip_has_a_time_of_its_own(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 100, fps=25)
    clip = Video(path=str(path), start=1.0, end=3.0)
    frames = load_frames(clip, BUDGET, factor=28)
    assert frames.timestamps == (0.0, 0.5, 1.0, 1.5) and frames.duration == pytest.approx(2.0)
    assert numbers(frames) == [25, 37, 50, 62]
    past_the_end = load_frames(Video(path=str(path), start=3.0, end=9.0), BUDGET, factor=28)
    assert past_the_end.duration == pytest.approx(1.0) and numbers(past_the_end) == [75, 81, 87, 93]


@pytest.mark.parametrize(("start", "end"), [(4.5, 6.0), (2.0, 2.0), (3.0, 1.0), (-1.0, 2.0), (float("nan"), 2.0)])
def test_clip_outside_the_video_is_refused(tmp_path: Path, start: float, end: float) -> None:
    path = write_video(tmp_path / "a.mp4", 100, fps=25)
    with pytest.raises(VideoError, match="clip"):
        load_frames(Video(path=str(path), start=start, end=end), BUDGET, factor=28)


def test_denser_and_larger_for_a_second_look(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50, fps=25)
    dense = VideoBudget(fps=50.0, min_pixels=64 * 28 * 28, isolation="none")
    frames = load_frames(Video(path=str(path), start=1.0, end=1.2), dense, factor=28)
    assert numbers(frames) == [25, 25, 26, 26, 27, 27, 28, 28, 29, 29]
    assert frames.pixels.shape[2] * frames.pixels.shape[3] >= 64 * 28 * 28


def test_times_can_be_given(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50, fps=25)
    frames = load_frames(Video(path=str(path), start=0.4), BUDGET, times=(0.0, 0.2, 1.4), factor=28)
    assert numbers(frames) == [10, 15, 45, 45] and frames.num_frames == 3
    assert frames.sample_fps == pytest.approx(2 / 1.4)
    assert frames.timestamps == pytest.approx((0.0, 0.2, 1.4, 2.1))
    for wrong in ((), (0.2, 0.1), (-0.1, 0.3), (0.0, 9.0), (0.0, float("nan"))):
        with pytest.raises(VideoError, match="ascend"):
            load_frames(Video(path=str(path)), BUDGET, times=wrong, factor=28)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 1, fps=25)
    frames = load_frames(Video(path=str(path)), BUDGET, factor=28)
    assert numbers(frames) == [0, 0, 0, 0] and frames.duration == pytest.approx(0.04)


def test_size_depends_on_the_factor(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 10)
    frames = load_frames(Video(path=str(path)), BUDGET, factor=32)
    assert frames.pixels.shape[2] % 32 == 0 and frames.pixels.shape[3] % 32 == 0


def test_extreme_proportions_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 600, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(VideoError, match="cannot be resized"):
        load_frames(Video(frames=(str(tmp_path / "a.png"),), frame_times=(0.0,)), BUDGET, factor=28)


def test_probe_reads_length_rate_and_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 60, fps=25, rotation=90)
    info = probe(Video(path=str(path)))
    assert (info.num_frames, info.width, info.height) == (60, HEIGHT, WIDTH)
    assert info.duration == pytest.approx(2.4) and info.fps == pytest.approx(25.0)
    clip = probe(Video(path=str(path), start=1.0, end=2.0))
    assert clip.num_frames == 25 and clip.duration == pytest.approx(1.0)


# --- lists of images --------------------------------------------------------------------------------------------------


def images(folder: Path, count: int) -> tuple[str, ...]:
    for number in range(count):
        Image.fromarray(numbered_image(number)).save(folder / f"{number:08d}.png")
    return tuple(str(folder / f"{number:08d}.png") for number in range(count))


def test_images_are_all_used_at_their_own_times(tmp_path: Path) -> None:
    times = tuple(1.5 * k for k in range(8))
    frames = load_frames(Video(frames=images(tmp_path, 8), frame_times=times), VideoBudget(), factor=28)
    assert numbers(frames) == list(range(8))
    assert frames.timestamps == times and frames.sample_fps == pytest.approx(1 / 1.5)
    assert frames.duration == pytest.approx(12.0) and frames.num_frames == 8


@pytest.mark.parametrize(("count", "shown"), [(7, [0, 1, 2, 3, 4, 5, 6, 6]), (1, [0, 0])])
def test_odd_number_of_images_repeats_the_last_and_says_so(tmp_path: Path, count: int, shown: list[int]) -> None:
    times = tuple(0.5 * k for k in range(count))
    frames = load_frames(Video(frames=images(tmp_path, count), frame_times=times), BUDGET, factor=28)
    assert numbers(frames) == shown and frames.num_frames == count
    assert frames.timestamps == pytest.approx([0.5 * k for k in range(count + 1)])


def test_too_many_images_are_thinned_over_the_whole_length(tmp_path: Path) -> None:
    times = tuple(k / 4 for k in range(12))
    budget = VideoBudget(max_frames=6, isolation="none")
    frames = load_frames(Video(frames=images(tmp_path, 12), frame_times=times), budget, factor=28)
    assert numbers(frames) == [0, 2, 4, 6, 8, 10] and frames.sample_fps == pytest.approx(2.0)


def test_clip_of_images(tmp_path: Path) -> None:
    times = tuple(k / 4 for k in range(12))
    frames = load_frames(Video(frames=images(tmp_path, 12), frame_times=times, start=1.0, end=2.0), BUDGET, factor=28)
    assert numbers(frames) == [4, 5, 6, 7] and frames.timestamps == (0.0, 0.25, 0.5, 0.75)


def test_broken_images_are_named(tmp_path: Path) -> None:
    names = images(tmp_path, 4)
    Path(names[2]).write_bytes(Path(names[2]).read_bytes()[:100])
    with pytest.raises(VideoError, match=r"00000002\.png: cannot be read as an image"):
        load_frames(Video(frames=names, frame_times=(0.0, 1.0, 2.0, 3.0)), VideoBudget(), factor=28)
    with pytest.raises(VideoError, match="no such file"):
        load_frames(Video(frames=(names[0], "nowhere.png"), frame_times=(0.0, 1.0)), BUDGET, factor=28)
    with pytest.raises(VideoError, match="ascend"):
        load_frames(Video(frames=names[:2], frame_times=(1.0, 0.0)), BUDGET, factor=28)
    Image.fromarray(np.zeros((20, 20, 3), dtype=np.uint8)).save(names[1])
    with pytest.raises(VideoError, match="image 2"):
        load_frames(Video(frames=names[:2], frame_times=(0.0, 1.0)), BUDGET, factor=28)


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    Image.new("RGBA", (56, 56), (10, 20, 30, 0)).save(tmp_path / "a.png")
    frames = load_frames(Video(frames=(str(tmp_path / "a.png"),), frame_times=(0.0,)), BUDGET, factor=28)
    assert int(frames.pixels.min()) == 255
