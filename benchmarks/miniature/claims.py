"""What the paper claims, as differences between two models asked the same, and what this miniature says to each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MARGIN = 0.02
"""A difference that is certainly smaller than this counts as none."""
NUM_RESAMPLES = 4000

Expectation = Literal["more", "less", "same", "no less", "no more"]
Verdict = Literal["holds here", "does not hold here", "cannot be told at this size"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A number of a model: the arm that trained it, what it was asked, and the metric."""

    arm: str
    asked: str
    metric: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of the paper.

    Args:
        says: the sentence.
        paper: its figures, as text.
        gain: their difference in points; None where the paper has none.
        after: what should be more (less, the same) ...
        before: ... than this, asked the same questions.
        expects: what the paper finds of the difference.
    """

    says: str
    paper: str
    gain: float | None
    after: Asked
    before: Asked
    expects: Expectation


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean of (seeds, questions) and its 95 % bootstrap interval, seeds and questions drawn again, each on their own.

    One row is as if there were no other seed: the interval then says how far other questions would move the mean.
    """
    generator = np.random.default_rng(seed)
    num_seeds, num_questions = values.shape
    means = np.empty(NUM_RESAMPLES)
    for index in range(NUM_RESAMPLES):
        rows = values[generator.integers(0, num_seeds, num_seeds)].mean(axis=0)
        means[index] = rows[generator.integers(0, num_questions, num_questions)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def verdict(expects: Expectation, low: float, high: float, margin: float = MARGIN) -> Verdict:
    """What an interval of a difference says to a claim.

    `more` holds above 0 and not below `margin`; `no less` holds above -`margin` and not below 0; `less` and `no more` likewise
    on the other side; `same` holds within `margin` on both sides, and not where the interval has 0 outside of it and reaches
    beyond `margin`. Anything else cannot be told.
    """
    if expects in ("less", "no more"):
        return verdict("more" if expects == "less" else "no less", -high, -low, margin)
    if expects == "same":
        holds = -margin < low and high < margin
        fails = (low > 0.0 or high < 0.0) and not holds
    else:
        least = 0.0 if expects == "more" else -margin
        holds, fails = low > least, high < least + margin
    return "holds here" if holds else "does not hold here" if fails else "cannot be told at this size"


def difference(after: Sequence[Sequence[float]], before: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """(seeds, questions) of after minus before; a model without seeds (the start) stands beside each seed of the other.

    Raises:
        ValueError: they were not asked the same number of questions.
    """
    first, second = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    seeds = min(len(first), len(second)) if min(len(first), len(second)) > 1 else max(len(first), len(second))
    return np.broadcast_to(first[:seeds], (seeds, first.shape[1])) - np.broadcast_to(
        second[:seeds], (seeds, second.shape[1])
    )


def _claim(
    says: str, paper: str, gain: float | None, after: str, before: str, expects: Expectation, metric: str
) -> Claim:
    """`after` and `before` as `arm/asked`; of the second without a slash: the same questions. `metric` is that of both."""
    arm, asked = after.split("/")
    other, _, other_asked = before.partition("/")
    return Claim(says, paper, gain, Asked(arm, asked, metric), Asked(other, other_asked or asked, metric), expects)


_GROUND, _GROUND_3 = "grpo-grounding/grounding", "grpo-grounding-3/grounding"
_SHIFT = "grpo-grounding/shifted"

CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "a": (
        _claim(
            "GRPO grounds better than SFT, in domain", "mIoU 59.3, 46.3", 13.0, _GROUND, "sft-grounding", "more", "mIoU"
        ),
        _claim("and out of domain", "mIoU 30.7, 20.6", 10.1, _SHIFT, "sft-grounding", "more", "mIoU"),
        _claim("GRPO gains over the start out of domain", "mIoU 30.7, 21.1", 9.6, _SHIFT, "start", "more", "mIoU"),
        _claim("SFT gains nothing there", "mIoU 20.6, 21.1", -0.5, "sft-grounding/shifted", "start", "no more", "mIoU"),
        _claim(
            "GRPO costs no other ability",
            "VideoMME 72.6, 71.3",
            1.3,
            "grpo-grounding/general",
            "start",
            "no less",
            "accuracy",
        ),
        _claim(
            "SFT costs other abilities",
            "VideoMME: no answers; after tracking 59.2, 71.3",
            -12.1,
            "sft-grounding/general",
            "start",
            "less",
            "accuracy",
        ),
    ),
    "b": (
        _claim(
            "Three epochs of SFT are worse than one",
            "mIoU 34.6, 46.3",
            -11.7,
            "sft-grounding-3/grounding",
            "sft-grounding",
            "less",
            "mIoU",
        ),
        _claim(
            "also out of domain", "mIoU 17.3, 20.6", -3.3, "sft-grounding-3/shifted", "sft-grounding", "less", "mIoU"
        ),
        _claim(
            "Three epochs of GRPO are better than one",
            "mIoU 61.3, 59.3",
            2.0,
            _GROUND_3,
            "grpo-grounding",
            "more",
            "mIoU",
        ),
        _claim(
            "also out of domain",
            "R1@0.5 32.2, 27.5",
            4.7,
            "grpo-grounding-3/shifted",
            "grpo-grounding",
            "more",
            "R1@0.5",
        ),
        _claim(
            "and cost hardly any other ability",
            "VideoMME 70.9, 71.3",
            -0.4,
            "grpo-grounding-3/general",
            "start",
            "no less",
            "accuracy",
        ),
    ),
    "c": (
        _claim(
            "Joint training grounds better than training on grounding",
            "mIoU 60.8, 59.3",
            1.5,
            "grpo-joint/grounding",
            "grpo-grounding",
            "more",
            "mIoU",
        ),
        _claim("also out of domain", "mIoU 36.6, 30.7", 5.9, "grpo-joint/shifted", "grpo-grounding", "more", "mIoU"),
        _claim(
            "It answers better than training on questions",
            "accuracy 70.6, 68.7",
            1.9,
            "grpo-joint/clues",
            "grpo-clues",
            "more",
            "accuracy",
        ),
        _claim("though its clues are worse", "mIoU 32.4, 35.1", -2.7, "grpo-joint/clues", "grpo-clues", "less", "mIoU"),
        _claim(
            "It tracks better than training on tracking",
            "overlap 43.8, 42.5",
            1.3,
            "grpo-joint/tracking",
            "grpo-tracking",
            "more",
            "overlap",
        ),
        _claim(
            "It costs no other ability",
            "VideoMME 72.2, 71.3",
            0.9,
            "grpo-joint/general",
            "start",
            "no less",
            "accuracy",
        ),
        _claim(
            "Training on questions helps grounding",
            "mIoU 36.0, 29.0",
            7.0,
            "grpo-clues/grounding",
            "start",
            "more",
            "mIoU",
        ),
        _claim(
            "Training on grounding helps clues",
            "mIoU 31.4, 15.4",
            16.0,
            "grpo-grounding/clues",
            "start",
            "more",
            "mIoU",
        ),
    ),
    "d": (
        _claim(
            "With clues answers are about as right as without",
            "accuracy 68.7, 70.2",
            -1.5,
            "grpo-clues/clues",
            "grpo-letters/letters",
            "same",
            "accuracy",
        ),
        _claim("Clues have to be trained", "mIoU 35.1, 16.2", 18.9, "grpo-clues/clues", "grpo-letters", "more", "mIoU"),
        _claim(
            "GRPO answers better than SFT, both with clues",
            "accuracy 68.7, 64.8",
            3.9,
            "grpo-clues/clues",
            "sft-clues",
            "more",
            "accuracy",
        ),
        _claim("and has better clues", "mIoU 35.1, 28.2", 6.9, "grpo-clues/clues", "sft-clues", "more", "mIoU"),
        _claim(
            "Clues cost no other ability",
            "VideoMME 72.0, 71.7",
            0.3,
            "grpo-clues/general",
            "grpo-letters",
            "no less",
            "accuracy",
        ),
    ),
    "e": (
        _claim(
            "Thinking brings no clear gain",
            "mIoU 58.7, 59.3; joint 59.9, 60.8",
            -0.9,
            "grpo-thinking/thinking",
            _GROUND,
            "same",
            "mIoU",
        ),
        _claim(
            "nor out of domain", "joint mIoU 35.5, 36.6", -1.1, "grpo-thinking/shifted thinking", _SHIFT, "same", "mIoU"
        ),
        _claim(
            "Trained with thinking, it can be left out",
            "within 0.6",
            None,
            "grpo-thinking/grounding",
            "grpo-thinking/thinking",
            "same",
            "mIoU",
        ),
        _claim(
            "Trained without, it can be asked for",
            "within 0.6",
            None,
            "grpo-grounding/thinking",
            _GROUND,
            "same",
            "mIoU",
        ),
    ),
    "f": (
        _claim(
            "Either judge trains the same",
            "F1 37.9, 38.2",
            -0.3,
            "grpo-captions-hasty/captions",
            "grpo-captions-careful",
            "same",
            "F1",
        ),
        _claim(
            "GRPO with the first judge helps captions",
            "F1 38.2, 30.6",
            7.6,
            "grpo-captions-careful/captions",
            "start",
            "more",
            "F1",
        ),
        _claim("and with the second", "F1 37.9, 30.6", 7.3, "grpo-captions-hasty/captions", "start", "more", "F1"),
        _claim(
            "Precision gains though recall is rewarded",
            "45.4, 33.8",
            11.6,
            "grpo-captions-careful/captions",
            "start",
            "more",
            "precision",
        ),
        _claim("Recall gains", "33.1, 27.9", 5.2, "grpo-captions-careful/captions", "start", "more", "recall"),
    ),
    "g": (
        _claim(
            "Before GRPO a second look does not help",
            "64.4, 63.3; 56.0, 55.2",
            -1.0,
            "start/long, two looks",
            "start/long",
            "no more",
            "accuracy",
        ),
        _claim(
            "After GRPO it does",
            "63.6, 62.1; 58.2, 51.9",
            3.9,
            "grpo-joint/long, two looks",
            "grpo-joint/long",
            "more",
            "accuracy",
        ),
        _claim(
            "One look is no better after GRPO",
            "62.1, 64.4; 51.9, 56.0",
            -3.2,
            "grpo-joint/long",
            "start",
            "no more",
            "accuracy",
        ),
    ),
}
"""Part -> its claims; figures are those of the more first."""

TITLES = {
    "a": "GRPO against SFT (Tables 1 and 3)",
    "b": "One epoch or three (Table 3)",
    "c": "One task or three together (Table 2)",
    "d": "Answers with and without clues (Table 5)",
    "e": "Thinking in training and in tests (Tables 1 and 3)",
    "f": "Two judges (Table 7)",
    "g": "Clue-perception before and after GRPO (Table 8)",
}


def numbers(part: str) -> list[Asked]:
    """All that a part's claims need, each once."""
    return list(dict.fromkeys(each for claim in CLAIMS[part] for each in (claim.after, claim.before)))
