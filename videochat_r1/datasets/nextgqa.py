"""NExT-GQA: the official `<split>.csv` + `gsub_<split>.json` + `map_vid_vidorID.json`, or the released JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videochat_r1.datasets.annotation_files import Row, kind, read_json, read_table
from videochat_r1.datasets.base import Corpus, Request
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError, shown
from videochat_r1.geometry import Span
from videochat_r1.parsing import option_texts
from videochat_r1.sample import LETTERS, ChoiceTarget, GroundedChoiceTarget, Sample, Video
from videochat_r1.text import listing

COLUMNS = ("video_id", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
MAP_NAME = "map_vid_vidorID.json"
RELEASED = "a list of {id, video, question, options, duration, glue, type, answer}"


class NExTGQA(Corpus):
    """Videos are `<folder>/<id>.mp4` by the official map. The paper trains on `val` and evaluates on `test`."""

    name = "nextgqa"
    tasks = ("grounded_qa", "multi_choice_qa")

    def files(self, annotations: Path) -> list[Path]:
        """The released JSON, or the three files of the official split."""
        table = _official_table(annotations)
        return [annotations] if table is None else [table, _spans_path(table), table.parent / MAP_NAME]

    def parse(self, request: Request) -> Iterator[Sample]:
        """One sample per question; ids are the benchmark's `<video>_<qid>`."""
        path = request.annotations
        table = _official_table(path)
        if table is not None:
            rows = Row.all_of((f"{table}, row {number}", row) for number, row in enumerate(join(table), start=1))
        else:
            value = read_json(path)
            if not isinstance(value, list):
                raise DataError(f"{path}: nextgqa expected {RELEASED}, or the folder of the official files; "
                                f"found {kind(value)}")  # fmt: skip
            rows = Row.all_of((f"{path}, row {number}", row) for number, row in enumerate(value, start=1))
        for row in rows:
            yield _sample(row, request.task or self.tasks[0])


def join(table: Path) -> list[dict[str, Any]]:
    """The rows of an official split in the released form: same keys, same values, same order.

    Args:
        table: `val.csv` or `test.csv`; the other official files lie beside it.

    Raises:
        DataError: a file or column is missing, or a question has no video path or no spans.
    """
    spans, paths = (Row.of(read_json(path), str(path)) for path in (_spans_path(table), table.parent / MAP_NAME))
    return [_joined(row, spans, paths) for row in read_table(table, COLUMNS)]


def _joined(row: Row, spans: Row, paths: Row) -> dict[str, Any]:
    video_id, qid = row.text("video_id"), row.text("qid")
    video = Row.of(spans.get(video_id), f"{spans.where}, video {shown(video_id)!r} ({row.where})")
    location = Row.of(video.get("location"), f"{video.where}, 'location'")
    options = [row.text(f"a{index}") for index in range(5)]
    answer = row.text("answer")
    return {
        "id": f"{video_id}_{qid}",
        "video": f"{paths.text(video_id)}.mp4",
        "question": row.text("question"),
        "options": [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)],
        "duration": video.get("duration"),
        "glue": location.get(qid),
        "type": row.text("type"),
        "answer": f"({LETTERS[options.index(answer)]})" if answer in options else answer,
    }


def _official_table(annotations: Path) -> Path | None:
    """The CSV of the official files; None for the released JSON."""
    if annotations.is_dir():
        return _only_split(annotations)
    return annotations if annotations.suffix.lower() == ".csv" else None


def _spans_path(table: Path) -> Path:
    return table.parent / f"gsub_{table.stem}.json"


def _only_split(folder: Path) -> Path:
    """The CSV of the one split that the folder holds spans for."""
    tables = [table for table in sorted(folder.glob("*.csv")) if _spans_path(table).is_file()]
    if len(tables) == 1:
        return tables[0]
    if not tables:
        raise DataError(
            f"{folder}: nextgqa expected <split>.csv with gsub_<split>.json and {MAP_NAME}; found {listing(folder)}"
        )
    names = ", ".join(table.name for table in tables)
    raise DataError(f"{folder} holds several splits: {names}. Name one, e.g. {tables[0]}")


def _sample(row: Row, task: str) -> Sample:
    options = option_texts(row.options("options"))
    answer = answer_letter(row.text("answer"), options)
    duration = row.number("duration")
    target: ChoiceTarget | GroundedChoiceTarget
    if task == "grounded_qa":
        spans: list[Span] = row.spans("glue")
        target = GroundedChoiceTarget(options, answer, tuple(spans), duration)
    else:
        target = ChoiceTarget(options, answer)
    return Sample(
        id=row.text("id"),
        task=task,
        media=Video(path=row.text("video")),
        query=row.text("question").strip(),
        target=target,
        duration=duration,
        source=NExTGQA.name,
        extra={"type": row.text("type")},
    )
