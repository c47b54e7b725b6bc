"""VSI-Bench: spatial questions about indoor videos, answered with a number or an option (Yang et al. 2025)."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from videochat_r1.datasets.annotation_files import Row, number
from videochat_r1.datasets.base import inside
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import columns, read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Source
from videochat_r1.evaluation.benchmarks.video_r1 import (
    ACCURACY_DEFINITION,
    VIDEO_R1_ACCURACY,
    VideoR1Benchmark,
    video_r1_accuracy,
    video_r1_mra,
)
from videochat_r1.parsing import answer_text, option_texts
from videochat_r1.sample import ChoiceTarget, Sample, Video
from videochat_r1.tasks import TASKS

NUMBERS = ("object_size_estimation", "object_abs_distance", "object_counting", "room_size_estimation")
DIRECTION = "object_rel_direction"
DIRECTIONS = tuple(f"{DIRECTION}_{level}" for level in ("easy", "medium", "hard"))
OPTIONS = ("object_rel_distance", "obj_appearance_order", "route_planning", *DIRECTIONS)
_THRESHOLDS = np.linspace(0.5, 0.95, 10)


class VSIBench(VideoR1Benchmark):
    """The authors' `test.jsonl`, its Parquet, or `eval_vsibench.json` of Video-R1; videos `<dataset>/<scene_name>.mp4`."""

    name = "vsi_bench"
    video_r1_file = "eval_vsibench.json"
    video_r1_columns = ("question_type", "original_question_type", "dataset")
    num_samples: ClassVar = {ALL: 5130}
    definitions: ClassVar = {
        "average": "unweighted mean of the eight tasks: MRA for the four of numbers, accuracy for the four of options, the three "
        "levels of relative direction averaged first (Yang et al. 2025)",
        "accuracy": "share of questions with options that were answered with the right one",
        "MRA": "mean relative accuracy of the questions of numbers: share of the thresholds 0.5, 0.55 ... 0.95 with a relative "
        "error <= 1 - threshold (Yang et al. 2025)",
        "average_official": "the same, and accuracy_official, MRA_official, by the first word of the answer without its full stop, "
        "which has to be the letter, of either case, or a number (VSI-Bench's own rule)",
        "average_video_r1": "mean of accuracy_video_r1 and MRA_video_r1, which Video-R1 reports as VSI-Bench",
        VIDEO_R1_ACCURACY: ACCURACY_DEFINITION,
        "MRA_video_r1": "MRA of the text read so, with < in place of <= (Video-R1, eval_bench.py)",
    }

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question, of options or of regression."""
        for sample in super().questions(source):
            if sample.task not in ("multi_choice_qa", "regression"):
                raise DataError(f"{source.annotations}: question {sample.id} is neither of options nor of regression")
            yield sample

    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question, `id` its id."""
        yield from map(self._sample, read_rows(source.annotations))

    def score(self, parsed: Any, sample: Sample) -> dict[str, float]:
        """Accuracy or MRA, and the same as `average`."""
        scores = {"parse_rate": float(parsed is not None)}
        if isinstance(sample.target, ChoiceTarget):
            value = TASKS[sample.task].accuracy(parsed, sample.target) or 0.0
            return {"average": value, "accuracy": value, **scores}
        value = 0.0 if parsed is None else mean_relative_accuracy(parsed, _truth(sample))
        return {"average": value, "MRA": value, **scores}

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """By the authors' rule and by Video-R1's."""
        text = None if completion is None else answer_text(completion, untagged=True)
        word = (text or "").strip().split(" ")[0].rstrip(".").strip()
        if isinstance(sample.target, ChoiceTarget):
            official = float(word.lower() == sample.target.answer.lower())
            other = video_r1_accuracy(completion, sample)
            return {
                "average_official": official,
                OFFICIAL_ACCURACY: official,
                "average_video_r1": other,
                VIDEO_R1_ACCURACY: other,
            }
        truth = _truth(sample)
        official, other = _mra_of_word(word, truth), video_r1_mra(completion, truth)
        return {
            "average_official": official,
            "MRA_official": official,
            "average_video_r1": other,
            "MRA_video_r1": other,
        }

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Every task weighs the same in `average`, options and numbers weigh the same in Video-R1's."""
        has_options = [isinstance(sample.target, ChoiceTarget) for sample in samples]
        kinds = [_kind(sample) for sample in samples]
        levels = len({kind for kind in kinds if kind in DIRECTIONS})
        of_tasks = [1.0 / kinds.count(kind) / (levels if kind in DIRECTIONS else 1) for kind in kinds]
        of_options, of_numbers = [float(one) for one in has_options], [float(not one) for one in has_options]
        return {
            **dict.fromkeys(("average", "average_official"), of_tasks),
            "average_video_r1": [1.0 / has_options.count(one) for one in has_options],
            **dict.fromkeys(("accuracy", OFFICIAL_ACCURACY, VIDEO_R1_ACCURACY), of_options),
            **dict.fromkeys(("MRA", "MRA_official", "MRA_video_r1"), of_numbers),
        }

    def groups(self, sample: Sample) -> dict[str, str]:
        """By the eight tasks, and by dataset; relative direction by its levels too."""
        kind = _kind(sample)
        groups = {"task": DIRECTION if kind in DIRECTIONS else kind}
        if kind in DIRECTIONS:
            groups["direction"] = kind.removeprefix(f"{DIRECTION}_")
        if "dataset" in sample.extra:
            groups["dataset"] = sample.extra["dataset"]
        return groups

    def headline(self, task: str) -> str:
        """The mean of the eight tasks."""
        return "average"

    def _sample(self, row: Row) -> Sample:
        kind = row.text("question_type")
        if kind not in (*NUMBERS, *OPTIONS):
            raise DataError(
                f"{row.where}: 'question_type' is {kind!r}; expected one of {', '.join((*NUMBERS, *OPTIONS))}"
            )
        truth, target = row.text("ground_truth"), None
        if kind in NUMBERS:
            value = number(truth, f"{row.where}, 'ground_truth'")
            target = TASKS["regression"].target_from_json({"answer": value})
        else:
            options = option_texts(row.options("options"))
            target = ChoiceTarget(options, answer_letter(truth, options))
        dataset, scene = row.text("dataset"), row.text("scene_name")
        return Sample(
            id=str(row.get("id")),
            task="regression" if kind in NUMBERS else "multi_choice_qa",
            media=Video(path=inside(f"{dataset}/{scene}.mp4", row.where)),
            query=row.text("question").strip(),
            target=target,
            source=self.name,
            extra=columns(row, "question_type", "dataset"),
        )


def mean_relative_accuracy(value: float, truth: float) -> float:
    """Share of the thresholds that the relative error keeps to; a true 0 takes a 0."""
    error = abs(value - truth) / truth if truth > 0.0 else float(value != truth)
    return int(np.count_nonzero(error <= 1.0 - _THRESHOLDS)) / len(_THRESHOLDS)


def _mra_of_word(word: str, truth: float) -> float:
    try:
        return mean_relative_accuracy(float(word), truth)
    except ValueError:
        return 0.0


def _truth(sample: Sample) -> float:
    return float(TASKS[sample.task].target_to_json(sample.target)["answer"])


def _kind(sample: Sample) -> str:
    """The question's type; where Video-R1's form does not tell it, whether it is of options."""
    found = sample.extra.get("original_question_type") or sample.extra.get("question_type")
    return str(found or sample.extra["problem_type"])
