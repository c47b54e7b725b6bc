"""Boxes in model text: `[[0.1, 0.2, 0.3, 0.4], ...]`, with or without outer brackets, labels or line breaks."""

import re

from videochat_r1.geometry import Box
from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS, UNSIGNED, parse_number

_SQUARE = re.compile(r"\[([^\[\]()]*+)\]")
_ROUND = re.compile(r"\(([^\[\]()]*+)\)")
_BETWEEN = re.compile(r"[\s,;]++")
_BOX = rf"[\[(]\s*+(?:[-+−]?{UNSIGNED}\s*+,\s*+){{3}}[-+−]?{UNSIGNED}\s*+[\])]"
_BOX_LIST = re.compile(rf"\s*+[\[(]\s*+{_BOX}(?:\s*+,\s*+{_BOX})*+\s*+,?\s*+[\])]\s*+")


def parse_boxes(text: str, limit: int, *, max_chars: int = MAX_ANSWER_CHARS) -> list[Box | None] | None:
    """The first `limit` boxes that `text` lists, in order, corners as written; None if there is none.

    An innermost bracket that holds no four numbers (or one that is nan, infinite or huge) keeps its place as None, so that
    the boxes after it still belong to their frames. A flat list is read four numbers at a time. A text of more than
    `max_chars` is no answer.
    """
    if len(text) > max_chars:
        return None
    groups = _SQUARE.findall(text) or _ROUND.findall(text) or [text]
    places: list[Box | None] = []
    for group in groups:
        places.extend(_read_group(group))
    places = places[:limit]
    return places if any(places) else None


def is_box_list(text: str, count: int) -> bool:
    """Whether `text` is a bracketed list of exactly `count` readable boxes and nothing else."""
    if len(text) > MAX_ANSWER_CHARS or _BOX_LIST.fullmatch(text) is None:
        return False
    boxes = parse_boxes(text, count + 1)
    return boxes is not None and len(boxes) == count and None not in boxes


def _read_group(group: str) -> list[Box | None]:
    """The boxes of one innermost bracket."""
    words = _BETWEEN.split(group.strip(" \t\r\n,;"))
    if len(words) % 4:
        return [None]
    return [_read_box(words[first : first + 4]) for first in range(0, len(words), 4)]


def _read_box(words: list[str]) -> Box | None:
    numbers = [parse_number(word) for word in words]
    finite = [number for number in numbers if number is not None]
    return Box(*finite) if len(finite) == 4 else None
