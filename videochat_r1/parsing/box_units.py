"""The numbers that boxes are told in: fractions of the frame, as tasks speak, or what a checkpoint was trained with.

Tasks know fractions alone. Their prompts and gold answers are written in a checkpoint's units, and its answers are read back
into fractions, here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from videochat_r1.errors import ConfigError
from videochat_r1.parsing.boxes import BOX
from videochat_r1.parsing.numbers import UNSIGNED, parse_number
from videochat_r1.parsing.tags import outside_thoughts

BoxConvention = Literal["pixels", "thousandths"]
"""Boxes that a checkpoint speaks by nature: pixels of the resized frame, or 0 to 1000 of its width and height."""
BoxFormat = Literal["normalised", "pixels", "thousandths", "native"]
"""How a run speaks of boxes: in fractions, in one of the conventions, or in that of the model's family."""
BOX_FORMATS: tuple[BoxFormat, ...] = get_args(BoxFormat)

UNIT = "in fractions of the frame's width and height"
RANGE = "every number between 0 and 1"
"""What prompts say of fractions; in other units they say something else in its place."""

_THOUSAND = 1000
_NUMBER = re.compile(rf"[-+−]?{UNSIGNED}")
_CORNER = re.compile(
    rf"(?:([A-Za-z]\w{{0,20}})[\"']?\s*+[:=]\s*+[\"']?|(?<![\w.]))([-+−]?{UNSIGNED})(?![\w.])", re.ASCII
)
_GROUP = re.compile(r"([\[({【][^\[\](){}【】]*+[\])}】])")
_WIDE = str.maketrans("０１２３４５６７８９．，［］（）｛｝", "0123456789.,[](){}")
_ACROSS = re.compile(r"x.*|left|right|w|width", re.IGNORECASE)
_DOWN = re.compile(r"y.*|top|bottom|h|height", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BoxUnits:
    """Units of a convention in one frame.

    Args:
        width: what the frame's whole width is in them.
        height: what its whole height is.
        unit: stands in prompts for `UNIT`.
        range: stands in prompts for `RANGE`.
    """

    width: int
    height: int
    unit: str
    range: str

    @classmethod
    def of(cls, box_format: str, frame_size: tuple[int, int]) -> "BoxUnits | None":
        """The units of a convention; None for fractions.

        Args:
            box_format: all but `native`.
            frame_size: (width, height) of the frame that the model sees; thousandths do not depend on it.
        """
        if box_format == "thousandths":
            return cls(
                _THOUSAND,
                _THOUSAND,
                "in thousandths of the frame's width and height",
                "every number a whole one from 0 to 1000",
            )
        if box_format == "pixels":
            width, height = frame_size
            unit = f"in pixels of the frame, which is {width} pixels wide and {height} pixels high"
            return cls(width, height, unit, "every number in whole pixels")
        return None

    def write(self, text: str) -> str:
        """A task's prompt or answer with every box `[x0, y0, x1, y1]` in whole units."""
        told = text.replace(UNIT, self.unit).replace(RANGE, self.range)
        return BOX.sub(lambda box: _each(_NUMBER, box[0], self._to_units), told)

    def read(self, completion: str) -> str:
        """Model text with the numbers that may be corners, outside of thoughts, as fractions.

        What `parse_boxes` finds in it are the boxes that it finds in the completion, in fractions. Nothing else changes: no
        text becomes well formed or ill formed by it.
        """
        return outside_thoughts(completion, self._read)

    def _read(self, text: str) -> str:
        parts = _GROUP.split(text.translate(_WIDE))
        # Brackets stand at odd places.
        return "".join(self._corners(part) if place % 2 else self._bare(part) for place, part in enumerate(parts))

    def _bare(self, text: str) -> str:
        """Text without brackets: numbers alone, or lines that end in four."""
        if not re.search(r"[^\d\s.,;+\-−]", text):
            return self._corners(text)
        lines = [line.rpartition(":") for line in text.split("\n")]
        return "\n".join(f"{label}{colon}{self._corners(told, fewest=4)}" for label, colon, told in lines)

    def _corners(self, text: str, fewest: int = 2) -> str:
        """Text with its numbers as fractions if they are corners: two, or four of each box."""
        count = sum(_axis(match[1], 0) is not None for match in _CORNER.finditer(text))
        if count < fewest or (count > 2 and count % 4):
            return text
        return _each(_CORNER, text, self._to_fraction)

    def _to_units(self, match: re.Match[str], place: int) -> str | None:
        value = parse_number(match[0])
        return None if value is None else str(round(value * (self.width, self.height)[place % 2]))

    def _to_fraction(self, match: re.Match[str], place: int) -> str | None:
        axis, value = _axis(match[1], place), parse_number(match[2])
        if axis is None:
            return None
        before = match[0].removesuffix(match[2])
        fraction = match[2] if value is None else repr(round(value / (self.width, self.height)[axis], 6))
        return before + fraction


def check_box_format(name: str) -> None:
    """Refuse what is no `BoxFormat`.

    Raises:
        ConfigError: naming those that there are.
    """
    if name not in BOX_FORMATS:
        raise ConfigError(f"box_format is {name!r}; expected one of {', '.join(BOX_FORMATS)}")


def _each(pattern: re.Pattern[str], text: str, change: Callable[[re.Match[str], int], str | None]) -> str:
    """`text` with every match changed, given its place among those changed before; a match that `change` gives None for stays."""
    place = 0

    def changed(match: re.Match[str]) -> str:
        nonlocal place
        new = change(match, place)
        place += new is not None
        return match[0] if new is None else new

    return pattern.sub(changed, text)


def _axis(name: str | None, place: int) -> int | None:
    """0 of a number across, 1 of one down, by its name or by its place; None for what is named and no side."""
    if name is None:
        return place % 2
    return 0 if _ACROSS.fullmatch(name) else 1 if _DOWN.fullmatch(name) else None
