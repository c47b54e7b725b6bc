"""What a video is, without loading it: length, rate and size. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videochat_r1.datasets.parallel import ask_all
from videochat_r1.errors import VideoError
from videochat_r1.sample import Video
from videochat_r1.video.backends import DEFAULT_BACKEND
from videochat_r1.video.decode import SamplingPlan, SamplingRequest
from videochat_r1.video.process import decode_in_process


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video or a clip of one.

    Args:
        duration: seconds, until the last frame leaves the screen.
        num_frames: frames shown in that time.
        fps: their mean rate.
        width: pixels as displayed.
        height: pixels as displayed.
    """

    duration: float
    num_frames: int
    fps: float
    width: int
    height: int

    @classmethod
    def of(cls, plan: SamplingPlan, size: tuple[int, int]) -> "VideoInfo":
        """Of a video that is decoded by this plan into images of (width, height)."""
        return cls(plan.duration, plan.num_source_frames, plan.num_source_frames / plan.duration, *size)


def probe(video: Video, *, backend: str = DEFAULT_BACKEND, timeout_seconds: float = 60.0) -> VideoInfo:
    """Reads the video's index and decodes its first frame, in a decoder process.

    Raises:
        VideoError: exactly where loading the video would raise before its second frame: missing, empty, truncated,
            without pictures, not decodable, no answer in time.
    """
    request = SamplingRequest(video, times=(0.0,), backend=backend)
    plan, images = decode_in_process(request, timeout_seconds)
    [(height, width, _)] = [image.shape for image in images]
    return VideoInfo.of(plan, (width, height))


def durations(paths: Sequence[Path], *, workers: int, timeout_seconds: float = 60.0) -> list[float | None]:
    """Seconds of each video file; None for one that cannot be opened. Shows a bar."""

    def duration(path: Path) -> float | None:
        try:
            return probe(Video(path=str(path)), timeout_seconds=timeout_seconds).duration
        except VideoError:
            return None

    return ask_all(duration, paths, workers=workers, progress=True, description="durations")
