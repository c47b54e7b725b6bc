"""The parts of a completion: what stands in `<think>`, `<answer>` and `<glue>`, leniently and strictly read."""

import re
from collections.abc import Callable, Sequence
from functools import cache

_KNOWN = ("think", "answer", "glue")


def tagged_texts(completion: str, names: Sequence[str] = ()) -> dict[str, str]:
    """Tag name -> text of its last complete element outside `<think>`; names without one are left out.

    Read are `<answer>`, `<glue>` and the elements `names`.

    Thinking lasts from `<think>` to the next `</think>`, or to the end when it is never closed: a draft inside an
    unfinished thought is no answer. Where the first think tag is a closing one, the chat template opened it, and all
    before it is thought. An element that a thought interrupts, or that is never closed, is incomplete.
    """
    found: dict[str, str] = {}
    opened: dict[str, int] = {}
    in_thought = _begins_in_thought(completion)
    for tag in _tags(tuple(names)).finditer(completion):
        closing, name = tag.group(1) == "/", tag.group(2).lower()
        if name == "think":
            in_thought = not closing
            opened.clear()
        elif in_thought:
            continue
        elif not closing:
            opened[name] = tag.end()
        elif name in opened:
            found[name] = completion[opened.pop(name) : tag.start()]
    return found


def answer_text(completion: str, *, untagged: bool = False) -> str | None:
    """Text of the last complete `<answer>` outside `<think>`; None without one.

    Args:
        completion: what the model wrote.
        untagged: for models that were never asked for tags: a completion with no answer tag at all, complete or not,
            is read as a whole, without its thoughts and clues.
    """
    answer = tagged_texts(completion).get("answer")
    return _plain_text(completion) if answer is None and untagged else answer


def strict_parts(completion: str, names: Sequence[str]) -> list[str] | None:
    """Texts of the elements `names`, if the completion is exactly these, once each, in this order; else None.

    Only white space may stand around them. A thought may mention other tags, an answer may not.
    """
    parts: list[str] = []
    rest = completion.strip()
    for name in names:
        opening, closing = f"<{name}>", f"</{name}>"
        end = rest.find(closing)
        if end < 0 or not rest.startswith(opening):
            return None
        part, rest = rest[len(opening) : end], rest[end + len(closing) :].lstrip()
        nested = {tag.group(2).lower() for tag in _tags(tuple(names)).finditer(part)}
        if nested and (name != "think" or "think" in nested):
            return None
        parts.append(part)
    return None if rest else parts


def outside_thoughts(completion: str, change: Callable[[str], str]) -> str:
    """The completion with each stretch of text between tags changed; tags and thoughts, as `tagged_texts` tells them, stay."""
    pieces: list[str] = []
    in_thought, position = _begins_in_thought(completion), 0
    for tag in _tags().finditer(completion):
        part = completion[position : tag.start()]
        pieces += [part if in_thought else change(part), tag[0]]
        if tag.group(2).lower() == "think":
            in_thought = tag.group(1) != "/"
        position = tag.end()
    rest = completion[position:]
    return "".join([*pieces, rest if in_thought else change(rest)])


def parts_of(completion: str) -> list[tuple[str, str]]:
    """All of a completion as (`think`, `answer`, `glue` or `text`, stretch) pairs, for people to read.

    A thought is told as `tagged_texts` tells it; an element that is never closed lasts to the end.
    """
    return [(kind, completion[start:end]) for kind, start, end in placed_parts(completion)]


def placed_parts(completion: str) -> list[tuple[str, int, int]]:
    """The same, each stretch by the places of its first character and of the one after its last."""
    parts: list[tuple[str, int, int]] = []
    kind, position = "think" if _begins_in_thought(completion) else "text", 0
    for tag in _tags().finditer(completion):
        closing, name = tag.group(1) == "/", tag.group(2).lower()
        if kind == "think" and not (closing and name == "think"):
            continue
        parts.append((kind, position, tag.start()))
        kind, position = "text" if closing else name, tag.end()
    parts.append((kind, position, len(completion)))
    return [(kind, *_stripped(completion, start, end)) for kind, start, end in parts if completion[start:end].strip()]


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """The stretch without white space around it."""
    stretch = text[start:end]
    return end - len(stretch.lstrip()), start + len(stretch.rstrip())


def write_parts(parts: Sequence[tuple[str, str]]) -> str:
    """The completion whose elements are the given (name, text) pairs: inverse of `strict_parts`."""
    return "".join(f"<{name}>{text}</{name}>" + ("\n" if name == "think" else "") for name, text in parts)


@cache
def _tags(names: tuple[str, ...] = ()) -> re.Pattern[str]:
    """A tag of one of the elements, opening or closing."""
    words = "|".join(re.escape(name) for name in dict.fromkeys([*_KNOWN, *names]))
    return re.compile(rf"<(/?)({words})\s*+>", re.IGNORECASE | re.ASCII)


def _begins_in_thought(completion: str) -> bool:
    first = next((tag for tag in _tags().finditer(completion) if tag.group(2).lower() == "think"), None)
    return first is not None and first.group(1) == "/"


def _plain_text(completion: str) -> str | None:
    """What stands outside thoughts and clues, if no answer tag does; None for nothing."""
    pieces: list[str] = []
    hidden_by = "think" if _begins_in_thought(completion) else ""
    position = 0
    for tag in _tags().finditer(completion):
        closing, name = tag.group(1) == "/", tag.group(2).lower()
        if not hidden_by:
            if name == "answer":
                return None
            pieces.append(completion[position : tag.start()])
            hidden_by = "" if closing else name
        elif closing and name == hidden_by:
            hidden_by = ""
        position = tag.end()
    if not hidden_by:
        pieces.append(completion[position:])
    return " ".join(pieces).strip() or None
