"""MLVU: questions of several tasks about long videos, those with options (Zhou et al. 2025)."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.errors import DataError, first_ten
from videochat_r1.evaluation.benchmarks.annotation_rows import read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, ChoiceBenchmark, Source
from videochat_r1.evaluation.benchmarks.mvbench import answer_letter_of_text
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.text import listing

logger = logging.getLogger(__name__)

TEST = "test"
AVERAGE = "M-Avg"
TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
"""Tasks of the dev set, by the names of their files `<number>_<task>.json`."""
OPEN_TASKS = ("sub_scene", "summary")
"""Those without options, whose answers the authors let a language model rate."""


class MLVU(ChoiceBenchmark):
    """Dev set: the folder of `<number>_<task>.json`, or one of them. Test set: its one file, whose rows have a `question_id`."""

    name = "mlvu"
    num_samples: ClassVar = {ALL: 2175, TEST: 502}
    # Two of the rows of needle as published; their authors count them as wrong whatever is answered.
    unanswerable = frozenset({"findNeedle/needle_4_34", "findNeedle/needle_5_338"})
    definitions: ClassVar = {
        AVERAGE: "unweighted mean of the tasks' accuracies: seven in the dev set, nine in the test set (Zhou et al. 2025, M-Avg)",
        "accuracy": "share of questions answered with the right option",
        f"{AVERAGE}_official": "M-Avg, an answer being right if what stands before its first closing bracket is the right letter and "
        "nothing else (MLVU's own check, of answers that go on from `Best Option: (`)",
        OFFICIAL_ACCURACY: "the share of questions that are right by that check",
    }

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `question_id`, in the dev set `<question_type>/<video>_<row of the task's file>`."""
        for file in _files(source.annotations, warn=True):
            folder = file.stem if source.videos is not None and (source.videos / file.stem).is_dir() else ""
            for number, row in enumerate(read_rows(file)):
                if source.subset == ALL or "question_id" in row.values:
                    yield _sample(row, number, folder)

    def files(self, annotations: Path) -> list[Path]:
        """The tasks' files."""
        return _files(annotations)

    def score(self, parsed: Any, sample: Sample) -> dict[str, float]:
        """Accuracy, and the same for the mean of tasks."""
        scores = super().score(parsed, sample)
        return {AVERAGE: scores["accuracy"], **scores}

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """The same of the official accuracy."""
        scores = super().official_scores(completion, sample)
        return {f"{AVERAGE}_official": scores[OFFICIAL_ACCURACY], **scores}

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the text before the first closing bracket is the letter."""
        return text.partition(")")[0].strip() == target.answer in LETTERS

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Every task weighs the same in M-Avg, however many of its questions are scored."""
        names = [sample.extra["task"] for sample in samples]
        sizes = {name: names.count(name) for name in set(names)}
        shares = [1.0 / sizes[name] for name in names]
        return dict.fromkeys((AVERAGE, f"{AVERAGE}_official"), shares)

    def headline(self, task: str) -> str:
        """The mean of the tasks."""
        return AVERAGE


def _sample(row: Row, number: int, folder: str) -> Sample:
    video, kind = row.text("video"), row.text("question_type")
    own_id = row.values.get("question_id")
    options = tuple(option.strip() for option in row.options("candidates"))
    return Sample(
        id=f"{kind}/{PurePosixPath(video).stem}_{number}" if own_id is None else str(own_id),
        task="multi_choice_qa",
        media=Video(path=f"{folder}/{video}" if folder else video),
        query=row.text("question").strip(),
        target=ChoiceTarget(options, answer_letter_of_text(row.text("answer"), options)),
        duration=row.number("duration") if row.values.get("duration") is not None else None,
        source=MLVU.name,
        extra={"task": kind},
    )


def _files(annotations: Path, *, warn: bool = False) -> list[Path]:
    """The files of tasks with options that are there, in the order of `TASKS`."""
    if annotations.is_file():
        if _task(annotations) in OPEN_TASKS:
            raise DataError(
                f"{annotations} has open questions; name the file of a task with options: {', '.join(TASKS)}"
            )
        return [annotations]
    folder = annotations / "json" if (annotations / "json").is_dir() else annotations
    found = {_task(file): file for file in sorted(folder.glob("*.json"))}
    files = [found[name] for name in TASKS if name in found]
    if not files:
        raise DataError(f"{folder} has none of MLVU's files, such as 1_plotQA.json. It holds {listing(folder)}")
    if warn and len(files) < len(TASKS):
        missing = [name for name in TASKS if name not in found]
        logger.warning("%s is the mean of %d of MLVU's 7 tasks; without %s", AVERAGE, len(files), first_ten(missing))
    if warn and (left_out := [name for name in OPEN_TASKS if name in found]):
        logger.warning(
            "the open questions of %s are left out: only those with options are scored", " and ".join(left_out)
        )
    return files


def _task(file: Path) -> str:
    """`needle` of `2_needle.json`."""
    return file.stem.lstrip("0123456789").lstrip("_")
