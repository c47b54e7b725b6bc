"""Decoded and resized frames kept for the next reader: in memory, on disk, or both, within stated sizes.

For videos that are read more than once: several questions about one video, several epochs, repeated evaluation.
A key names everything that the pixels depend on, the files' own times and sizes included, so that no entry goes stale.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch

from videochat_r1.errors import ConfigError
from videochat_r1.sample import Video
from videochat_r1.video.frames import Frames, VideoBudget, load_frames
from videochat_r1.video.probe import VideoInfo

logger = logging.getLogger(__name__)

LAYOUT = 4  # of the keys and the files; raised when sampling, resizing or the pixels that a file gives change
SUFFIX = ".safetensors"
# These change how frames are obtained, not which.
NOT_IN_KEY = ("timeout_seconds", "num_threads", "isolation")


class FrameCache:
    """Loads frames as `load_frames` does, and keeps the most recently used. Without limits it keeps nothing.

    Safe for several threads; a folder is safe for several processes, also on several machines that share it if its
    file system supports locks. Only successes are kept.

    Args:
        memory_bytes: most pixels to keep in this process (every loader worker has its own).
        folder: where to keep frames on disk; made if missing.
        disk_bytes: most bytes to keep there, over all processes.
    """

    def __init__(self, *, memory_bytes: int = 0, folder: Path | str | None = None, disk_bytes: int = 0) -> None:
        if memory_bytes < 0 or disk_bytes < 0:
            raise ConfigError(f"cache sizes must not be negative, got {memory_bytes} and {disk_bytes}")
        if (folder is None) != (disk_bytes == 0):
            raise ConfigError(f"a cache on disk needs a folder and a size, got {folder} and {disk_bytes} bytes")
        self._memory = _Memory(memory_bytes)
        self._disk = _Disk(Path(folder), disk_bytes) if folder is not None else None
        self.num_hits = 0
        self.num_misses = 0

    def load(self, video: Video, budget: VideoBudget, *, factor: int, times: tuple[float, ...] | None = None) -> Frames:
        """As `load_frames`; the pixels may be shared with other readers and must not be changed in place."""
        key = frames_key(video, budget, factor, times)
        frames = self._memory.get(key) or (self._disk.get(key) if self._disk is not None else None)
        if frames is not None:
            self.num_hits += 1
            self._memory.put(key, frames)
            return frames
        self.num_misses += 1
        frames = load_frames(video, budget, factor=factor, times=times)
        self._memory.put(key, frames)
        if self._disk is not None:
            self._disk.put(key, frames)
        return frames


def frames_key(video: Video, budget: VideoBudget, factor: int, times: tuple[float, ...] | None) -> str:
    """A name (hexadecimal) for everything that the frames depend on; a file that is missing gets one too."""
    settings = {name: value for name, value in asdict(budget.sized(factor)).items() if name not in NOT_IN_KEY}
    files = [_identity(Path(name)) for name in (video.frames or (str(video.path),))]
    parts = [LAYOUT, files, video.frame_times, video.start, video.end, settings, factor, times]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> list[str | int]:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return [str(path)]  # loading it will say what is wrong
    return [str(path.resolve()), status.st_mtime_ns, status.st_size]


class _Memory:
    """The most recently used frames, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._entries: OrderedDict[str, Frames] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Frames | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: str, frames: Frames) -> None:
        size = frames.pixels.nbytes
        with self._lock:
            if key in self._entries or size > self._limit:
                return
            self._entries[key] = frames
            self._used += size
            while self._used > self._limit:
                _, oldest = self._entries.popitem(last=False)
                self._used -= oldest.pixels.nbytes


class _Disk:
    """One file per video. A file appears whole (rename) and carries the time of its last use as its own."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".lock").touch()
        except OSError as error:
            raise ConfigError(f"the frame cache cannot use {folder}: {error.strerror}") from error

    def get(self, key: str) -> Frames | None:
        path = self._folder / (key + SUFFIX)
        try:
            frames = _from_bytes(path.read_bytes())
            os.utime(path)
        except FileNotFoundError:
            return None  # never there, or another process has just made room
        except (safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            logger.warning("frame cache: %s is not readable (%s) and is decoded again", path, error)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        return frames

    def put(self, key: str, frames: Frames) -> None:
        content = _to_bytes(frames)
        if len(content) > self._limit:
            return
        try:
            with self._locked():
                self._make_room(len(content))
                self._write(key, content)
        except OSError as error:
            # A full disk costs time, not correctness.
            logger.warning("frame cache: cannot write to %s (%s)", self._folder, error.strerror)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self, wanted: int) -> None:
        entries = []
        for path in self._folder.iterdir():
            if path.name == ".lock":
                continue
            if path.suffix != SUFFIX:
                path.unlink(missing_ok=True)  # unfinished: its writer died, as only the lock's holder writes
                continue
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        used = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if used + wanted <= self._limit:
                return
            path.unlink(missing_ok=True)
            used -= size

    def _write(self, key: str, content: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(self._folder / (key + SUFFIX))
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _to_bytes(frames: Frames) -> bytes:
    facts = {
        "timestamps": frames.timestamps,
        "source": asdict(frames.source),
        "sample_fps": frames.sample_fps,
        "num_frames": frames.num_frames,
    }
    return safetensors.torch.save({"pixels": frames.pixels.contiguous()}, metadata={"facts": json.dumps(facts)})


def _from_bytes(content: bytes) -> Frames:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    facts = json.loads(header["__metadata__"]["facts"])
    return Frames(
        pixels=safetensors.torch.load(content)["pixels"],
        timestamps=tuple(facts["timestamps"]),
        source=VideoInfo(**facts["source"]),
        sample_fps=facts["sample_fps"],
        num_frames=facts["num_frames"],
    )
