"""Images as a video that every browser plays: H.264 in MP4. No torch."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from videochat_r1.video.pictures import Image

_CLOCK = Fraction(1, 90_000)
_X264 = {"preset": "veryfast", "crf": "23", "g": "24", "bf": "0"}


def write_mp4(file: Path, images: Iterable[tuple[Image, Fraction]], longest_side: int) -> int:
    """Write (H, W, 3) images, each shown from its second on, and give back how many there were; without any, no file is written.

    Args:
        file: to write.
        images: with their seconds, ascending; all are scaled to the size of the first.
        longest_side: larger ones are scaled down. Sides become even.
    """
    count = 0
    with av.open(str(file), "w", options={"movflags": "+faststart"}) as output:
        stream = None
        for image, seconds in images:
            count += 1
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if stream is None:
                stream = output.add_stream("libx264", rate=Fraction(30), options=_X264)
                stream.width, stream.height = even_size(frame.width, frame.height, longest_side)
                stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _CLOCK
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            frame.pts, frame.time_base = round(seconds / _CLOCK), _CLOCK
            output.mux(stream.encode(frame))
        if stream is not None:
            output.mux(stream.encode())
    return count


def even_size(width: int, height: int, longest_side: int) -> tuple[int, int]:
    """Even sides in proportion, the longer one within a limit."""
    scale = min(1.0, longest_side / max(width, height))
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
