"""What cannot be decoded is refused in time, with the reason, and leaves nothing behind that harms the next video."""

import concurrent.futures
import os
import re
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
from tests.video_files import numbered_image, write_sound, write_video
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video import process
from videochat_r1.video.backends import DEFAULT_BACKEND
from videochat_r1.video.decode import SamplingRequest, decode
from videochat_r1.video.frames import VideoBudget, load_frames
from videochat_r1.video.probe import probe
from videochat_r1.video.process import close_process, decode_in_process
from videochat_r1.video.timeline import read_timeline


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
    return load_frames(Video(path=str(path)), budget(backend, **options)).pixels


# --- broken files -----------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"nowhere\.mp4: no such file"):
        load(tmp_path / "nowhere.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        load(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(VideoError, match="empty"):
        load(tmp_path / "a.mp4")


def test_pipe_that_nobody_writes_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    began = time.monotonic()
    with pytest.raises(VideoError, match="not a regular file"):
        load(tmp_path / "a.mp4", timeout_seconds=20.0)
    assert time.monotonic() - began < 20.0


def test_sound_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no video stream, only audio"):
        load(write_sound(tmp_path / "a.mp4"))


@pytest.mark.parametrize("content", [b"no video at all", bytes(5000), b"\x00\x00\x00\x18ftypmp42" + bytes(3000)])
def test_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4: "):
        load(tmp_path / "a.mp4")


def test_damaged_header(tmp_path: Path, sound: Path) -> None:
    content = bytearray(sound.read_bytes())
    content[:300] = np.random.default_rng(0).bytes(300)
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        load(tmp_path / "a.mp4")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "flv"])
def test_truncated_file(tmp_path: Path, suffix: str, share: float) -> None:
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    whole = write_video(tmp_path / f"whole.{suffix}", 100, container_options=options)
    content = whole.read_bytes()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    try:
        timeline = read_timeline(str(path))
    except VideoError as error:
        assert re.search("truncated|cannot be opened", str(error))
    else:
        # Only an index at the very end is gone, or less than half a second: then the video is shorter.
        assert share >= 0.9 and 3.5 <= timeline.duration <= 4.04 and timeline.times[-1] < timeline.duration


def test_truncated_file_is_not_padded(tmp_path: Path, sound: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(sound.read_bytes()[:-3000])
    for backend in ("decord", "pyav"):
        with pytest.raises(VideoError, match=r"truncated: frame [0-9]+, the last one"):
            load(tmp_path / "a.mp4", backend)


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_group_that_does_not_decode_is_not_replaced(tmp_path: Path, sound: Path, backend: str) -> None:
    import av

    with av.open(str(sound)) as container:
        key = [packet for packet in container.demux(video=0) if packet.is_keyframe][1]
    content = bytearray(sound.read_bytes())
    content[key.pos : key.pos + key.size] = bytes(key.size)
    (tmp_path / "a.mp4").write_bytes(content)
    assert read_timeline(str(tmp_path / "a.mp4")).num_frames == 60
    with pytest.raises(VideoError, match="decode"):
        load(tmp_path / "a.mp4", backend)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv", "a.ts", "a.wmv", "a.gif", "a.png"])
def test_damage_anywhere_is_a_videos_error_or_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix in (".gif", ".png"):
        first, *others = (Image.fromarray(numbered_image(number)) for number in range(4))
        first.save(path, save_all=True, append_images=others, duration=500)
    else:
        write_video(path, 12, **({"codec": "wmv2", "options": {}} if path.suffix == ".wmv" else {}))
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in random.integers(0, min(len(content), random.choice([100, 600, 10**6])), random.integers(1, 8)):
            damaged[place] = random.choice([0, 1, 127, 255])
        path.write_bytes(damaged)
        try:
            plan, images = decode(SamplingRequest(Video(path=str(path))))
            assert len(list(images)) == plan.num_images
        except VideoError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_codec_that_nobody_knows(tmp_path: Path, sound: Path, backend: str) -> None:
    before, _, after = sound.read_bytes().rpartition(b"avc1")
    (tmp_path / "a.mp4").write_bytes(before + b"zzzz" + after)
    with pytest.raises(VideoError, match=r"a\.mp4: FFmpeg has no decoder for its pictures"):
        load(tmp_path / "a.mp4", backend)


def test_probe_refuses_the_same_files(tmp_path: Path, sound: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(sound.read_bytes()[:-3000])
    with pytest.raises(VideoError, match="truncated"):
        probe(Video(path=str(tmp_path / "a.mp4")))


NAMES = ("12:30.mp4", "http:x.mp4", "concat:a|b.mp4", "file:x.mp4", "crypto:x.mp4", "subfile,,start,0,end,9,,:x.mp4")


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize("name", [*NAMES, "per%03d.mp4", "q?x=1#y.mp4", "-i.mp4", "new\nline.mp4", "sound"])
def test_a_file_is_a_file_whatever_its_name(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, backend: str
) -> None:
    (tmp_path / name).write_bytes(sound.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert load_frames(Video(path=name), VideoBudget(backend=backend, isolation="none")).duration == pytest.approx(2.4)


@pytest.mark.parametrize("seconds", [0.5, 6.0])
@pytest.mark.parametrize(
    ("suffix", "codec"), [("wmv", "wmv2"), ("mp4", "libx264"), ("mkv", "libx264"), ("flv", "libx264")]
)
def test_sound_of_another_length_is_no_truncation(tmp_path: Path, suffix: str, codec: str, seconds: float) -> None:
    path = tmp_path / f"a.{suffix}"
    write_video(path, 50, codec=codec, options={}, sound_seconds=seconds)
    assert read_timeline(str(path)).duration == pytest.approx(2.0, abs=0.1)
    content = path.read_bytes()
    half = len(content) // 2
    # FFmpeg does not believe the duration of a WMV file that is shorter than its header says.
    path.write_bytes(content[:half] + (bytes(len(content) - half) if suffix == "wmv" else b""))
    with pytest.raises(VideoError, match=r"truncated|cannot be opened"):
        read_timeline(str(path))


def test_titles_in_an_old_encoding_do_no_harm(tmp_path: Path, sound: Path) -> None:
    path = write_video(tmp_path / "a.avi", 50)
    content = path.read_bytes()
    assert content.count(b"Lavf") == 1
    path.write_bytes(content.replace(b"Lavf", b"L\xe4v\xff"))
    assert len(load(path)) == 4


def test_joined_recordings_whose_clock_starts_anew_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", 60)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(VideoError, match=r"its clock jumps back by 2\.\d+ s, as where recordings were joined"):
        load(path)


def test_animated_webp_is_named(tmp_path: Path) -> None:
    pictures = [Image.fromarray(numbered_image(number)) for number in range(4)]
    for suffix in ("webp", "png", "gif"):
        pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:], duration=500)
    with pytest.raises(VideoError, match=r"a\.webp: .* an animated WebP file"):
        load(tmp_path / "a.webp")
    for suffix in ("png", "gif"):
        shown = load(tmp_path / f"a.{suffix}")
        assert [video_files.number_of(image.permute(1, 2, 0).numpy()) for image in shown] == [0, 1, 2, 3]


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
        load_frames(Video(path=str(sound)), VideoBudget(backend=stub(name), isolation=isolation))


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_decoder_that_gives_views_is_as_good_as_one_that_gives_copies(sound: Path, isolation: str) -> None:
    frames = load_frames(Video(path=str(sound)), VideoBudget(backend=stub("return_mirrored"), isolation=isolation))
    assert [video_files.number_of(image.permute(1, 2, 0).numpy()) for image in frames.pixels] == [0, 12, 25, 37]


@pytest.mark.parametrize("name", ["return_nothing", "WIDTH"])
def test_decoder_that_is_none_is_the_users_mistake(sound: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.* (returns NoneType|is a int), expected"):
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
    with pytest.raises(ConfigError, match="no video backend 'ffmpeg'"):
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
        assert load_frames(large, VideoBudget()).original_size == (512, 256)
        assert load_frames(Video(path=str(sound)), VideoBudget()).original_size == (128, 64)


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
from videochat_r1.sample import Video
from videochat_r1.video import process
from videochat_r1.video.backends import DEFAULT_BACKEND
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
