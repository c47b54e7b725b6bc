"""Small videos whose every frame shows its own number, and decoders that misbehave, for the tests of `video`."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
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
) -> Path:
    """A video of numbered frames, closed groups of 20 pictures with B-frames unless `options` say otherwise.

    Args:
        ticks: display times in milliseconds for a variable rate; None for frame k at k / fps.
    """
    clock = Fraction(1, fps) if ticks is None else Fraction(1, 1000)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = clock
        stream.options = {"g": "20", "bf": "3", "preset": "ultrafast", "crf": "18"} if options is None else options
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_image(number), format="rgb24")
            frame.pts, frame.time_base = number if ticks is None else ticks[number], clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file with a second of sound and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


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


def fail(path: str, timeline: object, wanted: Sequence[int], num_threads: int) -> Iterator[NDArray[np.uint8]]:
    """A decoder with a bug."""
    yield numbered_image(wanted[0])
    raise ZeroDivisionError("a bug in the decoder")


def remember_process(
    path: str, timeline: object, wanted: Sequence[int], num_threads: int
) -> Iterator[NDArray[np.uint8]]:
    """Images whose number is the process that made them, modulo 256."""
    yield from (numbered_image(os.getpid() % 256) for _ in wanted)
