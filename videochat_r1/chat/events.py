"""What happens while a question is answered, in order: waiting, preparing, and for every pass what it saw, wrote and meant.

    Waiting*  Preparing*  (Saw Text* PassDone)+  Done      or at any place  Problem

Every event has a JSON form for the page, `{"event": name, ...}`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

Step = Literal["reading", "encoding", "looking_again"]


@dataclass(frozen=True, slots=True)
class _Event:
    name: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The event's name and its fields."""
        return {"event": self.name, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Waiting(_Event):
    """Others are first; comes again whenever the place changes, and not at all where nobody is.

    Args:
        place: questions that are answered before this one, at least 1.
    """

    name: ClassVar[str] = "waiting"
    place: int


@dataclass(frozen=True, slots=True)
class Preparing(_Event):
    """What is done before the model writes: `reading` the file, `encoding` what it shows, or `looking_again` at clues."""

    name: ClassVar[str] = "preparing"
    what: Step


@dataclass(frozen=True, slots=True)
class Saw(_Event):
    """What a pass is shown.

    Args:
        number: of the pass, from 0.
        look: as `second_look.view.Look` tells it.
    """

    name: ClassVar[str] = "saw"
    number: int
    look: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Text(_Event):
    """What the model has written since the last event of this kind; never half a character.

    Args:
        number: of the pass.
        piece: to put behind the earlier ones.
    """

    name: ClassVar[str] = "text"
    number: int
    piece: str


@dataclass(frozen=True, slots=True)
class PassDone(_Event):
    """A pass has ended.

    Args:
        number: of the pass.
        completion: all that the model wrote; replaces the pieces.
        thought: what it thought; None where it did not.
        answer: for people; None where none can be read.
        choice: place of the chosen option, from 0; None without options, or where none can be read.
        clues: [start, end] in seconds of the whole video: a found moment, or the parts that show the answer.
        boxes: [left, top, right, bottom] in fractions of the frame, or None where one cannot be read; None if not asked for.
        box_times: seconds of each box.
        truncated: whether the length limit cut it off.
    """

    name: ClassVar[str] = "pass_done"
    number: int
    completion: str
    thought: str | None
    answer: str | None
    choice: int | None = None
    clues: tuple[tuple[float, float], ...] = ()
    boxes: tuple[tuple[float, float, float, float] | None, ...] | None = None
    box_times: tuple[float, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Done(_Event):
    """The question is answered.

    Args:
        answered_by: number of the pass whose answer stands.
        answer: that answer; None where none can be read.
        note: why there was no further pass although there was a clue; None otherwise.
    """

    name: ClassVar[str] = "done"
    answered_by: int
    answer: str | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Problem(_Event):
    """The question is not answered; the conversation stands as before it.

    Args:
        sentence: what is the matter and what to do, for people; names no folder of this machine.
    """

    name: ClassVar[str] = "problem"
    sentence: str


Event = Waiting | Preparing | Saw | Text | PassDone | Done | Problem
