"""From completions to a result: parse, score, average, break down, compare with answers that ignore the video."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from videochat_r1.errors import ConfigError, DataError
from videochat_r1.evaluation.baselines import Baselines, compute_baselines
from videochat_r1.evaluation.benchmarks.base import Benchmark
from videochat_r1.evaluation.messages import first_ten
from videochat_r1.evaluation.predictions import Prediction
from videochat_r1.evaluation.score_table import ScoreTable
from videochat_r1.sample import Sample
from videochat_r1.tasks import get_task

BoxFormat = Literal["normalised", "native_absolute"]
NATIVE_SUFFIX = "_native"


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How completions are read and results averaged.

    Args:
        untagged: read a completion without any answer tag as a whole, for models that were not asked for tags.
        box_format: `native_absolute` also reads boxes as pixels of the frames shown (`frame_size` of each prediction).
        bootstrap: resamples for the confidence intervals; 0 for none.
        seed: of the resamples.
    """

    untagged: bool = False
    box_format: BoxFormat = "normalised"
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bootstrap < 0:
            raise ConfigError(f"bootstrap is {self.bootstrap}; expected 0 or a number of resamples")
        if self.box_format not in ("normalised", "native_absolute"):
            raise ConfigError(f"box_format is {self.box_format!r}; expected normalised or native_absolute")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A scored benchmark.

    Args:
        results: what `results.json` holds, settings excepted; metrics are fractions.
        rows: what `samples.jsonl` holds, one per sample in the benchmark's order.
    """

    results: dict[str, Any]
    rows: list[dict[str, Any]]


def score_answers(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    options: ScoringOptions,
    train: Sequence[Sample] | None = None,
) -> Evaluation:
    """The result of one answer per sample. What cannot be read counts 0 and is listed by kind.

    Args:
        benchmark: whose metrics are used.
        samples: of one task, at least one.
        predictions: one per sample, in the same order.
        options: how they are read.
        train: the training split, for a baseline; None if it is not at hand.

    Raises:
        ConfigError: native boxes asked for where answers have no boxes.
        DataError: native boxes without the size of the frames.
    """
    if options.box_format == "native_absolute":
        _check_frame_sizes(predictions)
    rows = [_score(benchmark, sample, one, options) for sample, one in zip(samples, predictions, strict=True)]
    weights = benchmark.weights(samples)
    weights |= {f"{name}{NATIVE_SUFFIX}": column for name, column in weights.items()}
    table = ScoreTable.of([row["scores"] for row in rows], weights)
    failures = _failures(rows)
    task = samples[0].task
    results = {
        "benchmark": benchmark.name,
        "task": task,
        "headline": benchmark.headline(task),
        "num_samples": len(rows),
        "num_failed": sum(kind["count"] for kind in failures.values()),
        "failures": failures,
        "metrics": table.means(),
        "ci95": table.intervals(options.bootstrap, options.seed),
        "by": _breakdowns(table, [row["by"] for row in rows]),
        **_baseline_results(compute_baselines(benchmark, samples, train)),
        "definitions": dict(benchmark.definitions),
    }
    return Evaluation(results, rows)


def _score(benchmark: Benchmark, sample: Sample, prediction: Prediction, options: ScoringOptions) -> dict[str, Any]:
    """The row of one sample."""
    completion = prediction.completion
    parsed = None if completion is None else benchmark.parse(completion, sample, untagged=options.untagged)
    scores = benchmark.score(parsed, sample)
    if options.box_format == "native_absolute":
        native = parsed
        if parsed is not None:
            native = benchmark.scale_boxes(parsed, *prediction.extra["frame_size"])
        scores |= {f"{name}{NATIVE_SUFFIX}": value for name, value in benchmark.score(native, sample).items()}
    return {
        "id": sample.id,
        "task": sample.task,
        "video": sample.video.name,
        "query": sample.query,
        "target": _without_nan(get_task(sample.task).target_to_json(sample.target)),
        "completion": completion,
        "parsed": None if parsed is None else benchmark.parsed_to_json(parsed, sample),
        "scores": scores,
        "failure": failure_of(prediction, parsed),
        "by": benchmark.groups(sample),
        **prediction.extra,
    }


def failure_of(prediction: Prediction, parsed: Any) -> str | None:
    """Why a sample counts 0 whatever the truth: the kind that the run recorded, or what is wrong with the text; None if nothing is."""
    if prediction.failure is not None:
        return prediction.failure
    if prediction.completion is None:
        return "no_completion"
    if parsed is not None:
        return None
    if prediction.extra.get("finished") is False:
        return "cut_off"
    return "unparsable" if prediction.completion.strip() else "empty_completion"


def _failures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Kind -> how many samples failed so, and the first ten of them."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row["failure"] is not None:
            kinds.setdefault(row["failure"], []).append(row["id"])
    return {kind: {"count": len(ids), "first": ids[:10]} for kind, ids in sorted(kinds.items())}


def _breakdowns(table: ScoreTable, groups: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    names = sorted({name for group in groups for name in group})
    return {name: table.by_group([group.get(name) for group in groups]) for name in names}


def _baseline_results(baselines: Baselines) -> dict[str, Any]:
    return {"baselines": baselines.metrics, "baseline_notes": baselines.notes}


def _check_frame_sizes(predictions: Sequence[Prediction]) -> None:
    without = [
        one.id for one in predictions if one.completion is not None and not _is_size(one.extra.get("frame_size"))
    ]
    if without:
        raise DataError(
            'native_absolute boxes need the size of the frames that the model saw, "frame_size": [width, height], in '
            f"every prediction; these have none: {first_ten(without)}"
        )


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(side, int | float) and side > 0 for side in value)
    )


def _without_nan(value: dict[str, Any]) -> dict[str, Any]:
    """A duration that no annotation gives is null in JSON."""
    return {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in value.items()}
