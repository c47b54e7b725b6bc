"""Spans of time in model text: `5 to 10`, `5s - 10s`, `00:05 to 00:10`, `[(5.2, 10.4), (12, 13.5)]`, `from 5 and ends at 10`.

A text is read as its times and the gaps between them. Times whose gap joins them ("to", "and", a dash, a comma) form a run,
and an even run is read as pairs; an odd run (`5, 10, 15`) says nothing certain and is skipped, and so is one whose commas
may be decimal or not (`5,10; 12,15`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from videochat_r1.geometry import Span
from videochat_r1.parsing.numbers import MAX_MAGNITUDE, UNSIGNED, parse_number
from videochat_r1.parsing.plain import bounded, plain
from videochat_r1.parsing.statements import labelled_boxes, statements

_HOURS = r"(?:hours?|hrs?|h|小时)"
_MINUTES = r"(?:minutes?|mins?|m|分钟?)"
_UNIT = rf"(?:milliseconds?|msecs?|ms|毫秒|{_MINUTES}|{_HOURS})"
# What is a number of something else, or the numerator or base of another number.
_NO_TIME = r"\s*+(?:[%‰°^×]|/\s?[0-9]|[*+]\s?[0-9]|(?:percent|per\ cent|frames?|fps|hz|px|pixels?)(?!\w)|帧)"
_OTHER_DIGITS = "²³¹¼-¾⁰-₉⅐-↋①-⓿"
_TIME = re.compile(
    rf"""(?<![\w./^{_OTHER_DIGITS}])(?<![0-9]:)(?:
        (?P<clock> [0-9]++:[0-9]{{1,2}}+:[0-9]{{1,2}}+(?:\.[0-9]*+|,[0-9]{{3}}(?![0-9:]))?+
                 | [0-9]++:[0-9]{{1,2}}+(?:\.[0-9]*+|,[0-9]{{3}}(?![0-9:]))?+)
        (?:\s*+(?:minutes?|mins?|hours?|hrs?)(?!\w))?+
      | (?:(?P<hours>{UNSIGNED})\s*+{_HOURS}\.?\s*+(?=[0-9]))?
        (?:(?P<minutes>{UNSIGNED})\s*+{_MINUTES}\.?\s*+(?:and\s++)?(?=[0-9]))?
        (?P<number>{UNSIGNED})(?:\s*+(?P<unit>{_UNIT})(?!\w))?+
    )(?P<second>\s*+(?:seconds?|(?:secs?|s)\.?|秒钟?|초)(?!\w))?+(?![\w:{_OTHER_DIGITS}]|\.[0-9]|{_NO_TIME})""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_DASHES = "-‐‑‒–—―−"
_FRAME_BEFORE = re.compile(r"(?:\bframes?|\bfps|帧|#)[\s:=#\"'\[(]*+\Z", re.IGNORECASE)
_WORDS = re.compile(
    rf"""(?:\ ?mark)?[\])}}>]*\ ?(?:开始|起)?(?:,\ ?)?(?:and\ )?(?:lasts?\ |lasting\ |continu[a-z]+\ )?
        (?:(?:all\ the\ way|up)\ to|to|until|till|til|through|直到|到|至|から|에서|부터|bis|à|hasta|até|до|[{_DASHES}~〜→]+>?|=>)
        (?:\ ?(?:about|around|approximately|approx\.?|roughly|the|seconds?|time|timestamp|t|约|大约|第|[:=~≈])){{0,3}}+\ ?[\[({{<]*
      | [\])}}>]*[,;|]?\ ?(?:[-•]\ )?(?:and\ )?(?:then\ )?(?:it\ )?(?:[a-z]{{1,12}}[_\ ])?
        (?:end|stop|finish|conclud|terminat)(?:s|ed|es|ing|e)?
        (?:[_\ ]?(?:timestamp|time|stamp|seconds?|secs?|point|at|is|on|about|around|s)){{0,3}}+\ ?[:=]?\ ?[\[({{<]*
      | (?:[,;]\ ?)?(?:结束|终止)(?:时间|于|在)?\ ?[:=]?\ ?[\[({{<]*
    """,
    re.VERBOSE,
)
_MARKS = re.compile(r"[,;]?|[\])}]*\ ?(?:,\ ?)?and\ ?[\[({]*")
_QUOTES = str.maketrans({**{mark: " " for mark in "\"'`“”‘’*"}, "、": ","})
_FILLING = re.compile(r"(?:[\s\[\](){}<>,;.:\"'`*、。]|\b(?:from|between)\b|[从在第]|之间)*+", re.IGNORECASE)
_UNIT_SECONDS = {"h": 3600.0, "小": 3600.0, "m": 60.0, "分": 60.0, "毫": 0.001}
# `1. ` before the first time of a line counts lines; two or three dots between numbers are a dash; 5'20" is 5 min 20 s.
_ENUMERATOR = re.compile(r"^[ \t]*+[0-9]{1,3}[.)][ \t]++(?=[\[(<]?[0-9])", re.MULTILINE)
_DOTS = re.compile(r"(?<![.])\.{2,3}(?![.])\s*+(?=[0-9])")
_PRIMES = re.compile(
    r"""(?<![\w.'"′])([0-9]{1,4})\s?['’′]\s?([0-5]?[0-9](?:\.[0-9]{1,6})?)
        (?:\s?(?:["”]|['’′]{2})|(?<=['’′][0-5][0-9]))(?!\w|\.[0-9])""",
    re.VERBOSE,
)
_PRIME = ("'", "’", "′")
_CLEAR_PRIMES = re.compile(r"(?<![\w.])([0-9]{1,6}(?:\.[0-9]{1,6})?)\s?(′′?)")


class _Gap(Enum):
    """What joins a time to the one before it."""

    NOTHING = 0
    TIGHT = 1
    """A comma without space between plain integers, which may be a decimal comma."""
    MARK = 2
    LINE = 3
    WORD = 4
    """Something that stands between a start and an end."""


@dataclass(frozen=True, slots=True)
class _Time:
    """One time of the text; `seconds` is None where it is negative, unbelievable, or the number of a frame.

    `number` is the text of a time that is one plain number, `unit` the seconds of its unit where it names one.
    """

    start: int
    end: int
    seconds: float | None
    gap: _Gap
    number: str | None = None
    unit: float | None = None
    is_frame: bool = False
    behind_bracket: bool = False


def parse_spans(text: str) -> list[Span]:
    """The spans that `text` names, in its order; empty if there is none.

    Every span has finite, non-negative seconds; others (`-3 to 10`, `5 to 1e400`) are left out. A reversed or empty span is
    returned as written: it overlaps nothing. Words around the spans are passed over; of an argument that labels its
    conclusion ("so the answer is 5 to 10") what follows the last label counts. The comma of `12,54 to 17,83` is a decimal
    one, that of `1,200 to 1,260` parts thousands.
    """
    form = bounded(text)
    if form is None:
        return []
    for part in (*statements(_undressed(labelled_boxes(form))), _undressed(form)):
        spans = [span for run in _runs(part) for span in _pairs(run, part) if span is not None]
        if spans:
            return spans
    return []


def is_span_list(text: str) -> bool:
    """Whether `text` consists of spans that `parse_spans` reads, one at least, and nothing else but brackets and commas."""
    form = bounded(text)
    if form is None:
        return False
    words = _undressed(form)
    position, num_spans = 0, 0
    for run in _runs(words):
        pairs = _pairs(run, words)
        if not pairs or None in pairs or _FILLING.fullmatch(words, position, run[0].start) is None:
            return False
        position, num_spans = run[-1].end, num_spans + len(pairs)
    return num_spans > 0 and _FILLING.fullmatch(words, position) is not None


def _undressed(text: str) -> str:
    """The text in plain dress, with the marks of lists, ranges and minutes written out."""
    text = _DOTS.sub(" to ", _ENUMERATOR.sub("", plain(text)))
    text = _PRIMES.sub(r"\1m\2s", text)
    return _CLEAR_PRIMES.sub(lambda match: match[1] + (" s" if len(match[2]) == 2 else " m "), text)


def _runs(text: str) -> list[list[_Time]]:
    """The times of the text, grouped where the gaps join them."""
    runs: list[list[_Time]] = []
    for time in _times(text):
        if time.gap is _Gap.NOTHING:
            runs.append([time])
        else:
            runs[-1].append(time)
    return runs


def _pairs(run: Sequence[_Time], text: str) -> list[Span | None]:
    """The spans of a run, None for one that cannot be believed; empty where it says nothing certain."""
    separate = _spans(run)
    gaps = {time.gap for time in run[1:]}
    if len(run) == 2 and gaps == {_Gap.TIGHT} and not _stands_apart(run, text):
        return []
    if _Gap.TIGHT not in gaps or gaps == {_Gap.TIGHT}:
        return separate or []
    decimal = _spans(_with_decimal_commas(run))
    readings = [spans for spans in (separate, decimal) if spans and all(span is None or span.length for span in spans)]
    return readings[0] if len(readings) == 1 else []


def _stands_apart(run: Sequence[_Time], text: str) -> bool:
    """Whether two numbers stand in brackets, or between line ends or marks; else `5,2` in a sentence is one number."""
    before = text[max(0, run[0].start - 20) : run[0].start].rstrip(" \t")[-1:]
    after = text[run[-1].end : run[-1].end + 20].lstrip(" \t")[:1]
    if before in ("(", "[", "{", "<") and after in (")", "]", "}", ">"):
        return True
    return run[-1].unit is None and before in "\n([{<,;:\"'*`" and after in "\n)]}>,;.\"'*`"


def _spans(times: Sequence[_Time] | None) -> list[Span | None] | None:
    """The times as pairs; None where they make none, or where "to" stands between two pairs."""
    if not times or len(times) % 2 or any(time.gap is _Gap.WORD for time in times[2::2]):
        return None
    return [_span(first, second) for first, second in zip(times[::2], times[1::2], strict=True)]


def _span(first: _Time, second: _Time) -> Span | None:
    """The span of two times; the unit behind the second is the first's too, as in `5 to 10 minutes`."""
    start, end = first.seconds, second.seconds
    if start is None or end is None:
        return None
    if first.number is not None and second.number is not None and first.unit != second.unit:
        # `5 minutes to 10`: of what?
        if first.unit not in (None, 1.0) and second.unit is None:
            return None
        start = start * second.unit if first.unit is None and second.unit is not None else start
    return Span(start, end)


def _with_decimal_commas(run: Sequence[_Time]) -> list[_Time] | None:
    """The run with every tight comma inside of a number; None where that makes no numbers."""
    groups: list[list[_Time]] = []
    for time in run:
        if time.gap is _Gap.TIGHT:
            groups[-1].append(time)
        else:
            groups.append([time])
    if any(second[0].gap is _Gap.LINE for second in groups[1::2]) or any(time.behind_bracket for time in run[1:]):
        return None
    parts = [[time.number or "" for time in group] for group in groups]
    in_thousands = all(
        len(first) <= 3 and first[:1] != "0" and all(len(each.split(".")[0]) == 3 for each in rest)
        for first, *rest in parts
        if rest
    )
    merged: list[_Time] = []
    for group, texts in zip(groups, parts, strict=True):
        text = ("" if in_thousands else ".").join(texts)
        value = parse_number(text)
        if value is None or (not in_thousands and "." in "".join(texts)):
            return None
        unit = group[-1].unit
        merged.append(replace(group[0], seconds=value * (unit or 1.0), number=text, unit=unit, end=group[-1].end))
    return merged


def _times(text: str) -> Iterator[_Time]:
    """The times of the text in order, each with the sign that its gap gives it."""
    previous: _Time | None = None
    for match in _TIME.finditer(text):
        gap = text[previous.end if previous else 0 : match.start()]
        yield (previous := _time(match, gap, previous))


def _time(match: re.Match[str], gap: str, previous: _Time | None) -> _Time:
    has_dash = gap.endswith(tuple(_DASHES))
    negative = has_dash and (previous is None or not _is_separator(gap))
    seconds, number, unit = _seconds(match)
    kind = _Gap.NOTHING if previous is None else _gap(gap[:-1] if negative else gap, previous)
    if kind is _Gap.TIGHT and number is None:
        kind = _Gap.MARK
    is_frame = _FRAME_BEFORE.search(gap[-16:]) is not None or (
        previous is not None and previous.is_frame and kind is not _Gap.NOTHING
    )
    if negative or is_frame:
        seconds = number = None
    return _Time(match.start(), match.end(), seconds, kind, number, unit, is_frame, any(mark in gap for mark in "])}"))


def _is_separator(gap: str) -> bool:
    """Whether the dash that ends the gap is the only thing between two times: `5 -10` is no negative ten."""
    return gap[:-1].strip(" \t\r\n\"'`*)]}>") == ""


def _gap(gap: str, previous: _Time) -> _Gap:
    """What the text between two times makes of them."""
    if gap == "," and previous.number is not None and previous.number.isdigit() and previous.unit is None:
        return _Gap.TIGHT
    if gap in _PRIME:
        return _Gap.NOTHING
    # A dash that begins a line marks an item of a list.
    words = " ".join(re.sub(r"\n\s*+[-–—•*](?=\s)", "\n", gap).translate(_QUOTES).casefold().split())
    if _MARKS.fullmatch(words):
        return _Gap.LINE if "\n" in gap else _Gap.MARK
    return _Gap.WORD if _WORDS.fullmatch(words) else _Gap.NOTHING


def _seconds(match: re.Match[str]) -> tuple[float | None, str | None, float | None]:
    """Seconds, and of a single number its text and the seconds of its unit, None without one."""
    if match["clock"] is not None:
        fields = match["clock"].replace(",", ".").split(":")
        return _sum_of([(field, 60.0**power) for power, field in enumerate(reversed(fields))]), None, None
    unit = _unit(match)
    # The number in `1h20` counts minutes, that in `1m20` seconds.
    plain_unit = 60.0 if match["hours"] is not None and match["minutes"] is None else 1.0
    terms = (
        (match["hours"], 3600.0),
        (match["minutes"], 60.0),
        (match["number"], plain_unit if unit is None else unit),
    )
    seconds = _sum_of([(text, factor) for text, factor in terms if text is not None])
    is_single = match["hours"] is None and match["minutes"] is None
    return seconds, match["number"] if is_single else None, unit


def _unit(match: re.Match[str]) -> float | None:
    """Seconds of the unit that a number names; None if it names none."""
    name = match["unit"]
    if name is None:
        return None if match["second"] is None else 1.0
    is_milli = name.casefold().startswith(("ms", "mil"))
    return _UNIT_SECONDS["毫" if is_milli else name[0].lower()]


def _sum_of(terms: list[tuple[str, float]]) -> float | None:
    """The sum of number texts times their factors; None if one of them, or the sum, cannot be believed."""
    total = 0.0
    for text, factor in terms:
        value = parse_number(text)
        if value is None:
            return None
        total += value * factor
    return total if total <= MAX_MAGNITUDE else None
