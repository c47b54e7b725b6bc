"""Checked reading of a target's public JSON form; every problem is a DataError that names the key."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.errors import DataError, keys_shown
from videochat_r1.geometry import Box, Span
from videochat_r1.parsing import option_texts, parse_choice, parse_letter
from videochat_r1.parsing.plain import bounded
from videochat_r1.parsing.quantities import parse_quantity
from videochat_r1.parsing.words import words
from videochat_r1.sample import LETTERS

_FRAME_WIDTHS = 10.0
"""Corners this many frames away from the frame are pixels taken for fractions."""


def required(value: Mapping[str, Any], key: str) -> Any:
    """The value of a key that the target must have."""
    if not isinstance(value, Mapping):
        raise DataError(f"target must be an object with key {key!r}, got {_shown(value)}")
    if key not in value:
        raise DataError(f"target has no key {key!r}; it has {keys_shown(value)}")
    return value[key]


def read_span(value: Any, key: str) -> Span:
    """A `[start, end]` in seconds, reversed ones included: annotation files have them."""
    start, end = _read_list(value, key, 2, "[start, end] in seconds")
    return Span(start, end)


def read_spans(value: Any, key: str) -> tuple[Span, ...]:
    """A list of at least one `[start, end]`."""
    if not _is_list(value) or not value:
        raise DataError(f"{key} must be a list of [start, end] in seconds with at least one, got {_shown(value)}")
    return tuple(read_span(item, f"{key}[{place}]") for place, item in enumerate(value))


def read_duration(value: Any, key: str) -> float:
    """Seconds, more than 0."""
    seconds = _read_number(value, key)
    if seconds <= 0.0:
        raise DataError(f"{key} must be more than 0 seconds, got {_shown(value)}")
    return seconds


def read_boxes(value: Any, key: str) -> tuple[Box, ...]:
    """A list of at least one `[x0, y0, x1, y1]`."""
    if not _is_list(value) or not value:
        raise DataError(f"{key} must be a list of [x0, y0, x1, y1] with at least one, got {_shown(value)}")
    boxes = tuple(
        Box(*_read_list(item, f"{key}[{place}]", 4, "[x0, y0, x1, y1] in [0, 1]")) for place, item in enumerate(value)
    )
    for place, box in enumerate(boxes):
        if max(map(abs, box)) > _FRAME_WIDTHS:
            raise DataError(
                f"{key}[{place}] is {_shown(list(box))}; expected fractions of the frame's width and height, from 0 to 1: "
                "divide pixels by the frame's size"
            )
    return boxes


def read_texts(value: Any, key: str) -> tuple[str, ...]:
    """A list of at least one text."""
    if not _is_list(value) or not value or not all(isinstance(item, str) for item in value):
        raise DataError(f"{key} must be a list of texts with at least one, got {_shown(value)}")
    return tuple(value)


def read_words(value: Any, key: str) -> str:
    """A text with at least one word, no longer than an answer may be; white space around it is taken off."""
    form = bounded(value) if isinstance(value, str) else None
    if form is None or not words(form):
        raise DataError(f"{key} must be text with at least one word, got {_shown(value)}")
    return str(value).strip()


def read_number_or_text(value: Any, key: str) -> tuple[float, str]:
    """A number and how it is written, of a number or a text that holds one; white space around it is taken off."""
    number = parse_quantity(value) if isinstance(value, str) else _read_number(value, key)
    if number is None:
        raise DataError(f"{key} is {_shown(value)}; expected a number, or a text with one number that can be read")
    return number, value.strip() if isinstance(value, str) else number_text(number)


def number_text(value: float) -> str:
    """The shortest digits that are this number."""
    return str(int(value)) if value.is_integer() else repr(value)


def read_options(value: Any, key: str) -> tuple[str, ...]:
    """The option texts; letters in front of them (`(A) `, `A. `) are taken off if every option carries its own."""
    options = read_texts(value, key)
    if len(options) > len(LETTERS):
        raise DataError(f"{key} has {len(options)} options; letters reach for {len(LETTERS)}")
    return option_texts(options)


def read_letter(value: Any, key: str, options: Sequence[str]) -> str:
    """The letter of the right option, from `C`, `(C)`, `(C) text` or its text."""
    letter = parse_letter(value, options, bare=True) if isinstance(value, str) else None
    if letter is None:
        raise DataError(
            f"{key} is {_shown(value)}; expected one of the letters {LETTERS[0]}-{LETTERS[len(options) - 1]} "
            f"or the text of an option: {_shown(list(options))}"
        )
    return letter


def read_choice(value: Any, key: str, choices: Sequence[str]) -> str:
    """The right one of the choices."""
    choice = parse_choice(value, choices, bare=True) if isinstance(value, str) else None
    if choice is None:
        raise DataError(f"{key} is {_shown(value)}; expected one of {_shown(list(choices))}")
    return choice


def _read_list(value: Any, key: str, length: int, form: str) -> list[float]:
    if not _is_list(value) or len(value) != length:
        raise DataError(f"{key} must be {form}, got {_shown(value)}")
    return [_read_number(item, key) for item in value]


def _read_number(value: Any, key: str) -> float:
    # An integer past the range of floats compares without being converted.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e15 < value < 1e15:
        raise DataError(f"{key} must hold finite numbers, got {_shown(value)}")
    return float(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _shown(value: Any) -> str:
    """The value as messages show it; a 400-digit number is cut."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 120 else shown[:117] + "..."
