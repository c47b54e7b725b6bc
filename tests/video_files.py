"""Small videos whose every frame shows its own number, and decoders that misbehave, for the tests of `video`."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 128, 64
BITS = 8


def numbered_image(number: int) -> NDArray[np.uint8]:
    """Eight stripes, one per bit of the number, over a band with a texture that changes from frame to frame."""
    image = np.full((HEIGHT, WIDTH, 3), 16, dtype=np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            image[:32, bit * 16 : (bit + 1) * 16] = 235
    texture = np.random.default_rng(number).integers(0, 40, (HEIGHT - 32, WIDTH, 3), dtype=np.uint8)
    image[32:] = np.linspace(0, 215, WIDTH, dtype=np.uint8)[None, :, None] + texture
    return image


def number_of(image: NDArray[Any]) -> int:
    """The number that an image (H, W, 3) of the original proportions shows."""
    height, width = image.shape[:2]
    stripe = width / BITS
    rows = slice(height // 8, height * 3 // 8)
    return sum(
        1 << bit
        for bit in range(BITS)
        if image[rows, int((bit + 0.25) * stripe) : int((bit + 0.75) * stripe)].mean() > 128
    )


def write_video(
    path: Path,
    num_frames: int = 60,
    *,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    ticks: Sequence[int] | None = None,
    rotation: int = 0,
    sound_seconds: float = 0.0,
    image: Callable[[int], NDArray[np.uint8]] = numbered_image,
) -> Path:
    """A video of numbered frames, closed groups of 20 pictures with B-frames unless `options` say otherwise.

    Args:
        ticks: display times in milliseconds for a variable rate; None for frame k at k / fps.
        rotation: degrees against the clock by which players turn what is stored.
        sound_seconds: length of a silent sound track; 0 for none.
        image: a frame as it is stored.
    """
    clock = Fraction(1, fps) if ticks is None else Fraction(1, 1000)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = image(0).shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", clock
        stream.options = {"g": "20", "bf": "3", "preset": "ultrafast", "crf": "18"} if options is None else options
        if rotation:
            stream.set_display_rotation(rotation)
        if sound_seconds:
            _write_silence(container, sound_seconds, "wmav2" if path.suffix == ".wmv" else "aac")
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image(number)), format="rgb24")
            frame.pts, frame.time_base = number if ticks is None else ticks[number], clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_pictures(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    codec: str = "png",
    formats: Sequence[str] = ("rgb24",),
    ticks: Sequence[int] | None = None,
    matrix: Sequence[int] | None = None,
) -> Path:
    """A video of pictures (H, W, 3 or 4) that may differ in size, one every 100 ms or at the milliseconds `ticks`.

    Each is encoded for itself, so that no encoder objects.

    Args:
        formats: pixel format of each picture, the last one for all further.
        matrix: display matrix, in fixed point: ones are 1 << 16, the last one 1 << 30.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.time_base = formats[0], Fraction(1, 1000)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number, picture in enumerate(pictures):
            encoder = av.CodecContext.create(codec, "w")
            encoder.height, encoder.width = picture.shape[:2]
            encoder.pix_fmt, encoder.time_base = formats[min(number, len(formats) - 1)], Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(picture), format=("rgb24", "rgba")[picture.shape[2] - 3]
            )
            frame.pts, frame.time_base = 0, Fraction(1, 1000)
            [encoded] = [*encoder.encode(frame), *encoder.encode(None)]
            packet = av.Packet(bytes(encoded))
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
            packet.pts = packet.dts = 100 * number if ticks is None else ticks[number]
            packet.duration = 100
            container.mux(packet)
    return path


def write_sound(path: Path) -> Path:
    """A file with a second of sound and no pictures."""
    with av.open(str(path), "w") as container:
        _write_silence(container, 1.0, "aac")
    return path


def _write_silence(container: av.container.OutputContainer, seconds: float, codec: str) -> None:
    stream = container.add_stream(codec, rate=16000)
    stream.layout, stream.bit_rate = "mono", 32000
    samples = np.zeros((1, round(16000 * seconds)), dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate = 16000
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def hang(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> Iterator[NDArray[np.uint8]]:
    """A decoder that yields one image and then never answers again, deaf to all signals that can be ignored."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    yield numbered_image(wanted[0])
    time.sleep(3600.0)


def crash(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> Iterator[NDArray[np.uint8]]:
    """A decoder that dies of a segmentation fault after its first image."""
    yield numbered_image(wanted[0])
    os.kill(os.getpid(), signal.SIGSEGV)


def stop_early(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> Iterator[NDArray[np.uint8]]:
    """A decoder that loses the last two wanted images."""
    yield from (numbered_image(number) for number in wanted[:-2])


def return_too_many(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> list[NDArray[np.uint8]]:
    """A decoder that gives one image more than it was asked for."""
    return [numbered_image(number) for number in (*wanted, 0)]


def return_a_list(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> list[Any]:
    """A decoder whose images are lists."""
    return [numbered_image(number).tolist() for number in wanted]


def return_floats(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> list[Any]:
    """A decoder whose pixels are fractions."""
    return [numbered_image(number) / 255.0 for number in wanted]


def return_grey(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> list[Any]:
    """A decoder without colours."""
    return [numbered_image(number)[..., 0] for number in wanted]


def return_no_pixels(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> list[Any]:
    """A decoder whose images have no extent."""
    return [numbered_image(number)[:0] for number in wanted]


def return_two_sizes(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> list[Any]:
    """A decoder whose images shrink."""
    return [numbered_image(number)[: HEIGHT - place] for place, number in enumerate(wanted)]


def return_nothing(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> None:
    """A decoder that has forgotten its return."""


def return_mirrored(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> list[Any]:
    """A decoder whose images are views that run backwards, and may not be written to."""
    images = [np.ascontiguousarray(numbered_image(number)[:, ::-1]) for number in wanted]
    for image in images:
        image.setflags(write=False)
    return [image[:, ::-1] for image in images]


def fail(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> Iterator[NDArray[np.uint8]]:
    """A decoder with a bug."""
    yield numbered_image(wanted[0])
    raise ZeroDivisionError("a bug in the decoder")


def remember_process(
    path: str, timeline: object, wanted: Sequence[int], num_threads: int
) -> Iterator[NDArray[np.uint8]]:
    """Images whose number is the process that made them, modulo 256."""
    yield from (numbered_image(os.getpid() % 256) for _ in wanted)
