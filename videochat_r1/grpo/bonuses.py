"""What a recipe says of the rewards that depend on a whole group: `temporal_contrast` and `length_bonus` (Video-R1)."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from videochat_r1.errors import ConfigError
from videochat_r1.options import fields_of, nearest


@dataclass(frozen=True, kw_only=True)
class BonusOptions:
    """Of both.

    Args:
        bonus: what a correct rollout can earn.
        correct_above: accuracy above which a rollout is correct.
        accuracy: rewards of the recipe that say how right an answer is; of a task, the first that it has.
    """

    WHERE: ClassVar[str]

    bonus: float
    correct_above: float
    accuracy: list[str] = field(default_factory=lambda: ["accuracy"])

    def __post_init__(self) -> None:
        self.check("bonus", math.isfinite(self.bonus) and self.bonus > 0.0, "a number above 0")
        self.check("correct_above", 0.0 <= self.correct_above < 1.0, "a number from 0 to below 1")
        self.check("accuracy", bool(self.accuracy), "at least one reward")

    def check(self, name: str, holds: bool, expected: str) -> None:
        """Raises ConfigError unless it holds."""
        if not holds:
            raise ConfigError(f"{self.WHERE}.{name} is {getattr(self, name)!r}; expected {expected}")


@dataclass(frozen=True, kw_only=True)
class TemporalContrast(BonusOptions):
    """Correct rollouts of a video earn the bonus where the group is about as accurate as one that sees the frames in another
    order.

    Args:
        preset: of `PRESETS`, whose values the others begin from.
        factor: the group has to be at least so many times as accurate as the shuffled one.
        compare: the groups' mean accuracy, or their share of correct rollouts.
        shuffled_generations: rollouts of the shuffled frames; None for half of `num_generations`.
    """

    WHERE: ClassVar = "temporal_contrast"
    NAMED_BY: ClassVar = "preset"

    preset: str = "release"
    factor: float
    compare: Literal["mean", "share"]
    shuffled_generations: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("factor", math.isfinite(self.factor) and self.factor >= 0.0, "a number from 0")
        count = self.shuffled_generations
        self.check("shuffled_generations", count is None or count >= 1, "at least 1, or null")


@dataclass(frozen=True, kw_only=True)
class LengthBonus(BonusOptions):
    """Correct rollouts of a length within the band earn the bonus.

    Args:
        min_tokens: least tokens of a completion, the ending one included.
        max_tokens: most of them.
        min_correct: correct rollouts that a group must have for any to earn it.
    """

    WHERE: ClassVar = "length_bonus"

    bonus: float = 0.2
    correct_above: float = 0.1
    min_tokens: int = 320
    max_tokens: int = 512
    min_correct: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("min_tokens", 1 <= self.min_tokens <= self.max_tokens, f"1 to max_tokens={self.max_tokens}")
        self.check("min_correct", self.min_correct >= 1, "at least 1")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "release": {"bonus": 0.3, "factor": 0.8, "correct_above": 0.1, "compare": "mean"},
    "paper": {"bonus": 0.3, "factor": 1.0, "correct_above": 0.5, "compare": "share"},
}
"""Of `TemporalContrast`. An accuracy of right or wrong is 1 or 0, so that "above 0.5" means right there, as in the paper."""


def temporal_contrast(value: Any, num_generations: int) -> TemporalContrast | None:
    """The options in a recipe: None for null, a preset's name, or a mapping, which begins from its `preset` (`release`).

    Raises:
        ConfigError: no such preset, an unknown key, or a value that cannot work.
    """
    if value is None:
        return None
    given = {TemporalContrast.NAMED_BY: value} if isinstance(value, str) else value
    preset = given.get("preset", "release") if isinstance(given, Mapping) else "release"
    if preset not in PRESETS:
        raise ConfigError(f"temporal_contrast has no preset {preset!r}{nearest(preset, PRESETS)}")
    options = TemporalContrast(**{**PRESETS[preset], **fields_of(given, TemporalContrast, TemporalContrast.WHERE)})
    shuffled = options.shuffled_generations or max(1, num_generations // 2)
    return dataclasses.replace(options, shuffled_generations=shuffled)


def length_bonus(value: Any, num_generations: int, max_completion_length: int | None) -> LengthBonus | None:
    """The options in a recipe: None for null, else a mapping.

    Raises:
        ConfigError: an unknown key, or a value with which no rollout could ever earn it.
    """
    if value is None:
        return None
    options = LengthBonus(**fields_of(value, LengthBonus, LengthBonus.WHERE))
    longest = max_completion_length
    within = longest is None or options.min_tokens <= longest
    options.check("min_tokens", within, f"at most max_completion_length={longest}")
    enough = options.min_correct <= num_generations
    options.check("min_correct", enough, f"at most num_generations={num_generations}")
    return options
