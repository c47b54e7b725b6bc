"""Benchmarks that Video-R1 reports: its own form of their questions (`eval_<name>.json`, Feng et al. 2025) and its reading of answers."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from videochat_r1.datasets.annotation_files import Row, number
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.datasets.video_r1 import TASK_OF
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import columns
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, ChoiceBenchmark, Source
from videochat_r1.parsing import option_texts
from videochat_r1.rewards.video_r1 import first_answer, release_accuracy
from videochat_r1.sample import ChoiceTarget, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.text import parse_json, read_text

VIDEO_R1_ACCURACY = "accuracy_video_r1"
ACCURACY_DEFINITION = (
    "share of questions with options or numbers whose first answer tag, without one the whole completion, holds the right letter and "
    "nothing else, or the number as Video-R1 compares it (Video-R1, eval_bench.py)"
)
_RIGHT_OR_WRONG = ("multi_choice_qa", "numerical_qa")
_THRESHOLDS = (0.5 + 0.05 * np.arange(10)).astype(np.float32)


class VideoR1Benchmark(ChoiceBenchmark):
    """A benchmark that is also read in Video-R1's form: from the JSON, or from a folder that holds it by its name."""

    video_r1_file: ClassVar[str]
    video_r1_columns: ClassVar[tuple[str, ...]] = ()
    """Columns of the benchmark's own that its rows may have, for breakdowns."""

    @abstractmethod
    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """The samples of the authors' files, with video paths relative to the videos folder."""

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are the authors', in Video-R1's form `problem_id`."""
        rows = video_r1_rows(self._file_in(source.annotations))
        if rows is None:
            yield from self.authors_questions(source)
            return
        for sample in video_r1_samples(rows, self.name, self.video_r1_columns):
            if source.subset in (ALL, self.video_r1_subset(sample)):
                yield sample

    def video_r1_subset(self, sample: Sample) -> str | None:
        """The subset that a sample of Video-R1's form belongs to; None where that form does not tell."""
        return None

    def authors_files(self, annotations: Path) -> list[Path]:
        """The files that `authors_questions` reads."""
        return super().files(annotations)

    def files(self, annotations: Path) -> list[Path]:
        """Of the form that the annotations have."""
        file = self._file_in(annotations)
        return self.authors_files(annotations) if video_r1_rows(file) is None else [file]

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """By the authors' rule and by Video-R1's."""
        scores = super().official_scores(completion, sample) if isinstance(sample.target, ChoiceTarget) else {}
        if sample.task in _RIGHT_OR_WRONG:
            scores[VIDEO_R1_ACCURACY] = video_r1_accuracy(completion, sample)
        return scores

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Each rule is about the questions that it has."""
        has_options = [float(isinstance(sample.target, ChoiceTarget)) for sample in samples]
        return {
            OFFICIAL_ACCURACY: has_options,
            VIDEO_R1_ACCURACY: [float(sample.task in _RIGHT_OR_WRONG) for sample in samples],
        }

    def _file_in(self, annotations: Path) -> Path:
        """Where Video-R1's form would be."""
        return annotations / self.video_r1_file if annotations.is_dir() else annotations


def video_r1_rows(path: Path) -> list[Row] | None:
    """The rows of a JSON file in Video-R1's form; None of one in another form, or that is not there."""
    if not path.is_file() or path.suffix.lower() != ".json" or not (text := read_text(path)).lstrip().startswith("["):
        return None
    values = parse_json(text, path)
    first = values[0] if values else None
    if not isinstance(first, dict) or not {"problem_id", "problem_type", "solution"} <= first.keys():
        return None
    return Row.all_of((f"{path}, row {place}", value) for place, value in enumerate(values, start=1))


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
    answer = first_answer(completion)
    return completion.strip() if answer is None else answer


def video_r1_accuracy(completion: str | None, sample: Sample) -> float:
    """1.0 for the letter alone, in capitals, or the right number; 0.0 for what the release has no rule for."""
    if completion is None:
        return 0.0
    answer = f"<answer>{video_r1_text(completion)}</answer>"
    return release_accuracy(answer, sample.task, sample.target) or 0.0  # type: ignore[arg-type]


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
