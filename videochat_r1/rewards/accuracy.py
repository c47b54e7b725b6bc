"""Accuracy reward: the right option or label was named (paper 3.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.rewards.columns import typed_rows


def accuracy(
    completions: Sequence[str],
    *,
    task: Sequence[str],
    target: Sequence[Mapping[str, Any]],
    **columns: Any,
) -> list[float | None]:
    """1.0 or 0.0; None for tasks without options or labels."""
    return [
        row_task.accuracy(row_task.parse(completion, typed), typed)
        for completion, row_task, typed in typed_rows(completions, task, target)
    ]
