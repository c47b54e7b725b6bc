"""Multiple-choice fields as corpora write them: options with or without their letters, answers as letter or text."""

import re
import unicodedata
from collections.abc import Sequence

from videochat_r1.sample import LETTERS

_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")


def option_texts(options: Sequence[str]) -> tuple[str, ...]:
    """The options, stripped, without their letters: `(B) a cat`, second of its list, is `a cat`.

    Letters are taken off only where every option carries its own, so that a text such as `A. Smith` stays whole.
    """
    lettered = [
        re.fullmatch(rf"\s*(?:\({letter}\)|{letter}[.:)])(?:\s+(.*)|)", option, re.DOTALL)
        for letter, option in zip(LETTERS, options, strict=False)
    ]
    if len(lettered) < len(options) or not all(lettered):
        return tuple(option.strip() for option in options)
    return tuple((match[1] or "").strip() for match in lettered if match)


def answer_letter(answer: str, options: Sequence[str]) -> str:
    """The letter of the right option; the answer as written when it is none of them, which the checks report.

    Args:
        answer: `C`, `(C)`, or an option's text (the first of several equal ones).
        options: texts without letters.
    """
    text = answer.strip()
    match = _LETTER.fullmatch(text)
    if match and LETTERS.index(match[1].upper()) < len(options):
        return match[1].upper()
    known = [same_text(option) for option in options]
    return LETTERS[known.index(same_text(text))] if same_text(text) in known[: len(LETTERS)] else text


def same_text(option: str) -> str:
    """What two options share when the answer parser takes them for the same: words, whatever the case and spacing."""
    return " ".join(unicodedata.normalize("NFKC", option).split()).casefold()
