"""One question on its way through the passes of its answer, each told while it is written."""

from collections.abc import Sequence

from videochat_r1.chat.desk import Reader
from videochat_r1.chat.events import PassDone, Saw, Text
from videochat_r1.chat.meaning import Meaning, meaning_of, thought_in
from videochat_r1.chat.question import Question
from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.harness import tokens_text
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample
from videochat_r1.second_look.question import Reading, answer_in_video_time, standing
from videochat_r1.second_look.view import Look


class ReaderLeftError(Exception):
    """Nobody reads any more."""


class Exchange:
    """One question and the passes of its answer."""

    def __init__(self, answerer: Answerer, question: Question, sample: Sample, reader: Reader, name: str) -> None:
        self._answerer, self._sample, self._name = answerer, sample, name
        self.question, self.reader = question, reader
        self.meanings: list[Meaning] = []
        self._completions: list[str] = []
        self._looks: list[Look] = []

    def take(self, inputs: PromptInputs, look: Look) -> None:
        """A pass: tell what it shows, what the model writes as it does, and what it says.

        Raises:
            ReaderLeftError: nobody reads any more.
        """
        number, answerer = len(self.meanings), self._answerer
        self.reader.put(Saw(number, look.to_json()))
        pieces = Pieces(inputs, answerer)

        def watch(_: int, group: list[list[int]]) -> None:
            if not self.reader.going:
                raise ReaderLeftError
            if piece := pieces.more(group[0]):
                self.reader.put(Text(number, piece))

        if not self.reader.going:
            raise ReaderLeftError
        [rollout] = answerer.complete([inputs], answerer.sampling, [f"{self._name}#{number}"], watch)
        completion = answerer.text(inputs, rollout)
        said = inputs.judged(tokens_text(rollout.completion_ids, answerer.tokenizer, answerer.sampling))
        meaning = meaning_of(said, self.question, self._sample, inputs, look)
        self.meanings.append(meaning)
        self._completions.append(completion)
        self._looks.append(look)
        truncated = rollout.ended is Ended.LENGTH
        self.reader.put(PassDone(number, completion, thought_in(completion), **meaning._asdict(), truncated=truncated))

    def result(self) -> tuple[int, str]:
        """The number of the pass whose answer stands, and its completion in the time of the video."""
        readings = [Reading(meaning.answer, meaning.clues) for meaning in self.meanings]
        number = standing(readings)
        look = self._looks[number]
        return number, answer_in_video_time(self._completions[number], readings[number], self._sample, look)


class Pieces:
    """What a completion has become longer by: whole characters only."""

    def __init__(self, inputs: PromptInputs, answerer: Answerer) -> None:
        self._inputs, self._answerer = inputs, answerer
        self._told = ""

    def more(self, tokens: Sequence[int]) -> str:
        """The new characters of a completion of these tokens so far."""
        text = self._inputs.completion(tokens_text(tokens, self._answerer.tokenizer, self._answerer.sampling))
        # The rest of a character may still come.
        text = text.rstrip("\ufffd")
        if not text.startswith(self._told):
            return ""
        piece, self._told = text[len(self._told) :], text
        return piece
