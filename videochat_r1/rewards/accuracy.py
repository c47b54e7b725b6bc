"""Accuracy reward: the right option, label or number, or how near a number or text is (paper 3.2; Video-R1)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.rewards.columns import typed_rows
from videochat_r1.rewards.video_r1 import release_accuracy


def accuracy(
    completions: Sequence[str],
    *,
    task: Sequence[str],
    target: Sequence[Mapping[str, Any]],
    rule: str = "task",
    **columns: Any,
) -> list[float | None]:
    """In [0, 1], 1.0 or 0.0 of options, labels and numbers; None for tasks without any.

    Option `rule`: `task`, each task's own, or `video_r1`, that of Video-R1's release in the tasks that it has.

    Raises:
        ConfigError: another rule.
    """
    if rule not in RULES:
        raise ConfigError(f"accuracy: the rule is {rule!r}; expected one of {', '.join(RULES)}")
    rewards = []
    for completion, row_task, typed in typed_rows(completions, task, target):
        by_release = release_accuracy(completion, row_task.name, typed) if rule == "video_r1" else None
        rewards.append(
            row_task.accuracy(row_task.parse(completion, typed), typed) if by_release is None else by_release
        )
    return rewards


RULES = ("task", "video_r1")
