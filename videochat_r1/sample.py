"""One annotated question about one video: what every dataset loader yields and every later stage reads.

The JSON form of a target is public: manifests, `videochat-r1 score` and reward functions see it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from videochat_r1.errors import DataError
from videochat_r1.geometry import Box, Span

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Video:
    """Where the pixels come from: a video file, or image files with the time of each.

    `start` and `end` (seconds) restrict a file to a clip, whose own time then begins at 0.
    """

    path: str | None = None
    frames: tuple[str, ...] = ()
    frame_times: tuple[float, ...] = ()
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (not self.frames):
            raise DataError(
                f"a video is either one file or a list of frames: path={self.path!r}, {len(self.frames)} frames"
            )
        if len(self.frames) != len(self.frame_times):
            raise DataError(f"{len(self.frames)} frames with {len(self.frame_times)} times; each frame needs its own")

    @property
    def name(self) -> str:
        """What messages call this video."""
        return self.path if self.path is not None else f"{self.frames[0]} (+{len(self.frames) - 1} frames)"


@dataclass(frozen=True, slots=True)
class SpanTarget:
    """Temporal grounding: one span inside a video of `duration` seconds."""

    span: Span
    duration: float


@dataclass(frozen=True, slots=True)
class BoxesTarget:
    """Tracking: one box per frame shown; the prompt gives the first."""

    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class ChoiceTarget:
    """Multiple choice: option texts without their letters, and the right letter."""

    options: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class GroundedChoiceTarget:
    """Multiple choice with the spans that support the answer."""

    options: tuple[str, ...]
    answer: str
    spans: tuple[Span, ...]
    duration: float


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """Quality assessment: one of a few named labels."""

    choices: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class CaptionTarget:
    """Captioning: a true caption and the events it tells; without any, a judge extracts them."""

    caption: str
    events: tuple[str, ...] = ()


Target = Any
"""One of the classes above, or another that only its task looks into; hashable, and equal to what its JSON form gives back."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one video.

    Args:
        id: unique within its corpus and stable between runs.
        task: name in `videochat_r1.tasks.TASKS`.
        media: what it shows.
        query: the sentence to ground, the object to track, the question, or the instruction.
        target: the truth, of the type its task states.
        duration: seconds of video that the model sees, None if the annotation does not say.
        source: name of the corpus, for per-corpus metrics.
        extra: further columns of the annotation (question type, ...), for breakdowns.
    """

    id: str
    task: str
    media: Video
    query: str
    target: Target
    duration: float | None = None
    source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
