"""What counts as a number in model text, and how much of a text is read at all."""

import math
import re

MAX_ANSWER_CHARS = 20_000
"""Longer payloads are no answer to any task here; the bound keeps hostile text cheap."""

MAX_MAGNITUDE = 1e6
"""Seconds or coordinates past this (eleven days of video) are not believed; with it no sum can overflow."""

UNSIGNED = r"(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?+"
_NUMBER = re.compile(r"[-+−]?" + UNSIGNED)


def parse_number(text: str) -> float | None:
    """The finite number that `text` is, with |value| at most `MAX_MAGNITUDE`; None for anything else."""
    if _NUMBER.fullmatch(text) is None:
        return None
    value = float(text.replace("−", "-"))
    return value if math.isfinite(value) and abs(value) <= MAX_MAGNITUDE else None
