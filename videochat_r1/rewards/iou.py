"""IoU reward: overlap in time or on the frame with the truth (paper 3.2)."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.rewards.columns import typed_rows


def iou(
    completions: Sequence[str],
    *,
    task: Sequence[str],
    target: Sequence[Mapping[str, Any]],
    score_given_box: bool = True,
    **columns: Any,
) -> list[float | None]:
    """Overlap in [0, 1], 0.0 for an answer that cannot be read, None for tasks without time or boxes.

    Option `score_given_box`: whether tracking counts the first box, which the prompt shows, so that echoing it earns one
    part in as many as there are boxes (the paper's number counts it). A task is handed the options that its `iou` knows.
    """
    given = {"score_given_box": score_given_box}
    rewards = []
    for completion, row_task, typed in typed_rows(completions, task, target):
        known = inspect.signature(row_task.iou).parameters
        taken = {name: value for name, value in given.items() if name in known}
        rewards.append(row_task.iou(row_task.parse(completion, typed), typed, **taken))
    return rewards
