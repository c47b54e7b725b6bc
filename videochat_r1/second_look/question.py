"""A question whose answer comes with clues, and what a completion says to it, in the time of the whole video.

Every look asks in grounded QA's words and form.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from videochat_r1.errors import ConfigError, shown
from videochat_r1.geometry import Span
from videochat_r1.parsing import answer_text
from videochat_r1.sample import ChoiceTarget, GroundedChoiceTarget, Sample, Video
from videochat_r1.second_look.segments import video_spans
from videochat_r1.second_look.view import Look
from videochat_r1.tasks.grounded_qa import GroundedQA

TASK = GroundedQA()
_FREE = (
    "Answer in words between <answer> and </answer>, and give between <glue> and </glue> the parts of the video that show it, each "
    "as (start, end) in seconds. Use this form:\n"
)
_FREE_EXAMPLE = "<answer>your answer</answer><glue>[(5.2, 10.4), (12.0, 13.5)]</glue>"


def free_template(*, thinking: bool) -> str:
    """Replaces grounded QA's prompt for a question without options."""
    if thinking:
        thought = "First reason between <think> and </think>."
        return f"{{query}}\n{thought} {_FREE}<think>your reasoning</think>\n{_FREE_EXAMPLE}"
    return f"{{query}}\n{_FREE}{_FREE_EXAMPLE}"


class Reading(NamedTuple):
    """What a completion says: a letter (without options: text), or None; and the clues in the time of the whole video."""

    answer: str | None
    clues: tuple[Span, ...]


def clue_question(sample: Sample) -> Sample:
    """The same question, asked for an answer with clues.

    Raises:
        ConfigError: the sample is no question with options, or shows no video.
    """
    target = sample.target
    if not isinstance(sample.media, Video):
        raise ConfigError(
            f"clue-perception looks again at parts of a video; sample {shown(sample.id)!r} shows pictures "
            f"({shown(sample.media.name)}). Leave it out"
        )
    if isinstance(target, GroundedChoiceTarget):
        return sample
    if not isinstance(target, ChoiceTarget):
        raise ConfigError(
            f"clue-perception is for questions with options; sample {shown(sample.id)!r} is of task {sample.task}. "
            "Leave it out"
        )
    grounded = GroundedChoiceTarget(target.options, target.answer, (), sample.duration or 0.0)
    return replace(sample, task=TASK.name, target=grounded)


def free_question(video: Video, query: str, options: Sequence[str] = (), *, name: str = "question") -> Sample:
    """A question whose answer nobody knows; without options it needs `free_template`."""
    target = GroundedChoiceTarget(tuple(options), "A", (), 0.0)
    return Sample(name, TASK.name, video, query, target)


def read(completion: str, sample: Sample, look: Look, *, untagged: bool = False) -> Reading:
    """The answer and the clues of a completion.

    Args:
        completion: what the model wrote.
        sample: the question.
        look: what it saw, in whose time it speaks.
        untagged: read a completion without any answer tag as a whole.
    """
    target = TASK.target_of(sample)
    parsed = TASK.parse(completion, target, untagged=untagged)
    clues = () if parsed is None else parsed.spans
    if look.is_clip:
        clues = tuple(part for clue in clues for part in video_spans(clue, look.segments))
    if target.options:
        return Reading(None if parsed is None else parsed.answer, clues)
    text = (answer_text(completion, untagged=True) or "").strip()
    return Reading(text or None, clues)


def standing(readings: Sequence[Reading]) -> int:
    """Number of the look whose answer stands: the last one that can be read, else the first."""
    return max((number for number, reading in enumerate(readings) if reading.answer is not None), default=0)


def answer_in_video_time(completion: str, reading: Reading, sample: Sample, look: Look) -> str:
    """The completion as one that stands alone: one that speaks in the time of a clip is written anew, answer and clues in the time of
    the video, if its answer was read."""
    answer, clues = reading
    if not look.is_clip or answer is None:
        return completion
    return TASK.gold(replace(TASK.target_of(sample), answer=answer, spans=clues), thinking=False)
