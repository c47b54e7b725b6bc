"""The value of a reward that applies to a completion but could not be found out."""


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
