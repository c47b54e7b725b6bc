"""A number in model text, as people write them: with a currency or unit, thousands separators, as a fraction or in powers of ten."""

import re

from videochat_r1.parsing.numbers import UNSIGNED
from videochat_r1.parsing.plain import bounded, plain
from videochat_r1.parsing.statements import labelled_boxes, statements

MOST = 1e15
"""Numbers from here on are not believed: floats cannot tell their neighbours."""

_FRACTION = re.compile(r"\\[dt]?frac\s?(?:\{([^{}]{0,40})\}\s?\{([^{}]{0,40})\}|([0-9])([0-9]))")
_BEFORE_FRACTION = re.compile(r"(?<=[0-9])(?=\\[dt]?frac)")
_TIMES = re.compile(r"\\(?:times|cdot)(?![A-Za-z])")
_NUMBER = re.compile(
    rf"""(?<![\w^])(?<![0-9][.,])(?P<sign>[-+−–])?+(?:[$€£¥₹]\s?+)?+
    (?:(?:(?P<whole>[0-9]{{1,15}})\s)?(?P<over>[0-9]{{1,15}})\s?+/\s?+(?P<under>[0-9]{{1,15}})
      |(?:(?P<commas>[1-9][0-9]{{0,2}}(?:,[0-9]{{2,3}}){{0,6}},[0-9]{{3}}(?![0-9])(?:\.[0-9]++)?+)
        |(?P<dots>[1-9][0-9]{{0,2}}(?:(?:\.[0-9]{{3}}){{1,6}},[0-9]++|(?:\.[0-9]{{3}}){{2,6}}(?![0-9])))
        |(?P<plain>[1-9][0-9]{{0,2}}(?:[\ '’_][0-9]{{3}}){{1,6}}(?![0-9])(?:[.,][0-9]++)?+|[0-9]++,[0-9]++|{UNSIGNED}))
       (?:\s?+[×x*·]\s?+10\s?(?:\^|\*\*)\s?+\{{?+(?P<power>[-+−]?[0-9]{{1,3}})\}}?+)?)
    (?!\.?[0-9]|,[0-9]|\s?\^)""",
    re.VERBOSE,
)
_SPACING = re.compile(r"[ '’_]")
_CLAUSE_END = re.compile(r"\n|[,;.]\s(?=[A-Za-z])|\b(?:because|since)\b")
_EQUALS = re.compile(r"[=≈≃→]")


def parse_quantity(text: str) -> float | None:
    """The one number that `text` gives, |value| below `MOST`; None if there is none or it cannot be told which.

    Words, units, currencies and percent signs around it have no meaning: 12 %, $12 and 12 kg are 12. Of several numbers counts
    what the last label ("the answer is") concludes, else what stands behind the last equals sign. A comma is a thousands
    separator before three digits (`1,000` is 1000, `0,125` and `12,5` are decimal), a point one where there are several.
    """
    words = _words(text)
    if words is None:
        return None
    found = _values(words)
    if len(found) > 1:
        parts = [*statements(words), _EQUALS.split(words)[-1]]
        found = next((values for part in parts if len(values := _values(_CLAUSE_END.split(part)[0])) == 1), found)
    return found.pop() if len(found) == 1 else None


def is_quantity(text: str) -> bool:
    """Whether `text` is a number that can be read and nothing else but a currency or a percent sign."""
    words = _words(text)
    if words is None:
        return False
    match = _NUMBER.fullmatch(words.strip().removesuffix("%").strip())
    return match is not None and _value(match) is not None and parse_quantity(text) is not None


def _words(text: str) -> str | None:
    r"""The text in plain dress, `\frac{1}{2}` as 1/2; None for one that is longer than any answer."""
    form = bounded(text)
    if form is None:
        return None
    if "\\" in form:
        form = _FRACTION.sub(lambda match: "/".join(filter(None, match.groups())), _BEFORE_FRACTION.sub(" ", form))
        form = _TIMES.sub("×", form)
    return plain(labelled_boxes(form))


def _values(words: str) -> set[float | None]:
    """The values of all numbers; None stands for those that are not believed."""
    return {_value(match) for match in _NUMBER.finditer(words)}


def _value(match: re.Match[str]) -> float | None:
    if match["under"] is not None:
        size = int(match["whole"] or 0) + int(match["over"]) / int(match["under"]) if int(match["under"]) else MOST
    else:
        power = float((match["power"] or "0").replace("−", "-"))
        size = float(_digits(match)) * 10.0**power if power < 300 else MOST
    if not size < MOST:
        return None
    return -size if match["sign"] in ("-", "−", "–") else size


def _digits(match: re.Match[str]) -> str:
    """The number with a decimal point and without separators."""
    if match["commas"] is not None:
        return match["commas"].replace(",", "")
    if match["dots"] is not None:
        return match["dots"].replace(".", "").replace(",", ".")
    return _SPACING.sub("", match["plain"]).replace(",", ".")
