"""Means over a benchmark's samples, and how sure they are: bootstrap intervals, paired where two models answered the same."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000

# Index matrices are drawn in blocks of about this many entries, which bounds memory at any number of samples.
_BLOCK_ENTRIES = 4_000_000


def mean_scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Task -> metric -> mean of the rows' `scores`; a failed sample is a row of zeros and counts like any other. A score of None
    counts in no mean.

    Raises:
        ValueError: rows of one task that do not have the same metrics.
    """
    return {
        task: {metric: float(np.mean(values)) for metric, values in columns.items()}
        for task, columns in score_columns(rows).items()
    }


def score_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Task -> metric -> one value per row that has one, in the order of the rows; no metric without any.

    Raises:
        ValueError: rows of one task that do not have the same metrics.
    """
    columns: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        task, scores = str(row["task"]), row["scores"]
        of_task = columns.setdefault(task, {metric: [] for metric in scores})
        if set(of_task) != set(scores):
            raise ValueError(
                f"sample {row['id']!r} of task {task} has the metrics {sorted(scores)}, others {sorted(of_task)}"
            )
        for metric, value in scores.items():
            of_task[metric] += [] if value is None else [float(value)]
    return {task: {metric: values for metric, values in of_task.items() if values} for task, of_task in columns.items()}


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Percentile interval of the mean when samples are drawn again with replacement.

    Raises:
        ValueError: no values.
    """
    means = _resampled_means(np.asarray(values, dtype=np.float64), seed, num_resamples)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def paired_interval(
    after: Mapping[str, float], before: Mapping[str, float], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float]:
    """95 % bootstrap interval of mean(after - before) over samples that both answered.

    Args:
        after: sample id -> value.
        before: sample id -> value, of the same ids.
        seed: of the resampling.
        num_resamples: how many.

    Raises:
        ValueError: the two do not hold the same samples: a paired comparison would silently leave some out.
    """
    if set(after) != set(before):
        odd = sorted(set(after) ^ set(before))
        raise ValueError(f"{len(odd)} samples are in one of the two results only, first {odd[:10]}")
    differences = [after[key] - before[key] for key in sorted(after)]
    return bootstrap_interval(differences, seed=seed, num_resamples=num_resamples)


def by_sample(rows: Iterable[Mapping[str, Any]], task: str, metric: str) -> dict[str, float]:
    """Sample id -> its value of one metric of one task, of those that have one."""
    values = {str(row["id"]): row["scores"][metric] for row in rows if row["task"] == task}
    return {name: float(value) for name, value in values.items() if value is not None}


def _resampled_means(values: NDArray[np.float64], seed: int, num_resamples: int) -> NDArray[np.float64]:
    if len(values) == 0:
        raise ValueError("an interval needs at least one value")
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    block = max(1, _BLOCK_ENTRIES // len(values))
    for begin in range(0, num_resamples, block):
        end = min(begin + block, num_resamples)
        means[begin:end] = values[generator.integers(0, len(values), (end - begin, len(values)))].mean(axis=1)
    return means
