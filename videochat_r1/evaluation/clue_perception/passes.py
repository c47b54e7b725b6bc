"""Clue-perception: answer, look again at the clues of the answer, answer again (paper 3.3, Algorithm 1, Table 8).

Every pass asks for an answer and for the parts of the video that show it, in grounded QA's words and form.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

from videochat_r1.errors import ConfigError, VideoError, shown
from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.clue_options import ClueOptions
from videochat_r1.evaluation.clue_perception.segments import clue_segments, video_spans
from videochat_r1.evaluation.clue_perception.view import Look, closer_prompt, first_look, plan_look
from videochat_r1.evaluation.scoring.answers import CLUE_PERCEPTION
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.geometry import Span
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.parsing import answer_text
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import ChoiceTarget, GroundedChoiceTarget, Sample, Video
from videochat_r1.tasks.grounded_qa import GroundedQA
from videochat_r1.training.loader import LoadedPrompt
from videochat_r1.video.probe import VideoInfo, probe
from videochat_r1.video.sampling import TEMPORAL_PATCH

TASK = GroundedQA()
FREE_TEMPLATE = (
    "{query}\nAnswer in words between <answer> and </answer>, and give between <glue> and </glue> the parts of the video that "
    "show it, each as (start, end) in seconds. Use this form:\n"
    "<answer>your answer</answer><glue>[(5.2, 10.4), (12.0, 13.5)]</glue>"
)
"""Replaces grounded QA's prompt for a question without options."""


class Reading(NamedTuple):
    """What a completion says: a letter (without options: text), or None; and the clues in the time of the whole video."""

    answer: str | None
    clues: tuple[Span, ...]


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
    video: VideoInfo | None = None
    problem: str | None = None
    """Why there is no further pass although there is a clue."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A further pass that can be asked."""

    inquiry: _Inquiry
    inputs: PromptInputs
    look: Look
    name: str


def clue_question(sample: Sample) -> Sample:
    """The same question, asked for an answer with clues.

    Raises:
        ConfigError: the sample is no question with options, or shows no video.
    """
    target = sample.target
    if not isinstance(sample.media, Video):
        raise ConfigError(
            f"clue-perception looks again at parts of a video; sample {shown(sample.id)!r} shows pictures "
            f"({shown(sample.media.name)}). Leave --clue-perception out"
        )
    if isinstance(target, GroundedChoiceTarget):
        return sample
    if not isinstance(target, ChoiceTarget):
        raise ConfigError(
            f"clue-perception is for questions with options; sample {shown(sample.id)!r} is of task {sample.task}. "
            "Leave --clue-perception out"
        )
    grounded = GroundedChoiceTarget(target.options, target.answer, (), sample.duration or 0.0)
    return replace(sample, task=TASK.name, target=grounded)


def free_question(video: Video, query: str, options: Sequence[str] = (), *, name: str = "question") -> Sample:
    """A question whose answer nobody knows; without options it needs `FREE_TEMPLATE`."""
    target = GroundedChoiceTarget(tuple(options), "A", (), 0.0)
    return Sample(name, TASK.name, video, query, target)


def read(completion: str, sample: Sample, *, untagged: bool = False) -> Reading:
    """The answer and the clues of a completion, their time as written."""
    target = TASK.target_of(sample)
    parsed = TASK.parse(completion, target, untagged=untagged)
    clues = () if parsed is None else parsed.spans
    if target.options:
        return Reading(None if parsed is None else parsed.answer, clues)
    text = (answer_text(completion, untagged=True) or "").strip()
    return Reading(text or None, clues)


class CluePerception:
    """Answers questions in two or more passes. Use as a context manager: it keeps threads that decode.

    Without a valid clue the first answer stands; so does the last answer that can be read when a later one cannot.

    Args:
        answerer: of the single passes; its prompts are those of `clue_question`.
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
        reading = read(prediction.completion, prompt.sample, untagged=self._untagged)
        extra = prediction.extra
        first = Pass(prediction.completion, reading, look, extra["num_tokens"], extra["ended"])
        return _Inquiry(prompt.sample, prompt.inputs, prediction, [first])

    def _ask_again(self, inquiries: Sequence[_Inquiry], number: int) -> list[_Inquiry]:
        """Add a pass to every inquiry whose last pass named a valid clue; returns those."""
        prepared = self._pool.map(lambda inquiry: self._prepare(inquiry, number), inquiries)
        ready = [one for one in prepared if one is not None]
        sampling = self._answerer.sampling
        rollouts = self._answerer.complete([one.inputs for one in ready], sampling, [one.name for one in ready])
        for one, rollout in zip(ready, rollouts, strict=True):
            completion = self._answerer.text(one.inputs, rollout)
            reading = self._in_video_time(
                read(completion, one.inquiry.sample, untagged=self._untagged), one.look.segments
            )
            one.inquiry.passes.append(Pass(completion, reading, one.look, len(rollout.completion_ids), rollout.ended))
        return [one.inquiry for one in ready]

    def _prepare(self, inquiry: _Inquiry, number: int) -> _Prepared | None:
        """The prompt of a further pass; None without a valid clue, or if the video cannot be read again."""
        sample, builder, factor = inquiry.sample, self._answerer.builder, self._answerer.factor
        clues = inquiry.passes[-1].reading.clues
        if self._look_at is None and not any(clue.length > 0.0 for clue in clues):
            return None
        try:
            if inquiry.video is None:
                budget = builder.budget
                inquiry.video = probe(sample.video, backend=budget.backend, timeout_seconds=budget.timeout_seconds)
            duration = inquiry.video.duration
            chosen = clues if self._look_at is None else self._look_at(sample, clues, duration)
            segments = clue_segments(chosen, duration, self._options.padding)
            if not segments:
                return None
            plan = plan_look(
                segments,
                inquiry.passes[0].look,
                inquiry.video,
                builder.budget,
                self._options,
                number=number,
                max_tokens=self._max_tokens(inquiry, duration),
                factor=factor,
            )
            inputs, look = closer_prompt(
                builder, sample.video, inquiry.inputs.rendered, plan, self._options.time, factor=factor
            )
        except VideoError as error:
            inquiry.problem = str(error)
            return None
        return _Prepared(inquiry, inputs, look, f"{sample.id}#{number}")

    def _max_tokens(self, inquiry: _Inquiry, duration: float) -> Callable[[int], int]:
        """Tokens that the video of a further pass may have, by its temporal steps, before which a family may write their times."""
        builder = self._answerer.builder
        limit = self._options.max_tokens or builder.budget.total_pixels // self._answerer.factor**2
        if builder.max_prompt_length is None:
            return lambda steps: limit
        first = inquiry.passes[0].look
        least, most = builder.family.seconds_tokens(0.0), builder.family.seconds_tokens(duration)
        times = first.num_frames // TEMPORAL_PATCH * least
        room = builder.max_prompt_length - (inquiry.inputs.num_tokens - first.num_tokens - times)
        return lambda steps: max(1, min(limit, room - steps * most))

    def _in_video_time(self, reading: Reading, segments: Sequence[Span]) -> Reading:
        if self._options.time == "absolute":
            return reading
        return Reading(reading.answer, tuple(part for clue in reading.clues for part in video_spans(clue, segments)))

    def _prediction(self, inquiry: _Inquiry) -> Prediction:
        passes = inquiry.passes
        readable = [number for number, one in enumerate(passes) if one.reading.answer is not None]
        number = readable[-1] if readable else 0
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
        return replace(inquiry.first, completion=self._completion(inquiry.sample, chosen), extra=extra)

    def _completion(self, sample: Sample, chosen: Pass) -> str:
        """What the model wrote; what it said in the time of a clip is written anew in the time of the video."""
        answer, clues = chosen.reading
        if self._options.time == "absolute" or not chosen.look.segments or answer is None:
            return chosen.completion
        return TASK.gold(replace(TASK.target_of(sample), answer=answer, spans=clues), thinking=False)
