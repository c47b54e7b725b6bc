"""GOT-10k: sequence folders with `groundtruth.txt`, or the released JSON of 8 boxes per sequence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeVar, cast

from videochat_r1.datasets.annotation_files import Row, kind, numbers, read_json
from videochat_r1.datasets.base import Corpus, Request, inside, is_file, is_folder, located
from videochat_r1.datasets.got10k_sequence import (
    ANNOTATION_FPS,
    SequenceTruth,
    even_indices,
    frame_name,
    matching_indices,
    read_sequence,
    released_indices,
)
from videochat_r1.errors import DataError, counted
from videochat_r1.geometry import Box
from videochat_r1.progress import progress_bar
from videochat_r1.sample import BoxesTarget, Sample, Video
from videochat_r1.text import listing, read_text

ItemT = TypeVar("ItemT")

ANNOTATION_FILES = ("groundtruth.txt", "meta_info.ini", "absence.label", "cover.label")
META_FIELDS = ("major_class", "root_class", "motion_class", "motion_adverb")


class GOT10k(Corpus):
    """Frames and boxes are cut with the same indices, chosen once per sequence.

    Official: 8 evenly spaced instants, the first frame included. Released: the frames that its boxes come from, found in
    the sequence's `groundtruth.txt` where the videos folder has it, else by the release's schedule; without a videos
    folder the video stays the sequence folder, whose frames nobody has counted.
    """

    name = "got10k"
    tasks = ("tracking",)

    def files(self, annotations: Path) -> list[Path]:
        """The released JSON, or the annotation files of all sequences."""
        if not annotations.is_dir():
            return [annotations]
        folders = [annotations / name for name in _sequence_names(annotations)]
        files = [folder / name for folder in folders for name in ANNOTATION_FILES]
        return [file for file in files if is_file(file)]

    def videos_root(self, annotations: Path, videos: Path | None) -> Path | None:
        """Official annotations lie beside their frames."""
        return annotations if videos is None and annotations.is_dir() else videos

    def parse(self, request: Request) -> Iterator[Sample]:
        """One sample per sequence; ids are the sequences' names, such as `GOT-10k_Val_000001`."""
        if request.annotations.is_dir():
            for name in _bar(_sequence_names(request.annotations)):
                yield self._official(request.annotations, name)
            return
        value = read_json(request.annotations)
        if not isinstance(value, list):
            raise DataError(
                f"{request.annotations}: got10k expected a folder of sequences, or a list of {{path, object, gt}}; "
                f"found {kind(value)}"
            )
        rows = Row.all_of(
            (f"{request.annotations}, row {number}", entry) for number, entry in enumerate(value, start=1)
        )
        for row in _bar(rows):
            yield self._released(row, request.videos)

    def _official(self, folder: Path, name: str) -> Sample:
        sequence = folder / name
        if not is_folder(sequence):
            return _unread(name, "missing_video", str(sequence))
        try:
            truth = read_sequence(sequence)
        except DataError as error:
            return _unread(name, "bad_annotation", str(error))
        if len(truth.boxes) == 1 and (sequence / frame_name(1)).is_file():
            raise DataError(
                f"{sequence} has a box for its first frame only: this is the test split, whose truth is not public. "
                "Use train or val"
            )
        if "object_class" not in truth.meta:
            return _unread(
                name, "bad_annotation", f"{sequence / 'meta_info.ini'}: object_class is missing; it names what to track"
            )
        indices = even_indices(len(truth.boxes))
        boxes = [truth.boxes[index] for index in indices]
        return _sample(name, name, truth.meta["object_class"], boxes, indices, truth)

    def _released(self, row: Row, videos: Path | None) -> Sample:
        path = inside(_below_the_corpus(row.text("path"), videos), row.where)
        boxes = [Box(*numbers(box, 4, f"{row.where}, 'gt'[{i}]")) for i, box in enumerate(row.items("gt"))]
        name, sample_id = row.text("object"), PurePosixPath(path).name
        folder = None if videos is None else located(videos, path)
        if folder is not None and is_file(folder / "groundtruth.txt"):
            try:
                truth = read_sequence(folder)
            except DataError as error:
                return _unread(path, "bad_annotation", str(error))
            indices, defects = _source_frames(boxes, truth, path)
            return _sample(sample_id, path, name, boxes, indices, truth, defects)
        num_frames = 0 if folder is None or not is_file(folder / frame_name(0)) else len(list(folder.glob("*.jpg")))
        if num_frames == 0:
            video, duration = Video(path=path), None
        else:
            video = _video(path, released_indices(num_frames), ANNOTATION_FPS)
            duration = num_frames / ANNOTATION_FPS
        return Sample(sample_id, "tracking", video, name.strip(), BoxesTarget(tuple(boxes)), duration, self.name)


def _bar(items: list[ItemT]) -> Iterable[ItemT]:
    """The items with a progress bar, on a terminal, where they take longer than two seconds."""
    return cast(Iterable[ItemT], progress_bar(items, desc="GOT-10k", unit="sequence", delay=2.0, disable=None))


def _below_the_corpus(path: str, videos: Path | None) -> str:
    """The path from the corpus's folder on: released files have it as it was on their authors' machine.

    With a videos folder it is the longest end of an absolute path that is a folder there, else what begins with the
    corpus's own folder, else the sequence's.
    """
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or ".." in parts or len(parts) < 2:
        return path
    ends = ["/".join(parts[begin:]) for begin in range(1, len(parts))]
    if videos is not None:
        found = next((end for end in ends if is_folder(videos / end)), None)
        if found is not None:
            return found
    return next((end for end in ends if end.startswith("GOT-10k/")), ends[-1])


def _unread(path: str, kind: str, reason: str) -> Sample:
    """A sequence without a truth that could be read, to be counted."""
    name = PurePosixPath(path).name
    return Sample(
        name, "tracking", Video(path=path), "", BoxesTarget(()), None, GOT10k.name, {"defects": {kind: reason}}
    )


def _source_frames(boxes: Sequence[Box], truth: SequenceTruth, path: str) -> tuple[tuple[int, ...], Mapping[str, str]]:
    """The frames that released boxes were cut from, and what is wrong with them."""
    expected = released_indices(len(truth.boxes))
    if len(boxes) != len(expected):
        return expected, {}
    found = matching_indices(boxes, truth.boxes, expected)
    return (found, {}) if found else (expected, {"boxes_not_in_groundtruth": path})


def _sample(
    sample_id: str,
    path: str,
    name: str,
    boxes: Sequence[Box],
    indices: Sequence[int],
    truth: SequenceTruth,
    defects: Mapping[str, str] = MappingProxyType({}),
) -> Sample:
    extra: dict[str, Any] = {"frame_indices": list(indices), "num_frames": len(truth.boxes)}
    for key, labels in (("absent", truth.absent), ("cover", truth.cover)):
        if labels is not None:
            extra[key] = [labels[index] for index in indices]
    extra.update({key: truth.meta[key] for key in META_FIELDS if key in truth.meta})
    if truth.labels:
        defects = {**defects, "bad_labels": truth.labels}
    if defects:
        extra["defects"] = dict(defects)
    return Sample(
        id=sample_id,
        task="tracking",
        media=_video(path, indices, truth.fps),
        query=name.strip(),
        target=BoxesTarget(tuple(boxes)),
        duration=len(truth.boxes) / truth.fps,
        source=GOT10k.name,
        extra=extra,
    )


def _video(path: str, indices: Sequence[int], fps: float) -> Video:
    folder = path.rstrip("/")
    return Video(
        frames=tuple(f"{folder}/{frame_name(index)}" for index in indices),
        frame_times=tuple(index / fps for index in indices),
    )


def _sequence_names(folder: Path) -> list[str]:
    """The sequences of a split folder: as `list.txt` has them, else its folders in order of name."""
    if (folder / "list.txt").is_file():
        names = (line.strip() for line in read_text(folder / "list.txt").split("\n"))
        listed = [inside(name, f"{folder / 'list.txt'}") for name in names if name]
        if not any(is_folder(folder / name) for name in listed):
            raise DataError(
                f"{folder} holds none of the {counted(len(listed), 'sequence')} of its list.txt; found {listing(folder)}"
            )
        return listed
    found = sorted(entry.name for entry in folder.iterdir() if (entry / "groundtruth.txt").is_file())
    if not found:
        raise DataError(
            f"{folder}: got10k expected the folder of one split, with a list.txt or sequence folders that hold a "
            f"groundtruth.txt; found {listing(folder)}"
        )
    return found
