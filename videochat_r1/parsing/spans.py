"""Spans of time in model text: `5 to 10`, `5s - 10s`, `00:05 to 00:10`, `[(5.2, 10.4), (12, 13.5)]`, `from 5 and ends at 10`.

A text is read as its times and the gaps between them. Times whose gap joins them ("to", "and", a dash, a comma) form a run,
and an even run is read as pairs; an odd run (`5, 10, 15`) says nothing certain and is skipped.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from videochat_r1.geometry import Span
from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS, MAX_MAGNITUDE, UNSIGNED, parse_number

_TIME = re.compile(
    rf"""(?<![\w.])(?<![0-9]:)(?:
        (?P<clock> [0-9]++:[0-9]{{1,2}}+:[0-9]{{1,2}}+(?:\.[0-9]*+|,[0-9]{{3}}(?![0-9:]))?
                 | [0-9]++:[0-9]{{1,2}}+(?:\.[0-9]*+)?)
      | (?:(?P<hours>{UNSIGNED})\s*+(?:hours?|hrs?|h)\.?\s*+(?=[0-9]))?
        (?:(?P<minutes>{UNSIGNED})\s*+(?:minutes?|mins?|m)\.?\s*+(?:and\s++)?(?=[0-9]))?
        (?P<number>{UNSIGNED})(?:\s*+(?P<unit>minutes?|mins?|m|hours?|hrs?|h)(?!\w))?+
    )(?:\s*+(?:seconds?|(?:secs?|s)\.?)(?!\w))?+(?![\w:%])""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_DASHES = "-‐‑‒–—―−"
_JOIN = re.compile(
    rf"""(?: [,;]?
      | [\])}}]*\ ?(?:,\ ?)?(?:to|and|until|till|til|through|[{_DASHES}~～]+>?|→|=>)\ ?[\[({{]*
      | ,?\ ?(?:and\ )?(?:it\ )?(?:end|ends|ending|stop|stops)(?:[_ ]time|\ at)?\ ?[:=]?
    )""",
    re.VERBOSE,
)
_QUOTES = str.maketrans({mark: " " for mark in "\"'`“”‘’*"})
_FILLING = re.compile(r"(?:[\s\[\](){},;.:\"'`*]|\b(?:from|between)\b)*+", re.IGNORECASE)
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class _Time:
    """One time of the text; `seconds` is None where it is negative or unbelievable."""

    start: int
    end: int
    seconds: float | None
    joined: bool
    """Whether the gap before it joins it to the time before."""


def parse_spans(text: str) -> list[Span]:
    """The spans that `text` names, in its order; empty if there is none.

    Every span has finite, non-negative seconds; others (`-3 to 10`, `5 to 1e400`) are left out. A reversed or empty span is
    returned as written: it overlaps nothing. Words around the spans are passed over.
    """
    return [span for run in _runs(text) for span in _pairs(run) if span is not None]


def is_span_list(text: str) -> bool:
    """Whether `text` consists of spans that `parse_spans` reads, one at least, and nothing else but brackets and commas."""
    position, num_spans = 0, 0
    for run in _runs(text):
        pairs = _pairs(run)
        if not pairs or None in pairs or _FILLING.fullmatch(text, position, run[0].start) is None:
            return False
        position, num_spans = run[-1].end, num_spans + len(pairs)
    return num_spans > 0 and _FILLING.fullmatch(text, position) is not None


def _pairs(run: list[_Time]) -> list[Span | None]:
    """The spans of a run, None for one that cannot be believed; empty for an odd run."""
    if len(run) % 2:
        return []
    return [
        None if first.seconds is None or second.seconds is None else Span(first.seconds, second.seconds)
        for first, second in zip(run[::2], run[1::2], strict=True)
    ]


def _runs(text: str) -> list[list[_Time]]:
    """The times of the text, grouped where the gaps join them."""
    runs: list[list[_Time]] = []
    if len(text) > MAX_ANSWER_CHARS:
        return runs
    for time in _times(text):
        if time.joined:
            runs[-1].append(time)
        else:
            runs.append([time])
    return runs


def _times(text: str) -> Iterator[_Time]:
    """The times of the text in order, each with the sign that its gap gives it."""
    previous_end: int | None = None
    for match in _TIME.finditer(text):
        gap = text[previous_end or 0 : match.start()]
        has_dash = gap.endswith(tuple(_DASHES))
        negative = has_dash and (previous_end is None or not _is_separator(gap))
        joined = previous_end is not None and _joins(gap[:-1] if negative else gap)
        yield _Time(match.start(), match.end(), None if negative else _seconds(match), joined)
        previous_end = match.end()


def _is_separator(gap: str) -> bool:
    """Whether the dash that ends the gap is the only thing between two times: `5 -10` is no negative ten."""
    return gap[:-1].strip(" \t\r\n\"'`*)]}") == ""


def _joins(gap: str) -> bool:
    return _JOIN.fullmatch(" ".join(gap.translate(_QUOTES).casefold().split())) is not None


def _seconds(match: re.Match[str]) -> float | None:
    if match["clock"] is not None:
        fields = match["clock"].replace(",", ".").split(":")
        return _sum_of([(field, 60.0**power) for power, field in enumerate(reversed(fields))])
    unit = _UNIT_SECONDS[match["unit"][0].lower()] if match["unit"] else 1.0
    terms = ((match["hours"], 3600.0), (match["minutes"], 60.0), (match["number"], unit))
    return _sum_of([(text, factor) for text, factor in terms if text is not None])


def _sum_of(terms: list[tuple[str, float]]) -> float | None:
    """The sum of number texts times their factors; None if one of them, or the sum, cannot be believed."""
    total = 0.0
    for text, factor in terms:
        value = parse_number(text)
        if value is None:
            return None
        total += value * factor
    return total if total <= MAX_MAGNITUDE else None
