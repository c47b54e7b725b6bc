"""What trivial answers score on a benchmark: computed from its annotations on every run, printed beside the result.

`blind` looks for the strongest answer without the video; here are the ones that papers and readers know by name.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from videochat_r1.evaluation.baselines.blind import constant_spans
from videochat_r1.evaluation.benchmarks.base import Benchmark
from videochat_r1.evaluation.metrics.score_table import ScoreTable
from videochat_r1.geometry import Span, merge_spans, span_set_iou
from videochat_r1.parsing.choices import same_option
from videochat_r1.sample import (
    LETTERS,
    BoxesTarget,
    CaptionTarget,
    ChoiceTarget,
    GroundedChoiceTarget,
    LabelTarget,
    Sample,
    SpanTarget,
)
from videochat_r1.tasks.grounded_qa import GroundedAnswer

Means = dict[str, float | None]

_CHOICE_METRICS = ("accuracy",)
_NOT_SPAN_METRICS = ("accuracy", "Acc@GQA")
NO_TRAIN_ANNOTATIONS = "needs the training annotations: --train-annotations PATH"
NO_DURATIONS = "the annotations give no durations: --durations PATH"


@dataclass(slots=True)
class Baselines:
    """Baseline -> its metrics, or None with the reason in `notes`; `notes` also says what was answered."""

    metrics: dict[str, Means | None] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def compute_baselines(benchmark: Benchmark, samples: Sequence[Sample], train: Sequence[Sample] | None) -> Baselines:
    """All baselines that fit the task.

    Args:
        benchmark: whose metrics are used.
        samples: at least one; of several kinds of targets each baseline answers those of its own.
        train: the training split of the same corpus, for the best constant interval; None if it is not at hand.
    """
    baselines = Baselines()
    for kind in dict.fromkeys(type(sample.target) for sample in samples):
        _add_all(baselines, benchmark, [sample for sample in samples if type(sample.target) is kind], train)
    return baselines


def _add_all(
    baselines: Baselines, benchmark: Benchmark, samples: Sequence[Sample], train: Sequence[Sample] | None
) -> None:
    """Those of samples with one kind of target."""
    target = samples[0].target
    if isinstance(target, SpanTarget | GroundedChoiceTarget):
        _add_spans(baselines, benchmark, samples, train)
    if isinstance(target, ChoiceTarget | GroundedChoiceTarget | LabelTarget):
        _add_choices(baselines, benchmark, samples)
    if isinstance(target, GroundedChoiceTarget) and baselines.metrics["whole_video"] is not None:
        letter = majority_answer(samples)
        baselines.metrics["whole_video_and_majority_answer"] = _scored(
            benchmark, samples, lambda sample: GroundedAnswer(letter, (_whole(sample),))
        )
    if isinstance(target, BoxesTarget):
        baselines.metrics["copied_box"] = copied_box(benchmark, samples)
        baselines.notes["copied_box"] = "the given box in every frame"
    if isinstance(target, CaptionTarget):
        baselines.metrics["same_caption"] = None
        baselines.notes["same_caption"] = "one caption for every video takes a judge: score it with --predictions"


def copied_box(benchmark: Benchmark, samples: Sequence[Sample]) -> Means:
    """What the given box scores, once per instant."""

    def answer(sample: Sample) -> Any:
        assert isinstance(sample.target, BoxesTarget)
        box = ", ".join(map(repr, sample.target.boxes[0]))
        text = ", ".join([f"[{box}]"] * len(sample.target.boxes))
        return benchmark.parse(f"<answer>[{text}]</answer>", sample, untagged=False)

    means = _scored(benchmark, samples, answer)
    # A copied box is the same whether it is interpolated or answered for every frame.
    dense = {name.removesuffix("_interpolated"): mean for name, mean in means.items() if name.endswith("_interpolated")}
    return means | dense


def majority_answer(samples: Sequence[Sample]) -> str:
    """The answer that is right most often; of several, the first in alphabetical order."""
    answers = Counter(sample.target.answer for sample in samples)  # type: ignore[union-attr]
    return min(answers, key=lambda answer: (-answers[answer], answer))


def chance(sample: Sample) -> float:
    """The share of the sample's options that count as right."""
    target = sample.target
    if isinstance(target, LabelTarget):
        return 1.0 / len(target.choices)
    assert isinstance(target, ChoiceTarget | GroundedChoiceTarget)
    letters = LETTERS[: len(target.options)]
    return sum(same_option(letter, target.answer, target.options) for letter in letters) / len(letters)


def best_constant_interval(train: Sequence[Sample]) -> tuple[Callable[[float], Span], str]:
    """Duration -> the one answer with the highest mean IoU on the training samples; and what it is in words.

    Either a share of every video or the same seconds in every video.
    """
    truths = [merge_spans(_true_spans(sample)) for sample in train]
    durations = [_duration(sample) for sample in train]
    share, seconds = constant_spans(truths, durations)

    def in_shares(duration: float) -> Span:
        return Span(share.start * duration, share.end * duration)

    def in_seconds(duration: float) -> Span:
        return seconds.clipped(duration)

    def mean_iou(answer: Callable[[float], Span]) -> float:
        ious = [span_set_iou([answer(length)], spans) for spans, length in zip(truths, durations, strict=True)]
        return sum(ious) / len(ious)

    reached = {in_shares: mean_iou(in_shares), in_seconds: mean_iou(in_seconds)}
    best = max(reached, key=lambda answer: reached[answer])
    words = {
        in_shares: f"{share.start:.2f} to {share.end:.2f} of the duration",
        in_seconds: f"{seconds.start:.1f} to {seconds.end:.1f} seconds",
    }
    return best, f"{words[best]}, mean IoU {reached[best]:.4f} on the training samples"


def _add_spans(
    baselines: Baselines, benchmark: Benchmark, samples: Sequence[Sample], train: Sequence[Sample] | None
) -> None:
    baselines.metrics |= {"whole_video": None, "best_constant_interval": None}
    if not all(_duration(sample) > 0.0 for sample in samples):
        baselines.notes |= {"whole_video": NO_DURATIONS, "best_constant_interval": NO_DURATIONS}
        return
    baselines.metrics["whole_video"] = _scored(
        benchmark, samples, lambda sample: _span_answer(sample, _whole(sample)), leave_out=_NOT_SPAN_METRICS
    )
    baselines.notes["whole_video"] = "from 0 to the duration"
    if train is None:
        baselines.notes["best_constant_interval"] = NO_TRAIN_ANNOTATIONS
        return
    if not all(_duration(sample) > 0.0 for sample in train):
        baselines.notes["best_constant_interval"] = f"of the training split {NO_DURATIONS}"
        return
    interval, baselines.notes["best_constant_interval"] = best_constant_interval(train)
    baselines.metrics["best_constant_interval"] = _scored(
        benchmark,
        samples,
        lambda sample: _span_answer(sample, interval(_duration(sample))),
        leave_out=_NOT_SPAN_METRICS,
    )


def _add_choices(baselines: Baselines, benchmark: Benchmark, samples: Sequence[Sample]) -> None:
    answer = majority_answer(samples)
    parsed = GroundedAnswer(answer, ()) if isinstance(samples[0].target, GroundedChoiceTarget) else answer
    baselines.metrics["majority_answer"] = _scored(benchmark, samples, lambda sample: parsed, only=_CHOICE_METRICS)
    baselines.notes["majority_answer"] = f"always {answer}, the most frequent right answer of these annotations"
    expected = [{"accuracy": chance(sample)} for sample in samples]
    baselines.metrics["random_choice"] = ScoreTable.of(expected, benchmark.weights(samples)).means()
    baselines.notes["random_choice"] = "expected accuracy of a uniform choice"


def _scored(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    answer: Callable[[Sample], Any],
    *,
    only: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
) -> Means:
    rows = [benchmark.score(answer(sample), sample) for sample in samples]
    means = ScoreTable.of(rows, benchmark.weights(samples)).means()
    unwanted = (*leave_out, "parse_rate")
    return {name: mean for name, mean in means.items() if name not in unwanted and (only is None or name in only)}


def _span_answer(sample: Sample, span: Span) -> Any:
    return GroundedAnswer(None, (span,)) if isinstance(sample.target, GroundedChoiceTarget) else span


def _duration(sample: Sample) -> float:
    assert isinstance(sample.target, SpanTarget | GroundedChoiceTarget)
    return sample.target.duration


def _whole(sample: Sample) -> Span:
    return Span(0.0, _duration(sample))


def _true_spans(sample: Sample) -> tuple[Span, ...]:
    assert isinstance(sample.target, SpanTarget | GroundedChoiceTarget)
    return (sample.target.span,) if isinstance(sample.target, SpanTarget) else sample.target.spans
