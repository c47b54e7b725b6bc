"""How much of a true text an answer has: ROUGE and the share of right words, exact and in next to linear time."""

import functools
from collections.abc import Sequence
from typing import Any

from videochat_r1.parsing.plain import normalised
from videochat_r1.parsing.words import spaced_words, words

_STEMMED = range(4, 41)
"""Letters of the words that are stemmed: rouge-score's least, and the longest that a stemmer is made for."""


class _Spaces:
    """A tokenizer of words that are already found."""

    @staticmethod
    def tokenize(text: str) -> list[str]:
        return text.split()


def rouge_words(text: str) -> list[str]:
    """The words of a text in any script as ROUGE compares them: in lower case, English ones stemmed."""
    stem = _stemmer().stem
    found = words(normalised(text).lower())
    return [stem(word) if word.isascii() and len(word) in _STEMMED else word for word in found]


def rouge(answer: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L of two lists of words.

    The first two are rouge-score's. The longest common subsequence is rapidfuzz's, which is rouge-score's number without its
    table of n x m entries: words of 20,000 characters take some hundredths of a second.
    """
    from rapidfuzz.distance import LCSseq

    found = _scorer().score(" ".join(truth), " ".join(answer))
    common = LCSseq.similarity(truth, answer)
    return {
        "ROUGE-1": float(found["rouge1"].fmeasure),
        "ROUGE-2": float(found["rouge2"].fmeasure),
        "ROUGE-L": 2.0 * common / max(1, len(truth) + len(answer)),
    }


def released_rouge(answer: str, truth: str) -> float:
    """The mean of the three as rouge-score makes it of texts, with the stemmer: words of a to z and digits alone."""
    from rouge_score.tokenize import tokenize

    parts = rouge(tokenize(answer, _stemmer()), tokenize(truth, _stemmer()))
    return sum(parts.values()) / len(parts)


def word_accuracy(answer: str, truth: str) -> float:
    """1 - WER (jiwer's), at least 0: every word left out, put in or changed counts, over the words of the truth.

    Case and marks count, white space does not.
    """
    return 1.0 - min(1.0, word_error_rate(spaced_words(normalised(answer)), spaced_words(normalised(truth))))


def word_error_rate(answer: Sequence[str], truth: Sequence[str]) -> float:
    """jiwer's, of words that hold no white space; the truth has at least one."""
    import jiwer

    return float(jiwer.wer(" ".join(truth), " ".join(answer)))


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2"], tokenizer=_Spaces())


@functools.cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()
