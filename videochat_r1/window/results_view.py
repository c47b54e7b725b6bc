"""A scored benchmark as the page shows it, and what changed from one to another or from one update to a later one."""

from collections.abc import Mapping
from typing import Any

from videochat_r1.window.index import Index

_KEYS = (
    *("benchmark", "task", "headline", "num_samples", "num_failed", "num_unscored", "metrics", "ci95", "baselines"),
    *("baseline_notes", "by", "definitions", "ended"),
)
_BINS = 20
_MOST_LISTED = 200
_SAME = 1e-6

Means = Mapping[str, tuple[float, int, str]]
"""Sample -> mean reward (of an evaluation the headline's score), number of its group, task."""


def results_view(results: Mapping[str, Any], index: Index) -> dict[str, Any]:
    """What the page is sent of `results.json`: nothing of the settings but names, which are no paths."""
    failures = {kind: found["count"] for kind, found in results.get("failures", {}).items()}
    unscored = {reason: found["count"] for reason, found in (results.get("unscored") or {}).items()}
    about = {key: results[key] for key in _KEYS if key in results}
    judge = (results.get("judge") or {}).get("model")
    return {**about, "failures": failures, "unscored": unscored, "judge": judge, "histogram": index.values(_BINS)}


def changes(before: Means, after: Means, *, same_log: bool) -> dict[str, Any]:
    """Samples that are in both, by how much their mean changed: `learned`, `forgotten` (the largest change first), their `counts`.

    Args:
        before: what is compared with.
        after: what is looked at; rows name its groups.
        same_log: whether both are of one run, where a sample that was not drawn in between has the same group and is left out.
    """
    compared = [
        (
            after[sample][0] - mean,
            {"sample": sample, "task": task, "before": mean, "after": after[sample][0], "number": after[sample][1]},
        )
        for sample, (mean, number, task) in before.items()
        if sample in after and not (same_log and after[sample][1] == number)
    ]
    learned = sorted((row for row in compared if row[0] > _SAME), key=lambda row: -row[0])
    forgotten = sorted((row for row in compared if row[0] < -_SAME), key=lambda row: row[0])
    return {
        "learned": [row for _, row in learned[:_MOST_LISTED]],
        "forgotten": [row for _, row in forgotten[:_MOST_LISTED]],
        "counts": {"learned": len(learned), "forgotten": len(forgotten), "compared": len(compared)},
        "mean_change": sum(change for change, _ in compared) / len(compared) if compared else None,
    }
