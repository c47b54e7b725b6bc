"""A talker without a model, for tests of what stands in front of one: it says the question again, word by word."""

import threading
from collections.abc import Iterator
from typing import Any

from videochat_r1.chat.desk import About, Reader
from videochat_r1.chat.events import Done, Event, PassDone, Preparing, Saw, Text
from videochat_r1.chat.question import Question
from videochat_r1.errors import VideoError
from videochat_r1.sample import Media
from videochat_r1.second_look.options import ClueOptions

LOOK: dict[str, Any] = {"segments": [], "num_frames": 8, "fps": 2.0, "frame_size": [56, 56], "num_tokens": 16}
CLUES = ((1.0, 2.5),)


class EchoTalker:
    """Answers `broken` with a `VideoError`, and `hold` with words until nobody reads or `let_go` is set.

    With clue-perception it takes further passes; a tracked box drifts to the right through eight instants.
    """

    def __init__(self) -> None:
        self.about = About("echo", "transformers", True, False, ClueOptions(), "it only says again what it is told")
        self.let_go = threading.Event()

    def begin(self, media: Media) -> "EchoTalk":
        return EchoTalk(self, media)


class EchoTalk:
    def __init__(self, talker: EchoTalker, media: Media) -> None:
        self._talker, self.media = talker, media
        self.history: list[str] = []

    def ask(self, question: Question, reader: Reader) -> None:
        for event in self._events(question, reader):
            reader.put(event)

    def _events(self, question: Question, reader: Reader) -> Iterator[Event]:
        if not self.history:
            yield Preparing("reading")
            yield Preparing("encoding")
        if "broken" in question.text:
            raise VideoError("the video cannot be read: it ends in the middle of a frame")
        if "bug" in question.text:
            raise RuntimeError("a fault of the program")
        clues = question.clue_perception
        passes = 1 if clues is None else 1 + clues.rounds
        answer = " / ".join([*self.history, question.text])
        for number in range(passes):
            if number:
                yield Preparing("looking_again")
            yield Saw(number, LOOK if clues is None or not number else _closer(clues))
            while "hold" in question.text and reader.going and not self._talker.let_go.wait(0.01):
                yield Text(number, "hold ")
            if not reader.going:
                return
            yield from self._pass(number, question, answer)
        self.history.append(question.text)
        yield Done(passes - 1, answer)

    def _pass(self, number: int, question: Question, answer: str) -> Iterator[Event]:
        thought = "what was said before" if question.thinking else None
        completion = (
            f"<answer>{answer}</answer>" if thought is None else f"<think>{thought}</think>\n<answer>{answer}</answer>"
        )
        for word in completion.split(" "):
            yield Text(number, f"{word} ")
        boxes = None
        if question.box is not None:
            x0, y0, x1, y1 = question.box
            boxes = tuple((x0 + step / 40, y0, x1 + step / 40, y1) for step in range(8))
        yield PassDone(
            number,
            completion,
            thought,
            answer,
            choice=1 if question.options else None,
            clues=CLUES if question.task in ("free", "moment", "choice") else (),
            boxes=boxes,
            box_times=() if boxes is None else tuple(step / 2 for step in range(8)),
        )


def _closer(clues: ClueOptions) -> dict[str, Any]:
    seen = {"segments": [list(clue) for clue in CLUES], "fps": LOOK["fps"] * clues.fps_boost}
    return {**LOOK, **seen, "time": clues.time, "rest_fps": LOOK["fps"] if clues.time == "dense" else 0.0}
