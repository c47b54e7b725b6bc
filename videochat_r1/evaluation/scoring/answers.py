"""From completions to a result: parse, score, average, break down, compare with answers that ignore the video."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from videochat_r1.errors import ConfigError, DataError, first_ten
from videochat_r1.evaluation.baselines.trivial import Baselines, compute_baselines
from videochat_r1.evaluation.benchmarks.base import Benchmark, Groups
from videochat_r1.evaluation.metrics.score_table import ScoreTable
from videochat_r1.evaluation.scoring.judged import Ask, judge_answers, judge_record
from videochat_r1.evaluation.scoring.predictions import PARSING_FAILURES, Prediction
from videochat_r1.evaluation.scoring.strict_json import finite
from videochat_r1.judge import JudgeConfig
from videochat_r1.parsing.box_units import BoxFormat, BoxUnits, check_box_format
from videochat_r1.rollout.ended import Ended, ended_shares
from videochat_r1.sample import Sample, media_in_row
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.base import Scores

NORMALISED_SUFFIX = "_normalised"
"""Of the metrics of boxes read as fractions, beside those of boxes in the units that were asked for."""
FIRST_PASS_SUFFIX = "_first_pass"
"""Of the metrics of clue-perception's first answers, beside those of the answers that stand."""
CLUE_PERCEPTION = "clue_perception"
"""Key of a prediction under which its passes are kept."""
_MAX_SIDE = 1 << 20


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How completions are read and results averaged.

    Args:
        untagged: read a completion without any answer tag as a whole, for models that were not asked for tags.
        box_format: `pixels` reads boxes as pixels of the frames shown (`frame_size` of each prediction), `thousandths` as 0 to
            1000 of width and height; `native` is for a model to say.
        bootstrap: resamples for the confidence intervals; 0 for none.
        seed: of the resamples.
        judge: scores the answers of judged benchmarks; None leaves them unscored.
    """

    untagged: bool = False
    box_format: BoxFormat = "normalised"
    bootstrap: int = 1000
    seed: int = 0
    judge: JudgeConfig | None = None

    def __post_init__(self) -> None:
        if self.bootstrap < 0:
            raise ConfigError(f"bootstrap is {self.bootstrap}; expected 0 or a number of resamples")
        check_box_format(self.box_format)


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
        samples: at least one; `task` of the result is theirs, of several tasks the benchmark's first.
        predictions: one per sample, in the same order.
        options: how they are read.
        train: the training split, for a baseline; None if it is not at hand.

    Raises:
        ConfigError: see `check_boxes`; or `native` boxes, of no model.
        DataError: boxes in pixels without the size of the frames.
        JudgeError: the judge cannot be used.
    """
    check_boxes(benchmark, options)
    if options.box_format == "native":
        raise ConfigError("box_format native is the one of a model that is asked; say pixels or thousandths")
    if options.box_format == "pixels":
        _check_frame_sizes(predictions)
    passes = any(_first_completion(one) is not None for one in predictions)
    rows = [_score(benchmark, sample, one, options, passes) for sample, one in zip(samples, predictions, strict=True)]
    judged = _judge(benchmark, list(zip(samples, rows, strict=True)), options)
    scored = [place for place, row in enumerate(rows) if row["scores"] is not None]
    own_weights = benchmark.weights([samples[place] for place in scored])
    weights = dict(own_weights)
    for suffix in (NORMALISED_SUFFIX, FIRST_PASS_SUFFIX):
        weights |= {f"{name}{suffix}": column for name, column in own_weights.items()}
    table = ScoreTable.of([rows[place]["scores"] for place in scored], weights, benchmark.derived())
    failures = _failures(rows)
    ended = [row["ended"] for row in rows if "ended" in row]
    task = samples[0].task if len({sample.task for sample in samples}) == 1 else benchmark.tasks[0]
    results = {
        "benchmark": benchmark.name,
        "task": task,
        "headline": benchmark.headline(task),
        "num_samples": len(rows),
        "num_failed": sum(kind["count"] for kind in failures.values()),
        "failures": failures,
        **({"ended": ended_shares(ended)} if len(ended) == len(rows) else {}),
        **judged,
        **_known([rows[place]["scores"] for place in scored]),
        "metrics": table.means(),
        "ci95": table.intervals(options.bootstrap, options.seed),
        "by": _breakdowns(table, [rows[place]["by"] for place in scored]),
        **_baseline_results(compute_baselines(benchmark, samples, train)),
        "definitions": dict(benchmark.definitions),
    }
    return Evaluation(results, rows)


def _known(scores: Sequence[Scores]) -> dict[str, dict[str, int]]:
    """`num_known`: of the metrics whose truth is not known for every sample, for how many it is; nothing where all are."""
    unknown = Counter(name for row in scores for name, value in row.items() if value is None)
    return {"num_known": {name: len(scores) - count for name, count in unknown.items()}} if unknown else {}


def check_boxes(benchmark: Benchmark, options: ScoringOptions) -> None:
    """Refuse units of boxes where answers have none, before a model is asked.

    Raises:
        ConfigError: it is so.
    """
    if options.box_format != "normalised" and not any(TASKS[task].has_boxes for task in benchmark.tasks):
        raise ConfigError(f"the answers of benchmark {benchmark.name} have no boxes; leave --box-format out")


def in_fractions(completion: str, prediction: Prediction, options: ScoringOptions) -> str:
    """A prediction's completion with its boxes in fractions."""
    units = BoxUnits.of(options.box_format, prediction.extra.get("frame_size", (0, 0)))
    return completion if units is None else units.read(completion)


def _score(
    benchmark: Benchmark, sample: Sample, prediction: Prediction, options: ScoringOptions, several_passes: bool
) -> dict[str, Any]:
    """The row of one sample."""
    # A recorded failure counts 0 whatever was written beside it.
    given = None if prediction.failure is not None else prediction.completion
    read = None if given is None else in_fractions(given, prediction, options)
    parsed, own = _read(benchmark, sample, read, options)
    scores = dict(own)
    if options.box_format != "normalised":
        _, as_fractions = _read(benchmark, sample, given, options)
        scores |= {f"{name}{NORMALISED_SUFFIX}": value for name, value in as_fractions.items()}
    if several_passes:
        first = None if read is None else _first_completion(prediction)
        _, of_first = _read(benchmark, sample, first, options)
        scores |= {f"{name}{FIRST_PASS_SUFFIX}": value for name, value in of_first.items()}
    return {
        "id": sample.id,
        "task": sample.task,
        **media_in_row(sample.media),
        "query": sample.query,
        # A duration that no annotation gives is null in JSON.
        "target": finite(TASKS[sample.task].target_to_json(sample.target)),
        "completion": prediction.completion,
        "parsed": None if parsed is None else benchmark.parsed_to_json(parsed, sample),
        "scores": scores,
        "failure": failure_of(prediction, parsed),
        "by": benchmark.groups(sample),
        **prediction.extra,
    }


def _read(benchmark: Benchmark, sample: Sample, completion: str | None, options: ScoringOptions) -> tuple[Any, Scores]:
    """The answer in a completion, and its scores."""
    parsed = None if completion is None else benchmark.parse(completion, sample, untagged=options.untagged)
    return parsed, {**benchmark.score(parsed, sample), **benchmark.official_scores(completion, sample)}


def _judge(
    benchmark: Benchmark, pairs: Sequence[tuple[Sample, dict[str, Any]]], options: ScoringOptions
) -> dict[str, Any]:
    """Ask the judge what it is to score or to read, put that into the rows, and say what the result tells about it."""
    asked: list[tuple[dict[str, Any], Ask]] = []
    for sample, row in pairs:
        if benchmark.is_judged(sample):
            row["scores"] = None
            asked.append((row, partial(benchmark.judge, parsed=row["parsed"], sample=sample)))
        elif (text := _answered(row)) is not None and benchmark.is_left_to_judge(text, sample):
            asked.append((row, partial(benchmark.read_with_judge, completion=text, sample=sample)))
    if not asked:
        return {}
    reasons: dict[str, dict[str, list[str]]] = {"unscored": {}, "unread": {}}
    judgements = judge_answers([ask for _, ask in asked], options.judge)
    for (row, _), judgement in zip(asked, judgements, strict=True):
        row |= {"unscored": None, "verdicts": judgement.verdicts}
        if judgement.unscored is None:
            row["scores"] = {**(row["scores"] or {}), **(judgement.scores or {})}
            continue
        # What only a judge can score has no scores; what it was to read has those of the rules.
        what = "unscored" if row["scores"] is None else "unread"
        row[what] = judgement.unscored
        reasons[what].setdefault(judgement.unscored, []).append(row["id"])
    return {
        "judge": None if options.judge is None else judge_record(options.judge),
        "num_unscored": sum(map(len, reasons["unscored"].values())),
        **{what: _kinds(found) for what, found in reasons.items()},
    }


def _answered(row: Mapping[str, Any]) -> str | None:
    """The completion of a row that was not failed by something else than its text."""
    completion = row["completion"] if row["failure"] in (None, *PARSING_FAILURES) else None
    return completion if isinstance(completion, str) else None


def _first_completion(prediction: Prediction) -> str | None:
    """What the first pass of clue-perception said; None for a prediction of one pass."""
    record = prediction.extra.get(CLUE_PERCEPTION)
    passes = record.get("passes") if isinstance(record, dict) else None
    first = passes[0] if isinstance(passes, list) and passes else None
    completion = first.get("completion") if isinstance(first, dict) else None
    return completion if isinstance(completion, str) else None


def failure_of(prediction: Prediction, parsed: Any) -> str | None:
    """Why a sample counts 0 whatever the truth: the kind that the run recorded, or what is wrong with the text; None if nothing is."""
    if prediction.failure is not None:
        return prediction.failure
    if prediction.completion is None:
        return "no_completion"
    if parsed is not None:
        return None
    if prediction.extra.get("ended") == Ended.LENGTH:
        return "cut_off"
    return "unparsable" if prediction.completion.strip() else "empty_completion"


def _failures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Kind -> how many samples failed so, and the first ten of them."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row["failure"] is not None:
            kinds.setdefault(row["failure"], []).append(row["id"])
    return _kinds(kinds)


def _kinds(ids: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Kind -> how many ids, and the first ten of them."""
    return {kind: {"count": len(found), "first": found[:10]} for kind, found in sorted(ids.items())}


def _breakdowns(table: ScoreTable, groups: Sequence[Groups]) -> dict[str, Any]:
    names = sorted({name for group in groups for name, own in group.items() if own})
    return {name: table.by_group([group.get(name) for group in groups]) for name in names}


def _baseline_results(baselines: Baselines) -> dict[str, Any]:
    return {"baselines": baselines.metrics, "baseline_notes": baselines.notes}


def _check_frame_sizes(predictions: Sequence[Prediction]) -> None:
    without = [
        one.id for one in predictions if one.completion is not None and not _is_size(one.extra.get("frame_size"))
    ]
    if without:
        raise DataError(
            'boxes in pixels need the size of the frames that the model saw, "frame_size": [width, height], in '
            f"every prediction; these have none that is a size: {first_ten(without)}"
        )


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) in (int, float) and 1 <= side <= _MAX_SIDE for side in value)
    )
