"""Questions as a page sends them: what is understood, and what is refused with a sentence."""

from typing import Any

import pytest

from videochat_r1.chat.question import MOST_CHARACTERS, Question, question_from_json
from videochat_r1.errors import DataError
from videochat_r1.geometry import Box
from videochat_r1.second_look.options import ClueOptions

CLUES = ClueOptions(padding=2.0)


@pytest.mark.parametrize(
    "value, question",
    [
        ({"text": "what?"}, Question("what?")),
        ({"text": "what?", "clue_perception": True}, Question("what?", clue_perception=CLUES)),
        (
            {"text": "?", "clue_perception": {"rounds": 2}, "thinking": True},
            Question("?", thinking=True, clue_perception=ClueOptions(padding=2.0, rounds=2)),
        ),
        ({"task": "choice", "text": "?", "options": ["a", "b"]}, Question("?", "choice", ("a", "b"))),
        (
            {"task": "track", "text": "dog", "box": [0, 0, 0.5, 1]},
            Question("dog", "track", box=Box(0.0, 0.0, 0.5, 1.0)),
        ),
        ({"task": "describe"}, Question("", "describe")),
        ({"text": "half \ud83d a character"}, Question("half \ufffd a character")),
    ],
)
def test_a_question_is_understood(value: dict[str, Any], question: Question) -> None:
    assert question_from_json(value, CLUES) == question


@pytest.mark.parametrize(
    "value, told",
    [
        ([], "JSON object"),
        ({"text": "  "}, "write a question"),
        ({"task": "moment"}, "what happens"),
        ({"text": 7}, "is no text"),
        ({"text": "?", "task": "sing"}, "expected one of"),
        ({"text": "?", "task": ["free"]}, "expected one of"),
        ({"text": "x" * (MOST_CHARACTERS + 1)}, "at most"),
        ({"text": "?", "colour": "red"}, "no 'colour'"),
        ({"text": "?", "thinking": 1}, "true or false"),
        ({"text": "?", "options": ["a", "b"]}, "only a choice"),
        ({"text": "?", "task": "choice", "options": ["a"]}, "2 to 26"),
        ({"text": "?", "task": "choice", "options": ["a", " "]}, "option B is empty"),
        ({"text": "?", "task": "choice", "options": ["a", None]}, "list of texts"),
        ({"text": "dog", "task": "track"}, "draw a box"),
        ({"text": "dog", "task": "track", "box": [0, 0, 1]}, "four numbers"),
        ({"text": "dog", "task": "track", "box": [0, 0, float("nan"), 1]}, "inside the frame"),
        ({"text": "dog", "task": "track", "box": [0.5, 0, 0.5001, 1]}, "too small"),
        ({"text": "?", "box": [0, 0, 1, 1]}, "only tracking"),
        ({"text": "?", "clue_perception": {"rounds": 1.5}}, "whole number"),
        ({"text": "?", "clue_perception": {"rounds": 100}}, "at most"),
        ({"text": "?", "clue_perception": {"time": "yesterday"}}, "clue time"),
        ({"text": "?", "clue_perception": {"fps_boost": float("inf")}}, "fps_boost"),
        ({"text": "?", "clue_perception": {"speed": 1}}, "an object of"),
        ({"text": "?", "task": "moment", "clue_perception": True}, "second look"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(value: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        question_from_json(value, CLUES)
