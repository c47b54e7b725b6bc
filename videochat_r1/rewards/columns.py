"""From the columns that a reward function receives to tasks and typed targets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from videochat_r1.errors import DataError
from videochat_r1.tasks import TASKS, Task


def typed_rows(
    completions: Sequence[str], task: Sequence[str], target: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Task[Any, Any], Any]]:
    """(completion, task, typed target) per completion.

    Raises:
        DataError: an unknown task, a malformed target, or columns of different lengths: data, not model text.
    """
    if not len(completions) == len(task) == len(target):
        raise DataError(f"{len(completions)} completions with {len(task)} tasks and {len(target)} targets")
    for completion, name, value in zip(completions, task, target, strict=True):
        if name not in TASKS:
            raise DataError(f"unknown task {name!r} in the column `task`; the tasks are {', '.join(TASKS)}")
        yield completion, TASKS[name], TASKS[name].target_from_json(value)
