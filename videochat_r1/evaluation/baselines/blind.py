"""The best answers that ignore the video: chosen on training samples, scored on the samples of a benchmark.

A model that does not beat them has learned the corpus, not to look. What is in the prompt may be used (the given box, the
wording of the question), the video's pixels may not. Spans also know the video's duration, which is generous.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from videochat_r1.errors import DataError
from videochat_r1.evaluation.metrics.bootstrap import mean_scores
from videochat_r1.geometry import Box, Span
from videochat_r1.sample import (
    LETTERS,
    BoxesTarget,
    ChoiceTarget,
    GroundedChoiceTarget,
    LabelTarget,
    NumberTarget,
    Sample,
    SpanTarget,
    TextTarget,
)
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.grounded_qa import GroundedAnswer

V = TypeVar("V")
Answer = Callable[[Sample], Any]
"""What a blind answerer says to a sample: a parsed answer of its task."""

GRID_STEPS = 20
"""Constant spans are searched on a grid of this many steps over the video, or over the longest training video."""


@dataclass(frozen=True, slots=True)
class BlindAnswer:
    """An answerer that never looks, with the name that tables give it."""

    name: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class BlindResult:
    """What the best blind answer reaches.

    Args:
        name: of the answerer.
        metrics: metric -> mean over the evaluated samples.
        candidates: name of every candidate -> its mean of the headline metric there.
    """

    name: str
    metrics: dict[str, float]
    candidates: dict[str, float]


def best_blind(train: Sequence[Sample], evaluated: Sequence[Sample], metric: str | None = None) -> BlindResult:
    """The candidate that is best on the training samples, scored on the evaluated ones; all of one task.

    Args:
        train: samples that the candidates are fitted to and chosen on.
        evaluated: samples that the result is about.
        metric: what "best" means; None for the task's headline.

    Raises:
        DataError: no samples, or of several tasks.
    """
    tasks = {sample.task for sample in (*train, *evaluated)}
    if len(tasks) != 1 or not train or not evaluated:
        raise DataError(f"a blind baseline needs training and evaluated samples of one task, got {sorted(tasks)}")
    (task,) = tasks
    metric = metric or TASKS[task].headline
    candidates = blind_answers(train)
    best = max(candidates, key=lambda candidate: mean_metrics(candidate.answer, train)[metric])
    reached = {candidate.name: mean_metrics(candidate.answer, evaluated) for candidate in candidates}
    return BlindResult(best.name, reached[best.name], {name: means[metric] for name, means in reached.items()})


def mean_metrics(answer: Answer, samples: Sequence[Sample]) -> dict[str, float]:
    """Metric -> mean over samples of one task when every question gets `answer(sample)`."""
    task = TASKS[samples[0].task]
    rows = [
        {"id": sample.id, "task": task.name, "scores": task.scores(answer(sample), sample.target)} for sample in samples
    ]
    return mean_scores(rows)[task.name]


def blind_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    """The candidates for the task of these samples, fitted to them.

    Raises:
        DataError: a task whose answers cannot be scored without a judge.
    """
    makers: Mapping[type, Callable[[Sequence[Sample]], list[BlindAnswer]]] = {
        SpanTarget: _span_answers,
        BoxesTarget: _box_answers,
        ChoiceTarget: _choice_answers,
        GroundedChoiceTarget: _grounded_answers,
        LabelTarget: _label_answers,
        NumberTarget: _number_answers,
        TextTarget: _text_answers,
    }
    make = makers.get(type(train[0].target))
    if make is None:
        raise DataError(f"there is no blind answer to the task {train[0].task}")
    return make(train)


# --- spans ----------------------------------------------------------------------------------------------------------


def constant_spans(truths: Sequence[Sequence[Span]], durations: Sequence[float]) -> tuple[Span, Span]:
    """The best span in fractions of the video and the best in seconds: largest mean IoU, searched over a grid.

    Args:
        truths: per sample its true spans (disjoint).
        durations: per sample the seconds of its video.
    """
    relative = _best_on_grid(truths, durations, np.asarray(durations))
    absolute = _best_on_grid(truths, durations, np.full(len(durations), max(durations)))
    return relative, Span(absolute.start * max(durations), absolute.end * max(durations))


def _best_on_grid(truths: Sequence[Sequence[Span]], durations: Sequence[float], scale: NDArray[np.float64]) -> Span:
    edges = np.linspace(0.0, 1.0, GRID_STEPS + 1)
    starts, ends = (corner.ravel() for corner in np.meshgrid(edges, edges, indexing="ij"))
    starts, ends = starts[starts < ends], ends[starts < ends]
    total = np.zeros(len(starts))
    for spans, duration, factor in zip(truths, durations, scale, strict=True):
        left, right = np.minimum(starts * factor, duration), np.minimum(ends * factor, duration)
        overlap = sum(np.clip(np.minimum(right, s.end) - np.maximum(left, s.start), 0.0, None) for s in spans)
        union = (right - left) + sum(s.length for s in spans) - overlap
        total += overlap / np.maximum(union, 1e-9)
    best = int(np.argmax(total))
    return Span(float(starts[best]), float(ends[best]))


def _span_constants(truths: Sequence[Sequence[Span]], durations: Sequence[float]) -> dict[str, Callable[[float], Span]]:
    relative, absolute = constant_spans(truths, durations)
    return {
        "whole video": lambda duration: Span(0.0, duration),
        f"{relative.start:.2f} to {relative.end:.2f} of the video": lambda duration: Span(
            relative.start * duration, relative.end * duration
        ),
        f"{absolute.start:.1f} to {absolute.end:.1f} s": lambda duration: absolute.clipped(duration),
    }


def _span_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    targets = [sample.target for sample in train if isinstance(sample.target, SpanTarget)]
    constants = _span_constants([[target.span] for target in targets], [target.duration for target in targets])

    def fixed(span: Callable[[float], Span]) -> Answer:
        return lambda sample: span(sample.target.duration)  # type: ignore[union-attr]

    return [BlindAnswer(name, fixed(span)) for name, span in constants.items()]


# --- boxes ----------------------------------------------------------------------------------------------------------


def _box_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    boxes = np.array([sample.target.boxes for sample in train if isinstance(sample.target, BoxesTarget)])
    given = np.concatenate([boxes[:, 0], np.ones((len(boxes), 1))], axis=1)
    # (5, 8 x 4): the expected boxes are an affine function of the given one.
    weights, *_ = np.linalg.lstsq(given, boxes.reshape(len(boxes), -1), rcond=None)
    mean = boxes.mean(axis=0)

    def copied(sample: Sample) -> list[Box]:
        return [sample.target.boxes[0]] * boxes.shape[1]  # type: ignore[union-attr]

    def expected(sample: Sample) -> list[Box]:
        first = sample.target.boxes[0]  # type: ignore[union-attr]
        later = (np.array([*first, 1.0]) @ weights).reshape(-1, 4)
        return [first, *(Box(*(float(value) for value in box)) for box in later[1:])]

    def average(sample: Sample) -> list[Box]:
        first = sample.target.boxes[0]  # type: ignore[union-attr]
        return [first, *(Box(*(float(value) for value in box)) for box in mean[1:])]

    return [
        BlindAnswer("the given box, copied", copied),
        BlindAnswer("the boxes expected from the given one", expected),
        BlindAnswer("the given box, then the average boxes", average),
    ]


# --- choices --------------------------------------------------------------------------------------------------------


def _majority(pairs: Sequence[tuple[str, V]]) -> Callable[[str], V]:
    """Key -> the most frequent value beside it; the overall favourite for a key never seen."""
    counts: dict[str, Counter[V]] = defaultdict(Counter)
    for key, value in pairs:
        counts[key][value] += 1
    overall = Counter(value for _, value in pairs).most_common(1)[0][0]
    return lambda key: counts[key].most_common(1)[0][0] if key in counts else overall


def _letter_rules(train: Sequence[Sample]) -> dict[str, Callable[[Sample], str]]:
    """Rules that name a letter: the favourite letter, the favourite text, and the favourite text to the same question."""

    def text(sample: Sample) -> str:
        target = sample.target
        assert isinstance(target, ChoiceTarget | GroundedChoiceTarget)
        return target.options[LETTERS.index(target.answer)]

    favourite = Counter(sample.target.answer for sample in train).most_common(1)[0][0]  # type: ignore[union-attr]
    rank = Counter(text(sample) for sample in train)
    of_query: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in train:
        of_query[sample.query][text(sample)] += 1

    def most(sample: Sample, counts: Mapping[str, int]) -> str:
        options = sample.target.options  # type: ignore[union-attr]
        best = max(range(len(options)), key=lambda index: counts.get(options[index], 0))
        return LETTERS[best]

    return {
        f"always {favourite}": lambda sample: favourite,
        "the most frequent answer among the options": lambda sample: most(sample, rank),
        "the most frequent answer to the same question": lambda sample: most(sample, of_query.get(sample.query, rank)),
    }


def _choice_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    return [BlindAnswer(name, rule) for name, rule in _letter_rules(train).items()]


def _grounded_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    targets = [s.target for s in train if isinstance(s.target, GroundedChoiceTarget) and s.target.spans]
    if not targets:
        return [BlindAnswer(name, _without_spans(rule)) for name, rule in _letter_rules(train).items()]
    spans = _span_constants([target.spans for target in targets], [target.duration for target in targets])
    task = TASKS["grounded_qa"]

    def mean_iou(span: Callable[[float], Span]) -> float:
        answers = [GroundedAnswer(None, (span(target.duration),)) for target in targets]
        return float(np.mean([task.iou(a, target) for a, target in zip(answers, targets, strict=True)]))

    clue_name, clue = max(spans.items(), key=lambda item: mean_iou(item[1]))

    def both(rule: Callable[[Sample], str]) -> Answer:
        return lambda sample: GroundedAnswer(rule(sample), (clue(sample.target.duration),))  # type: ignore[union-attr]

    return [BlindAnswer(f"{name}; {clue_name}", both(rule)) for name, rule in _letter_rules(train).items()]


def _without_spans(rule: Callable[[Sample], str]) -> Answer:
    return lambda sample: GroundedAnswer(rule(sample), ())


def _number_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    """The most frequent number and the middle one, of all questions and of those in the same words."""
    numbers = [sample.target.value for sample in train if isinstance(sample.target, NumberTarget)]
    by_query: dict[str, list[float]] = defaultdict(list)
    for sample, number in zip(train, numbers, strict=True):
        by_query[sample.query].append(number)
    middle = float(np.median(numbers))
    middles = {query: float(np.median(values)) for query, values in by_query.items()}
    return [
        *_same_answers(train, numbers),
        BlindAnswer(f"always {middle:g}, the middle", lambda sample: middle),
        BlindAnswer("the middle of the answers to the same question", lambda sample: middles.get(sample.query, middle)),
    ]


def _text_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    return _same_answers(train, [sample.target.answer for sample in train if isinstance(sample.target, TextTarget)])


def _same_answers(train: Sequence[Sample], truths: Sequence[Any]) -> list[BlindAnswer]:
    favourite = Counter(truths).most_common(1)[0][0]
    of_query = _majority([(sample.query, truth) for sample, truth in zip(train, truths, strict=True)])
    return [
        BlindAnswer(f"always {favourite!r:.40}", lambda sample: favourite),
        BlindAnswer("the most frequent answer to the same question", lambda sample: of_query(sample.query)),
    ]


def _label_answers(train: Sequence[Sample]) -> list[BlindAnswer]:
    favourite = _majority([(sample.query, sample.target.answer) for sample in train])  # type: ignore[union-attr]
    return [BlindAnswer("the most frequent label of the same instruction", lambda sample: favourite(sample.query))]
