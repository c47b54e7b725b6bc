"""What a corpus is: a reader of its official and its released format that yields samples on the published targets."""

import unicodedata
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from videochat_r1.errors import ConfigError, DataError, shown
from videochat_r1.sample import Pictures, Sample, Video
from videochat_r1.tasks import TASKS

VIDEO_SUFFIXES = tuple(
    [
        ".mp4",
        ".mkv",
        ".webm",
        ".avi",
        ".mov",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ts",
        ".mts",
        ".m2ts",
        ".ogv",
        ".vob",
        ".gif",
    ]
)
"""File types looked for where a corpus names videos without one, in order of preference."""

REPEATS = "repeats_id"
"""Key of `Sample.extra`: the id as the file has it, where that was taken."""

DurationProbe = Callable[[Sequence[Path]], Sequence[float | None]]
"""Seconds of each video file; None for one that cannot be opened."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to read.

    Args:
        annotations: file or folder in one of the corpus's formats.
        videos: folder that the annotation's video paths start from; None leaves those paths relative.
        task: one of the corpus's tasks; None for all of a mixed one.
        durations: file or folder with durations, for formats that carry none.
        probe_durations: asks video files for their durations, where no table gives them.
        allow_unknown_durations: let an unknown duration be NaN, for the checks to report, instead of an error.
    """

    annotations: Path
    videos: Path | None
    task: str | None
    durations: Path | None = None
    probe_durations: DurationProbe | None = None
    allow_unknown_durations: bool = False


class Corpus(ABC):
    """One corpus. Samples keep the file's order and its targets as published; mending is `manifest.mend`'s job."""

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]]
    """Tasks that the annotations serve; the first is the default."""
    mixed: ClassVar[bool] = False
    """Whether each row is of one of the tasks by itself: the default then is all rows, and a task keeps its own."""

    @abstractmethod
    def parse(self, request: Request) -> Iterator[Sample]:
        """The samples with the ids of the file, repeated ones too, and video paths relative to the videos folder.

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
            DataError: see `parse`; also a path that leaves the videos folder, or pictures where the task needs a video.
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
        """The samples with unique ids and video paths relative to the videos folder, each checked to stay inside it.

        Raises:
            DataError: see `parse`; also a path that leaves the videos folder, or pictures where the task needs a video.
        """
        unique = UniqueIds()
        for sample in self.parse(request):
            check_sample(sample, f"{request.annotations}, sample {shown(sample.id)!r}")
            sample = unique(sample)
            if request.task in (None, sample.task):
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
            task or (None if self.mixed else self.tasks[0]),
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
            f"{where}: the path {shown(relative)!r} leaves the data folder; "
            "expected a path relative to the videos folder, without '..' and what was before that folder on another machine"
        )
    return relative


def check_sample(sample: Sample, where: str) -> None:
    """Raises DataError if a path leaves the folder it is joined to, or what is shown or true does not fit the task."""
    for path in sample.media.files:
        inside(path, where)
    TASKS[sample.task].target_of(sample)


def count_media(samples: Iterable[Sample]) -> dict[str, int]:
    """How many different videos samples show, and, where they show any, how many different pictures."""
    shown_media = {sample.media for sample in samples}
    pictures = {path for media in shown_media if isinstance(media, Pictures) for path in media.paths}
    videos = {media.key for media in shown_media if isinstance(media, Video)}
    return {"num_videos": len(videos), **({"num_pictures": len(pictures)} if pictures else {})}


def count_sorts(samples: Iterable[Sample]) -> dict[str, dict[str, Any]]:
    """`tasks`, how many samples are of each, and `sources`, the same of each source; each only where there are several."""
    sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        sources[sample.source][sample.task] += 1
    tasks = sum(sources.values(), Counter[str]())
    largest = sorted(sources, key=lambda source: -sources[source].total())
    each = {source: dict(sources[source].most_common()) for source in largest}
    sorts: dict[str, dict[str, Any]] = {"tasks": dict(tasks.most_common()), "sources": each}
    return {what: counts for what, counts in sorts.items() if len(counts) > 1}


def with_root(sample: Sample, root: Path | None) -> Sample:
    """The sample with its checked, relative paths joined to `root`; None leaves them relative."""
    if root is None:
        return sample
    return replace(sample, media=sample.media.moved(lambda path: str(located(root, path))))


def located(root: Path, relative: str) -> Path:
    """The path below `root`, in the Unicode form (composed or decomposed) that the folders there spell it in."""
    path = root / relative
    if relative.isascii() or _asked(Path.exists, path):
        return path
    found = root
    for part in PurePosixPath(relative).parts:
        found /= next((name for name in _names(found) if nfc(name) == nfc(part)), part)
    return found


def nfc(name: str) -> str:
    """A name in the form that file names are compared in: of two spellings of `é` there is one left."""
    return unicodedata.normalize("NFC", name)


def _names(folder: Path) -> Sequence[str]:
    """What a folder holds; nothing where it cannot be listed."""
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=64)
def _listed(folder: Path, changed: int) -> Sequence[str]:
    """As `_names`, once per state of the folder."""
    return tuple(entry.name for entry in folder.iterdir())


class VideoFinder:
    """Names the file of a video that the annotations know by its name, with or without a file type.

    A name that is a file in the folder is that file; else the file with that stem is, whatever its type; else the name
    itself if it has the type of a video, or `<name>.mp4`. The folder is listed once; without one nothing is looked for.
    """

    def __init__(self, videos: Path | None) -> None:
        self._videos = videos
        names = () if videos is None else _names(videos)
        self._whole = {nfc(name): name for name in names}
        self._stems: dict[str, str] = {}
        rank = {suffix: index for index, suffix in enumerate(VIDEO_SUFFIXES)}
        ranked = [(rank[suffix], name) for name in names if (suffix := PurePosixPath(name).suffix.lower()) in rank]
        for _, name in sorted(ranked, reverse=True):
            self._stems[nfc(PurePosixPath(name).stem)] = name

    def __call__(self, name: str) -> str:
        """Path of the file relative to the videos folder."""
        whole = self._whole.get(nfc(name), name if "/" in name and ".." not in name else None)
        if whole is not None and self._videos is not None and is_file(located(self._videos, whole)):
            return whole
        stem = self._stems.get(nfc(name))
        return stem or (name if has_type(name) else f"{name}.mp4")


def has_type(name: str) -> bool:
    """Whether a name ends like a video file."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


class UniqueIds:
    """Tells repeated ids apart: the second `a` becomes `a#2`, or `a#3` if the file has an `a#2`; `extra` keeps what it was."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._times: Counter[str] = Counter()

    def __call__(self, sample: Sample) -> Sample:
        """The sample, its id numbered from its second use on."""
        name = sample.id
        self._times[name] += 1
        if name in self._taken:
            self._times[name] = max(2, self._times[name])
        while name in self._taken:
            name = f"{sample.id}#{self._times[sample.id]}"
            self._times[sample.id] += name in self._taken
        self._taken.add(name)
        return sample if name == sample.id else replace(sample, id=name, extra={**sample.extra, REPEATS: sample.id})


def is_file(path: Path) -> bool:
    """Whether a path from an annotation is a file."""
    return _asked(Path.is_file, path)


def is_folder(path: Path) -> bool:
    """Whether a path from an annotation is a folder."""
    return _asked(Path.is_dir, path)


def is_there(path: Path) -> bool:
    """Whether anything but a folder lies at a path from an annotation, be it a pipe, which no decoder can read."""
    return _asked(Path.exists, path) and not _asked(Path.is_dir, path)


def _asked(question: Callable[[Path], bool], path: Path) -> bool:
    """The answer; False for a path that no file system could hold."""
    try:
        return question(path)
    except (OSError, ValueError):
        return False
