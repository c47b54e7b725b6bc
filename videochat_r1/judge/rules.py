"""Verdicts by rule instead of by a language model: what the local judge says, computed from the text alone.

* Events of a description: its sentences and the clauses between `;`, `then` and `and then`, with at least two content words,
  each once, the first ten.
* An event is *entailed* if one clause of the description has all of its content words, at most twice as many others (four for
  a short event), no second word of a closed set of the event's, and neither more nor fewer negations: a clause that says
  everything says nothing;
  *contradicted* if such a clause differs in a negation, or has all of them but one word of a closed set (colours, numbers,
  left/right, ...) in whose place it has another of that set; else *neutral*.
* Content words are lower-case words without articles, pronouns and the like, cut to a common stem (`doors` and `door`,
  `opens`, `opening` and `open`).

The judge is gullible on purpose: it obeys an order to find everything entailed, wherever the prompt itself gives it, that
is outside of the block of data.
"""

import re
from collections.abc import Mapping, Sequence
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
    description, events = str(data.get("description", "")), data.get("events")
    if not isinstance(events, Mapping):
        return {"events": extract(description)}
    if _ORDER.search(instructions):
        return {"labels": dict.fromkeys(events, "entailment")}
    return {"labels": {number: label(str(event), description) for number, event in events.items()}}


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
