"""What a sample has to be measured at to be kept: `temporal_grounding:mIoU.std 0.05:0.3`, as the command line has it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from videochat_r1.errors import ConfigError, shown
from videochat_r1.text import as_number

# What adding up in another order can make of a mean.
_ROUNDING = 1e-9


@dataclass(slots=True)
class Spread:
    """The values of one metric over the answers to one sample, none of them kept."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, value: float) -> None:
        """Take one more answer's value in (Welford's sum of squares)."""
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)


STATISTICS: Mapping[str, Callable[[Spread], float | None]] = {
    "mean": lambda of: of.mean,
    "std": lambda of: math.sqrt(of.squares / (of.count - 1)) if of.count > 1 else None,
    "range": lambda of: of.highest - of.lowest if of.count > 1 else None,
    "min": lambda of: of.lowest,
    "max": lambda of: of.highest,
}
"""Of at least one value; None for the spread of a single answer. `std` has n - 1 below, as that of a group's rewards in training."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A statistic of a metric that has to lie in [low, high].

    Args:
        metric: a reward, `reward` for their weighted sum, or a metric of the task.
        statistic: one of `STATISTICS`.
        low: -infinity for none.
        high: infinity for none.
        task: whose samples it is about; None for those of every task that has the metric.
        text: as it was written.
    """

    metric: str
    statistic: str
    low: float
    high: float
    task: str | None
    text: str = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Of `[TASK:]METRIC[.STATISTIC] [LOW]:[HIGH]`.

        Raises:
            ConfigError: it is not of that form.
        """
        name, _, bounds = text.strip().rpartition(" ")
        written, colon, upper = bounds.partition(":")
        low, high = (as_number(written) if written else -math.inf), (as_number(upper) if upper else math.inf)
        if not name.strip() or not colon or low is None or high is None or math.isnan(low) or math.isnan(high):
            raise ConfigError(
                f"--keep {shown(text)!r}: expected [TASK:]METRIC[.STATISTIC] LOW:HIGH, of which either bound may be left out, "
                'such as "mIoU 0.1:0.9", "reward.std 0.05:" or "tracking:iou :0.8"'
            )
        if low > high:
            raise ConfigError(
                f"--keep {shown(text)!r}: no value lies from {low:g} to {high:g}; the lower bound comes first"
            )
        task, _, metric = name.strip().rpartition(":")
        plain, _, statistic = metric.rpartition(".")
        if not plain or statistic not in STATISTICS:
            plain, statistic = metric, "mean"
        return cls(plain, statistic, low, high, task or None, text)

    @property
    def column(self) -> str:
        """What the measured value is called in a manifest."""
        return self.metric if self.statistic == "mean" else f"{self.metric}.{self.statistic}"

    @property
    def label(self) -> str:
        """What messages call the value."""
        return self.column if self.task is None else f"{self.task}:{self.column}"

    def is_about(self, task: str) -> bool:
        """Whether samples of the task can be asked for it."""
        return self.task in (None, task)

    def why_not(self, value: float) -> str | None:
        """Why a value does not hold, as the head of a column; None if it does."""
        if value < self.low - _ROUNDING:
            return f"{self.column} < {self.low:g}"
        return f"{self.column} > {self.high:g}" if value > self.high + _ROUNDING else None
