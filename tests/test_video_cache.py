"""Cached frames equal fresh ones, never outlive their file, and never take more room than allowed."""

import logging
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.video_files import write_video
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video.cache import FrameCache, frames_key
from videochat_r1.video.frames import VideoBudget, load_frames

BUDGET = VideoBudget(isolation="none")
SIZE = 4 * 3 * 84 * 168  # bytes of the pixels of each video here


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    folder = tmp_path_factory.mktemp("videos")
    return [Video(path=str(write_video(folder / f"{k}.mp4", 8 + k))) for k in range(4)]


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_without_limits_nothing_is_kept(videos: list[Video]) -> None:
    cache = FrameCache()
    for _ in range(2):
        cache.load(videos[0], BUDGET, factor=28)
    assert (cache.num_hits, cache.num_misses) == (0, 2)


@pytest.mark.parametrize("where", ["memory", "disk", "both"])
def test_second_read_is_the_same_without_decoding(videos: list[Video], tmp_path: Path, where: str) -> None:
    cache = FrameCache(
        memory_bytes=10**6 if where != "disk" else 0,
        folder=tmp_path if where != "memory" else None,
        disk_bytes=10**6 if where != "memory" else 0,
    )
    fresh = load_frames(videos[0], BUDGET, factor=28)
    for _ in range(3):
        cached = cache.load(videos[0], BUDGET, factor=28)
        assert torch.equal(cached.pixels, fresh.pixels)
        for name in ("timestamps", "source", "sample_fps", "num_frames"):
            assert getattr(cached, name) == getattr(fresh, name)
    assert (cache.num_hits, cache.num_misses) == (2, 1)


def test_memory_drops_what_was_used_longest_ago(videos: list[Video]) -> None:
    cache = FrameCache(memory_bytes=2 * SIZE)
    for k in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, not 0
        cache.load(videos[k], BUDGET, factor=28)
    assert (cache.num_hits, cache.num_misses) == (2, 4)


def test_disk_stays_within_its_size_and_drops_the_oldest(videos: list[Video], tmp_path: Path) -> None:
    limit = int(2.5 * SIZE)
    cache = FrameCache(folder=tmp_path, disk_bytes=limit)
    for k in (0, 1, 0, 2, 0, 3, 1):
        cache.load(videos[k], BUDGET, factor=28)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
        time.sleep(0.01)
    assert cache.num_hits == 2
    assert len(entries(tmp_path)) == 2


def test_entry_larger_than_the_limit_is_not_kept(videos: list[Video], tmp_path: Path) -> None:
    cache = FrameCache(memory_bytes=SIZE - 1, folder=tmp_path, disk_bytes=SIZE - 1)
    cache.load(videos[0], BUDGET, factor=28)
    cache.load(videos[0], BUDGET, factor=28)
    assert cache.num_hits == 0 and entries(tmp_path) == []


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 8)
    cache = FrameCache(memory_bytes=10**7, folder=tmp_path / "cache", disk_bytes=10**7)
    first = cache.load(Video(path=str(path)), BUDGET, factor=28)
    write_video(path, 16)
    second = cache.load(Video(path=str(path)), BUDGET, factor=28)
    assert cache.num_misses == 2 and second.duration > first.duration


def test_key_names_all_that_changes_pixels_and_nothing_else(videos: list[Video]) -> None:
    video = videos[0]
    key = frames_key(video, BUDGET, 28, None)
    assert key == frames_key(video, replace(BUDGET, timeout_seconds=1.0, num_threads=4, isolation="process"), 28, None)
    others = {
        frames_key(videos[1], BUDGET, 28, None),
        frames_key(replace(video, start=0.1), BUDGET, 28, None),
        frames_key(replace(video, end=0.3), BUDGET, 28, None),
        frames_key(video, replace(BUDGET, fps=4.0), 28, None),
        frames_key(video, replace(BUDGET, max_pixels=20000), 28, None),
        frames_key(video, replace(BUDGET, backend="decord"), 28, None),
        frames_key(video, BUDGET, 32, None),
        frames_key(video, BUDGET, 28, (0.0, 0.1)),
    }
    assert len(others | {key}) == 9


def test_damaged_entry_is_decoded_again(videos: list[Video], tmp_path: Path) -> None:
    for damage in (b"", b"\x00" * 50, b"\xff" * 5000):
        cache = FrameCache(folder=tmp_path, disk_bytes=10**6)
        fresh = cache.load(videos[0], BUDGET, factor=28)
        (entry,) = entries(tmp_path)
        entry.write_bytes(damage)
        assert torch.equal(cache.load(videos[0], BUDGET, factor=28).pixels, fresh.pixels)
        assert entry.stat().st_size > SIZE


def test_errors_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    cache = FrameCache(memory_bytes=10**7)
    with pytest.raises(VideoError, match="no such file"):
        cache.load(Video(path=str(path)), BUDGET, factor=28)
    write_video(path, 8)
    assert cache.load(Video(path=str(path)), BUDGET, factor=28).pixels.shape[0] == 4


def test_what_a_killed_writer_left_is_removed(videos: list[Video], tmp_path: Path) -> None:
    (tmp_path / "tmp123.part").write_bytes(b"x" * 1000)
    FrameCache(folder=tmp_path, disk_bytes=10**6).load(videos[0], BUDGET, factor=28)
    assert not (tmp_path / "tmp123.part").exists()


def _read_in_turn(folder: Path, limit: int, videos: list[Video]) -> None:
    logging.disable(logging.NOTSET)
    logging.getLogger("videochat_r1.video.cache").addHandler(_Raises())
    cache = FrameCache(folder=folder, disk_bytes=limit)
    for turn in range(24):
        frames = cache.load(videos[turn % len(videos)], BUDGET, factor=28)
        assert torch.equal(frames.pixels, load_frames(videos[turn % len(videos)], BUDGET, factor=28).pixels)


class _Raises(logging.Handler):
    """Any warning of the cache (an entry that is not readable) ends the process."""

    def emit(self, record: logging.LogRecord) -> None:
        os._exit(3)


def test_several_processes_share_a_folder(videos: list[Video], tmp_path: Path) -> None:
    limit = int(2.5 * SIZE)
    context = multiprocessing.get_context("fork")
    # As in loader workers: a fork does not take OpenMP's threads along, and would wait for them.
    torch.set_num_threads(1)
    readers = [context.Process(target=_read_in_turn, args=(tmp_path, limit, videos[k:] + videos[:k])) for k in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
        assert reader.exitcode == 0
    assert 1 <= len(entries(tmp_path)) <= 2 and sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit


@pytest.mark.parametrize("wrong", [{"memory_bytes": -1}, {"disk_bytes": 5}, {"folder": "x"}])
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="cache"):
        FrameCache(**wrong)  # type: ignore[arg-type]


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot use"):
        FrameCache(folder=tmp_path / "file" / "cache", disk_bytes=10)
