"""One annotated question about a video or pictures: what every dataset loader yields and every later stage reads.

The JSON form of a target is public: manifests, `videochat-r1 score` and reward functions see it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from videochat_r1.errors import DataError, shown
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
        return _first_of(self.files, "frames")

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it is made of."""
        return self.frames if self.path is None else (self.path,)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells one video from another when they are counted; clips of a file are one video."""
        return ("video", self.files[0])

    def moved(self, to: Callable[[str], str]) -> "Video":
        """The same with every file's path replaced."""
        if self.path is not None:
            return replace(self, path=to(self.path))
        return replace(self, frames=tuple(map(to, self.frames)))


@dataclass(frozen=True, slots=True)
class Pictures:
    """One or several image files, shown in this order."""

    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.paths:
            raise DataError("a sample that shows pictures needs at least one, found an empty list")

    @property
    def name(self) -> str:
        """What messages call these pictures."""
        return _first_of(self.paths, "pictures")

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that they are made of."""
        return self.paths

    @property
    def key(self) -> tuple[str, ...]:
        """What tells them from others when they are counted."""
        return ("images", *self.paths)

    def moved(self, to: Callable[[str], str]) -> "Pictures":
        """The same with every file's path replaced."""
        return Pictures(tuple(map(to, self.paths)))


def _first_of(files: tuple[str, ...], what: str) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} (+{len(files) - 1} {what})"


Media = Video | Pictures
"""What a sample shows: one video, or one or several pictures."""


def media_columns(media: Media) -> dict[str, Any]:
    """What rewards are told of it: `video`, its name, `video_parts`, and `pictures`, their paths; None for what it has not.

    Not `images`: TRL takes a column of that name for pictures that it is to encode itself.
    """
    if isinstance(media, Video):
        return {"video": media.name, "video_parts": video_parts(media), "pictures": None}
    return {"video": None, "video_parts": None, "pictures": list(media.paths)}


def media_in_row(media: Media) -> dict[str, Any]:
    """What the rows of result files say of it: `video`, its name, with `video_parts` if there are any, or `images`, their paths."""
    if isinstance(media, Pictures):
        return {"images": list(media.paths)}
    parts = video_parts(media)
    return {"video": media.name} | ({} if parts is None else {"video_parts": parts})


def video_parts(video: Video) -> dict[str, Any] | None:
    """What a video's name leaves out, as manifests write it: `frames` with `frame_times`, `start` and `end`; None for a whole file."""
    frames = {} if video.path else {"frames": list(video.frames), "frame_times": list(video.frame_times)}
    ends = {name: at for name, at in (("start", video.start), ("end", video.end)) if at is not None}
    return frames | ends or None


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


@dataclass(frozen=True, slots=True)
class TextTarget:
    """Free answers and text recognition: the true text, which has at least one word."""

    answer: str


@dataclass(frozen=True, slots=True)
class NumberTarget:
    """Numerical questions and regression: the true number, and how it is written."""

    value: float
    text: str


Target = Any
"""One of the classes above, or another that only its task looks into; hashable, and equal to what its JSON form gives back."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one video, or about one or several pictures.

    Args:
        id: unique within its corpus and stable between runs.
        task: name in `videochat_r1.tasks.TASKS`.
        media: what it shows.
        query: the sentence to ground, the object to track, the question, or the instruction.
        target: the truth, of the type its task states.
        duration: seconds of video that the model sees, None if the annotation does not say, and for pictures.
        source: name of the corpus, for per-corpus metrics.
        extra: further columns of the annotation (question type, ...), for breakdowns.
        response: what supervised training learns to write, in place of the gold answer; None where there is no such text.
    """

    id: str
    task: str
    media: Media
    query: str
    target: Target
    duration: float | None = None
    source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    response: str | None = None

    @property
    def video(self) -> Video:
        """The video it shows, for what needs one.

        Raises:
            DataError: it shows pictures.
        """
        if isinstance(self.media, Video):
            return self.media
        raise DataError(
            f"sample {shown(self.id)!r} of task {self.task} needs a video and shows pictures ({shown(self.media.name)}): "
            "give it a video, or ask with a task that has no time in its answer"
        )
