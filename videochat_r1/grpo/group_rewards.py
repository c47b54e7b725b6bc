"""Rewards of a rollout that depend on how right the others of its group are: the bonuses of Video-R1.

They are called as every reward is, with rows in whole groups. What they look at is the accuracy that the recipe's own rewards
give, not weighted.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.bonuses import BonusOptions, LengthBonus, TemporalContrast
from videochat_r1.grpo.reward_calls import is_async, read_rewards
from videochat_r1.options import nearest
from videochat_r1.rewards import REWARDS, RewardFunction
from videochat_r1.sample import Sample
from videochat_r1.tasks import TASKS

OptionsT = TypeVar("OptionsT", bound=BonusOptions)
Accuracy = Sequence[float | None]

# Equal means can differ by their rounding.
_ROUNDING = 1e-9


class GroupReward(Generic[OptionsT]):
    """A reward function of a recipe's bonus: 0.0 or the bonus; None for rollouts that have no accuracy.

    Args:
        options: of the bonus.
        rewards: the recipe's; those that the options name say how right a rollout is.

    Raises:
        ConfigError: the options name a reward that the recipe does not have, or that asks a judge.
    """

    name: ClassVar[str]

    def __init__(self, options: OptionsT, rewards: Sequence[RewardFunction]) -> None:
        self.options = options
        # As logs show it.
        self.__name__ = self.name
        known = {reward.__name__: reward for reward in rewards}
        for name in options.accuracy:
            if name not in known:
                raise ConfigError(
                    f"{options.WHERE}.accuracy names {name!r}, which is not among the recipe's rewards{nearest(name, known)}"
                )
            if is_async(known[name]):
                raise ConfigError(
                    f"{options.WHERE}.accuracy names {name!r}, which asks a judge: rollouts that nothing is learned from "
                    "would be judged too. Name a reward that is computed here"
                )
        self._rewards = {name: known[name] for name in options.accuracy}

    def __call__(self, completions: Sequence[str], **columns: Any) -> Accuracy:
        """As a reward function."""
        # A true answer among the rollouts says nothing of how right the policy is.
        found = zip(self.accuracy_of(completions, columns), columns["truth"], strict=True)
        accuracy = [None if is_truth else value for value, is_truth in found]
        given: list[float | None] = []
        for begin, end in _groups(columns["generation"]):
            part = {name: columns[name][begin:end] for name in ("completion_ids", "shuffled_accuracy")}
            given += self.of_group(accuracy[begin:end], {**part, "log_metric": columns["log_metric"]})
        return given

    def of_group(self, accuracy: Accuracy, columns: Mapping[str, Any]) -> Accuracy:
        """The reward of each rollout of a group.

        Args:
            accuracy: of each.
            columns: `completion_ids` of each; `shuffled_accuracy`, for each that of the group's shuffled rollouts, or None where
                there are none; and TRL's `log_metric`.
        """
        raise NotImplementedError

    def check_tasks(self, samples: Sequence[Sample]) -> None:
        """Answers of every task must have an accuracy, or they could never earn the bonus.

        Raises:
            ConfigError: naming the tasks; a user's own reward may serve any task, so its presence settles it.
        """
        where, names = self.options.WHERE, self.options.accuracy
        if any(name not in REWARDS for name in names):
            return
        tasks = sorted({sample.task for sample in samples})
        if without := [task for task in tasks if not set(TASKS[task].reward_names) & set(names)]:
            raise ConfigError(
                f"{where} asks how right answers are, which none of {names} says of {without}: list a reward of theirs under "
                f"{where}.accuracy, or leave these tasks out of the mixture"
            )

    def accuracy_of(self, completions: Sequence[str], columns: Mapping[str, Any]) -> Accuracy:
        """How right each completion is; None where no named reward applies to it, or it could not be found out.

        Args:
            completions: as rewards read them.
            columns: what else reward functions are called with; nothing that they log is kept.
        """
        unlogged = {**columns, "log_extra": _forget, "log_metric": _forget}
        found: list[float | None] = [None] * len(completions)
        for name, reward in self._rewards.items():
            values = read_rewards(reward(completions=completions, **unlogged), name, len(completions))
            found = [value if before is None else before for before, value in zip(found, values, strict=True)]
        return [value if value == value else None for value in found]

    def _correct(self, accuracy: Accuracy) -> list[bool]:
        return [value is not None and value > self.options.correct_above for value in accuracy]

    def _paid(self, accuracy: Accuracy, earned: Sequence[bool]) -> Accuracy:
        return [
            None if value is None else self.options.bonus * earns for value, earns in zip(accuracy, earned, strict=True)
        ]


class TemporalBonus(GroupReward[TemporalContrast]):
    """What correct rollouts of a group earn where it is about as accurate as the group of the shuffled frames; None for pictures.

    `temporal_contrast/fired` is logged, the share of the groups with a video where it is, and both compared accuracies.
    """

    name = "temporal"

    @property
    def generations(self) -> int:
        """Rollouts of the shuffled frames."""
        assert self.options.shuffled_generations is not None
        return self.options.shuffled_generations

    def of_group(self, accuracy: Accuracy, columns: Mapping[str, Any]) -> Accuracy:
        """See `GroupReward`."""
        ordered, shuffled = self.compared(accuracy), self.compared(columns["shuffled_accuracy"][0] or [])
        if ordered is None or shuffled is None:
            return [None] * len(accuracy)
        fires = ordered >= self.options.factor * shuffled - _ROUNDING
        for name, value in (("fired", float(fires)), ("accuracy", ordered), ("shuffled_accuracy", shuffled)):
            columns["log_metric"](f"{self.options.WHERE}/{name}", value)
        return self._paid(accuracy, [fires and right for right in self._correct(accuracy)])

    def compared(self, accuracy: Accuracy) -> float | None:
        """The number of a group that is compared; None where no rollout has an accuracy."""
        known = [value for value in accuracy if value is not None]
        if not known:
            return None
        return statistics.fmean(known if self.options.compare == "mean" else self._correct(known))


class LengthReward(GroupReward[LengthBonus]):
    """What correct rollouts earn whose length is within the band, where the group has enough correct ones."""

    name = "length_bonus"

    def of_group(self, accuracy: Accuracy, columns: Mapping[str, Any]) -> Accuracy:
        """See `GroupReward`."""
        correct = self._correct(accuracy)
        enough = sum(correct) >= self.options.min_correct
        fits = [self.options.min_tokens <= len(ids) <= self.options.max_tokens for ids in columns["completion_ids"]]
        return self._paid(accuracy, [enough and right and fit for right, fit in zip(correct, fits, strict=True)])


_REWARDS: Mapping[type[BonusOptions], type[GroupReward[Any]]] = {
    TemporalContrast: TemporalBonus,
    LengthBonus: LengthReward,
}


def group_rewards(bonuses: Sequence[BonusOptions], rewards: Sequence[RewardFunction]) -> list[GroupReward[Any]]:
    """The reward functions of a recipe's bonuses. Raises ConfigError, see `GroupReward`."""
    return [_REWARDS[type(options)](options, rewards) for options in bonuses]


def _groups(generations: Sequence[int]) -> Iterator[tuple[int, int]]:
    """[begin, end) of the groups in rows that are numbered from 0 within each."""
    begins = [index for index, generation in enumerate(generations) if generation == 0]
    return zip(begins, [*begins[1:], len(generations)], strict=True)


def _forget(name: str, value: Any) -> None:
    """A place for what is logged."""
