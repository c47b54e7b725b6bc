"""From a question to a sample of the project's tasks, and from a completion to what it says in answer."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from videochat_r1.chat.question import Question
from videochat_r1.errors import DataError
from videochat_r1.geometry import Box, Span
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.parsing.tags import parts_of
from videochat_r1.sample import (
    LETTERS,
    BoxesTarget,
    CaptionTarget,
    ChoiceTarget,
    GroundedChoiceTarget,
    Media,
    Pictures,
    Sample,
    SpanTarget,
    Target,
    TextTarget,
)
from videochat_r1.second_look.question import TASK as GROUNDED
from videochat_r1.second_look.question import free_template, read
from videochat_r1.second_look.view import Look
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.captioning import PICTURE_REQUEST, REQUEST

NUM_BOXES = 8
"""Instants that an object is tracked through, as in GOT-10k's samples."""


class Meaning(NamedTuple):
    """What an answer says; the fields are those of `PassDone`."""

    answer: str | None
    choice: int | None = None
    clues: tuple[Span, ...] = ()
    boxes: tuple[Box | None, ...] | None = None
    box_times: tuple[float, ...] = ()


def sample_of(question: Question, media: Media, duration: float | None) -> Sample:
    """The question as a sample; what its target says of the truth is made up and not read.

    Args:
        question: checked.
        media: that it is about.
        duration: seconds of the video; None of pictures.

    Raises:
        DataError: pictures cannot be asked so.
    """
    pictures = isinstance(media, Pictures)
    if pictures and (question.task in ("moment", "track") or question.clue_perception is not None):
        raise DataError(
            "this is asked of a video: a picture has no moments, nothing moves in it, and it is seen whole at once"
        )
    task, target = _task(question, pictures, duration or 0.0)
    text = question.text.strip()
    if question.task == "describe" and not text:
        text = PICTURE_REQUEST if pictures else REQUEST
    return Sample("question", task, media, text, target, duration)


def _task(question: Question, pictures: bool, duration: float) -> tuple[str, Target]:
    if question.task == "moment":
        return "temporal_grounding", SpanTarget(Span(0.0, duration), duration)
    if question.box is not None:
        return "tracking", BoxesTarget((question.box,) * NUM_BOXES)
    if question.task == "describe":
        return "captioning", CaptionTarget("")
    if not pictures:
        return GROUNDED.name, GroundedChoiceTarget(question.options, "A", (), duration)
    return (
        ("multi_choice_qa", ChoiceTarget(question.options, "A"))
        if question.options
        else ("free_form_qa", TextTarget("-"))
    )


def templates_for(question: Question, templates: Mapping[str, str]) -> Mapping[str, str]:
    """Task -> prompt template; a question of one's own about a video has its own.

    Args:
        question: to be asked.
        templates: that replace the tasks' own.
    """
    if question.task == "free":
        return {**templates, GROUNDED.name: free_template(thinking=question.thinking)}
    return templates


def thought_in(completion: str) -> str | None:
    """What the model thought; None where it did not."""
    return "\n".join(text for kind, text in parts_of(completion) if kind == "think") or None


def meaning_of(completion: str, question: Question, sample: Sample, inputs: PromptInputs, look: Look) -> Meaning:
    """What a completion says.

    Args:
        completion: boxes in fractions (`PromptInputs.judged`).
        question: that it answers.
        sample: the same.
        inputs: the prompt.
        look: what it showed.
    """
    if sample.task == GROUNDED.name:
        answer, clues = read(completion, sample, look, untagged=True)
        choice = _place(answer, question.options)
        return Meaning(answer if choice is None else _option(choice, question.options), choice, _visible(clues, sample))
    parsed = TASKS[sample.task].parse(completion, sample.target, untagged=True)
    if parsed is None:
        return Meaning(None)
    if question.task == "moment":
        return Meaning(f"{parsed.start:g} to {parsed.end:g} s", clues=_visible([parsed], sample))
    if question.task == "track":
        found = sum(box is not None for box in parsed)
        return Meaning(f"{found} boxes", boxes=tuple(parsed), box_times=_instants(inputs)[: len(parsed)])
    choice = _place(parsed, question.options)
    return Meaning(parsed if choice is None else _option(choice, question.options), choice)


def _place(letter: str | None, options: Sequence[str]) -> int | None:
    return LETTERS.index(letter) if options and letter is not None else None


def _option(choice: int, options: Sequence[str]) -> str:
    return f"({LETTERS[choice]}) {options[choice]}"


def _visible(spans: Sequence[Span], sample: Sample) -> tuple[Span, ...]:
    """The parts of the spans that lie in the video."""
    clipped = [span.clipped(sample.duration or 0.0) for span in spans]
    return tuple(span for span in clipped if span.length > 0.0)


def _instants(inputs: PromptInputs) -> tuple[float, ...]:
    """Seconds of the boxes, as tracking's prompt describes them."""
    (video,) = inputs.media
    first, last = video.frame_seconds[0], video.frame_seconds[-1]
    return tuple(first + (last - first) * place / (NUM_BOXES - 1) for place in range(NUM_BOXES))
