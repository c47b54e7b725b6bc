"""What the paper claims, as differences between two models asked the same, and what this miniature says to each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

MARGIN = 0.02
"""A difference that is certainly smaller than this counts as none."""

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
    """(seeds, questions) of after minus before, of the seeds that both have.

    Raises:
        ValueError: they were not asked the same number of questions.
    """
    seeds = min(len(after), len(before))
    return np.subtract(after[:seeds], before[:seeds], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Part:
    """A table of the paper: its title and its claims."""

    title: str
    claims: tuple[Claim, ...]


def _read(path: Path) -> dict[str, Part]:
    parts = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: Part(entry["title"], tuple(_claim(**claim) for claim in entry["claims"])) for name, entry in parts.items()
    }


def _claim(*, after: str, before: str, metric: str, **others: Any) -> Claim:
    arm, asked = after.split("/")
    other, _, other_asked = before.partition("/")
    return Claim(after=Asked(arm, asked, metric), before=Asked(other, other_asked or asked, metric), **others)


PARTS = _read(Path(__file__).with_name("claims.yaml"))


def numbers(part: str) -> list[Asked]:
    """All that a part's claims need, each once."""
    return list(dict.fromkeys(each for claim in PARTS[part].claims for each in (claim.after, claim.before)))
