"""Per-sample scores as one table: weighted means, bootstrap intervals, breakdowns. Letters: N samples, M metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Derived = Callable[[Mapping[str, Array]], Array]
"""Means by metric -> a metric computed from them; all of one shape."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """A metric is the weighted mean of its column.

    Args:
        names: the M metrics.
        values: (N, M).
        weights: (N, M), not negative. 1 everywhere for a plain mean; the number of frames for one that pools frames; one
            over the size of its group for a mean of group means.
        derived: metrics that are functions of the others' means instead.
    """

    names: tuple[str, ...]
    values: Array
    weights: Array
    derived: Mapping[str, Derived] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, float | None]],
        weights: Mapping[str, Sequence[float]] | None = None,
        derived: Mapping[str, Derived] | None = None,
    ) -> "ScoreTable":
        """The table of per-sample scores; a metric that any row has is 0 in the rows that lack it.

        Args:
            rows: metric -> score, one per sample; None weighs nothing.
            weights: metric -> one weight per sample; metrics without any are plain means.
            derived: see the class.
        """
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        values = np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=np.float64)
        values = values.reshape(len(rows), len(names))
        table = np.ones(values.shape)
        for column, name in enumerate(names):
            if weights is not None and name in weights:
                table[:, column] = weights[name]
        return cls(names, np.nan_to_num(values), np.where(np.isnan(values), 0.0, table), derived or {})

    def means(self) -> dict[str, float | None]:
        """Metric -> weighted mean; None where all weights are 0."""
        means = self._with_derived(_ratio((self.values * self.weights).sum(0), self.weights.sum(0)))
        return {name: float(mean) if np.isfinite(mean) else None for name, mean in zip(self.names, means, strict=True)}

    def intervals(self, resamples: int, seed: int, level: float = 0.95) -> dict[str, list[float] | None]:
        """Metric -> [low, high] of the percentile bootstrap over samples; None where the mean is None.

        Args:
            resamples: how often N samples are drawn with replacement; 0 gives None everywhere.
            seed: of the draws.
            level: share of the resampled means inside the interval.
        """
        num_samples = len(self.values)
        if resamples == 0 or num_samples == 0:
            return dict.fromkeys(self.names)
        weighted = self.values * self.weights
        both = np.concatenate([weighted, self.weights], axis=1)
        generator = np.random.default_rng(seed)
        sums = np.empty((resamples, both.shape[1]))
        for draw in range(resamples):
            times = np.bincount(generator.integers(0, num_samples, num_samples), minlength=num_samples)
            sums[draw] = times @ both
        means = self._with_derived(_ratio(sums[:, : len(self.names)], sums[:, len(self.names) :]))
        tail = (1.0 - level) / 2.0
        intervals: dict[str, list[float] | None] = {}
        for column, name in enumerate(self.names):
            drawn = means[:, column][np.isfinite(means[:, column])]
            intervals[name] = [float(edge) for edge in np.quantile(drawn, [tail, 1.0 - tail])] if drawn.size else None
        return intervals

    def by_group(self, labels: Sequence[str | tuple[str, ...] | None]) -> dict[str, dict[str, float | None]]:
        """Group -> its means with `num_samples`, groups in the order of their names or numbers.

        Args:
            labels: the group of each sample; a tuple for several, None for none.
        """
        own = [(label,) if isinstance(label, str) else label or () for label in labels]
        groups: dict[str, dict[str, float | None]] = {}
        for label in sorted({label for each in own for label in each}, key=_numbers_first):
            inside = np.array([label in each for each in own], dtype=bool)
            part = ScoreTable(self.names, self.values[inside], self.weights[inside], self.derived)
            groups[label] = {"num_samples": int(inside.sum()), **part.means()}
        return groups

    def _with_derived(self, means: Array) -> Array:
        """The means (..., M) with those of derived metrics computed from the others."""
        by_name = {name: means[..., column] for column, name in enumerate(self.names)}
        for name, function in self.derived.items():
            if name in by_name:
                means[..., self.names.index(name)] = function(by_name)
        return means


def harmonic_mean(first: Array, second: Array) -> Array:
    """Element by element; 0 where both are 0, NaN where one is NaN."""
    total = first + second
    result = np.where(np.isnan(total), np.nan, 0.0)
    return np.divide(2.0 * first * second, total, out=result, where=total > 0.0)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Element by element; NaN where nothing weighs."""
    result = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0.0)


def _numbers_first(label: str) -> tuple[float, str]:
    """Sorts 15, 60, 600 by value and before words."""
    return (float(label), label) if label.isdecimal() else (float("inf"), label)
