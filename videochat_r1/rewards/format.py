"""Format reward: the completion is what the prompt asked for and nothing else (paper 3.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.rewards.columns import typed_rows


def format(
    completions: Sequence[str],
    *,
    task: Sequence[str],
    target: Sequence[Mapping[str, Any]],
    thinking: Sequence[bool],
    **columns: Any,
) -> list[float | None]:
    """1.0 where the tags stand in order, with `<think>` exactly if it was asked for, and every payload can be read; else 0.0."""
    rows = zip(typed_rows(completions, task, target), thinking, strict=True)
    return [
        float(row_task.is_well_formed(completion, typed, thinking=thinks))
        if "format" in row_task.reward_names
        else None
        for (completion, row_task, typed), thinks in rows
    ]
