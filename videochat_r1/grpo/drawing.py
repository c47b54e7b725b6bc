"""What a generation batch draws before TRL sees it: its rollouts, a turn (a prompt with its completion) per row, and of videos
those with the frames in another order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.group_rewards import TemporalBonus
from videochat_r1.grpo.packing import distinct_prompts
from videochat_r1.grpo.rows import Turn
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.rollout.base import RolloutEngine, SamplingSettings
from videochat_r1.sample import Sample, Video, media_columns
from videochat_r1.tasks import TASKS
from videochat_r1.training.loader import LoadedPrompt

Noise = Callable[[Sample, int | str], int]
"""Seed of a sample's rollout of a number, or of something else by name."""


def first_turns(
    loaded: Sequence[LoadedPrompt],
    prompts: Sequence[PromptInputs | None],
    noise: Noise,
    num_generations: int,
    *,
    thinking: bool,
) -> list[Turn]:
    """The rows of a batch before anything is drawn, `num_generations` of each sample.

    Args:
        loaded: the samples.
        prompts: of each, on the device; None for what cannot be used.
        noise: of the batch.
        num_generations: rollouts of a sample.
        thinking: whether prompts ask for it, for reward functions.
    """
    return [
        Turn(
            {**_columns(one.sample, prompt, thinking=thinking), "generation": generation},
            prompt,
            noise(one.sample, generation),
            one.ended,
        )
        for one, prompt in zip(loaded, prompts, strict=True)
        for generation in range(num_generations)
    ]


def shuffled_turns(
    builder: PromptBuilder, samples: Sequence[Sample], turns: Sequence[Turn], noise: Noise, further: int
) -> list[list[Turn]]:
    """Rollouts that are scored, but are no rows, as nothing is learned from them: of each sample that shows a video, with its
    frames in another order.

    Args:
        builder: of the prompts.
        samples: of the batch.
        turns: its rows, as many of each sample.
        noise: of the batch.
        further: rollouts of each, numbered on from those of the sample.

    Returns:
        A list per sample, empty for pictures and for what cannot be used.
    """
    size = len(turns) // len(samples)
    groups: list[list[Turn]] = []
    for index, sample in enumerate(samples):
        first = turns[index * size]
        groups.append([])
        if first.prompt is None or not isinstance(sample.media, Video):
            continue
        prompt = builder.shuffled(first.prompt, noise(sample, "order"))
        for generation in range(size, size + further):
            columns = {**first.columns, "generation": generation}
            groups[-1].append(Turn(columns, prompt, noise(sample, generation)))
    return groups


def draw_turns(
    engine: RolloutEngine,
    turns: Sequence[Turn],
    settings: SamplingSettings,
    decode: Callable[[list[list[int]]], list[str]],
    encode: Callable[[list[PromptInputs]], Sequence[torch.Tensor | None]] | None = None,
) -> None:
    """Fill in rollout and completion of all turns that have a prompt and no rollout yet.

    One call of the engine whatever there is to draw, so that it decodes all together, and the processes of a tensor-parallel one
    stay in step.

    Args:
        engine: with the newest weights.
        turns: with prompts on the device; those of one prompt have the same object.
        settings: of the sampling.
        decode: token ids to text.
        encode: features of what prompts show, for a frozen vision tower; None leaves them to every forward.

    Raises:
        ConfigError: the engine drew what it was told never to draw.
    """
    asked = [turn for turn in turns if turn.prompt is not None and turn.rollout is None]
    prompts, rows = distinct_prompts([turn.prompt for turn in asked if turn.prompt is not None])
    features = None if encode is None else encode(prompts)
    encoded: dict[str, Any] = {} if features is None else {"media_features": features}
    made = engine.generate(
        prompts,
        num_generations=[len(group) for group in rows],
        settings=settings,
        noise_seeds=[[asked[row].seed for row in group] for group in rows],
        **encoded,
    )
    for index, (prompt, group, rollouts) in enumerate(zip(prompts, rows, made, strict=True)):
        texts = decode([rollout.completion_ids for rollout in rollouts])
        for row, rollout, text in zip(group, rollouts, texts, strict=True):
            turn = asked[row]
            turn.rollout, turn.completion = rollout, prompt.judged(text)
            turn.features = None if features is None else features[index]
    encoded_of = {id(turn.prompt): turn.features for turn in asked}
    for turn in turns:
        # A completion that nobody has to draw is forwarded with what the others of its prompt are.
        if turn.features is None:
            turn.features = encoded_of.get(id(turn.prompt))
    sampled = {token for group in made for rollout in group for token in rollout.completion_ids}
    if vision := sampled & set(settings.suppressed_token_ids):
        raise ConfigError(f"the rollout engine drew vision tokens {sorted(vision)}, which it was told never to draw")


def tell_accuracy(
    contrast: TemporalBonus, turns: Sequence[Turn], aside: Sequence[Sequence[Turn]], arguments: Mapping[str, Any]
) -> None:
    """Tell the rows of each sample, as `shuffled_accuracy`, how right the rollouts with its frames shuffled are.

    Args:
        contrast: says how right one is.
        turns: the rows.
        aside: as `shuffled_turns` gave them, drawn.
        arguments: of reward functions, beside the columns.
    """
    size = len(turns) // len(aside)
    for index, group in enumerate(aside):
        if not group:
            continue
        accuracy = contrast.accuracy_of([turn.completion for turn in group], {**reward_columns(group), **arguments})
        for turn in turns[index * size : (index + 1) * size]:
            turn.columns["shuffled_accuracy"] = accuracy


def reward_columns(turns: Sequence[Turn]) -> dict[str, list[Any]]:
    """What reward functions are called with beside the completions, a list per column, as TRL does it."""
    names = [name for name in turns[0].columns if name != "prompt"] if turns else []
    return {
        **{name: [turn.columns[name] for turn in turns] for name in names},
        "prompts": [turn.columns["prompt"] for turn in turns],
        "completion_ids": [[] if turn.rollout is None else turn.rollout.completion_ids for turn in turns],
    }


def _columns(sample: Sample, prompt: PromptInputs | None, *, thinking: bool) -> dict[str, Any]:
    """What reward functions see of a row (TRL passes every key as a column), as plain JSON types."""
    return {
        "prompt": "" if prompt is None else prompt.text,
        "sample_id": sample.id,
        "task": sample.task,
        "source": sample.source,
        "query": sample.query,
        "target": TASKS[sample.task].target_to_json(sample.target),
        "duration": sample.duration,
        "response": sample.response,
        "thinking": thinking,
        "truth": False,
        "look": 0,
        "shuffled_accuracy": None,
        **media_columns(sample.media),
    }
