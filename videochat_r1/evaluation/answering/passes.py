"""Clue-perception: answer, look again at the clues of the answer, answer again (paper 3.3, Algorithm 1, Table 8)."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.scoring.answers import CLUE_PERCEPTION
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.geometry import Span
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample
from videochat_r1.second_look.next_look import NextLook, NoLook, next_look
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.question import Reading, answer_in_video_time, read, standing
from videochat_r1.second_look.view import Look, first_look, source_of
from videochat_r1.training.loader import LoadedPrompt


@dataclass(frozen=True, slots=True)
class Pass:
    """One answer.

    Args:
        completion: what the model wrote.
        reading: of it.
        look: what the model saw.
        num_tokens: of the completion.
        ended: why it did.
    """

    completion: str
    reading: Reading
    look: Look
    num_tokens: int
    ended: Ended

    def to_json(self) -> dict[str, Any]:
        """For result files."""
        return {
            "completion": self.completion,
            "answer": self.reading.answer,
            "clues": [list(clue) for clue in self.reading.clues],
            "num_tokens": self.num_tokens,
            "ended": self.ended,
            "saw": self.look.to_json(),
        }


@dataclass(slots=True)
class _Inquiry:
    """A question on its way through the passes."""

    sample: Sample
    inputs: PromptInputs
    first: Prediction
    passes: list[Pass]
    problem: str | None = None
    """Why there is no further pass although there is a clue."""


class CluePerception:
    """Answers questions in two or more passes. Use as a context manager: it keeps threads that decode.

    Without a valid clue the first answer stands; so does the last answer that can be read when a later one cannot.

    Args:
        answerer: of the single passes; its prompts are those of `second_look.question`.
        options: of the passes after the first; None for that one alone.
        workers: videos read at once.
        untagged: read completions without any answer tag as a whole.
        look_at: the spans to look at instead of the clues, given the question, the clues and the seconds of the video; for
            controls such as random spans.
    """

    def __init__(
        self,
        answerer: Answerer,
        options: ClueOptions | None,
        *,
        workers: int = 1,
        untagged: bool = False,
        look_at: Callable[[Sample, Sequence[Span], float], Sequence[Span]] | None = None,
    ) -> None:
        self._answerer = answerer
        self._rounds = 0 if options is None else options.rounds
        self._options = options or ClueOptions()
        self._untagged = untagged
        self._look_at = look_at
        self._pool = ThreadPoolExecutor(max(1, workers))

    def __enter__(self) -> "CluePerception":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def answer(self, prompts: Sequence[LoadedPrompt]) -> list[Prediction]:
        """One prediction per prompt. Its completion is the last pass's, clues in the time of the whole video.

        `extra["clue_perception"]` holds `answered_by` (number of the pass whose answer stands), `passes`
        (`Pass.to_json`), and `problem` where a clue could not be looked at.
        """
        predictions = self._answerer.answer(prompts)
        inquiries = [
            self._inquiry(prompt, prediction) if prediction.completion is not None else None
            for prompt, prediction in zip(prompts, predictions, strict=True)
        ]
        going = [inquiry for inquiry in inquiries if inquiry is not None]
        for number in range(1, self._rounds + 1):
            going = self._ask_again(going, number)
        return [
            prediction if inquiry is None else self._prediction(inquiry)
            for prediction, inquiry in zip(predictions, inquiries, strict=True)
        ]

    def _inquiry(self, prompt: LoadedPrompt, prediction: Prediction) -> _Inquiry:
        """The first pass."""
        assert prompt.inputs is not None and prediction.completion is not None
        look = first_look(prompt.inputs, factor=self._answerer.factor)
        reading = read(prediction.completion, prompt.sample, look, untagged=self._untagged)
        extra = prediction.extra
        first = Pass(prediction.completion, reading, look, extra["num_tokens"], extra["ended"])
        return _Inquiry(prompt.sample, prompt.inputs, prediction, [first])

    def _ask_again(self, inquiries: Sequence[_Inquiry], number: int) -> list[_Inquiry]:
        """Add a pass to every inquiry whose last pass named a valid clue; returns those."""
        found = self._pool.map(lambda inquiry: self._look(inquiry, number), inquiries)
        going: list[_Inquiry] = []
        shown: list[NextLook] = []
        for inquiry, one in zip(inquiries, found, strict=True):
            if isinstance(one, NoLook):
                inquiry.problem = one.problem
            else:
                going.append(inquiry)
                shown.append(one)
        names = [f"{inquiry.sample.id}#{number}" for inquiry in going]
        rollouts = self._answerer.complete([one.inputs for one in shown], self._answerer.sampling, names)
        for inquiry, (inputs, look), rollout in zip(going, shown, rollouts, strict=True):
            completion = self._answerer.text(inputs, rollout)
            reading = read(completion, inquiry.sample, look, untagged=self._untagged)
            inquiry.passes.append(Pass(completion, reading, look, len(rollout.completion_ids), rollout.ended))
        return going

    def _look(self, inquiry: _Inquiry, number: int) -> NextLook | NoLook:
        sample, clues = inquiry.sample, inquiry.passes[-1].reading.clues
        if self._look_at is not None:
            clues = tuple(self._look_at(sample, clues, source_of(inquiry.inputs).duration))
        return next_look(self._answerer.builder, sample.video, inquiry.inputs, clues, self._options, number=number)

    def _prediction(self, inquiry: _Inquiry) -> Prediction:
        passes = inquiry.passes
        number = standing([one.reading for one in passes])
        chosen = passes[number]
        record: dict[str, Any] = {"answered_by": number, "passes": [one.to_json() for one in passes]}
        if inquiry.problem is not None:
            record["problem"] = inquiry.problem
        extra = {
            **inquiry.first.extra,
            "num_tokens": chosen.num_tokens,
            "ended": chosen.ended,
            CLUE_PERCEPTION: record,
        }
        completion = answer_in_video_time(chosen.completion, chosen.reading, inquiry.sample, chosen.look)
        return replace(inquiry.first, completion=completion, extra=extra)
