"""Where a text says which option it means: labels such as "the answer is", and the options that it only rejects."""

import json
import re

_NOUN = r"(?:option|choice|letter)"
_GOOD = r"(?:most\ |very\ )?(?:final|correct|right|best|true|likely|accurate|appropriate|suitable|plausible|chosen|selected)"
_SURELY = r"(?:(?:therefore|thus|clearly|definitely|certainly|most\ likely|likely|probably|indeed|simply|obviously|still|but|rather|actually)\b[,\ ]{0,2})?"
_BEING = r"(?:(?:is|are|was|should\ be|must\ be|would\ be|will\ be|has\ to\ be|:|=|→|->|[-–—](?=\ ))\s?){0,3}+"
_OPEN = r"[\s:\"'*(\[]*+"
_LABEL_TEXT = rf"""
    (?:{_GOOD}\ ){{0,3}}+(?:answer|ans)\b(?:\ (?:to|that|which|for)\ [a-z\ ]{{1,40}}?(?=\ is\b|:))?["'*]{{0,3}}\s?{_BEING}{_SURELY}(?:(?:the\ )?(?:{_GOOD}\ )?{_NOUN}\b)?{_OPEN}
  | (?:{_GOOD}\ ){{1,3}}+(?:{_NOUN}|one|statement|description)\b["'*]{{0,3}}\s?{_BEING}{_SURELY}(?:(?:the\ )?{_NOUN}\b)?{_OPEN}
  | (?:正确|最终|最佳|标准)?(?:答案|回答)(?:应该|应当|应)?[是为选]?(?:选项)?\s?[:=]?{_OPEN}
"""
LABEL = re.compile(
    rf"""(?:(?:so|thus|hence|therefore),?\ )?(?:(?:my|the)\ )?
        (?:{_LABEL_TEXT}|{_NOUN}\b\ ?(?:is|are|:|=)*+{_OPEN}|(?:选项|选择|选)\s?[:是为]?{_OPEN})""",
    re.VERBOSE | re.IGNORECASE,
)
"""What may stand before an option that is nothing but the answer: `Answer: `, `The correct option is `, `Option `."""

_STATEMENT = re.compile(
    rf"""(?<![A-Za-z])(?:{_LABEL_TEXT}
      | i['’]m\ going\ (?:to\ go\ )?with\ (?:(?:the\ )?{_NOUN}\b)?{_OPEN}
      | i(?:['’]d|['’]ll|\ would|\ will)?\ (?:have\ to\ )?
        (?:choose|chose|select|selected|pick|picked|say|go\ with|opt\ for|answer)\ (?:it\ is\ |it['’]s\ )?(?:(?:the\ )?{_NOUN}\b)?{_OPEN}
      | (?:corresponds?\ to|match(?:es)?|points?\ to|supports?)\ (?:the\ )?(?:{_GOOD}\ )?(?:{_NOUN}|answer)\b{_OPEN}
      | (?<![不能])选(?![项题])择?\s?[:是为]?{_OPEN})""",
    re.VERBOSE | re.IGNORECASE,
)
_DOUBT = re.compile(
    r"n['’]t\b|\b(?:not|never|hardly|doubt|unlikely|if|whether|unless|suppose|assuming|why)\b|\b(?:is|was)(?:\ the)?\ ?\Z|如果|不是|不",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.,;:!?。，；\n]|\b(?:so|but|therefore|thus|hence|because|and)\b", re.IGNORECASE)
_JOINED = re.compile(r"(?:\b(?:or|and)|[,/;或和])\s*+(?:the\s?)?\Z", re.IGNORECASE)
_NUM_STATEMENTS = 3
_BOXED = re.compile(r"\\f?box(?:ed)?\s?\{")

_LETTER = (
    r"(?<![\w'’°-])(?:(?i:options?|choices?|answers?|letters?)\ )?[(\[\"'*]{0,3}"
    r"(?:[A-HJ-Z]|I(?!\ [a-z]))[)\]\"'*.]{0,3}(?![\w'’-])"
)
_WRONG = (
    r"(?:wrong|incorrect|false|impossible|unlikely|irrelevant|ruled\ out|eliminated|excluded|inaccurate|untrue|out)\b"
)
_LETTERS = rf"{_LETTER}(?:\ ?(?:,|/|,?\ ?(?:and|or|nor))\ {_LETTER}){{0,6}}+"
_REJECTED = re.compile(
    rf"""(?:n['’]t|\b(?i:not|cannot|never|neither|nor|rather\ than|instead\ of|unlike|rules?\ out|ruled\ out|ruling\ out|eliminat(?:e|es|ed|ing)
          |exclud(?:e|es|ed|ing)))(?:\ \w{{1,12}}){{0,2}}?\ {_LETTERS}
      | 不(?:是|选|能选)(?:选项)?\ ?{_LETTERS}
      | {_LETTERS}(?:
          \ (?i:is|are|was|were)(?:\ (?i:clearly|both|all|also|definitely|obviously|simply|just|therefore|thus)){{0,2}}
            \ (?i:not\b(?!\ (?:wrong|incorrect))|{_WRONG})
          | (?::\ |\ \(|\ )(?i:wrong|incorrect|false)\b
          | \ (?i:(?:isn|aren|doesn|don|can|couldn|wasn)['’]t|cannot|does\ not|do\ not|or\ not
              |can\ be\ (?:ruled\ out|eliminated|excluded|dismissed))\b
          | \ ?(?:是|为)?(?:不对|不正确|错误|错的|错))""",
    re.VERBOSE,
)
_KEYS = ("answer", "finalanswer", "correctanswer", "option", "choice", "letter", "prediction", "response")


def labelled_boxes(text: str) -> str:
    r"""The text with `answer: ` for every `\boxed{`: what stands in the box is the answer."""
    return _BOXED.sub(lambda match: f" answer: {match[0]}", text) if "\\" in text else text


def statements(text: str) -> list[str]:
    """What follows the last few labels of the text, each up to the end, the last label first; doubted ones are left out."""
    found = list(_STATEMENT.finditer(text))[-_NUM_STATEMENTS:]
    return [text[match.end() :] for match in reversed(found) if not is_doubted(text, match.start())]


def stated_before_last(text: str) -> str:
    """What stands between the last two labels, "or" and the like left out; empty where there are no two."""
    found = list(_STATEMENT.finditer(text))[-2:]
    return "" if len(found) < 2 else _JOINED.sub("", text[found[0].end() : found[1].start()])


def is_doubted(text: str, position: int) -> bool:
    """Whether the words right before a position deny or suppose what follows: `I don't think the answer is`, `if`."""
    clause = _CLAUSE_END.split(text[max(0, position - 60) : position])[-1]
    return _DOUBT.search(clause) is not None


def without_rejected(text: str) -> str:
    """The text without the letters that it speaks against: `not A`, `A is wrong`, `rather than (A)`."""
    return _REJECTED.sub(" ", text)


def json_answer(text: str) -> str | None:
    """The text under a key such as `answer` of the JSON object in `text`; None without one."""
    start, end = text.find("{"), text.rfind("}")
    if not 0 <= start < end:
        return None
    try:
        found = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    values = {str(key).casefold().replace("_", "").replace(" ", ""): value for key, value in found.items()}
    value = next((values[key] for key in _KEYS if key in values), None)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return value if isinstance(value, str) else None
