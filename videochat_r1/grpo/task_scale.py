"""`scale_rewards: task_ema`: rewards divided by the running deviation of their task (EMA-GRPO, arXiv 2512.03043)."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from videochat_r1.errors import ConfigError
from videochat_r1.options import fields_of

TASK_EMA = "task_ema"


@dataclass(frozen=True, kw_only=True)
class TaskEma:
    """How a task's deviation runs.

    Args:
        decay: what the rewards of earlier generations count less with each later one that has the task.
        guard: least deviation, so that a task of nearly equal rewards is not blown up.
    """

    decay: float = 0.99
    guard: float = 1e-3

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"task_ema.decay is {self.decay!r}; expected a number from 0 to below 1")
        if not 0.0 < self.guard < math.inf:
            raise ConfigError(f"task_ema.guard is {self.guard!r}; expected a number above 0")

    @classmethod
    def of(cls, given: Any, scale_rewards: Any) -> "TaskEma | None":
        """The options in a recipe; None where rewards are scaled in another way.

        Raises:
            ConfigError: no mapping, an unknown key, a value that cannot be, or options of what is not asked for.
        """
        fields = fields_of({} if given is None else given, cls, TASK_EMA, "a mapping of decay and guard, or null")
        if scale_rewards != TASK_EMA:
            if given:
                raise ConfigError(f"task_ema has options of scale_rewards: {TASK_EMA}, which is {scale_rewards!r}")
            return None
        return cls(**fields)


class TaskScale:
    """The deviation of each task's rewards over the answers of all generations so far, older ones counting less.

    Of a task, number, sum and sum of squares are multiplied by `decay` when a generation has it, and those of its answers added:
    a mean over everything at first, and with a task's usual number of answers the exponential moving average of both moments. Sums
    are exact to the last bit whatever the order of answers, so any number of processes has the same.
    """

    def __init__(self, options: TaskEma) -> None:
        self._options = options
        self._sums: dict[str, list[float]] = {}

    def learn(self, totals: Sequence[float], tasks: Sequence[str]) -> None:
        """Take in the rewards of a generation, over all processes; NaN for what has none."""
        by_task: dict[str, list[float]] = defaultdict(list)
        for task, total in zip(tasks, totals, strict=True):
            if not math.isnan(total):
                by_task[task].append(total)
        for task, values in by_task.items():
            before = self._sums.get(task, [0.0, 0.0, 0.0])
            added = (float(len(values)), math.fsum(values), math.fsum(value * value for value in values))
            self._sums[task] = [self._options.decay * old + new for old, new in zip(before, added, strict=True)]

    def deviation(self, task: str) -> float:
        """Of its rewards, at least the guard; 1.0 before any is known."""
        if task not in self._sums:
            return 1.0
        count, total, squares = self._sums[task]
        return max(math.sqrt(max(squares / count - (total / count) ** 2, 0.0)), self._options.guard)

    @property
    def deviations(self) -> dict[str, float]:
        """Of every task so far."""
        return {task: self.deviation(task) for task in sorted(self._sums)}

    def scaled(self, rewards: torch.Tensor, tasks: Sequence[str]) -> torch.Tensor:
        """The rewards (rows, functions) over their task's deviation."""
        deviations = torch.tensor([self.deviation(task) for task in tasks], dtype=torch.float64, device=rewards.device)
        return (rewards.double() / deviations.unsqueeze(1)).to(rewards.dtype)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {TASK_EMA: self._sums}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`; a run that scaled in another way before begins anew."""
        self._sums = {task: list(sums) for task, sums in state.get(TASK_EMA, {}).items()}
