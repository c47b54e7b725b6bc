"""Video-R1's training files (Feng et al. 2025): `Video-R1-260k.json` for RL, `Video-R1-COT-165k.json` with responses for SFT."""

import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from videochat_r1.datasets.annotation_files import Row, checked_options
from videochat_r1.datasets.base import Corpus, Request
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.json_rows import read_json_rows
from videochat_r1.parsing import option_texts
from videochat_r1.rewards.video_r1 import first_answer
from videochat_r1.sample import ChoiceTarget, Media, NumberTarget, Pictures, Sample, TextTarget, Video
from videochat_r1.tasks import TASKS

TASK_OF = {
    "multiple choice": "multi_choice_qa",
    "numerical": "numerical_qa",
    "regression": "regression",
    "free-form": "free_form_qa",
    "OCR": "text_recognition",
}
"""`problem_type` -> task."""

_GROUPS = ("Chart", "General", "Knowledge", "Math", "OCR", "Spatial")
"""Folders that hold those of several sources."""


class VideoR1(Corpus):
    """A list of questions of five types about videos and pictures, of some forty sources.

    The `source` of a sample is its row's `data_source`, and its `response` what a teacher thought and answered, where the row
    has a `process`. Paths are relative to the folder that holds `CLEVRER`, `Chart` and so on.
    """

    name = "video_r1"
    tasks = tuple(TASK_OF.values())
    mixed = True

    def parse(self, request: Request) -> Iterator[Sample]:
        """One sample per row; ids are the rows' `problem_id`."""
        for where, value in read_json_rows(request.annotations):
            yield _sample(Row.of(value, where))


def _sample(row: Row) -> Sample:
    kind = row.text("problem_type")
    if kind not in TASK_OF:
        raise DataError(f"{row.where}: 'problem_type' is {kind!r}; expected one of {', '.join(TASK_OF)}")
    name = str(row.get("problem_id"))
    solution = row.text("solution").strip()
    answer = first_answer(solution)
    path = (_text_or_none(row, "path") or "").strip().removeprefix("./")
    source, defects = _text_or_none(row, "data_source") or "", {}
    if not source:
        source = _source_in(path)
        defects["no_source"] = f"taken from {path!r}: {source!r}"
    media, missing = _media(row, path or f"without path {name}")
    if not path:
        defects[missing] = "the row has no path"
    return Sample(
        id=name,
        task=TASK_OF[kind],
        media=media,
        query=row.text("problem").strip(),
        target=_target(row, TASK_OF[kind], solution if answer is None else answer),
        source=source,
        extra={"defects": defects} if defects else {},
        response=_response(row, solution),
    )


def _response(row: Row, solution: str) -> str | None:
    """Thought and answer; None in the file for RL, which has no `process`."""
    if "process" not in row.values:
        return None
    thought = (_text_or_none(row, "process") or "").strip()
    return f"{thought}\n{solution}" if thought else ""


def _media(row: Row, path: str) -> tuple[Media, str]:
    """What a row shows, and the kind of problem of one that shows nothing."""
    data_type = row.text("data_type")
    if data_type == "video":
        return Video(path=path), "missing_video"
    if data_type == "image":
        return Pictures((path,)), "missing_picture"
    raise DataError(f"{row.where}: 'data_type' is {data_type!r}; expected video or image")


def _target(row: Row, task: str, answer: str) -> Any:
    """The truth; one that no answer can be compared with is left for the checks to report."""
    if task == "multi_choice_qa":
        listed = row.texts("options")
        options = option_texts(checked_options(listed, f"{row.where}, 'options'")) if listed else ()
        return ChoiceTarget(options, answer_letter(answer, options))
    try:
        return TASKS[task].target_from_json({"answer": answer})
    except DataError:
        return TextTarget(answer) if TASKS[task].target_type is TextTarget else NumberTarget(math.nan, answer)


def _text_or_none(row: Row, key: str) -> str | None:
    return None if row.values.get(key) is None else row.text(key)


def _source_in(path: str) -> str:
    """The name of the folder that a source has in the release: the first, or the one in it."""
    folders = PurePosixPath(path).parts[:-1]
    return next((folder for folder in folders if folder not in _GROUPS), "")
