"""Model text in plain dress: one form for letters, digits and marks, without LaTeX, code fences and control tokens."""

import functools
import re
import unicodedata

from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS

MAX_MARKS = 16
"""Combining marks kept behind a character: putting n of them in order takes n x n steps, and no script needs so many."""

_INVISIBLE = frozenset("\u00ad\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SAME_DIGITS = ("<wide>", "<font>")
_TOKEN = re.compile(r"<\|/?[A-Za-z0-9_]{1,40}\|>|</?s>|<(?:eos|bos|end_of_turn)>")
_FENCE = re.compile(r"```(?:[A-Za-z]{1,20}(?=\s))?")
_FRACTION = re.compile(r"\\[dt]?frac\s?\{[^{}]{0,40}\}\s?\{[^{}]{0,40}\}")
_WRAPPED = re.compile(r"~?\\(?:boxed|fbox|mbox|text|text[a-z]{2}|math[a-z]{2})\s?\{")
_COMMAND = re.compile(r"\\(?:(?:left|right|big|Big|displaystyle|qquad|quad)(?![A-Za-z])|[,;:! \n()\[\]])")
_MEANING = {r"\rightarrow": "→", r"\to": " to ", r"\sim": "~", r"\approx": "~", r"\%": "%", r"\$": "$", r"\_": "_"}
_MEANT = re.compile("|".join(rf"{re.escape(command)}(?![A-Za-z])" for command in _MEANING))
# A dollar before a digit closes no formula: "from $5 to $10" has none.
_FORMULA = re.compile(r"\$\$?(?=\S)([^$]{1,200})(?<=\S)\$\$?(?![0-9])")


def normalised(text: str) -> str:
    """The text in Unicode's compatible form (NFKC), without characters that cannot be seen.

    Digits that are no plain ones stay as they are, so that `10²` is not 102. Of a run of combining marks the first
    `MAX_MARKS` count.
    """
    if text.isascii():
        return text
    kept: list[str] = []
    num_marks = 0
    for char in text:
        form, is_mark = _compatible(char)
        if not form:
            continue
        num_marks = num_marks + 1 if is_mark else 0
        if num_marks <= MAX_MARKS:
            kept.append(form)
    return unicodedata.normalize("NFC", "".join(kept))


def bounded(text: str, max_chars: int = MAX_ANSWER_CHARS) -> str | None:
    """The normalised text; None if the text, or its normalised form, is longer than any answer."""
    form = normalised(text) if len(text) <= max_chars else text
    return form if len(form) <= max_chars else None


def plain(text: str) -> str:
    """The normalised text without control tokens, code fences, and the commands and dollars of LaTeX around its words."""
    text = _FENCE.sub(" ", _TOKEN.sub(" ", normalised(text)))
    text = _FORMULA.sub(r"\1", text)
    if "\\" in text:
        text = _MEANT.sub(lambda match: _MEANING[match[0]], _FRACTION.sub("?", text))
        text, num_wrapped = _WRAPPED.subn(" ", _COMMAND.sub(" ", text))
        text = text.replace("}", " ") if num_wrapped else text
    return text


@functools.lru_cache(maxsize=4096)
def _compatible(char: str) -> tuple[str, bool]:
    """A character's compatible form, and whether that is a combining mark."""
    form = "" if char in _INVISIBLE else unicodedata.normalize("NFKC", char)
    has_digits = any("0" <= each <= "9" for each in form) and not char.isascii()
    if has_digits and not unicodedata.decomposition(char).startswith(_SAME_DIGITS):
        form = char
    return form, form != "" and unicodedata.combining(form[0]) != 0
