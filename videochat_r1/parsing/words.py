"""The words of a text in any script: signs of scripts that set no spaces are words of their own."""

import re

SIGN = "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
"""A sign of Chinese or Japanese."""
LETTER = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
"""A letter of Thai, Lao, Burmese or Khmer."""

_WORD = re.compile(rf"{SIGN}|{LETTER}|(?:(?!{SIGN}|{LETTER})[^\W_])+")
_UNSPACED = re.compile(rf"({SIGN}|{LETTER})")


def words(text: str) -> list[str]:
    """Letters and digits alone, whatever marks stand between them."""
    return _WORD.findall(text)


def spaced_words(text: str) -> list[str]:
    """What stands between spaces, marks included."""
    return _UNSPACED.sub(r" \1 ", text).split()
