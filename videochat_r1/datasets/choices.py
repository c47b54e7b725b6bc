"""The right answer of a multiple-choice row as corpora write it: a letter or an option's text."""

from collections.abc import Sequence

from videochat_r1.parsing import parse_letter


def answer_letter(answer: str, options: Sequence[str]) -> str:
    """The letter of the right option; the answer as written when it is none of them, which the checks report.

    Args:
        answer: `C`, `(C)`, `(C) its text`, or an option's text (the first of several equal ones).
        options: texts without letters.
    """
    return parse_letter(answer, options, bare=True) or answer.strip()
