"""What a recipe says of rollouts of several looks: `second_look`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from videochat_r1.errors import ConfigError
from videochat_r1.options import fields_of, nearest
from videochat_r1.sample import Sample, Video
from videochat_r1.second_look.options import ClueOptions, ClueTime
from videochat_r1.second_look.question import TASK, clue_question
from videochat_r1.training.sampler import SampleSource


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Which look is paid for what; rewards that are named nowhere pay each look for its own completion.

    Args:
        clue: rewards of the clues, which pay the looks whose clues are looked at.
        answer: rewards of the answer: the last look's, which pays all.
        share: of the answer's rewards that looks before the last get.
    """

    clue: list[str] = field(default_factory=lambda: ["iou"])
    answer: list[str] = field(default_factory=lambda: ["accuracy"])
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SecondLook:
    """A rollout answers, sees the clues of its answer again, closer, and answers again.

    Args:
        resolution_boost, fps_boost, max_tokens, rounds, padding: see `ClueOptions`.
        clue_time: its `time`.
        credit: which look is paid for what.
        fallback: what a rollout is paid for whose first answer names no valid clue: its first answer, or nothing for the answer.
    """

    WHERE: ClassVar = "second_look"

    resolution_boost: float = 2.0
    fps_boost: float = 2.0
    max_tokens: int | None = None
    clue_time: ClueTime = "absolute"
    rounds: int = 1
    padding: float = 1.0
    credit: Credit = field(default_factory=Credit)
    fallback: Literal["first_answer", "nothing"] = "first_answer"

    def __post_init__(self) -> None:
        if not 0.0 <= self.credit.share <= 1.0:
            raise ConfigError(f"second_look.credit.share is {self.credit.share}; expected a share from 0 to 1")
        if not self.credit.answer:
            raise ConfigError("second_look.credit.answer is empty; expected at least one reward")
        if both := sorted(set(self.credit.clue) & set(self.credit.answer)):
            raise ConfigError(f"second_look.credit names {both} under clue and answer; expected it under one of them")
        _ = self.clues

    @property
    def clues(self) -> ClueOptions:
        """How to look. Raises ConfigError: a value out of range."""
        try:
            return ClueOptions(
                self.resolution_boost, self.fps_boost, self.max_tokens, self.clue_time, self.rounds, self.padding
            )
        except ConfigError as error:
            raise ConfigError(f"second_look: {error}") from error

    @property
    def looks(self) -> int:
        """Most looks of a rollout."""
        return 1 + self.rounds

    def check_rewards(self, names: Sequence[str]) -> None:
        """Whether the recipe has the rewards that are to be credited. Raises ConfigError."""
        for part in ("clue", "answer"):
            for name in getattr(self.credit, part):
                if name not in names:
                    raise ConfigError(
                        f"second_look.credit.{part} names {name!r}, which is not among the recipe's rewards"
                        f"{nearest(name, names)}"
                    )


def second_look(value: Any) -> SecondLook | None:
    """The options in a recipe: None for null, else a mapping.

    Raises:
        ConfigError: an unknown key, or a value that cannot work.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = {**value, "credit": value.get("credit") or {}}
    given = fields_of(value, SecondLook, SecondLook.WHERE)
    credit = fields_of(given.pop("credit"), Credit, f"{SecondLook.WHERE}.credit", "a mapping")
    return SecondLook(**given, credit=Credit(**credit))


def looks_again(sample: Sample) -> bool:
    """Whether a sample's answers come with clues in a video."""
    return sample.task == TASK.name and isinstance(sample.media, Video)


class AskedForClues:
    """The samples of a source, of which questions with options about a video are asked for clues too; the others stay.

    Args:
        source: of the samples.

    Raises:
        ConfigError: none of them is such a question.
    """

    def __init__(self, source: SampleSource) -> None:
        self._source = source
        if not any(map(looks_again, self.samples(0))):
            raise ConfigError(
                f"second_look is for questions with options about a video ({TASK.name}, multi_choice_qa), and the mixture has "
                "none: add some, or leave second_look out"
            )

    def samples(self, epoch: int) -> list[Sample]:
        """See `SampleSource`."""
        return [_asked(sample) for sample in self._source.samples(epoch)]


def _asked(sample: Sample) -> Sample:
    is_question = sample.task == "multi_choice_qa" and isinstance(sample.media, Video)
    return clue_question(sample) if is_question else sample
