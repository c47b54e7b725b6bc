"""Video-R1's own form of benchmarks (`eval_<name>.json`, Feng et al. 2025), and how its evaluation reads answers."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from videochat_r1.datasets.annotation_files import Row, number
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import columns
from videochat_r1.parsing import option_texts
from videochat_r1.sample import ChoiceTarget, Sample, Video
from videochat_r1.tasks import TASKS

VIDEO_R1_ACCURACY = "accuracy_video_r1"
ACCURACY_DEFINITION = (
    "share of questions with options whose first answer tag, without one the whole completion, holds the right letter and "
    "nothing else (Video-R1, eval_bench.py)"
)
TASK_OF = {
    "multiple choice": "multi_choice_qa",
    "numerical": "numerical_qa",
    "regression": "regression",
    "free-form": "free_form_qa",
    "OCR": "text_recognition",
}
"""`problem_type` -> task."""
_THRESHOLDS = (0.5 + 0.05 * np.arange(10)).astype(np.float32)


def is_video_r1(rows: Sequence[Row]) -> bool:
    """Whether rows are in Video-R1's form."""
    return bool(rows) and {"problem_id", "problem_type", "solution"} <= rows[0].values.keys()


def video_r1_samples(rows: Sequence[Row], source: str, kept: Sequence[str] = ()) -> Iterator[Sample]:
    """One sample per row, with `problem_id` as its id, and its video below the folder that holds `Evaluation`.

    Args:
        rows: of one file.
        source: name of the benchmark.
        kept: columns of the benchmark's own, for breakdowns.

    Raises:
        DataError: an unknown `problem_type`, a key that is missing, or a solution without an answer.
    """
    for row in rows:
        kind = row.text("problem_type")
        if kind not in TASK_OF:
            raise DataError(f"{row.where}: 'problem_type' is {kind!r}; expected one of {', '.join(TASK_OF)}")
        answer = video_r1_text(row.text("solution"))
        yield Sample(
            id=str(row.get("problem_id")),
            task=TASK_OF[kind],
            media=Video(path=row.text("path").removeprefix("./")),
            query=row.text("problem").strip(),
            target=_target(row, kind, answer),
            source=source,
            extra={"problem_type": kind, **columns(row, *kept)},
        )


def video_r1_text(completion: str) -> str:
    """The text of the first answer tag wherever it stands, without one the whole completion; stripped."""
    _, opening, rest = completion.partition("<answer>")
    answer, closing, _ = rest.partition("</answer>")
    return (answer if opening and closing else completion).strip()


def video_r1_accuracy(completion: str | None, target: ChoiceTarget) -> float:
    """1.0 for the letter alone, in capitals."""
    return float(completion is not None and video_r1_text(completion) == target.answer)


def video_r1_mra(completion: str | None, truth: float) -> float:
    """Mean relative accuracy of a number: the share of the thresholds t = 0.5, 0.55 ... 0.95 with a relative error < 1 - t.

    In single precision, which decides the cases on a threshold as the released code does.
    """
    try:
        value = math.nan if completion is None else float(video_r1_text(completion).replace(",", ""))
    except ValueError:
        return 0.0
    given, true = np.float32(min(max(value, -1e30), 1e30)), np.float32(truth)
    error = abs(given - true) / (abs(true) + np.float32(1e-8))
    return int(np.count_nonzero(error < np.float32(1.0) - _THRESHOLDS)) / len(_THRESHOLDS)


def _target(row: Row, kind: str, answer: str) -> object:
    if kind == "multiple choice":
        options = option_texts(row.options("options"))
        return ChoiceTarget(options, answer_letter(answer, options))
    value = number(answer.replace(",", ""), f"{row.where}, 'solution'") if kind == "regression" else answer
    return TASKS[TASK_OF[kind]].target_from_json({"answer": value})
