"""Chosen options in model text: a letter in any usual dress, an option's own words, or one of a few named labels."""

import re
from collections.abc import Iterator, Sequence

from videochat_r1.parsing.plain import bounded, normalised, plain
from videochat_r1.parsing.statements import (
    LABEL,
    is_doubted,
    json_answer,
    labelled_boxes,
    stated_before_last,
    statements,
    without_rejected,
)
from videochat_r1.sample import LETTERS

_END_MARKS = " \t\r\n\"'`“”‘’*_()[]{}<>.,;:!?…–—•-。、「」『』【】《》"
# A mark before a digit may be a sign or a decimal point, which changes the number.
_START_MARKS = re.compile(r"(?:[\s\"'`“”‘’*_()\[\]{}<>「」『』【】《》]|→|#++(?=\s)|[.,;:!?…–—•-](?![0-9.]))++")
_HEAD = re.compile(
    r"([A-Za-z])(?:(?P<mark>[)\].:}>*。、]++|[,–—-](?=\s)|\ ?(?=[/,&+]\ ?[(\[]?[A-Za-z]\b))|(?=\s|$))\s*+(?P<rest>.*)",
    re.DOTALL,
)
_ALSO = re.compile(r"(?:and|or|nor|[/,&+])+\s?[(\[]?([A-Za-z])\b", re.IGNORECASE)
_BRACKETED = re.compile(r"[(\[]\s?([A-Za-z])\s?[)\]]")
# What follows the article in "A man"; "A is right" and "A He opens it" speak of option A.
_ARTICLE = re.compile(r"(?!(?:is|was|because|since|as|and|or|the|he|she|it|they|there|this)\b)[^\W\d_]", re.IGNORECASE)
_STANDING_ALONE = re.compile(
    rf"(?<![\w'’°-])(?:[B-HJ-Z]|A(?!\s(?i:{_ARTICLE.pattern}))|I(?!\s[a-z]))(?![\w'’-])",
)
_CLOSING = re.compile(
    r"""(?:\b(?i:so|but|hence|thus|therefore|it['’]s|is|be|probably|likely|definitely|clearly|option|choice|letter)\b|[,:])\s?
        (?:the\ )?(?i:(?:option|choice|letter)\ )?["'*(\[]{0,4}([A-Z])[\s)\]"'*.!。]{0,6}\Z""",
    re.VERBOSE,
)
_VERDICT = re.compile(
    r"(?<![\w'’-])([A-Z])[)\]]?\ (?:is|seems|looks)\ (?:clearly\ )?(?:the\ )?(?:only\ |most\ )?"
    r"(?:correct|right|best|accurate|appropriate|answer)\b"
)
_LETTERED = re.compile(
    r"\s*(?:[(（\[【]([A-Za-zＡ-Ｚａ-ｚ])[)）\]】]|([A-Za-zＡ-Ｚａ-ｚ])[.):．：）、])\s*(.*)", re.DOTALL
)
# Scripts without spaces: a letter beside their signs is a word of its own.
_BESIDE_SIGNS = re.compile(r"(?<=[\u3040-\u9fff])(?=[A-Za-z])|(?<=[A-Za-z])(?=[\u3040-\u9fff])")
_LETTER_BEHIND = re.compile(r"(.*\S)\s*+[(\[]([A-Za-z])[)\]][\s.]*", re.DOTALL)
_OR = re.compile(r"(?:or|and)\ ", re.IGNORECASE)
_LINES_LOOKED_AT = 3
_OFFICIAL_PREFIX = re.compile(r"The (?:(?:best|correct) )?answer(?: is)?")


def parse_letter(text: str, options: Sequence[str], *, bare: bool = False) -> str | None:
    """The letter of the one option that `text` names; None if it names none, or several that differ.

    Read are the letter alone (`C`, `(c)`, `C.`), behind a label (`Answer: C`, `The answer is (C)`), before the option's text or
    an explanation (`(C) unwrap it`), and the option's text itself, which may stand behind a label too. Of an argument that
    labels its conclusion, the last label counts; options that it rejects (`A is wrong`) are not named. A letter past
    the last option names nothing. Options with the same text are one: naming both is no contradiction.

    Args:
        text: the payload of an answer.
        options: texts without letters, the first is A.
        bare: whether an explanation after the letter makes the answer unreadable.
    """
    form = bounded(text)
    if form is None:
        return None
    index = _stated(form, options)
    if index is None:
        spoken = plain(labelled_boxes(form))
        index = _stated(plain(form), options)
        index = _bare(spoken, options) if index is None else index
        if index is None and not bare:
            index = _spoken(spoken, options)
    return None if index is None or index >= len(LETTERS) else LETTERS[index]


def option_texts(options: Sequence[str]) -> tuple[str, ...]:
    """The options, stripped, without their letters: `(B) a cat`, second of its list, is `a cat`.

    Letters are taken off only where every option carries its own, so that a text such as `A. Smith` stays whole, and where
    they are not all there is.
    """
    lettered = [match for option in options if (match := _LETTERED.fullmatch(option))]
    letters = normalised("".join(match[1] or match[2] for match in lettered)).upper()
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


def parse_choice(text: str, choices: Sequence[str], *, bare: bool = False) -> str | None:
    """The choice that `text` is, ignoring case, spacing and outer punctuation; None unless it matches completely.

    Args:
        text: the payload of an answer.
        choices: what it may be.
        bare: whether an argument before the answer makes it unreadable.
    """
    form = bounded(text)
    if form is None:
        return None
    spoken = _by_line(plain(labelled_boxes(form)))
    label = LABEL.match(strip_outer(spoken))
    said = [form, plain(form), *([strip_outer(spoken)[label.end() :]] if label else [])]
    if not bare:
        said += [
            json_answer(spoken) or "",
            *(part for body in statements(spoken) for part in (body, body.partition("\n")[0])),
        ]
    index = next((index for each in said if (index := _match(each, choices)) is not None), None)
    return None if index is None else choices[index]


def official_letter(text: str, num_options: int) -> str | None:
    """The first capital letter of an option anywhere in `text`, as the authors of Video-MME and LongVideoBench read answers.

    "The answer is" and its like are left out first. A letter inside of a word counts (`Because` is B, `Answer: C` is A), a
    small one does not. None where no option's letter occurs: Video-MME counts that as wrong, LongVideoBench draws one.
    """
    letters = LETTERS[:num_options]
    return next((mark for mark in _OFFICIAL_PREFIX.sub("", text) if mark in letters), None)


def strip_outer(text: str) -> str:
    """The text without quotes, brackets and punctuation around it; signs and decimal points of numbers stay."""
    start = _START_MARKS.match(text)
    return text[start.end() if start else 0 :].rstrip(_END_MARKS)


def _clean(text: str) -> str:
    """One form for full-width letters and all white space."""
    return " ".join(_BESIDE_SIGNS.sub(" ", normalised(text)).split())


def _by_line(text: str) -> str:
    """The same, with one line break where there are some."""
    return "\n".join(line for each in text.splitlines() if (line := _clean(each)))


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
    """Index of the option if `text` is nothing but its letter, its text, or its text and its letter behind it."""
    index = _index(strip_outer(_clean(text)), options)
    index = _match(text, options) if index is None else index
    behind = _LETTER_BEHIND.fullmatch(text) if index is None else None
    named = _index(behind[2], options) if behind else None
    return named if behind and named is not None and _match(behind[1], [options[named]]) == 0 else index


def _index(letter: str, options: Sequence[str]) -> int | None:
    index = LETTERS.find(letter.upper()) if len(letter) == 1 else -1
    return index if 0 <= index < len(options) else None


def _same(first: int, second: int, options: Sequence[str]) -> bool:
    """Whether two indices are of options that are right together; options without text have only their letters."""
    text = same_text(options[first])
    return first == second or (text != "" and text == same_text(options[second]))


def _bare(text: str, options: Sequence[str]) -> int | None:
    """Index of the option that `text` is, with nothing but a label before the letter and the option's text behind it."""
    words = strip_outer(_clean(text))
    label = LABEL.match(words)
    body = words[label.end() :] if label else words
    index = _stated(body, options) if label else None
    return _led(body, options, bare=True, labelled=label is not None) if index is None else index


def _spoken(text: str, options: Sequence[str]) -> int | None:
    """Index of the option that an explanation or an argument comes to."""
    quoted = json_answer(text)
    if quoted is not None:
        letter = parse_letter(quoted, options, bare=True)
        return None if letter is None else LETTERS.index(letter)
    words = strip_outer(_by_line(without_rejected(_by_line(text))))
    before = _stated(stated_before_last(words), options)
    for body in statements(words):
        index = _said(body, options, labelled=True)
        if index is not None:
            return index if before is None or _same(index, before, options) else None
        if any(True for _ in _letters(body)):
            return None
    label = LABEL.match(words)
    index = _said(words[label.end() :] if label else words, options, labelled=label is not None)
    return _concluded(words, options) if index is None else index


def _said(text: str, options: Sequence[str], *, labelled: bool) -> int | None:
    """Index of the option that a text begins with: of all of it, or of its first line if no later line is an option too."""
    index = _stated(text, options)
    index = _led(text, options, bare=False, labelled=labelled) if index is None else index
    first, *others = text.split("\n", _LINES_LOOKED_AT + 1)
    if index is None and others:
        index = _bare(first, options)
        lines = [_OR.sub("", line) for line in others[:_LINES_LOOKED_AT]]
        named = [other for line in lines if (other := _bare(line, options)) is not None]
        return index if index is not None and all(_same(index, other, options) for other in named) else None
    return index


def _concluded(words: str, options: Sequence[str]) -> int | None:
    """Index of the option that an argument ends with: as its last line, as in `so C`, or `C is right`.

    None if the argument speaks of other letters too, as far as their line does not say that they are wrong.
    """
    lines = words.split("\n")
    last = _bare(lines[-1], options) if len(lines) > 1 else None
    ends = [_CLOSING.search(words), *list(_VERDICT.finditer(words))[-1:]]
    ends = [match for match in ends if match and not is_doubted(words, match.start())]
    found = [last] if last is not None else [_index(match[1], options) for match in ends if match]
    index = next((each for each in found if each is not None), None)
    if index is None:
        return None
    named = [_index(letter, options) for letter in _letters(words)]
    return index if all(other is None or _same(index, other, options) for other in named) else None


def _led(body: str, options: Sequence[str], *, bare: bool, labelled: bool) -> int | None:
    """Index of the option whose letter `body` begins with, if what follows is its text or names no other option."""
    head = _HEAD.fullmatch(body)
    index = _index(head[1], options) if head else None
    if head is None or index is None:
        return None
    rest = head["rest"]
    if not strip_outer(rest) or _match(rest, [options[index]]) is not None:
        return index
    # "A man", "I think" and "E.g." begin with a word, not with a letter.
    if head["mark"] is None:
        is_word = (head[1] in "aAiI" and _ARTICLE.match(rest) is not None) or not (labelled or head[1].isupper())
    else:
        is_word = head["mark"] == "." and head.start("rest") == head.end("mark") and rest[:1].islower()
    if bare or is_word:
        return None
    return index if all(_same(index, other, options) for other in _named(rest, options, index)) else None


def _named(rest: str, options: Sequence[str], index: int) -> Iterator[int]:
    """Indices of the options that the words after the first letter name, by letter or by text."""
    letters = [*_letters(rest), *(match[1] for match in [_ALSO.match(rest)] if match)]
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


def _letters(text: str) -> Iterator[str]:
    """The letters that stand in brackets or alone in a text."""
    yield from (match[1] for match in _BRACKETED.finditer(text))
    yield from (match[0] for match in _STANDING_ALONE.finditer(text))
