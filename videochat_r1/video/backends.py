"""Decoding chosen frames of a file with decord, PyAV or torchcodec: the same frames, whichever is chosen. No torch.

A backend is a function (path, timeline, wanted, num_threads) that yields the frames with the display indices `wanted`
(ascending, distinct) as (H, W, 3) RGB. It never yields another frame in the place of one that does not decode: it
raises VideoError, or yields fewer, which the caller takes for an error. Damage that the codec conceals inside a frame
passes. Turned and mirrored videos come upright, all pictures in the first one's size; pixels that are not square stay so.
"""

import itertools
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.named import Table
from videochat_r1.video.pictures import Image, on_white, upright
from videochat_r1.video.timeline import (
    FFMPEG_ERRORS,
    MOST_REORDERED,
    Timeline,
    groups_to_decode,
    keys_before,
    open_stream,
    reason,
    regular_file,
)

if TYPE_CHECKING:
    import decord

Backend = Callable[[str, Timeline, Sequence[int], int], Iterator[Image]]

DEFAULT_BACKEND = "pyav"
CLOCK_TOLERANCE_SECONDS = 2e-3
# Below that, reading over packets is cheaper than the container's search.
PACKETS_WORTH_SEEKING = 2000
# Decoders that can leave out single frames to which no other refers; dav1d takes the setting once for all frames.
CODECS_THAT_SKIP = frozenset({"h264", "hevc"})


def decode_with_pyav(path: str, timeline: Timeline, wanted: Sequence[int], num_threads: int) -> Iterator[Image]:
    """Frames by display time, through PyAV.

    Only the groups of pictures that hold a wanted frame go to the decoder, which skips frames that nothing refers to.
    The file is sought in once, for the first of them, and read in order from there on.
    """
    wanted_pts = [] if timeline.pts is None else timeline.pts[list(wanted)].tolist()
    ranges = groups_to_decode(timeline, wanted_pts)
    begin, anchor = (ranges[0][0], 0) if ranges else keys_before(timeline, wanted[0])
    container, stream, packets = _open_near(path, timeline, begin)
    with container:
        context = stream.codec_context
        context.thread_count = num_threads
        context.thread_type = "AUTO"
        frames = (
            _last_of_each_time(path, _frames_by_time(packets, context, ranges, set(wanted_pts)))
            if ranges
            else _frames_by_place(path, _decoded(packets, context, begin), wanted, begin, anchor)
        )
        picture = _Pictures(stream)
        try:
            for frame in frames:
                yield picture(frame)
        except FFMPEG_ERRORS as error:
            mend = "; animated WebP has to be written as GIF, PNG or MP4 first" if context.name == "webp" else ""
            raise VideoError(f"{path}: does not decode: {reason(error)}{mend}") from error


class _Pictures:
    """Frames of one stream as upright RGB images, all of the first one's size."""

    def __init__(self, stream: av.VideoStream) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        # The fourth byte of uncompressed pictures is mostly unused, and zero.
        self._may_be_transparent = stream.codec_context.name != "rawvideo"

    def __call__(self, frame: av.VideoFrame) -> Image:
        width, height = self._size or (frame.width, frame.height)
        self._size = width, height
        has_alpha = self._may_be_transparent and any(part.is_alpha for part in frame.format.components)
        pixels = self._reformatter.reformat(frame, width, height, "rgba" if has_alpha else "rgb24").to_ndarray()
        image: Image = np.asarray(pixels, dtype=np.uint8)
        return np.ascontiguousarray(as_displayed(on_white(image) if has_alpha else image, frame))


def as_displayed(image: Image, frame: av.VideoFrame) -> Image:
    """The image (H, W, C) of a frame, at any size, turned as the frame says."""
    try:
        matrix = _display_matrix(frame)
    except ValueError:
        # Side data of a kind that PyAV does not know hide the others (Exif data of still pictures do).
        return np.rot90(image, round(frame.rotation / 90))
    return image if matrix is None else upright(image, matrix)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else struct.unpack("=9i", bytes(matrix))


def _open_near(
    path: str, timeline: Timeline, first: int
) -> tuple[av.container.InputContainer, av.VideoStream, Iterator[tuple[int, av.Packet]]]:
    """The opened file, its stream, and the stream's packets with their numbers, from the `first` or an earlier one on."""
    container, stream = open_stream(path)
    packets = (packet for packet in container.demux(stream) if packet.size)
    if first < PACKETS_WORTH_SEEKING:
        return container, stream, enumerate(packets)
    try:
        container.seek(int(timeline.packet_pts[first]), stream=stream)
        landed = next(packets, None)
    except FFMPEG_ERRORS:
        landed = None
    # Containers differ in where they land, so the packet found says which one it is.
    stamp = None if landed is None else landed.pts if timeline.pts is not None else landed.dts
    places = [] if stamp is None else np.flatnonzero(timeline.packet_pts == stamp).tolist()
    if landed is not None and len(places) == 1 and places[0] <= first:
        return container, stream, enumerate(itertools.chain([landed], packets), places[0])
    container.close()
    container, stream = open_stream(path)
    return container, stream, enumerate(packet for packet in container.demux(stream) if packet.size)


def _frames_by_time(
    packets: Iterator[tuple[int, av.Packet]],
    context: av.VideoCodecContext,
    ranges: Sequence[tuple[int, int]],
    wanted: AbstractSet[int],
) -> Iterator[av.VideoFrame]:
    left = iter(ranges)
    first, last = next(left)
    for number, packet in packets:
        if number < first:
            continue
        if context.name in CODECS_THAT_SKIP:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        frames = context.decode(packet)
        if number == last:
            frames += context.decode(None)
            context.flush_buffers()
        yield from (frame for frame in frames if frame.pts in wanted)
        if number == last:
            following = next(left, None)
            if following is None:
                return
            first, last = following


def _last_of_each_time(path: str, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Of frames with one display time the last, which is the one that stays on screen."""
    latest: int | None = None
    for pts, same in itertools.groupby(frames, key=lambda frame: frame.pts):
        if latest is not None and pts <= latest:
            raise VideoError(f"{path}: its frames are decoded in another order than they are to be shown in")
        latest = pts
        yield deque(same, maxlen=1).pop()


def _decoded(
    packets: Iterator[tuple[int, av.Packet]], context: av.VideoCodecContext, begin: int
) -> Iterator[av.VideoFrame]:
    """Every frame from a packet on, each with its packet's number as `opaque`."""
    context.copy_opaque = True
    for number, packet in packets:
        if number >= begin:
            packet.opaque = number
            yield from context.decode(packet)
    yield from context.decode(None)


def _frames_by_place(
    path: str, decoded: Iterator[av.VideoFrame], wanted: Sequence[int], begin: int, anchor: int
) -> Iterator[av.VideoFrame]:
    """Frames by their place in the order of display, from a file that stores no display times.

    Of what is decoded from the packet `begin` on, frames of earlier packets are shown before the key frame `anchor`, and so are
    those later ones that come out before it; the rest follow it one by one. Where that does not hold (the key frame is none,
    or packets are not frames) the file is read from its start.
    """
    place = 0 if begin == anchor else None
    before = leading = 0
    left = iter(wanted)
    index = next(left)
    for frame in decoded:
        if place is None:
            packet = cast(int, frame.opaque)
            if packet != anchor:
                before, leading = before + (packet < anchor), leading + (packet > anchor)
                continue
            is_whole = before >= anchor - begin - MOST_REORDERED
            if not is_whole or leading > MOST_REORDERED or frame.pict_type != PictureType.I:
                break
            place = anchor + leading
        if place == index:
            yield frame
            following = next(left, None)
            if following is None:
                return
            index = following
        place += 1
    if place is None:
        yield from _from_the_start(path, wanted)


def _from_the_start(path: str, wanted: Sequence[int]) -> Iterator[av.VideoFrame]:
    container, stream = open_stream(path)
    with container:
        yield from _frames_by_place(path, container.decode(stream), wanted, 0, 0)


def decode_with_decord(path: str, timeline: Timeline, wanted: Sequence[int], num_threads: int) -> Iterator[Image]:
    """Frames by number, through decord; PyAV reads what decord cannot read without decoding all that comes before, or at all.

    decord only turns pictures that are mirrored. It counts frames from the key frame it believes it has sought to: where its
    clock or its count differs from the file's, several frames have one time, or pictures are shown across a key frame
    (open groups), that count is wrong.
    """
    import decord

    if _is_mirrored(path):
        yield from decode_with_pyav(path, timeline, wanted, num_threads)
        return
    try:
        # Any positive tolerance below one frame: raise as soon as decord stands a neighbour in for a lost frame.
        reader = decord.VideoReader(regular_file(path), ctx=decord.cpu(0), num_threads=num_threads, fault_tol=1e-9)
        if not _decord_can_seek(reader, timeline):
            del reader
            yield from decode_with_pyav(path, timeline, wanted, num_threads)
            return
        for index in wanted:
            yield reader.get_batch([index]).asnumpy()[0]
    except VideoError:
        raise
    # The last three: a file that does not open, no frames at all, a frame that is not there.
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, AssertionError, IndexError) as error:
        raise VideoError(f"{path}: decord does not decode it ({_first_line(error)}); `backend: pyav` may") from error


def _is_mirrored(path: str) -> bool:
    container, stream = open_stream(path)
    with container:
        try:
            matrix = _display_matrix(next(container.decode(stream)))
        except (*FFMPEG_ERRORS, StopIteration):
            return False  # the decoder that is asked says what is wrong
    if matrix is None:
        return False
    a, b, _, c, d = matrix[:5]
    return a * d < b * c


def _decord_can_seek(reader: "decord.VideoReader", timeline: Timeline) -> bool:
    if timeline.pts is None or len(reader) != timeline.num_frames:
        return False
    if timeline.has_shared_times or not timeline.has_closed_groups:
        return False
    starts = reader.get_frame_timestamp(np.arange(timeline.num_frames))[:, 0].astype(np.float64)
    drift = np.abs((starts - starts[0]) - (timeline.times - timeline.times[0]))
    return bool(drift.max() < CLOCK_TOLERANCE_SECONDS)


def decode_with_torchcodec(path: str, timeline: Timeline, wanted: Sequence[int], num_threads: int) -> Iterator[Image]:
    """Frames by number, through torchcodec; the time that comes with each frame is checked against the file's.

    PyAV reads files whose pictures are mirrored, which torchcodec only turns, and those in which frames share a time.
    """
    if timeline.has_shared_times or _is_mirrored(path):
        yield from decode_with_pyav(path, timeline, wanted, num_threads)
        return
    decoder = _open_with_torchcodec(path, num_threads)
    for index in wanted:
        try:
            frame = decoder.get_frame_at(index)
        except (RuntimeError, ValueError, IndexError) as error:
            raise _torchcodec_error(path, error) from error
        expected = timeline.origin + float(timeline.times[index])
        if abs(frame.pts_seconds - expected) > CLOCK_TOLERANCE_SECONDS:
            raise VideoError(
                f"{path}: torchcodec returned the frame of {frame.pts_seconds:.3f} s where {expected:.3f} s was"
                " asked for; `backend: pyav` reads such files"
            )
        yield frame.data.numpy()


def _open_with_torchcodec(path: str, num_threads: int) -> Any:
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

        return VideoDecoder(
            regular_file(path), dimension_order="NHWC", num_ffmpeg_threads=num_threads, seek_mode="exact"
        )
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, ImportError) or "libtorchcodec" in str(error):
            raise ConfigError(
                f"backend torchcodec is not usable here ({_first_line(error).rstrip('.')}): it needs the torchcodec that"
                " matches torch, and FFmpeg's shared libraries on the system; or choose backend: pyav or decord"
            ) from error
        raise _torchcodec_error(path, error) from error


def _torchcodec_error(path: str, error: Exception) -> VideoError:
    return VideoError(f"{path}: torchcodec does not decode it ({_first_line(error)}); `backend: pyav` may")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line.removesuffix(" Likely causes:") for line in lines if line), type(error).__name__)


BACKENDS: Table[Backend] = Table(
    "video backend",
    {"pyav": decode_with_pyav, "decord": decode_with_decord, "torchcodec": decode_with_torchcodec},
    fits=callable,
)
