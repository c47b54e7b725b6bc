"""What a reward may give in place of a plain number: one that could not be found out, and one with what it rests on."""

from collections.abc import Mapping, Sequence
from typing import Any


class Unscored(float):
    """NaN with a reason. In a reward's list it stands for *unscored*, as None stands for *does not apply*.

    An unscored rollout leaves its group's mean and std and gets advantage 0, whatever its other rewards are.

    Args:
        reason: why, in a few words.
        stop: whether the source of the reward is gone, so that training should stop with a checkpoint.
    """

    reason: str
    stop: bool

    def __new__(cls, reason: str, *, stop: bool = False) -> "Unscored":
        """NaN with its reason."""
        value = super().__new__(cls, "nan")
        value.reason, value.stop = reason, stop
        return value


class Judged(float):
    """A reward with the verdicts that it rests on, which the log of rollouts keeps.

    Args:
        value: the reward.
        verdicts: by name, (what was judged, how) pairs.
    """

    verdicts: Mapping[str, Sequence[Any]]

    def __new__(cls, value: float, verdicts: Mapping[str, Sequence[Any]]) -> "Judged":
        """The number with its verdicts."""
        judged = super().__new__(cls, value)
        judged.verdicts = verdicts
        return judged
