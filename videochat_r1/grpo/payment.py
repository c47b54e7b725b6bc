"""What rows are paid: the rewards that TRL makes its advantages of, where these are not what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from videochat_r1.grpo.rollout_log import Drawn
from videochat_r1.grpo.task_scale import TaskEma, TaskScale
from videochat_r1.grpo.truth import shaped


class Payment:
    """Shapes rewards for `truth_as_rollout` and divides them for `scale_rewards: task_ema`.

    Args:
        scale: options of the running deviations; None for TRL's ways.
        weights: of the reward functions.
        shape: whether true answers are among the rollouts.
    """

    def __init__(self, scale: TaskEma | None, weights: Sequence[float], *, shape: bool) -> None:
        self._scale = None if scale is None else TaskScale(scale)
        self._weights = torch.tensor(weights, dtype=torch.float64)
        self._shape = shape

    def left_to_trl(self, scale_rewards: str) -> str:
        """How TRL shall scale rewards: not at all where that is done here."""
        return scale_rewards if self._scale is None else "none"

    @property
    def differs(self) -> bool:
        """Whether anything is paid in another way than it was measured."""
        return self._shape or self._scale is not None

    def __call__(self, rewards: torch.Tensor, drawn: Sequence[Drawn]) -> tuple[torch.Tensor, dict[str, float]]:
        """What is paid, and `task_ema/{task}`, the deviations it was divided by.

        Args:
            rewards: (rows, functions) of all ranks, NaN for none.
            drawn: one per row; true answers say nothing of how a task's rewards vary.
        """
        paid = shaped(rewards) if self._shape else rewards
        if self._scale is None:
            return paid, {}
        totals = (paid.double() * self._weights.to(paid.device)).nansum(dim=1)
        known = ~paid.isnan().all(dim=1)
        learned = [index for index, one in enumerate(drawn) if known[index] and not one.columns["truth"]]
        tasks = [one.columns["task"] for one in drawn]
        self._scale.learn(totals[learned].tolist(), [tasks[index] for index in learned])
        metrics = {f"task_ema/{task}": deviation for task, deviation in self._scale.deviations.items()}
        return self._scale.scaled(paid, tasks), metrics

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {} if self._scale is None else self._scale.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        if self._scale is not None:
            self._scale.restore(state)
