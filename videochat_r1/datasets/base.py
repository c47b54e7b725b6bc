"""What a corpus is: a reader of its official and its released format that yields samples on the published targets."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from videochat_r1.errors import ConfigError, DataError
from videochat_r1.sample import Sample, Video

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg")
"""File types looked for where a corpus names videos without one, in order of preference."""

DurationProbe = Callable[[Sequence[Path]], Sequence[float | None]]
"""Seconds of each video file; None for one that cannot be opened."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to read.

    Args:
        annotations: file or folder in one of the corpus's formats.
        videos: folder that the annotation's video paths start from; None leaves those paths relative.
        task: one of the corpus's tasks.
        durations: file or folder with durations, for formats that carry none.
        probe_durations: asks video files for their durations, where no table gives them.
        allow_unknown_durations: let an unknown duration be NaN, for the checks to report, instead of an error.
    """

    annotations: Path
    videos: Path | None
    task: str
    durations: Path | None = None
    probe_durations: DurationProbe | None = None
    allow_unknown_durations: bool = False


class Corpus(ABC):
    """One corpus. Samples keep the file's order and its targets as published; mending is `manifest.mend`'s job."""

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    """Tasks that the annotations serve; the first is the default."""

    @abstractmethod
    def parse(self, request: Request) -> Iterator[Sample]:
        """The samples, with video paths relative to the videos folder.

        Raises:
            DataError: the annotations are in no format of this corpus, or a row lacks a key.
        """

    def files(self, annotations: Path) -> list[Path]:
        """The annotation files that `parse` reads, for a hash of the source."""
        return [annotations]

    def videos_root(self, annotations: Path, videos: Path | None) -> Path | None:
        """The folder that relative video paths start from; None if unknown."""
        return videos

    def read(
        self,
        annotations: str | Path,
        videos: str | Path | None = None,
        *,
        task: str | None = None,
        durations: str | Path | None = None,
        probe_durations: DurationProbe | None = None,
        allow_unknown_durations: bool = False,
    ) -> list[Sample]:
        """The samples with video paths joined to `videos`; the arguments are those of `Request`.

        Raises:
            ConfigError: the corpus does not serve this task.
            DataError: see `parse`; also a video path that leaves the videos folder.
        """
        request = self.request(
            annotations,
            videos,
            task=task,
            durations=durations,
            probe_durations=probe_durations,
            allow_unknown_durations=allow_unknown_durations,
        )
        root = self.videos_root(request.annotations, request.videos)
        return [with_root(sample, root) for sample in self.relative(request)]

    def relative(self, request: Request) -> Iterator[Sample]:
        """The samples with video paths relative to the videos folder, each checked to stay inside it.

        Raises:
            DataError: see `parse`; also a video path that leaves the videos folder.
        """
        for sample in self.parse(request):
            check_paths(sample.video, f"{request.annotations}, sample {sample.id!r}")
            yield sample

    def request(
        self,
        annotations: str | Path,
        videos: str | Path | None = None,
        *,
        task: str | None = None,
        durations: str | Path | None = None,
        probe_durations: DurationProbe | None = None,
        allow_unknown_durations: bool = False,
    ) -> Request:
        """The checked request that `parse` takes."""
        if task is not None and task not in self.tasks:
            raise ConfigError(f"{self.name} serves the tasks {list(self.tasks)}, not {task!r}")
        folder = None if videos is None else Path(videos)
        if folder is not None and not folder.is_dir():
            raise DataError(f"the videos folder {folder} does not exist")
        return Request(
            Path(annotations),
            folder,
            task or self.tasks[0],
            None if durations is None else Path(durations),
            probe_durations,
            allow_unknown_durations,
        )


def inside(relative: str, where: str) -> str:
    """The path, once it is known to stay inside the folder it is joined to.

    Raises:
        DataError: it is empty, absolute, or climbs out with `..`.
    """
    # A path that climbs or starts anew on any system is refused on all of them.
    unified = relative.replace("\\", "/")
    absolute = unified.startswith("/") or unified[1:2] == ":"
    if not relative.strip() or absolute or ".." in unified.split("/") or "\0" in relative:
        raise DataError(
            f"{where}: the video path {relative!r} leaves the data folder; "
            "expected a path relative to the videos folder, without '..'"
        )
    return relative


def check_paths(video: Video, where: str) -> None:
    """Raises DataError, naming `where`, if a path of the video leaves the folder it is joined to."""
    for path in (video.path,) if video.path is not None else video.frames:
        inside(path, where)


def with_root(sample: Sample, root: Path | None) -> Sample:
    """The sample with its checked, relative video paths joined to `root`; None leaves them relative."""
    if root is None:
        return sample
    video = sample.video
    if video.path is not None:
        return replace(sample, video=replace(video, path=str(root / video.path)))
    return replace(sample, video=replace(video, frames=tuple(str(root / frame) for frame in video.frames)))


class VideoFinder:
    """Names the file of a video that the annotations know by id only.

    The folder is listed once; without a folder, or where no file has that stem, the answer is `<id>.mp4`.
    """

    def __init__(self, videos: Path | None) -> None:
        self._names: dict[str, str] = {}
        if videos is None:
            return
        rank = {suffix: index for index, suffix in enumerate(VIDEO_SUFFIXES)}
        files = [entry for entry in videos.iterdir() if entry.suffix.lower() in rank]
        for file in sorted(files, key=lambda file: -rank[file.suffix.lower()]):
            self._names[file.stem] = file.name

    def __call__(self, video_id: str) -> str:
        """File name relative to the videos folder."""
        return self._names.get(video_id, f"{video_id}.mp4")


def repeated_id(sample_id: str, ids: Container[str]) -> str | None:
    """The id that the file repeats where `UniqueIds` had to number this one; None for an id of its own."""
    name, mark, number = sample_id.rpartition("#")
    return name if mark and number.isdecimal() and name in ids else None


class UniqueIds:
    """Tells repeated ids apart: the second `a` becomes `a#2`."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, name: str) -> str:
        """The name, numbered from its second use on."""
        self._seen[name] += 1
        count = self._seen[name]
        return name if count == 1 else f"{name}#{count}"


def is_file(path: Path) -> bool:
    """Whether a path from an annotation is a file; False for one that no file system could hold."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether anything but a folder lies at a path from an annotation, be it a pipe, which no decoder can read."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def video_key(video: Video) -> str:
    """What tells one video from another when they are counted."""
    return video.path if video.path is not None else video.frames[0]
