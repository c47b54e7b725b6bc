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
    NumberTarget,
    Sample,
    SpanTarget,
    TextTarget,
)
from videochat_r1.tasks.grounded_qa import GroundedAnswer

Means = dict[str, float | None]

_CHOICE_METRICS = ("accuracy",)
_ANSWERED = (ChoiceTarget, LabelTarget, NumberTarget, TextTarget)
_NOT_SPAN_METRICS = ("accuracy", "Acc@GQA")
NO_TRAIN_ANNOTATIONS = "needs the training annotations: --train-annotations PATH"
NO_TRAIN_SPANS = "the training annotations give no spans"
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
        samples: at least one; those that only a judge can score are left out.
        train: the training split of the same corpus, for the best constant interval; None if it is not at hand.
    """
    baselines = Baselines()
    if any(isinstance(sample.target, CaptionTarget) for sample in samples):
        baselines.metrics["same_caption"] = None
        baselines.notes["same_caption"] = "one caption for every video takes a judge: score it with --predictions"
    scored = [sample for sample in samples if not benchmark.is_judged(sample)]
    if not scored:
        return baselines
    target = scored[0].target
    if isinstance(target, SpanTarget | GroundedChoiceTarget):
        _add_spans(baselines, benchmark, scored, train)
    if isinstance(target, GroundedChoiceTarget):
        _add_grounded(baselines, benchmark, scored)
    elif isinstance(target, BoxesTarget):
        baselines.metrics["copied_box"] = copied_box(benchmark, scored)
        baselines.notes["copied_box"] = "the given box in every frame"
    elif all(isinstance(sample.target, _ANSWERED) for sample in scored):
        _add_answers(baselines, benchmark, scored)
    return baselines


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


def majority_answer(samples: Sequence[Sample]) -> Any:
    """The answer that is right most often, as the task parses it; of several, the least."""
    answers = Counter(_right_answer(sample) for sample in samples)
    return min(answers, key=lambda answer: (-answers[answer], answer))


def chance(sample: Sample) -> float:
    """The share of the sample's options that count as right; 0.0 where there are none to choose from."""
    target = sample.target
    if isinstance(target, NumberTarget | TextTarget):
        return 0.0
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
    known = [sample for sample in train or () if _true_spans(sample)]
    if not known:
        baselines.notes["best_constant_interval"] = NO_TRAIN_ANNOTATIONS if train is None else NO_TRAIN_SPANS
        return
    if not all(_duration(sample) > 0.0 for sample in known):
        baselines.notes["best_constant_interval"] = f"of the training split {NO_DURATIONS}"
        return
    interval, baselines.notes["best_constant_interval"] = best_constant_interval(known)
    baselines.metrics["best_constant_interval"] = _scored(
        benchmark,
        samples,
        lambda sample: _span_answer(sample, interval(_duration(sample))),
        leave_out=_NOT_SPAN_METRICS,
    )


def _add_grounded(baselines: Baselines, benchmark: Benchmark, samples: Sequence[Sample]) -> None:
    letter = majority_answer(samples)
    baselines.metrics["majority_answer"] = _scored(
        benchmark, samples, lambda sample: GroundedAnswer(letter, ()), only=_CHOICE_METRICS
    )
    baselines.notes["majority_answer"] = f"always {letter}, the most frequent right answer of these annotations"
    _add_chance(baselines, benchmark, samples, _CHOICE_METRICS)
    if baselines.metrics["whole_video"] is not None:
        baselines.metrics["whole_video_and_majority_answer"] = _scored(
            benchmark, samples, lambda sample: GroundedAnswer(letter, (_whole(sample),))
        )


def _add_answers(baselines: Baselines, benchmark: Benchmark, samples: Sequence[Sample]) -> None:
    """Of options, labels, numbers and texts: the most frequent one, of numbers and texts for each of the benchmark's tasks."""
    parts: dict[tuple[type, str], list[Sample]] = {}
    for sample in samples:
        parts.setdefault(_part(benchmark, sample), []).append(sample)
    answers = {part: majority_answer(own) for part, own in parts.items()}
    baselines.metrics["majority_answer"] = _scored(benchmark, samples, lambda sample: answers[_part(benchmark, sample)])
    said = [f"{answer!s:.40}{f' ({task})' if task else ''}" for (_, task), answer in answers.items()]
    baselines.notes["majority_answer"] = (
        f"always {', '.join(said)}, the most frequent right answer of these annotations"
    )
    if any(isinstance(sample.target, ChoiceTarget | LabelTarget) for sample in samples):
        linear = dict.fromkeys((*_CHOICE_METRICS, benchmark.headline(samples[0].task)))
        _add_chance(baselines, benchmark, samples, [name for name in linear if name not in benchmark.derived()])


def _add_chance(baselines: Baselines, benchmark: Benchmark, samples: Sequence[Sample], metrics: Sequence[str]) -> None:
    """Metrics that are means over samples of how right an answer is."""
    expected = [dict.fromkeys(metrics, chance(sample)) for sample in samples]
    baselines.metrics["random_choice"] = ScoreTable.of(expected, benchmark.weights(samples)).means()
    baselines.notes["random_choice"] = "expected accuracy of a uniform choice"


def _part(benchmark: Benchmark, sample: Sample) -> tuple[type, str]:
    """What one answer is given to: all questions with options or labels, the numbers and texts of one task."""
    if isinstance(sample.target, ChoiceTarget | LabelTarget):
        return type(sample.target), ""
    return type(sample.target), str(benchmark.groups(sample).get("task", ""))


def _right_answer(sample: Sample) -> Any:
    target = sample.target
    if isinstance(target, NumberTarget):
        return target.value
    assert isinstance(target, ChoiceTarget | GroundedChoiceTarget | LabelTarget | TextTarget)
    return target.answer


def _scored(
    benchmark: Benchmark,
    samples: Sequence[Sample],
    answer: Callable[[Sample], Any],
    *,
    only: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
) -> Means:
    rows = [benchmark.score(answer(sample), sample) for sample in samples]
    means = ScoreTable.of(rows, benchmark.weights(samples), benchmark.derived()).means()
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
