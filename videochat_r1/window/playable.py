"""Copies that every browser plays, of videos that it cannot: H.264 in MP4, made with PyAV in a process of their own. No torch.

Run as a program, `python -m videochat_r1.window.playable` with the copy's path as argument, it makes one copy of what standard input
names: files, and the times of image files.
"""

import itertools
import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from videochat_r1.errors import VideoError
from videochat_r1.video.backends import as_displayed
from videochat_r1.video.mp4 import even_size, write_mp4
from videochat_r1.video.pictures import Image, read_image

logger = logging.getLogger(__name__)

_MOST_BYTES = 2 << 30
_MOST_SECONDS = 300.0
_LONGEST_SIDE = 960
_LAST_SECONDS = Fraction(1, 30)


class Copies:
    """Made when they are asked for, kept in a temporary folder until the end, the longest unused one dropped above a limit.

    Args:
        most_bytes: of all copies together.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="videochat_r1-playable-")
        # One at a time: a second decoder would take the first one's core, and perhaps make the same copy.
        self._making = threading.Lock()
        self._numbers = itertools.count()
        self._made: dict[tuple[str, ...], Path] = {}
        self._failed: dict[tuple[str, ...], str] = {}

    def of(self, files: Sequence[Path], times: Sequence[float] = ()) -> Path:
        """The copy of a video file, or of image files with the seconds of each.

        Raises:
            VideoError: they cannot be read, or not within some minutes; it names no path.
        """
        key = (*map(str, files), *map(str, times), str(files[0].stat().st_mtime_ns))
        with self._making:
            if key in self._failed:
                raise VideoError(self._failed[key])
            copy = self._made.pop(key, None)
            if copy is None:
                copy = Path(self._folder.name) / f"{next(self._numbers)}.mp4"
                try:
                    _make_apart(files, times, copy)
                except VideoError as error:
                    self._failed[key] = str(error)
                    raise
            self._made[key] = copy
            self._drop_oldest()
            return copy

    def close(self) -> None:
        """Remove all copies."""
        self._folder.cleanup()

    def _drop_oldest(self) -> None:
        sizes = {key: copy.stat().st_size for key, copy in self._made.items()}
        while len(sizes) > 1 and sum(sizes.values()) > self._most_bytes:
            oldest = next(iter(sizes))
            self._made.pop(oldest).unlink()
            del sizes[oldest]


def _make_apart(files: Sequence[Path], times: Sequence[float], copy: Path) -> None:
    """A decoder that hangs or dies takes the window with it no more than a copy."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "videochat_r1.window.playable", str(copy)],
            input=json.dumps({"files": [str(file) for file in files], "times": list(times)}),
            capture_output=True,
            text=True,
            timeout=_MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        copy.unlink(missing_ok=True)
        raise VideoError(f"making a copy that browsers play took more than {_MOST_SECONDS:g} s") from None
    if done.returncode:
        logger.warning("%s cannot be shown: %s", files[0], done.stderr.strip()[-500:])
        copy.unlink(missing_ok=True)
        raise VideoError("the video cannot be decoded")


def make_copy(files: Sequence[Path], times: Sequence[float], copy: Path) -> None:
    """Write the copy: of a video at its own times from 0, of image files at theirs; upright, long sides scaled down."""
    if write_mp4(copy, _images(files, times), _LONGEST_SIDE) == 0:
        raise VideoError(f"{files[0]} has no pictures")


def _images(files: Sequence[Path], times: Sequence[float]) -> Iterator[tuple[Image, Fraction]]:
    """Upright images with their seconds from the first, no larger than the copy."""
    if not times:
        with av.open(str(files[0])) as container:
            stream = container.streams.video[0]
            first, last = None, Fraction(-1)
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                seconds = frame.pts * Fraction(frame.time_base or 0)
                first = seconds if first is None else first
                if seconds - first > last:
                    last = seconds - first
                    small = frame.reformat(*even_size(frame.width, frame.height, _LONGEST_SIDE), "rgb24")
                    yield as_displayed(np.asarray(small.to_ndarray(), np.uint8), frame), last
        return
    # The last image stays as long as the others do on average, which takes it once more at the end.
    starts = [Fraction(at - times[0]).limit_denominator(1000) for at in times]
    gap = starts[-1] / max(len(starts) - 1, 1) or Fraction(1)
    for file, at in (*zip(files, starts, strict=True), (files[-1], starts[-1] + gap - _LAST_SECONDS)):
        yield read_image(str(file)), at


if __name__ == "__main__":
    try:
        given = json.load(sys.stdin)
        make_copy([Path(name) for name in given["files"]], given["times"], Path(sys.argv[1]))
    except (FFmpegError, OSError, IndexError, ValueError, VideoError) as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
