"""What a judge is asked about answers to questions. Whoever changes a word here changes `PROMPT_VERSION`."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.judge.prompts import BadReplyError, Question, clean, data_block
from videochat_r1.sample import LETTERS

NONE = "none"

_SAME_TASK = """\
The block holds a question about a video, its true answer, and the answer that an author gave.

Decide whether the author's answer says the same as the true answer: other words, more detail or another way of writing a number
are no difference; another thing, another amount or no answer at all are one.

{block}

Reply with {{"same": true}} or {{"same": false}}."""

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
    letters = LETTERS[: len(options)]
    texts = {letter: clean(option) for letter, option in zip(letters, options, strict=True)}
    block = data_block({"description": clean(description), "question": clean(question), "options": texts})

    def read(reply: Mapping[str, Any]) -> str | None:
        option = reply.get("option")
        if not isinstance(option, str) or (option.upper() not in (*letters, NONE.upper())):
            raise BadReplyError(f"`option` is {str(option)[:40]!r}; expected one of {', '.join(letters)}, {NONE}")
        return option.upper() if option.upper() in letters else None

    schema = _schema("option", {"type": "string", "enum": [*letters, NONE]})
    return Question("choose", _CHOOSE_TASK.format(block=block), schema, read)


def _schema(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: dict(value)}, "required": [name], "additionalProperties": False}
