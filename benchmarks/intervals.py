"""Means with their intervals, as benchmarks of several seeds tell them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def interval(values: NDArray[np.float64], num_resamples: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean of (seeds, questions) and its 95 % bootstrap interval, seeds and questions drawn again, each on their own.

    One row is as if there were no other seed: the interval then says how far other questions would move the mean.
    """
    generator = np.random.default_rng(seed)
    num_seeds, num_questions = values.shape
    means = np.empty(num_resamples)
    for index in range(num_resamples):
        rows = values[generator.integers(0, num_seeds, num_seeds)].mean(axis=0)
        means[index] = rows[generator.integers(0, num_questions, num_questions)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def percent(values: Sequence[float], sign: str = "") -> str:
    """A mean with its interval, in percent."""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in values)
    return f"{mean} [{low}, {high}]"
