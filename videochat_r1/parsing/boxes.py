"""Boxes in model text: `[[0.1, 0.2, 0.3, 0.4], ...]`, with or without outer brackets, labels or line breaks.

Read too are corners in pairs (`(0.1, 0.2), (0.3, 0.4)`), objects with named sides, quoted numbers and full-width marks.
"""

import re
from collections.abc import Iterator

from videochat_r1.geometry import Box
from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS, UNSIGNED, parse_number
from videochat_r1.parsing.plain import bounded, plain
from videochat_r1.parsing.statements import statements

_INNERMOST = tuple(
    re.compile(form) for form in (r"\{([^\[\](){}]*+)\}", r"\[([^\[\](){}]*+)\]", r"\(([^\[\](){}]*+)\)")
)
_BETWEEN = re.compile(r"[\s,;]++")
_QUOTES = str.maketrans({**dict.fromkeys("\"'`“”‘’", " "), "、": ",", "【": "[", "】": "]"})
BOX = re.compile(rf"[\[(]\s*+(?:[-+−]?{UNSIGNED}\s*+,\s*+){{3}}[-+−]?{UNSIGNED}\s*+[\])]")
"""A box as tasks write it."""
_BOX_LIST = re.compile(rf"\s*+[\[(]\s*+{BOX.pattern}(?:\s*+,\s*+{BOX.pattern})*+\s*+,?\s*+[\])]\s*+")
_SIDE = re.compile(rf"([A-Za-z]\w{{0,20}})\s*+[:=]\s*+([-+−]?{UNSIGNED})(?![\w.])", re.ASCII)
_CORNERS = ("x0 y0 x1 y1", "x1 y1 x2 y2", "xmin ymin xmax ymax", "left top right bottom")
_EXTENTS = ("x y w h", "x y width height", "left top width height")
_NO_BOX = re.compile(
    r"(?:none|null|nan|n/a|nothing|empty|missing|absent|unknown|occluded|not \w+|out of \w+|-)?+", re.I
)
_NULLS = re.compile(r"(?<=[\])}])(?:\s*+,\s*+(?:null|none)\b)++", re.I)
_NULL = re.compile(r"null|none", re.I)
_DECIMAL_COMMA = re.compile(r"[01],[0-9]++")
_BETWEEN_DECIMALS = re.compile(r"\s*+;\s*+|,?\s++")
_BETWEEN_CORNERS = re.compile(r"\s*+(?:[,;→–]|-++>?|to\b|and\b)?\s*+")
_LABELS = re.compile(r"\s*+[:=]")


def parse_boxes(text: str, limit: int, *, max_chars: int = MAX_ANSWER_CHARS) -> list[Box | None] | None:
    """The first `limit` boxes that `text` lists, in order, corners as written; None if there is none.

    An innermost bracket that should hold a box and does not (three numbers, one that is nan, infinite or huge, `[]`) keeps
    its place as None, so that the boxes after it still belong to their frames; one that numbers or names what follows it
    (`Frame [0]: ...`) has none. A flat list is read four numbers at a time. Of an argument, what follows its last label ("the
    answer is") counts if all boxes are there. A text of more than `max_chars` is no answer.
    """
    form = bounded(text, max_chars)
    if form is None:
        return None
    words = plain(form).translate(_QUOTES)
    concluded = (places for part in statements(words) if len(places := _places(part)) >= limit)
    places = next(concluded, []) or _places(words)
    return places[:limit] if any(places[:limit]) else None


def is_box_list(text: str, count: int) -> bool:
    """Whether `text` is a bracketed list of exactly `count` readable boxes and nothing else."""
    form = bounded(text)
    if form is None or _BOX_LIST.fullmatch(plain(form)) is None:
        return False
    boxes = parse_boxes(text, count + 1)
    return boxes is not None and len(boxes) == count and None not in boxes


def _places(text: str) -> list[Box | None]:
    """A box or None for every place of the list, of the first kind of brackets that hold a box."""
    text = _NULLS.sub(lambda match: _NULL.sub("[]", match[0]), text)
    for bracket in _INNERMOST:
        places = list(_bracketed(text, bracket))
        if any(places):
            return places
    words = _words(text)
    if all(map(_is_numeric, words)):
        return _read_words(words)
    lines = [_words(line.rpartition(":")[2]) for line in text.split("\n")]
    return [box for line in lines if _is_tried(line) for box in _read_words(line)]


def _bracketed(text: str, bracket: re.Pattern[str]) -> Iterator[Box | None]:
    """The places of the innermost brackets of one kind; two corners that follow each other are one."""
    corner: list[str] = []
    corner_end = -1
    for match in bracket.finditer(text):
        words = _words(match[1])
        is_corner = len(words) == 2 and all(map(_is_numeric, words)) and _LABELS.match(text, match.end()) is None
        if corner and is_corner and _BETWEEN_CORNERS.fullmatch(text, corner_end, match.start()) is not None:
            yield from _read_words(corner + words)
            corner = []
            continue
        if corner:
            yield None
        corner, corner_end = (words, match.end()) if is_corner else ([], -1)
        sides = _read_sides(match[1])
        if sides is not None:
            yield sides
        elif not is_corner and _is_place(text, match, words):
            yield from _read_words(words)
    if corner:
        yield None


def _is_place(text: str, match: re.Match[str], words: list[str]) -> bool:
    """Whether a bracket stands where a box should, rather than being a number or name of what follows."""
    if _LABELS.match(text, match.end()) is not None:
        return False
    if _is_tried(words) or _NO_BOX.fullmatch(" ".join(words)) is not None:
        return True
    before = text[max(0, match.start() - 20) : match.start()].rstrip()[-1:]
    after = text[match.end() : match.end() + 20].lstrip()[:1]
    return not match[1].strip().isdigit() and before in ("[", ",") and after in ("]", ",")


def _is_tried(words: list[str]) -> bool:
    """Whether the words look like a box, readable or not."""
    return len(words) > 2 and sum(map(_is_numeric, words)) > 1


def _is_numeric(word: str) -> bool:
    return word.lstrip("-+−.")[:1].isdigit() or word.lstrip("-+").casefold() in ("nan", "inf", "infinity")


def _words(group: str) -> list[str]:
    """The words of a group; a comma inside of every number is a decimal one."""
    stripped = group.strip(" \t\r\n,;")
    if not stripped:
        return []
    pieces = _BETWEEN_DECIMALS.split(stripped)
    if len(pieces) % 4 == 0 and all(map(_DECIMAL_COMMA.fullmatch, pieces)):
        return [piece.replace(",", ".") for piece in pieces]
    return _BETWEEN.split(stripped)


def _read_words(words: list[str]) -> list[Box | None]:
    """The boxes of one innermost bracket, four numbers each; one None for another count."""
    if not words or len(words) % 4:
        return [None]
    return [_read_box(words[first : first + 4]) for first in range(0, len(words), 4)]


def _read_box(words: list[str]) -> Box | None:
    numbers = [parse_number(word) for word in words]
    finite = [number for number in numbers if number is not None]
    return Box(*finite) if len(finite) == 4 else None


def _read_sides(group: str) -> Box | None:
    """The box whose sides the group names, as in `x1: 0.1, y1: 0.2, x2: 0.3, y2: 0.4`; None if it names no four."""
    sides = {name.replace("_", "").lower(): number for name, number in _SIDE.findall(group)}
    for names in _CORNERS + _EXTENTS if len(sides) > 3 else ():
        box = _read_box([sides.get(name, "") for name in names.split()])
        if box is not None:
            return box if names in _CORNERS else Box(box.x0, box.y0, box.x0 + box.x1, box.y0 + box.y1)
    return None
