"""The display times of all frames of a file, read from its packets without decoding, and whether the file is whole."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videochat_r1.errors import VideoError

# Elsewhere FFmpeg estimates a duration, which proves nothing.
FORMATS_WITH_DURATION = frozenset({"mov", "mp4", "matroska", "webm", "avi", "flv", "asf"})
# Elsewhere (AVI, MPEG program streams, raw streams) display times are guessed while reading, wrongly with B-frames.
FORMATS_WITH_DISPLAY_TIMES = frozenset({"mov", "mp4", "matroska", "webm", "mpegts", "flv", "asf", "ogg"})
# These state one duration for all streams, and FFmpeg gives it to each of them.
FORMATS_WITH_ONE_DURATION = frozenset({"asf"})
DURATION_TOLERANCE_SECONDS = 0.5
# A file that has just been written may be written again without another time of its own.
SETTLED_SECONDS = 2.0
MOST_REORDERED = 16
"""Frames that may be decoded before one that is shown first; no codec allows more."""
# `ValueError` and `MemoryError` come from PyAV itself: text, formats and sizes that it cannot hold.
FFMPEG_ERRORS = (av.FFmpegError, OSError, ValueError, MemoryError)


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Every frame of a video file. N frames are shown; M >= N packets hold them, some decoded only as references.

    Args:
        times: (N,) seconds in display order, ascending; 0 is where a player starts the file.
        origin: seconds on the container's own clock where `times` is 0.
        duration: seconds until the last frame leaves the screen.
        pts: (N,) display times in the container's units, ascending, to recognise decoded frames by; None where the
            container stores none (then a frame is known by its place in the decoder's output alone).
        packet_pts: (M,) display time of each packet in the order of decoding, in the container's units.
        packet_is_key: (M,) whether decoding can begin at the packet.
    """

    times: NDArray[np.float64]
    origin: float
    duration: float
    pts: NDArray[np.int64] | None
    packet_pts: NDArray[np.int64]
    packet_is_key: NDArray[np.bool_]

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.times)

    @property
    def has_shared_times(self) -> bool:
        """Whether several frames are shown at one time, so that all but the last of them are never seen."""
        return self.pts is not None and bool((self.pts[:-1] == self.pts[1:]).any())

    @property
    def has_closed_groups(self) -> bool:
        """Whether every key frame is shown after all that is decoded before it, and before all that follows it."""
        latest_before = np.maximum.accumulate(self.packet_pts)
        earliest_after = np.minimum.accumulate(self.packet_pts[::-1])[::-1]
        keys = np.flatnonzero(self.packet_is_key)
        return bool(np.all(latest_before[keys] == earliest_after[keys]))


def reason(error: BaseException) -> str:
    """What one of `FFMPEG_ERRORS` says, without its number."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def regular_file(path: str) -> str:
    """The file's absolute name, in which nothing before a colon looks like a protocol to FFmpeg.

    Raises:
        VideoError: the file is missing, empty, no regular file, or cannot be looked at.
    """
    file = Path(path)
    try:
        if not file.exists():
            raise VideoError(f"{path}: no such file")
        if not file.is_file():
            raise VideoError(f"{path}: not a regular file")
        if file.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty (0 bytes)")
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened: {reason(error)}") from error
    return str(file.absolute())


def open_stream(path: str) -> tuple[InputContainer, VideoStream]:
    """The opened file and its main video stream.

    Raises:
        VideoError: as `regular_file`, and for a file that is not readable as a video, or has only sound or an unknown codec.
    """
    try:
        # Titles and comments come in any encoding.
        container = av.open(regular_file(path), metadata_errors="replace")
    except FFMPEG_ERRORS as error:
        raise VideoError(f"{path}: cannot be opened as a video: {reason(error)}") from error
    moving = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not moving:
        kinds = sorted({"cover picture" if stream.type == "video" else stream.type for stream in container.streams})
        container.close()
        raise VideoError(f"{path}: no video stream, only {' and '.join(kinds) or 'nothing'}")
    best = container.streams.best("video")
    chosen = next((stream for stream in moving if stream is best), moving[0])
    # Typed as always there, but None where FFmpeg does not know the codec.
    if not chosen.codec_context:
        container.close()
        raise VideoError(f"{path}: FFmpeg has no decoder for its pictures")
    return container, chosen


def read_timeline(path: str) -> Timeline:
    """The display times of every frame, from one pass over the file's packets.

    A file is refused as truncated when its header promises more than its packets hold: the last packet of the video
    is incomplete, or the video ends more than half a second before the end that the header states.

    The timelines of the last few files are kept, as reading that of a long film takes longer than decoding a clip of it.

    Raises:
        VideoError: as `open_stream`, and for a file that is truncated or holds no frame.
    """
    state = Path(regular_file(path)).stat()
    if time.time() - state.st_mtime < SETTLED_SECONDS:
        return _read(path)
    return _read_once(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=8)
def _read_once(path: str, version: tuple[int, ...]) -> Timeline:
    """Of a file that is told from another one of the same name by its version."""
    return _read(path)


def _read(path: str) -> Timeline:
    container, stream = open_stream(path)
    with container:
        formats = set(container.format.name.split(","))
        packets = _Packets(stream, formats)
        try:
            # Where a header states one duration for all streams, only all of them together can reach it.
            for packet in container.demux(stream) if packets.have_own_duration else container.demux():
                packets.add(packet)
        except FFMPEG_ERRORS as error:
            raise VideoError(f"{path}: damaged after {len(packets.pts)} frames: {reason(error)}") from error
        if not any(packets.is_shown):
            raise VideoError(f"{path}: truncated or damaged: its header announces a video, but no frame follows")
        _check_complete(path, container, packets, formats)
        _check_clock(path, packets)
        timeline = packets.timeline(_start_of_clock(container))
    if timeline is None:
        raise VideoError(f"{path}: damaged: no frame of it can be decoded from a key frame")
    return timeline


class _Packets:
    """What the packets of one video stream say about time, in the order of decoding."""

    def __init__(self, stream: VideoStream, formats: set[str]) -> None:
        self.stream = stream
        self.stores_display_times = bool(formats & FORMATS_WITH_DISPLAY_TIMES)
        self.have_own_duration = stream.duration is not None and not formats & FORMATS_WITH_ONE_DURATION
        self.tick = stream.time_base or Fraction(1, av.time_base)
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.durations: list[int] = []
        self.is_key: list[bool] = []
        self.is_shown: list[bool] = []
        self.last_is_corrupt = False
        self.ends: dict[int, int] = {}

    def add(self, packet: av.Packet) -> None:
        if packet.size == 0:
            return
        stamp = packet.pts if packet.pts is not None else packet.dts
        index = packet.stream_index
        if stamp is not None:
            self.ends[index] = max(self.ends.get(index, 0), stamp + (packet.duration or 0))
        if index != self.stream.index:
            return
        self.last_is_corrupt = packet.is_corrupt
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.durations.append(packet.duration or 0)
        self.is_key.append(packet.is_keyframe)
        self.is_shown.append(not packet.is_discard)

    @property
    def frame_seconds(self) -> float:
        """Seconds of one frame according to the header; 0.04 if it says nothing."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return 1.0 / float(rate) if rate else 0.04

    def stamps(self) -> NDArray[np.int64]:
        """A time per packet in ticks: for display if stored, else for decoding, else counted at the header's rate.

        Where a format stores no display times, the guessed ones may begin a frame late; the k-th frame is then shown when
        the k-th packet is due.
        """
        for stored in (self.pts, self.dts) if self.stores_display_times else (self.dts, self.pts):
            known = [value for value in stored if value is not None]
            if len(known) == len(stored):
                return np.array(known, dtype=np.int64)
        return np.round(np.arange(len(self.pts)) * (self.frame_seconds / float(self.tick))).astype(np.int64)

    def end(self) -> float:
        """Seconds on the container's clock at which the last frame leaves the screen."""
        stamps = self.stamps()
        last = int(stamps.argmax())
        shown = self.durations[last] * float(self.tick)
        return float(stamps[last]) * float(self.tick) + (shown if shown > 0.0 else self.frame_seconds)

    def end_of_all_streams(self) -> float:
        """As `end`, of the stream that lasts longest, by the lengths that packets state."""
        streams = self.stream.container.streams
        return max(float(end * (streams[index].time_base or 0)) for index, end in self.ends.items())

    def _is_decodable(self, stamps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """False for what a recording that begins within a group of pictures holds before its first key frame."""
        if True not in self.is_key:
            return np.ones(len(stamps), dtype=np.bool_)
        first = self.is_key.index(True)
        decodable: NDArray[np.bool_] = (np.arange(len(stamps)) >= first) & (stamps >= stamps[first])
        return decodable

    def timeline(self, start: float) -> Timeline | None:
        """None where no frame is both shown and decodable."""
        stamps = self.stamps()
        has_display_times = self.stores_display_times and None not in self.pts
        is_shown = np.array(self.is_shown)
        if has_display_times:
            is_shown &= self._is_decodable(stamps)
        shown = np.sort(stamps[is_shown])
        if not len(shown):
            return None
        seconds = shown * float(self.tick)
        origin = min(start, float(seconds[0]))
        return Timeline(
            times=seconds - origin,
            origin=origin,
            duration=self.end() - origin,
            pts=shown if has_display_times else None,
            packet_pts=stamps,
            packet_is_key=np.array(self.is_key),
        )


def _start_of_clock(container: InputContainer) -> float:
    """Where a player's clock reads 0, in seconds: the container's start (transport streams do not begin at 0).

    A negative start is the priming of the sound, which leaves the pictures' clock alone.
    """
    return 0.0 if container.start_time is None else max(0.0, container.start_time / av.time_base)


def _check_complete(path: str, container: InputContainer, packets: _Packets, formats: set[str]) -> None:
    if packets.last_is_corrupt:
        raise VideoError(f"{path}: truncated: frame {len(packets.pts)}, the last one in the file, is incomplete")
    if not formats & FORMATS_WITH_DURATION:
        return
    stream = packets.stream
    if packets.have_own_duration and stream.duration is not None:
        promised, found = float((stream.duration + (stream.start_time or 0)) * packets.tick), packets.end()
    elif container.duration is not None:
        promised, found = container.duration / av.time_base, packets.end_of_all_streams()
    else:
        return
    if found < promised - DURATION_TOLERANCE_SECONDS:
        raise VideoError(f"{path}: truncated: its header promises {promised:.2f} s, its frames end at {found:.2f} s")


def _check_clock(path: str, packets: _Packets) -> None:
    times = np.array([stamp for stamp in packets.dts if stamp is not None], dtype=np.int64)
    back = float(np.max(times[:-1] - times[1:], initial=0)) * float(packets.tick)
    if back > DURATION_TOLERANCE_SECONDS:
        raise VideoError(
            f"{path}: its clock jumps back by {back:.2f} s, as where recordings were joined; `ffmpeg -i` writes it anew"
        )


def groups_to_decode(timeline: Timeline, wanted_pts: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges [first, last] of packets, in the order of decoding, from which all the wanted frames can be decoded.

    A frame needs the packets from the last key frame shown not after it up to its own; ranges that touch are joined.
    """
    packet_of = {int(pts): index for index, pts in enumerate(timeline.packet_pts)}
    keys = np.flatnonzero(timeline.packet_is_key)
    ranges: list[tuple[int, int]] = []
    for pts in sorted(wanted_pts):
        own = packet_of[pts]
        place = int(np.searchsorted(keys, own, side="right")) - 1
        while place >= 0 and timeline.packet_pts[keys[place]] > pts:
            place -= 1
        first = int(keys[place]) if place >= 0 else 0
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], own))
        else:
            ranges.append((first, own))
    return ranges


def keys_before(timeline: Timeline, index: int) -> tuple[int, int]:
    """Two successive key frames' packets surely shown before the frame with a display index; (0, 0) where there are none."""
    keys = np.flatnonzero(timeline.packet_is_key)
    earlier = keys[keys + MOST_REORDERED <= index]
    return (int(earlier[-2]), int(earlier[-1])) if len(earlier) > 1 else (0, 0)
