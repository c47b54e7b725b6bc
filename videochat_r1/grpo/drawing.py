"""Draws the rollouts of a batch's groups, and of videos those with the frames in another order."""

from collections.abc import Callable, Sequence
from typing import Any

from videochat_r1.grpo.rows import AsideGroup, RowContext
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.rollout.base import Rollout, RolloutEngine, SamplingSettings
from videochat_r1.sample import Sample, Video
from videochat_r1.training.loader import LoadedPrompt


def shuffled_groups(
    builder: PromptBuilder,
    loaded: Sequence[LoadedPrompt],
    prompts: Sequence[PromptInputs],
    noise: Callable[[Sample, int | str], int],
    num_generations: int,
    further: int,
) -> dict[int, AsideGroup]:
    """What is drawn beside the groups that show a video, by their first rows.

    Args:
        builder: of the prompts.
        loaded: one per group.
        prompts: of each, on the device.
        noise: seed of a sample's rollout of a number, or of something else by name.
        num_generations: rows of a group.
        further: rollouts of the shuffled frames, numbered on from those of the group.
    """
    numbers = range(num_generations, num_generations + further)
    return {
        index * num_generations: AsideGroup(
            builder.shuffled(inputs, noise(prompt.sample, "order")), [noise(prompt.sample, g) for g in numbers]
        )
        for index, (prompt, inputs) in enumerate(zip(loaded, prompts, strict=True))
        if prompt.inputs is not None and isinstance(prompt.sample.media, Video)
    }


def draw_groups(
    engine: RolloutEngine, rows: RowContext, settings: SamplingSettings, num_generations: int
) -> tuple[list[list[Rollout]], list[list[Rollout]]]:
    """The rollouts of all groups that are not left out, and those of `rows.shuffled`: one call, so that the engine decodes
    them together and the processes of a tensor-parallel one stay in step, whatever each has to draw."""
    features = rows.features or [None] * len(rows.prompts)
    size = num_generations
    asked = [
        (rows.prompts[first], rows.noise[first : first + size], features[first])
        for first in range(0, len(rows.prompts), size)
        if rows.left_out[first] is None
    ]
    num_groups = len(asked)
    asked += [(group.prompt, group.noise, group.features) for group in rows.shuffled.values()]
    encoded: dict[str, Any] = {} if rows.features is None else {"media_features": [one for _, _, one in asked]}
    made = engine.generate(
        [prompt for prompt, _, _ in asked],
        num_generations=[len(noise) for _, noise, _ in asked],
        settings=settings,
        noise_seeds=[noise for _, noise, _ in asked],
        **encoded,
    )
    return made[:num_groups], made[num_groups:]


def in_rows(
    groups: Sequence[Sequence[Rollout]], rows: RowContext, eos_token_id: int, *, unknown_logp: float
) -> list[Rollout]:
    """One rollout per row: of the groups that were drawn, in their order, and a stand-in of one token for every other row.

    Args:
        groups: as `draw_groups` gives them.
        rows: of the batch.
        eos_token_id: the stand-in's token.
        unknown_logp: its log-probability.
    """
    drawn = (rollout for group in groups for rollout in group)
    return [next(drawn) if why is None else Rollout([eos_token_id], [unknown_logp], why) for why in rows.left_out]
