"""What cannot be decoded is refused in time, with the reason, and leaves nothing behind that harms the next video."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tests import video_files
from tests.video_files import numbered_image, write_video
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import CaptionTarget, Pictures, Sample, Video, media_in_row
from videochat_r1.training.loader import BadSamples, load_prompt
from videochat_r1.video import process
from videochat_r1.video.backends import DEFAULT_BACKEND
from videochat_r1.video.cache import FrameCache
from videochat_r1.video.decode import SamplingRequest, decode
from videochat_r1.video.frames import VideoBudget, load_frames
from videochat_r1.video.process import close_process, decode_in_process
from videochat_r1.video.stills import load_pictures


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole video whose index comes first, so that what is cut off its end is pictures."""
    folder = tmp_path_factory.mktemp("sound")
    return write_video(folder / "a.mp4", 60, container_options={"movflags": "faststart"})


def budget(backend: str = DEFAULT_BACKEND, **options: float) -> VideoBudget:
    return VideoBudget(backend=backend, **options)  # type: ignore[arg-type]


def stub(name: str) -> str:
    return f"{video_files.__name__}:{name}"


def load(path: Path, backend: str = DEFAULT_BACKEND, **options: float) -> torch.Tensor:
    return load_frames(Video(path=str(path)), budget(backend, **options), factor=28).pixels


# --- decoders that misbehave ------------------------------------------------------------------------------------------


def test_hanging_decoder_is_killed(sound: Path) -> None:
    load(sound)
    hung = process._local.process._process.pid
    began = time.monotonic()
    with pytest.raises(VideoError, match=r"a\.mp4: no answer after 0\.5 s \(backend tests"):
        load(sound, stub("hang"), timeout_seconds=0.5)
    assert time.monotonic() - began < 5.0
    assert not Path(f"/proc/{hung}").exists()
    assert load(sound).shape[0] == 4


def test_process_that_is_stopped_is_killed(sound: Path) -> None:
    load(sound)
    os.kill(process._local.process._process.pid, signal.SIGSTOP)
    with pytest.raises(VideoError, match=r"no answer after 0\.3 s"):
        load(sound, timeout_seconds=0.3)
    assert load(sound).shape[0] == 4


def test_crashing_decoder_is_survived(sound: Path) -> None:
    with pytest.raises(VideoError, match=r"a\.mp4: the decoder crashed with signal 11"):
        load(sound, stub("crash"))
    assert load(sound).shape[0] == 4


def test_decoder_with_a_bug_is_reported_with_its_message(sound: Path) -> None:
    with pytest.raises(VideoError, match="stopped with status 1: ZeroDivisionError: a bug in the decoder"):
        load(sound, stub("fail"))


def test_process_killed_between_two_videos_is_started_again(sound: Path) -> None:
    load(sound)
    process._local.process._process.kill()
    process._local.process._process.wait()
    assert load(sound).shape[0] == 4


@pytest.mark.parametrize("isolation", ["process", "none"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stop_early", "2 of the 4 wanted frames do not decode"),
        ("return_too_many", "the decoder yields more than the 4 wanted frames"),
        ("return_a_list", "image 1 is a list, expected a numpy array"),
        ("return_floats", r"image 1 is float64 \(64, 128, 3\), expected uint8"),
        ("return_grey", r"image 1 is uint8 \(64, 128\), expected uint8 \(height, width, 3\)"),
        ("return_no_pixels", r"image 1 is uint8 \(0, 128, 3\)"),
        ("return_two_sizes", "image 2 has 128 x 63 pixels, the first one 128 x 64"),
    ],
)
def test_decoder_that_gives_other_images_than_wanted(sound: Path, name: str, reason: str, isolation: str) -> None:
    with pytest.raises(VideoError, match=reason):
        load_frames(Video(path=str(sound)), VideoBudget(backend=stub(name), isolation=isolation), factor=28)


class Builder:
    """Builds no prompt, but loads the video or the pictures as the real one does."""

    def build(self, sample: Sample) -> None:
        if isinstance(sample.media, Pictures):
            load_pictures(sample.media, (28 * 28, 28 * 28), factor=28)
        else:
            budget = VideoBudget(backend=stub("return_too_many"), isolation="none")
            FrameCache().load(sample.media, budget, factor=28)


@pytest.mark.parametrize("kind", ["video", "pictures"])
@pytest.mark.parametrize("name", ["a.mp4", "nowhere.mp4", "half \ud83d.mp4", "a\0b.mp4", "x" * 300])
def test_training_leaves_out_what_cannot_be_loaded(sound: Path, name: str, kind: str) -> None:
    path = str(sound.parent / name)
    media = Video(path=path) if kind == "video" else Pictures((path,))
    sample = Sample("1", "captioning", media, "what?", CaptionTarget("A dog."))
    loaded = load_prompt(Builder(), sample)  # type: ignore[arg-type]
    assert loaded.inputs is None and str(loaded.problem).startswith("VideoError: ")
    bad = BadSamples(0.05)
    bad.count([loaded], is_main_process=True)
    assert bad.listed == [{"sample_id": "1", **media_in_row(media), "problem": loaded.problem}]


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_decoder_that_gives_views_is_as_good_as_one_that_gives_copies(sound: Path, isolation: str) -> None:
    frames = load_frames(
        Video(path=str(sound)), VideoBudget(backend=stub("return_mirrored"), isolation=isolation), factor=28
    )
    assert [video_files.number_of(image.permute(1, 2, 0).numpy()) for image in frames.pixels] == [0, 12, 25, 37]


@pytest.mark.parametrize("name", ["return_nothing", "WIDTH"])
def test_decoder_that_is_none_is_the_users_mistake(sound: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.* (returns NoneType, expected|is a int, which is no video backend)"):
        load(sound, stub(name))


def test_reply_out_of_order_is_the_videos_end_not_the_runs(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(sound)
    receive = process.DecoderProcess._receive

    def without_end(self: process.DecoderProcess, deadline: float) -> dict[str, object]:
        reply = receive(self, deadline)
        return {"slot": 0, "shape": (64, 128, 3)} if "done" in reply else reply

    monkeypatch.setattr(process.DecoderProcess, "_receive", without_end)
    with pytest.raises(VideoError, match=r"a\.mp4: the decoder answers \['shape', 'slot'\] in the place of done"):
        load(sound)


def test_unknown_backend_is_the_users_mistake_not_the_videos(sound: Path) -> None:
    with pytest.raises(ConfigError, match="unknown video backend 'ffmpeg'"):
        load(sound, "ffmpeg")
    assert load(sound).shape[0] == 4


# --- the process ------------------------------------------------------------------------------------------------------


def test_process_and_no_process_give_the_same(sound: Path) -> None:
    request = SamplingRequest(Video(path=str(sound)), fps=10.0)
    plan, images = decode(request)
    other_plan, other_images = decode_in_process(request, 60.0)
    assert plan == other_plan and plan.num_images == 24
    assert all(np.array_equal(one, other) for one, other in zip(images, other_images, strict=True))


def test_images_of_different_videos_may_differ_in_size(tmp_path: Path, sound: Path) -> None:
    Image.fromarray(np.tile(numbered_image(5), (4, 4, 1))).save(tmp_path / "large.png")
    large = Video(frames=(str(tmp_path / "large.png"),), frame_times=(0.0,))
    for _ in range(2):
        assert load_frames(large, VideoBudget(), factor=28).original_size == (512, 256)
        assert load_frames(Video(path=str(sound)), VideoBudget(), factor=28).original_size == (128, 64)


def test_video_left_in_the_middle_does_not_leak_into_the_next(sound: Path, tmp_path: Path) -> None:
    plan, images = decode_in_process(SamplingRequest(Video(path=str(sound)), fps=10.0), 60.0)
    kept = next(images)  # the generator stays alive, unfinished
    other = write_video(tmp_path / "b.mp4", 10)
    shown = load(other, min_frames=10, fps=25.0)
    assert shown.shape[0] == 10 and video_files.number_of(shown[7].permute(1, 2, 0).numpy()) == 7
    assert kept.shape == (64, 128, 3) and plan.num_images == 24


def test_one_process_serves_many_videos(sound: Path) -> None:
    shown = {int(load(sound, stub("remember_process"))[0].float().mean()) for _ in range(3)}
    pid = process._local.process._process.pid
    load(sound)
    assert len(shown) == 1 and process._local.process._process.pid == pid


def test_process_that_has_grown_is_replaced(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(sound)
    before = process._local.process._process.pid
    monkeypatch.setattr(process, "RESIDENT_LIMIT_BYTES", 1)
    load(sound)
    assert not Path(f"/proc/{before}").exists()


def test_process_needs_no_torch(sound: Path) -> None:
    load(sound)
    maps = Path(f"/proc/{process._local.process._process.pid}/maps").read_text()
    assert "libavcodec" in maps and "libtorch" not in maps


def test_threads_have_processes_of_their_own_that_end_with_them(sound: Path) -> None:
    def work(_: int) -> tuple[int, int]:
        return load(sound).shape[0], process._local.process._process.pid

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(work, range(6)))
    assert {count for count, _ in results} == {4}
    deadline = time.monotonic() + 5.0
    while any(Path(f"/proc/{pid}").exists() for _, pid in results) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for _, pid in results)


class Loading(torch.utils.data.Dataset[torch.Tensor]):
    """Videos loaded in the workers of a DataLoader, which may not start processes through `multiprocessing`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 2:
            with pytest.raises(VideoError, match="no answer"):
                load(self.path, stub("hang"), timeout_seconds=0.3)
        return load(self.path)


def test_loader_workers_decode(sound: Path) -> None:
    expected = load(sound)  # this process's decoder is inherited by the fork, which must leave it alone
    before = process._local.process._process.pid
    loaded = list(DataLoader(Loading(sound), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert len(loaded) == 4 and all(torch.equal(pixels, expected) for pixels in loaded)
    assert torch.equal(load(sound), expected) and process._local.process._process.pid == before


ORPHAN_PROGRAM = """
import os, sys
from videochat_r1.geometry import Span
from videochat_r1.sample import Sample, SpanTarget, Video
from videochat_r1.training.loader import load_prompt
from videochat_r1.video import process
from videochat_r1.video.backends import DEFAULT_BACKEND
from videochat_r1.video.cache import FrameCache
from videochat_r1.video.decode import SamplingRequest
plan, images = process.decode_in_process(SamplingRequest(Video(path=sys.argv[1]), backend=sys.argv[2]), 60.0)
next(images)
print(process._local.process._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_hanging_decoder_ends_with_its_killed_parent(sound: Path, project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN_PROGRAM, str(sound), stub("hang")],
        cwd=project_root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 5.0
    while Path(f"/proc/{int(done.stdout)}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_descriptors_are_given_back(sound: Path) -> None:
    close_process()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        load(sound)
        with pytest.raises(VideoError):
            load(sound, stub("crash"))
    close_process()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
