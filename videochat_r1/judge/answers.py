"""What a judge is asked about answers to questions. Whoever changes a word here changes `PROMPT_VERSION`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from videochat_r1.judge.prompts import BadReplyError, Question, clean, data_block, object_schema
from videochat_r1.sample import LETTERS

NONE = "none"
_LONGEST_ANSWER = 200

_SAME_TASK = """\
The block holds a question about a video, its true answer, and the answer that an author gave.

Decide whether the author's answer says the same as the true answer: other words, more detail or another way of writing a number
are no difference; another thing, another amount or no answer at all are one.

{block}

Reply with {{"same": true}} or {{"same": false}}."""

_FINAL_TASK = """\
The block holds a question, and the answer that an author gave, which is longer or in other words than was asked for.

Find what the author finally answers. Do not answer the question yourself, and do not correct the author.

{block}

{reply}"""

_RATE_TASK = """\
The block holds {what}, and the answer that an author gave to a question about a video.

Rate the author's answer with whole numbers from 1, the worst, to 5, the best:
{respects}

{block}

Reply with {{"ratings": {{{names}}}}}, giving a rating for each of these names."""

_POINTS = """\
- for the number of each point: 5 if the answer tells it rightly, 3 if it tells something of it but not rightly, 1 if it misses it;
- relevance: how far the answer keeps to the question, and how sure it is of itself, be it right or wrong: 1 for one about something
  else, 5 for one that answers it with certainty and adds nothing that was not asked."""
_SUMMARY = """\
- completeness: how much of the main content and of the key points of the true summary the answer covers: 1 for hardly any, 5 for all;
- reliability: how correct and clear the answer is: 1 for several errors and contradictions, 5 for none. What the true summary does not
  tell is no error unless it contradicts it."""
_GRADES, _POINT_GRADES = (1, 2, 3, 4, 5), (1, 3, 5)

_CHOOSE_TASK = """\
The block holds the description of a video, and a question about this video with its options by letter.

Answer the question from the description alone. If the description does not tell which option is right, the answer is none.

{block}

Reply with {{"option": ...}}, giving the letter of the option, or none."""


def same_answer_question(question: str, truth: str, answer: str) -> Question[bool]:
    """Asks whether an answer says what the true one does."""
    block = data_block({"question": clean(question), "true answer": clean(truth), "author's answer": clean(answer)})

    def read(reply: Mapping[str, Any]) -> bool:
        same = reply.get("same")
        if not isinstance(same, bool):
            raise BadReplyError(f"`same` is neither true nor false: {str(same)[:40]!r}")
        return same

    return Question("same", _SAME_TASK.format(block=block), _schema("same", {"type": "boolean"}), read)


def choose_question(description: str, question: str, options: Sequence[str]) -> Question[str | None]:
    """Asks which option a description speaks for; None for none of them."""
    texts = _lettered(options)
    block = data_block({"description": clean(description), "question": clean(question), "options": texts})
    return Question("choose", _CHOOSE_TASK.format(block=block), _option_schema(texts), partial(_read_option, texts))


def final_option_question(question: str, answer: str, options: Sequence[str]) -> Question[str | None]:
    """Asks which option an answer ends with; None for none of them."""
    texts = _lettered(options)
    block = data_block({"question": clean(question), "options": texts, "author's answer": clean(answer)})
    reply = 'Reply with {"option": ...}, giving the letter of the option that the author means, or none if that cannot be told.'
    user = _FINAL_TASK.format(block=block, reply=reply)
    return Question("final_option", user, _option_schema(texts), partial(_read_option, texts))


def final_text_question(question: str, answer: str, form: str) -> Question[str | None]:
    """Asks for the value that an answer ends with; None for none.

    Args:
        question: that was asked.
        answer: of the author.
        form: what the value is, in words: "the number in digits".
    """
    block = data_block({"question": clean(question), "author's answer": clean(answer)})
    reply = f'Reply with {{"answer": ...}}, giving {form} and no other word, or none if there is none.'

    def read(reply: Mapping[str, Any]) -> str | None:
        text = reply.get("answer")
        if isinstance(text, bool) or not isinstance(text, str | int | float) or len(str(text)) > _LONGEST_ANSWER:
            raise BadReplyError(f"`answer` is no short text: {str(text)[:40]!r}")
        return None if str(text).strip().lower() in ("", NONE) else str(text).strip()

    return Question(
        "final_text", _FINAL_TASK.format(block=block, reply=reply), _schema("answer", {"type": "string"}), read
    )


def scene_question(question: str, points: Sequence[str], answer: str) -> Question[dict[str, int]]:
    """Asks how far the description of a scene tells each point (by its number from 1: 1, 3 or 5), and for its `relevance` (1 to 5)."""
    numbered = {str(number): clean(point) for number, point in enumerate(points, start=1)}
    data = {"question": clean(question), "points": numbered, "author's answer": clean(answer)}
    grades = {**dict.fromkeys(numbered, _POINT_GRADES), "relevance": _GRADES}
    return _rate_question("a question, numbered points of a right answer", _POINTS, data, grades)


def summary_question(truth: str, answer: str) -> Question[dict[str, int]]:
    """Asks for the `completeness` and the `reliability` of a summary, from 1 to 5."""
    data = {"true summary": clean(truth), "author's answer": clean(answer)}
    return _rate_question("a true summary", _SUMMARY, data, dict.fromkeys(("completeness", "reliability"), _GRADES))


def _rate_question(
    what: str, respects: str, data: Mapping[str, Any], grades: Mapping[str, Sequence[int]]
) -> Question[dict[str, int]]:
    """Asks for a rating by each name of `grades`, one of its numbers."""
    names = ", ".join(f'"{name}": ...' for name in grades)
    user = _RATE_TASK.format(what=what, respects=respects, block=data_block(data), names=names)
    schema = {name: {"type": "integer", "enum": list(allowed)} for name, allowed in grades.items()}

    def read(reply: Mapping[str, Any]) -> dict[str, int]:
        ratings = reply.get("ratings")
        if not isinstance(ratings, dict) or ratings.keys() != grades.keys():
            raise BadReplyError(f"`ratings` has not exactly the names {', '.join(grades)}: {str(ratings)[:80]!r}")
        odd = [name for name, value in ratings.items() if isinstance(value, bool) or value not in grades[name]]
        if odd:
            raise BadReplyError(
                f"the rating {ratings[odd[0]]!r} of {odd[0]} is none of {', '.join(map(str, grades[odd[0]]))}"
            )
        return {name: int(ratings[name]) for name in grades}

    return Question("rate", user, _schema("ratings", object_schema(schema)), read)


def _lettered(options: Sequence[str]) -> dict[str, str]:
    return {letter: clean(option) for letter, option in zip(LETTERS[: len(options)], options, strict=True)}


def _option_schema(options: Mapping[str, str]) -> dict[str, Any]:
    return _schema("option", {"type": "string", "enum": [*options, NONE]})


def _read_option(options: Mapping[str, str], reply: Mapping[str, Any]) -> str | None:
    option = reply.get("option")
    if not isinstance(option, str) or option.upper() not in (*options, NONE.upper()):
        raise BadReplyError(f"`option` is {str(option)[:40]!r}; expected one of {', '.join(options)}, {NONE}")
    return option.upper() if option.upper() in options else None


def _schema(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return object_schema({name: dict(value)})
