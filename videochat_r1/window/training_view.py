"""How a training run went, as the page draws it: curves, a map of its groups, and what to look at in words."""

from collections.abc import Mapping
from typing import Any

from videochat_r1.grpo.alarms import UPDATES, alarms, with_example
from videochat_r1.grpo.tally import READ
from videochat_r1.window.index import Index
from videochat_r1.window.query import Query
from videochat_r1.window.runs import Run

_MOST_POINTS = 250
_MOST_CELLS = 6000
_METRICS = {
    "kl": "KL to the reference",
    "loss": "loss",
    "grad_norm": "norm of the gradient",
    "entropy": "entropy",
    "learning_rate": "learning rate",
    "step_time": "seconds of an update",
    "time/video_wait": "seconds waited for videos",
    "time/judge_wait": "seconds waited for the judge",
    "sampling/sampling_logp_difference/mean": "sampler and trainer apart, in log-probability",
}
"""Of all that is logged, what has a curve; tasks have their own."""


def training_view(run: Run) -> dict[str, Any]:
    """What the page is sent: of each task its curves, of the run its metrics, cells of the map, and alarms."""
    index = run.index
    return {
        "tasks": index.curves(_MOST_POINTS),
        "metrics": {
            title: _thinned(run.metrics.values[name])
            for name, title in _METRICS.items()
            if run.metrics.values.get(name)
        },
        "cells": index.spreads(_MOST_CELLS),
        "alarms": [sentence for task in index.distinct("task") for sentence in _alarms(index, task)],
    }


def _alarms(index: Index, task: str) -> list[str]:
    told = alarms(task, index.latest(task, UPDATES))
    if READ in told:
        [latest, *_] = index.rows(Query(task=task, flags=("unparsable",), order="newest"), 0, 1)
        told[READ] = with_example(told[READ], index.group(latest["number"]) or {"rollouts": []})
    return list(told.values())


def _thinned(column: Mapping[int, float]) -> list[tuple[int, float]]:
    """(step, value) in order, means of a few steps where there are too many."""
    points = sorted(column.items())
    width = -(-len(points) // _MOST_POINTS)
    pieces = [points[first : first + width] for first in range(0, len(points), width)]
    return [(piece[-1][0], sum(value for _, value in piece) / len(piece)) for piece in pieces]
