"""MLVU: questions of several tasks about long videos, with options and open (Zhou et al. 2025)."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.errors import DataError, first_ten
from videochat_r1.evaluation.benchmarks.annotation_rows import read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, ChoiceBenchmark, Judgement, Source
from videochat_r1.evaluation.benchmarks.mvbench import answer_letter_of_text
from videochat_r1.judge import Judge
from videochat_r1.judge.answers import scene_question, summary_question
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.base import Scores
from videochat_r1.text import listing

logger = logging.getLogger(__name__)

TEST, CHOICE = "test", "multiple-choice"
AVERAGE, OPEN_AVERAGE = "M-Avg", "G-Avg"
CHOICE_TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
"""Tasks of the dev set, by the names of their files `<number>_<task>.json`."""
SUB_SCENE, SUMMARY = OPEN_TASKS = ("sub_scene", "summary")
"""Those without options, whose answers the authors let a language model rate."""
RATED = {SUB_SCENE: ("accuracy", "relevance"), SUMMARY: ("completeness", "reliability")}
"""In these two respects each, from 1 to 5."""
_BEST = 5


class MLVU(ChoiceBenchmark):
    """Dev set: the folder of `<number>_<task>.json`, or one of them. Test set: its one file, whose rows have a `question_id`."""

    name = "mlvu"
    num_samples: ClassVar = {ALL: 2593, CHOICE: 2175, SUB_SCENE: 201, SUMMARY: 217, TEST: 502}
    judged = True
    partly_judged = True
    # Two of the rows of needle as published; their authors count them as wrong whatever is answered.
    unanswerable = frozenset({"findNeedle/needle_4_34", "findNeedle/needle_5_338"})
    definitions: ClassVar = {
        AVERAGE: "unweighted mean of the tasks' accuracies: seven in the dev set, nine in the test set (Zhou et al. 2025, M-Avg)",
        "accuracy": "share of questions answered with the right option",
        f"{AVERAGE}_official": "M-Avg, an answer being right if what stands before its first closing bracket is the right letter and "
        "nothing else (MLVU's own check, of answers that go on from `Best Option: (`)",
        OFFICIAL_ACCURACY: "the share of questions that are right by that check",
        OPEN_AVERAGE: "of the open questions, by a judge: unweighted mean of sub_scene and summary, of each the sum of its two ratings, as a "
        "share of 10 (Zhou et al. 2025, G-Avg, there from 2 to 10)",
        f"{SUB_SCENE}_accuracy": "mean rating of how rightly the points of a scene are told, 1, 3 or 5 each, as a share of 5 (the same); "
        f"{SUB_SCENE}_relevance, {SUMMARY}_completeness and {SUMMARY}_reliability: mean ratings from 1 to 5, likewise",
    }

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `question_id`, in the dev set `<question_type>/<video>_<row of the task's file>`."""
        for file in _files(source.annotations, warn=True):
            folder = f"{file.stem}/" if source.videos is not None and (source.videos / file.stem).is_dir() else ""
            part = _task(file) if _task(file) in OPEN_TASKS else None
            for number, row in enumerate(read_rows(file)):
                if source.subset in (ALL, TEST if "question_id" in row.values else part or CHOICE):
                    yield _sample(row, number, folder, part)

    def files(self, annotations: Path) -> list[Path]:
        """The tasks' files."""
        return _files(annotations)

    def is_judged(self, sample: Sample) -> bool:
        """Open ones."""
        return _part(sample) is not None

    def score(self, parsed: Any, sample: Sample) -> Scores:
        """Accuracy, and the same for the mean of tasks; of an open question only what can be told without a judge."""
        if self.is_judged(sample):
            return {"parse_rate": float(parsed is not None)}
        scores = super().score(parsed, sample)
        return {AVERAGE: scores["accuracy"], **scores}

    async def judge(self, judge: Judge, parsed: Any, sample: Sample) -> Judgement:
        """Both ratings of an open answer, and their sum for the mean of the open tasks."""
        part, scores = _part(sample), self.score(parsed, sample)
        assert part is not None
        first, second = (f"{part}_{respect}" for respect in RATED[part])
        if parsed is None:
            return Judgement({OPEN_AVERAGE: 0.0, first: 0.0, second: 0.0, **scores})
        answer = parsed[: judge.config.max_description_chars]
        if part == SUB_SCENE:
            found = await judge.ask(scene_question(sample.query, sample.extra["points"], answer))
            points = [found[name] for name in found if name != "relevance"]
            ratings = sum(points) / len(points), found["relevance"]
        else:
            found = await judge.ask(summary_question(sample.extra["answer"], answer))
            ratings = found["completeness"], found["reliability"]
        shares = [rating / _BEST for rating in ratings]
        return Judgement(
            {OPEN_AVERAGE: sum(shares) / 2, first: shares[0], second: shares[1], **scores}, {"ratings": found}
        )

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """The same of the official accuracy."""
        if self.is_judged(sample):
            return {}
        scores = super().official_scores(completion, sample)
        return {f"{AVERAGE}_official": scores[OFFICIAL_ACCURACY], **scores}

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the text before the first closing bracket is the letter."""
        return text.partition(")")[0].strip() == target.answer in LETTERS

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Every task weighs the same in M-Avg, and in G-Avg, however many of its questions are scored."""
        names, parts = [sample.extra["task"] for sample in samples], [_part(sample) for sample in samples]
        sizes = {name: names.count(name) for name in set(names)}
        shares = [1.0 / sizes[name] for name in names]
        has_options = [float(part is None) for part in parts]
        of_tasks = [share * one for share, one in zip(shares, has_options, strict=True)]
        weights = {OPEN_AVERAGE: [share * (1.0 - one) for share, one in zip(shares, has_options, strict=True)]}
        weights |= dict.fromkeys((AVERAGE, f"{AVERAGE}_official"), of_tasks)
        weights |= dict.fromkeys(("accuracy", OFFICIAL_ACCURACY), has_options)
        for name, respects in RATED.items():
            own = [float(part == name) for part in parts]
            weights |= {f"{name}_{respect}": own for respect in respects}
        return weights

    def groups(self, sample: Sample) -> dict[str, str]:
        """By task."""
        return {"task": sample.extra["task"]}

    def headline(self, task: str) -> str:
        """The mean of the tasks."""
        return AVERAGE if task == "multi_choice_qa" else OPEN_AVERAGE


def _part(sample: Sample) -> str | None:
    """The open task of a sample; None of one with options."""
    part: str | None = sample.extra.get("part")
    return part


def _sample(row: Row, number: int, folder: str, part: str | None) -> Sample:
    video, kind, answer = row.text("video"), row.text("question_type"), row.text("answer")
    own_id = row.values.get("question_id")
    extra: dict[str, Any] = {"task": kind}
    if part is None:
        options = tuple(option.strip() for option in row.options("candidates"))
        target: Any = ChoiceTarget(options, answer_letter_of_text(answer, options))
    else:
        target = TASKS["free_form_qa"].target_from_json({"answer": answer})
        extra |= {"part": part, "answer": answer}
        if part == SUB_SCENE:
            extra["points"] = tuple(row.texts("scoring_points"))
    return Sample(
        id=f"{kind}/{PurePosixPath(video).stem}_{number}" if own_id is None else str(own_id),
        task="multi_choice_qa" if part is None else "free_form_qa",
        media=Video(path=f"{folder}{video}"),
        query=row.text("question").strip(),
        target=target,
        duration=row.number("duration") if row.values.get("duration") is not None else None,
        source=MLVU.name,
        extra=extra,
    )


def _files(annotations: Path, *, warn: bool = False) -> list[Path]:
    """The tasks' files that are there, those with options first."""
    if annotations.is_file():
        return [annotations]
    folder = annotations / "json" if (annotations / "json").is_dir() else annotations
    found = {_task(file): file for file in sorted(folder.glob("*.json"))}
    names = [name for name in (*CHOICE_TASKS, *OPEN_TASKS) if name in found]
    if not names:
        raise DataError(f"{folder} has none of MLVU's files, such as 1_plotQA.json. It holds {listing(folder)}")
    for average, tasks in ((AVERAGE, CHOICE_TASKS), (OPEN_AVERAGE, OPEN_TASKS)):
        missing = [name for name in tasks if name not in found]
        if warn and 0 < len(missing) < len(tasks):
            count = len(tasks) - len(missing)
            logger.warning(
                "%s is the mean of %d of MLVU's %d tasks; without %s", average, count, len(tasks), first_ten(missing)
            )
    return [found[name] for name in names]


def _task(file: Path) -> str:
    """`needle` of `2_needle.json`."""
    return file.stem.lstrip("0123456789").lstrip("_")
