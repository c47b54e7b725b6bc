"""Files that are read as they are, whatever their name, sound or title, and files that are refused with the reason."""

import os
import re
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.video_files import number_of, numbered_image, write_sound, write_video
from videochat_r1.errors import VideoError
from videochat_r1.sample import Video
from videochat_r1.video import timeline
from videochat_r1.video.backends import DEFAULT_BACKEND
from videochat_r1.video.decode import SamplingRequest, decode
from videochat_r1.video.frames import VideoBudget, load_frames
from videochat_r1.video.probe import probe
from videochat_r1.video.timeline import read_timeline


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole video whose index comes first, so that what is cut off its end is pictures."""
    folder = tmp_path_factory.mktemp("sound")
    return write_video(folder / "a.mp4", 60, container_options={"movflags": "faststart"})


def load(path: Path, backend: str = DEFAULT_BACKEND, timeout_seconds: float = 60.0) -> torch.Tensor:
    return load_frames(
        Video(path=str(path)), VideoBudget(backend=backend, timeout_seconds=timeout_seconds), factor=28
    ).pixels


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
    assert load_frames(
        Video(path=name), VideoBudget(backend=backend, isolation="none"), factor=28
    ).duration == pytest.approx(2.4)


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
    with pytest.raises(VideoError, match=r"a\.webp: does not decode: .*; animated WebP has to be written as GIF"):
        load(tmp_path / "a.webp")
    for suffix in ("png", "gif"):
        shown = load(tmp_path / f"a.{suffix}")
        assert [number_of(image.permute(1, 2, 0).numpy()) for image in shown] == [0, 1, 2, 3]


def test_a_file_is_gone_through_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    opened: list[str] = []
    open_stream = timeline.open_stream
    monkeypatch.setattr(timeline, "open_stream", lambda name: opened.append(name) or open_stream(name))
    for frames, expected in ((20, [2, 2, 3]), (30, [2, 2, 3])):
        write_video(path, frames)
        opened.clear()
        # Twice while it is new, and then once for all.
        found = [timeline.read_timeline(str(path)).num_frames for _ in range(2)]
        counts = [len(opened)]
        os.utime(path, (1.0, float(frames)))
        counts.append(len(opened))
        found += [timeline.read_timeline(str(path)).num_frames for _ in range(3)]
        assert [*counts, len(opened)] == expected and found == [frames] * 5
