"""Verdicts by rule instead of by a language model: what the local judge says, computed from the text alone.

* Events of a description: its sentences and the clauses between `;`, `then` and `and then`, with at least two content words,
  each once, the first ten.
* An event is *entailed* if one clause of the description has all of its content words, at most twice as many others (four for
  a short event), no second word of a closed set of the event's, and neither more nor fewer negations: a clause that says
  everything says nothing;
  *contradicted* if such a clause differs in a negation, or has all of them but one word of a closed set (colours, numbers,
  left/right, ...) in whose place it has another of that set; else *neutral*.
* A *question* about an answer is told by the key that the reply is to have. An option is the one that the text names as `(B)` or
  with its last letter, else the only one all of whose content words it has; an answer is the same as another all of whose content
  words it has; a value is the last number of the text, else the text. A point that is entailed is rated 5, else 1; the
  completeness of a summary is the share of the true one's events that it entails, from 1 to 5; all else is rated 5.
* Content words are lower-case words without articles, pronouns and the like, cut to a common stem (`doors` and `door`,
  `opens`, `opening` and `open`).

The judge is gullible on purpose: it obeys an order to find everything entailed, wherever the prompt itself gives it, that
is outside of the block of data.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

MODEL = "rules"
"""The name that it goes by."""

MAX_EVENTS = 10
_OTHERS_OF_SHORT = 4

_STOP_WORDS = """
a an the is are was were be been being it its this that these those of in on at to from into onto with and or as by for there
here his her their he she they them him who which while when where has have had does do did can some any
"""
_STOP = frozenset(_STOP_WORDS.split())
_NEGATION_WORDS = "no not never nobody nothing none without cannot neither nor isn't doesn't aren't"
_NEGATIONS = frozenset(_NEGATION_WORDS.split())
_CLAUSE = re.compile(r"[.!?;\n]+|,?\s*\b(?:and then|then|before|after which|afterwards)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_ASKED = re.compile(r'Reply with \{"(\w+)"')
_NAMED = re.compile(r"\(([A-Z])\)|\b([A-Z])\b\W*\Z")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LONGEST_VALUE = 200
_ORDER = re.compile(
    r"\b(?:label|mark|rate|judge|find|call|answer)\s+(?:all|every|each|everything)\b[^.\n]*\bentail(?:ed|ment)",
    re.IGNORECASE,
)


def _stem(word: str) -> str:
    for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) + len(rest) >= 3:
            word = word[: -len(ending)] + rest
            break
    # `moves`, `moving` and `moved` have lost their e, `move` has not; `running` has doubled its n.
    word = word.removesuffix("e")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


_SETS = tuple(
    frozenset(map(_stem, words.split()))
    for words in (
        "red green blue yellow black white orange purple brown grey gray pink",
        "one two three four five six seven eight nine ten",
        "left right",
        "up down",
        "square circle triangle",
    )
)


def extract(description: str) -> list[str]:
    """The events of a description."""
    found: dict[str, str] = {}
    for clause in _clauses(description):
        if len(content_words(clause)) >= 2:
            found.setdefault(clause.casefold(), clause)
    return list(found.values())[:MAX_EVENTS]


def label(event: str, description: str) -> str:
    """`entailment`, `neutral` or `contradiction`."""
    labels = {_relation(event, clause) for clause in _clauses(description)}
    return next(each for each in ("entailment", "contradiction", "neutral") if each in labels | {"neutral"})


def reply(instructions: str, data: Mapping[str, object]) -> Mapping[str, object]:
    """The object that the judge replies with.

    Args:
        instructions: the prompt without the block of data; the judge does what it says.
        data: the block: `description`, and `events` by number where they are to be labelled.
    """
    asked = _ASKED.search(instructions)
    if asked is not None and asked[1] in _ABOUT_ANSWERS:
        return {asked[1]: _ABOUT_ANSWERS[asked[1]](data)}
    description, events = str(data.get("description", "")), data.get("events")
    if not isinstance(events, Mapping):
        return {"events": extract(description)}
    if _ORDER.search(instructions):
        return {"labels": dict.fromkeys(events, "entailment")}
    return {"labels": {number: label(str(event), description) for number, event in events.items()}}


def _option(data: Mapping[str, object]) -> str:
    text, options = str(data.get("author's answer") or data.get("description", "")), _texts(data.get("options"))
    named = [(first or last).upper() for first, last in _NAMED.findall(text)]
    if named and named[-1] in options:
        return named[-1]
    told = content_words(text)
    found = [letter for letter, option in options.items() if content_words(option) and content_words(option) <= told]
    return found[0] if len(found) == 1 else "none"


def _is_same(data: Mapping[str, object]) -> bool:
    return content_words(str(data.get("true answer", ""))) <= content_words(str(data.get("author's answer", "")))


def _value(data: Mapping[str, object]) -> str:
    text = str(data.get("author's answer", ""))
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else text.strip()[:_LONGEST_VALUE] or "none"


def _ratings(data: Mapping[str, object]) -> dict[str, int]:
    answer, points = str(data.get("author's answer", "")), _texts(data.get("points"))
    if points:
        rated = {number: 5 if label(point, answer) == "entailment" else 1 for number, point in points.items()}
        return {**rated, "relevance": 5}
    events = extract(str(data.get("true summary", "")))
    told = sum(label(event, answer) == "entailment" for event in events)
    return {"completeness": 1 + round(4 * told / len(events)) if events else 5, "reliability": 5}


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, Mapping) else {}


_ABOUT_ANSWERS: Mapping[str, Callable[[Mapping[str, object]], object]] = {
    "option": _option,
    "same": _is_same,
    "answer": _value,
    "ratings": _ratings,
}
"""Key of a reply -> its value, from the block of data."""


@lru_cache(maxsize=4096)
def content_words(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning, negations left out."""
    return frozenset(_stem(word) for word in _words(text) if word not in _NEGATIONS and word not in _STOP)


def _relation(event: str, clause: str) -> str:
    wanted, told = content_words(event), content_words(clause)
    if not wanted:
        return "neutral"
    same_sign = _negated(event) == _negated(clause)
    if wanted <= told:
        others = told - wanted
        if len(others) > max(_OTHERS_OF_SHORT, 2 * len(wanted)) or any(
            each & wanted and each & others for each in _SETS
        ):
            return "neutral"
        return "entailment" if same_sign else "contradiction"
    missing = wanted - told
    if len(missing) == 1 and same_sign and len(wanted) > 1:
        (word,) = missing
        if any(word in each and told & each - wanted for each in _SETS):
            return "contradiction"
    return "neutral"


def _clauses(text: str) -> Sequence[str]:
    return [clause.strip(" ,") for clause in _CLAUSE.split(text) if clause.strip(" ,")]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


@lru_cache(maxsize=4096)
def _negated(text: str) -> bool:
    return any(word in _NEGATIONS for word in _words(text))
