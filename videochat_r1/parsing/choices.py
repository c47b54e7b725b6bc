"""Chosen options in model text: a letter in any usual dress, an option's own words, or one of a few named labels."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS
from videochat_r1.sample import LETTERS

_END_MARKS = " \t\r\n\"'`“”‘’*_()[]{}<>.,;:!?…–—•-。、「」『』【】《》"
# A mark before a digit may be a sign or a decimal point, which changes the number.
_START_MARKS = re.compile(r"(?:[\s\"'`“”‘’*_()\[\]{}<>「」『』【】《》]|[.,;:!?…–—•-](?![0-9.]))++")
_LABEL = re.compile(
    r"""(?:(?:so|thus|hence|therefore),?\ )?(?:(?:my|the)\ )?(?:(?:final|correct|right|best)\ )*+
        (?:answer|option|choice|letter)\b\ ?(?:is|are|:|=)*+\ ?(?:(?:the\ )?(?:option|choice|letter)\b)?[\s:\"'*(\[]*+""",
    re.VERBOSE | re.IGNORECASE,
)
_HEAD = re.compile(
    r"([A-Za-z])(?:(?P<mark>[)\].:}>*]++|[,–—-](?=\ )|\ ?(?=[/,&+]\ ?[(\[]?[A-Za-z]\b))|(?=\ |$))\s*+(?P<rest>.*)",
    re.DOTALL,
)
_ALSO = re.compile(r"(?:and|or|nor|[/,&+])+\ ?[(\[]?([A-Za-z])\b", re.IGNORECASE)
_BRACKETED = re.compile(r"[(\[]\ ?([A-Za-z])\ ?[)\]]")
# What follows the article in "A man"; "A is wrong" speaks of option A.
_ARTICLE = re.compile(r"(?!(?:is|because|since|and|or)\b)[a-z]")
_STANDING_ALONE = re.compile(
    rf"(?<![\w'’-])(?:[B-HJ-Z]|A(?!\ {_ARTICLE.pattern})|I(?!\ [a-z]))(?![\w'’-])",
)
_LETTERED = re.compile(r"\s*(?:\(([A-Za-z])\)|([A-Za-z])[.):])\s*(.*)", re.DOTALL)


def parse_letter(text: str, options: Sequence[str], *, bare: bool = False) -> str | None:
    """The letter of the one option that `text` names; None if it names none, or several that differ.

    Read are the letter alone (`C`, `(c)`, `C.`), behind a label (`Answer: C`, `The answer is (C)`), before the option's text or
    an explanation (`(C) unwrap it`), and the option's text itself, which may stand behind a label too. A letter past the
    last option names nothing. Options with the same text are one: naming both is no contradiction.

    Args:
        text: the payload of an answer.
        options: texts without letters, the first is A.
        bare: whether an explanation after the letter makes the answer unreadable.
    """
    if len(text) > MAX_ANSWER_CHARS:
        return None
    index = _stated(text, options)
    if index is None:
        words = strip_outer(_clean(text))
        label = _LABEL.match(words)
        body = words[label.end() :] if label else words
        index = _stated(body, options) if label else None
        if index is None:
            index = _led(body, options, bare=bare, labelled=label is not None)
    return None if index is None or index >= len(LETTERS) else LETTERS[index]


def option_texts(options: Sequence[str]) -> tuple[str, ...]:
    """The options, stripped, without their letters: `(B) a cat`, second of its list, is `a cat`.

    Letters are taken off only where every option carries its own, so that a text such as `A. Smith` stays whole, and where
    they are not all there is.
    """
    lettered = [match for option in options if (match := _LETTERED.fullmatch(option))]
    letters = "".join(match[1] or match[2] for match in lettered).upper()
    bare = tuple(match[3].strip() for match in lettered)
    if len(lettered) == len(options) and letters == LETTERS[: len(options)] and any(bare):
        return bare
    return tuple(option.strip() for option in options)


def same_text(option: str) -> str:
    """What two options share that are taken for the same: words, whatever the case and spacing."""
    return _clean(option).casefold()


def same_option(letter: str, other: str, options: Sequence[str]) -> bool:
    """Whether two letters name the same option, or two options with the same text; letters past the last name none."""
    first, second = _index(letter, options), _index(other, options)
    return first is not None and second is not None and _same(first, second, options)


def parse_choice(text: str, choices: Sequence[str]) -> str | None:
    """The choice that `text` is, ignoring case, spacing and outer punctuation; None unless it matches completely."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    index = _match(text, choices)
    return None if index is None else choices[index]


def strip_outer(text: str) -> str:
    """The text without quotes, brackets and punctuation around it; signs and decimal points of numbers stay."""
    start = _START_MARKS.match(text)
    return text[start.end() if start else 0 :].rstrip(_END_MARKS)


def _clean(text: str) -> str:
    """One form for full-width letters and all white space."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _match(text: str, candidates: Sequence[str]) -> int | None:
    """Index of the candidate that `text` is: exactly first, else without outer punctuation if that leaves no doubt."""
    folded = same_text(text)
    folded_candidates = [same_text(candidate) for candidate in candidates]
    if folded in folded_candidates:
        return folded_candidates.index(folded)
    stripped = strip_outer(folded)
    found = [index for index, candidate in enumerate(folded_candidates) if strip_outer(candidate) == stripped]
    if not stripped or len({folded_candidates[index] for index in found}) != 1:
        return None
    return found[0]


def _stated(text: str, options: Sequence[str]) -> int | None:
    """Index of the option if `text` is nothing but its letter or its text."""
    index = _index(strip_outer(_clean(text)), options)
    return _match(text, options) if index is None else index


def _index(letter: str, options: Sequence[str]) -> int | None:
    index = LETTERS.find(letter.upper()) if len(letter) == 1 else -1
    return index if 0 <= index < len(options) else None


def _same(first: int, second: int, options: Sequence[str]) -> bool:
    """Whether two indices are of options that are right together; options without text have only their letters."""
    text = same_text(options[first])
    return first == second or (text != "" and text == same_text(options[second]))


def _led(body: str, options: Sequence[str], *, bare: bool, labelled: bool) -> int | None:
    """Index of the option whose letter `body` begins with, if what follows is its text or names no other option."""
    head = _HEAD.fullmatch(body)
    index = _index(head[1], options) if head else None
    if head is None or index is None:
        return None
    rest = head["rest"]
    if not strip_outer(rest) or _match(rest, [options[index]]) is not None:
        return index
    # "A man" and "I think" begin with a word, not with a letter.
    is_word = head["mark"] is None and (
        (head[1] in "aAiI" and _ARTICLE.match(rest) is not None) or not (labelled or head[1].isupper())
    )
    if bare or is_word:
        return None
    return index if all(_same(index, other, options) for other in _named(rest, options, index)) else None


def _named(rest: str, options: Sequence[str], index: int) -> Iterator[int]:
    """Indices of the options that the words after the first letter name, by letter or by text."""
    letters = [match[1] for match in _BRACKETED.finditer(rest)]
    letters += [match[0] for match in _STANDING_ALONE.finditer(rest)]
    letters += [match[1] for match in [_ALSO.match(rest)] if match]
    letters += [strip_outer(rest)]
    yield from (named for letter in letters if (named := _index(letter, options)) is not None)
    whole = _match(rest, options)
    if whole is not None:
        yield whole
    words_of_rest = same_text(rest)
    own = strip_outer(same_text(options[index]))
    without_own = words_of_rest.replace(own, " ") if own else words_of_rest
    for other, option in enumerate(options):
        words = strip_outer(same_text(option))
        # "car" inside the option's own "red car" is no second answer, "red car" around its own "car" is.
        text = without_own if words in own else words_of_rest
        if words and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text):
            yield other
