"""What can be asked in a conversation, checked before it is: free questions and templates of the project's tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from videochat_r1.errors import ConfigError, DataError, shown
from videochat_r1.geometry import Box
from videochat_r1.sample import LETTERS
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.text import whole

Ask = Literal["free", "moment", "track", "choice", "describe"]
"""A question of one's own; find a moment; track what a box shows; choose among options; describe."""

MOST_CHARACTERS = 4000
MOST_OPTION_CHARACTERS = 400
MOST_ROUNDS = 4
_MOST_BOOST, _MOST_PADDING = 8.0, 60.0
_SMALLEST_SIDE = 0.005
_SMOOTH = ("resolution_boost", "fps_boost", "padding")
_NEEDS_TEXT = {
    "free": "write a question",
    "moment": "write what happens at the moment that is to be found",
    "track": "write what the box shows",
    "choice": "write the question that the options answer",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Args:
        text: the question, what happens, or the name of the object; may be empty where the model is to describe.
        task: what kind of answer is wanted.
        options: to choose from; only of `choice`.
        box: of the object on the first frame, in fractions; only of `track`.
        thinking: whether the model is asked for a thought first.
        clue_perception: how to look again at the clues of the answer; None for one pass.

    Raises:
        DataError: what is the matter, as a sentence for people.
    """

    text: str
    task: Ask = "free"
    options: tuple[str, ...] = ()
    box: Box | None = None
    thinking: bool = False
    clue_perception: ClueOptions | None = None

    def __post_init__(self) -> None:
        if self.task not in get_args(Ask):
            raise DataError(f"the task is {shown(str(self.task))!r}; expected one of {', '.join(get_args(Ask))}")
        if not self.text.strip() and self.task in _NEEDS_TEXT:
            raise DataError(f"there is no text: {_NEEDS_TEXT[self.task]}")
        if len(self.text) > MOST_CHARACTERS:
            raise DataError(f"the text has {len(self.text):,} characters; at most {MOST_CHARACTERS:,} can be asked")
        self._check_options()
        self._check_box()
        self._check_clues()

    def _check_options(self) -> None:
        if self.task != "choice":
            if self.options:
                raise DataError("only a choice has options")
            return
        if not 2 <= len(self.options) <= len(LETTERS):
            raise DataError(f"a choice needs 2 to {len(LETTERS)} options, this one has {len(self.options)}")
        for letter, option in zip(LETTERS, self.options, strict=False):
            if not option.strip():
                raise DataError(f"option {letter} is empty")
            if len(option) > MOST_OPTION_CHARACTERS:
                raise DataError(f"option {letter} has {len(option):,} characters; at most {MOST_OPTION_CHARACTERS}")

    def _check_box(self) -> None:
        if (self.box is not None) != (self.task == "track"):
            raise DataError(
                "draw a box around the object on the first frame" if self.box is None else "only tracking has a box"
            )
        if self.box is None:
            return
        x0, y0, x1, y1 = self.box
        if not (0.0 <= x0 < x1 <= 1.0 and 0.0 <= y0 < y1 <= 1.0):
            raise DataError("the box does not lie inside the frame; draw it again")
        if min(x1 - x0, y1 - y0) < _SMALLEST_SIDE:
            raise DataError("the box is too small to show anything; draw a larger one")

    def _check_clues(self) -> None:
        clues = self.clue_perception
        if clues is None:
            return
        if self.task not in ("free", "choice"):
            raise DataError("a second look is taken at the clues of a free question or of a choice; leave it out here")
        if clues.rounds > MOST_ROUNDS or clues.padding > _MOST_PADDING:
            raise DataError(f"at most {MOST_ROUNDS} further looks, and {_MOST_PADDING:g} s around a clue")
        if max(clues.resolution_boost, clues.fps_boost) > _MOST_BOOST:
            raise DataError(f"a further look is at most {_MOST_BOOST:g} times as close")


def question_from_json(value: Any, clues: ClueOptions) -> Question:
    """The question of `{"text", "task", "options", "box", "thinking", "clue_perception"}`, of which all but `text` may be missing.

    Args:
        value: as the page sends it.
        clues: what `"clue_perception": true` means; an object replaces fields of it.

    Raises:
        DataError: what is the matter, as a sentence for people.
    """
    if not isinstance(value, Mapping):
        raise DataError("a question is a JSON object")
    known = [field.name for field in fields(Question)]
    if unknown := sorted(set(map(str, value)) - set(known)):
        raise DataError(f"a question has no {shown(unknown[0], 40)!r}; it has {', '.join(known)}")
    options = value.get("options") or []
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise DataError("options are a list of texts")
    text = value.get("text", "")
    if not isinstance(text, str):
        raise DataError("the text is no text")
    return Question(
        text=whole(text),
        task=value.get("task", "free"),
        options=tuple(map(whole, options)),
        box=_box(value.get("box")),
        thinking=_boolean(value.get("thinking", False), "thinking"),
        clue_perception=_clues(value.get("clue_perception"), clues),
    )


def _box(value: Any) -> Box | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(corner) for corner in value):
        raise DataError("a box is four numbers: left, top, right, bottom")
    return Box(*map(float, value))


def _clues(value: Any, clues: ClueOptions) -> ClueOptions | None:
    if value is None or isinstance(value, bool):
        return clues if value else None
    names = {field.name for field in fields(ClueOptions)}
    if not isinstance(value, Mapping) or not set(value) <= names:
        raise DataError(f"clue_perception is true, false or an object of {', '.join(sorted(names))}")
    for name, given in value.items():
        if name != "time" and not (_is_number(given) and (name in _SMOOTH or isinstance(given, int))):
            raise DataError(f"{name} of a second look is a {'' if name in _SMOOTH else 'whole '}number")
    try:
        return ClueOptions(
            **{field.name: value.get(field.name, getattr(clues, field.name)) for field in fields(ClueOptions)}
        )
    except ConfigError as error:
        raise DataError(str(error)) from error


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise DataError(f"{name} is true or false")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
