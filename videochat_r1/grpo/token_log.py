"""The tokens of completions, with their log-probabilities, as the log of rollouts holds them and as they are read back. No torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from videochat_r1.grpo.tally import is_number

_DIGITS = 2
_DIGITS_OF_DIFFERENCES = 4


class Token(NamedTuple):
    """A stretch of a text.

    Args:
        start, end: of its characters; none where the token is no text, or part of a character that a later one ends.
        logp: log-probability, the sampler's.
        difference: by how much it is above the trainer's; None where the log does not say.
    """

    start: int
    end: int
    logp: float
    difference: float | None


class TokenLog:
    """Cuts completions into their tokens.

    Args:
        tokenizer: has `decode`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._decode: Callable[[list[int]], str] = partial(tokenizer.decode, skip_special_tokens=True)
        self._pieces: dict[int, str] = {}

    def of(
        self, ids: Sequence[int], logps: Sequence[float], whole: Callable[[str], str], logged: str
    ) -> dict[str, Any]:
        """What the log holds of a completion: `lengths` in characters and `logps`, one per token; all that is before them was
        not sampled.

        Args:
            ids: that were sampled.
            logps: of each.
            whole: the completion whose sampled rest is given, as the model wrote it.
            logged: as the log has it; where that is another, `text` holds what the model wrote.
        """
        sampled = self._decode(list(ids))
        text = whole(sampled)
        lengths = self._lengths(list(ids), text, len(text) - len(sampled))
        held = {"lengths": lengths, "logps": [_short(logp, _DIGITS) for logp in logps]}
        return held if text == logged else {**held, "text": text}

    def _lengths(self, ids: list[int], text: str, place: int) -> list[int]:
        """Of the tokens whose text begins at a place."""
        lengths, first = [], 0
        for number, token in enumerate(ids):
            # A few bytes of a character are no text before the others are there.
            piece = self._piece(token) if first == number else self._decode(ids[first : number + 1])
            fits = text.startswith(piece, place)
            lengths.append(len(piece) if fits else 0)
            if fits:
                place, first = place + len(piece), number + 1
        if lengths:
            lengths[-1] += len(text) - place
        return lengths

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._decode([token])
        return self._pieces[token]


def with_differences(held: Mapping[str, Any], differences: Sequence[float]) -> dict[str, Any]:
    """What `TokenLog.of` gives, with the sampler's log-probability less the trainer's of each token."""
    return {**held, "differences": [_short(value, _DIGITS_OF_DIFFERENCES) for value in differences]}


def read_tokens(rollout: Mapping[str, Any]) -> tuple[str, list[Token]]:
    """The text of a logged completion and its tokens; none where they were not logged, or do not fit the text."""
    text, held = str(rollout.get("completion") or ""), rollout.get("tokens")
    if not isinstance(held, dict):
        return text, []
    whole = held.get("text", text)
    lengths, logps = held.get("lengths"), held.get("logps")
    differences = held.get("differences")
    if not (isinstance(whole, str) and isinstance(lengths, list) and isinstance(logps, list)):
        return text, []
    counts = all(type(length) is int and length >= 0 for length in lengths)
    if not counts or len(lengths) != len(logps) or sum(lengths) > len(whole) or not all(map(is_number, logps)):
        return text, []
    if not (isinstance(differences, list) and len(differences) == len(logps) and all(map(is_number, differences))):
        differences = [None] * len(logps)
    places = pairwise(accumulate(lengths, initial=len(whole) - sum(lengths)))
    return whole, [
        Token(start, end, float(logp), difference)
        for (start, end), logp, difference in zip(places, logps, differences, strict=True)
    ]


def _short(value: float, digits: int) -> float | None:
    """In few characters of JSON, which has no NaN."""
    if not math.isfinite(value):
        return None
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded
