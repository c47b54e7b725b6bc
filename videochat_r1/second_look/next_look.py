"""The prompt that looks again at the clues of an answer: the one way for `ask`, `eval`, a conversation and training."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from videochat_r1.errors import VideoError
from videochat_r1.geometry import Span
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.sample import Video
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.segments import clue_segments
from videochat_r1.second_look.view import Look, closer_prompt, first_look, plan_look, source_of
from videochat_r1.video.frames import Frames, load_frames


class NextLook(NamedTuple):
    """A further prompt of a question, and what it shows."""

    inputs: PromptInputs
    look: Look


class NoLook(NamedTuple):
    """The answer is the last one: `problem` says why its clues cannot be looked at; None where no clue lies in the video."""

    problem: str | None


def next_look(
    builder: PromptBuilder,
    video: Video,
    first: PromptInputs,
    clues: Sequence[Span],
    options: ClueOptions,
    *,
    number: int,
    load: Callable[..., Frames] = load_frames,
) -> NextLook | NoLook:
    """The question again, with the parts of its video that the latest answer names.

    Args:
        builder: that made the first prompt.
        video: that the question is about.
        first: its first prompt, which shows the whole video.
        clues: of the latest answer, in the time of the video (`question.read`).
        options: how to look.
        number: of this look, from 1 for the first that looks again.
        load: reads frames as `load_frames` does.
    """
    source = source_of(first)
    segments = clue_segments(clues, source.duration, options.padding)
    if not segments:
        return NoLook(None)
    limit = _max_tokens(builder, first, source.duration, options)
    seen = first_look(first, factor=builder.factor)
    plan = plan_look(
        segments, seen, source, builder.budget, options, number=number, max_tokens=limit, factor=builder.factor
    )
    try:
        return NextLook(closer_prompt(builder, video, first.rendered, plan, load=load), plan.look)
    except VideoError as error:
        return NoLook(str(error))


def _max_tokens(
    builder: PromptBuilder, first: PromptInputs, duration: float, options: ClueOptions
) -> Callable[[int], int]:
    """Tokens that the video of a further look may have, by its temporal steps, before which a family may write their times."""
    limit = options.max_tokens or builder.budget.total_pixels // builder.factor**2
    if builder.max_prompt_length is None:
        return lambda steps: limit
    (shown,) = first.media
    least, most = builder.family.seconds_tokens(0.0), builder.family.seconds_tokens(duration)
    room = builder.max_prompt_length - (first.num_tokens - shown.num_tokens - shown.steps * least)
    return lambda steps: max(1, min(limit, room - steps * most))
