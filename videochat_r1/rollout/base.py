"""What every rollout engine takes and gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout.ended import Ended


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How completions are drawn. Every field is explicit, so a checkpoint's generation_config has no say.

    `temperature` 0 means greedy. `suppressed_token_ids` can never be sampled (every vision token).
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    eos_token_ids: tuple[int, ...] = ()
    suppressed_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion.

    Args:
        completion_ids: sampled tokens, the ending one included when there is one.
        logps: log-probability of each under the whole vocabulary at this temperature, before suppression and truncation:
            the same quantity the trainer computes.
        ended: why it did.
    """

    completion_ids: list[int]
    logps: list[float]
    ended: Ended


Watch = Callable[[int, list[list[int]]], None]
"""Told the number of a prompt and the tokens of each of its rollouts so far, as they come; what it raises ends the generation."""


class RolloutEngine(Protocol):
    """Draws completions of prompts."""

    def generate(
        self,
        prompts: Sequence[PromptInputs],
        *,
        num_generations: int | Sequence[int],
        settings: SamplingSettings,
        noise_seeds: Sequence[Sequence[int]] | None = None,
        watch: Watch | None = None,
    ) -> list[list[Rollout]]:
        """One list of rollouts per prompt, `num_generations` of each, or of prompt i `num_generations[i]`.

        `noise_seeds[i][g]` alone decides the sampling noise of rollout g of prompt i: it does not depend on the rank,
        the batch or the other rollouts. None only when greedy. Who watches sees the tokens while they are drawn; if it
        raises, the engine can be used again.
        """
        ...


def rollouts_per_prompt(
    num_prompts: int,
    num_generations: int | Sequence[int],
    settings: SamplingSettings,
    noise_seeds: Sequence[Sequence[int]] | None,
) -> list[int]:
    """`num_generations` of each prompt.

    Raises:
        ConfigError: none of a prompt are asked for.
        ValueError: numbers or seeds that do not fit the prompts, or no seeds where they are needed.
    """
    counts = [num_generations] * num_prompts if isinstance(num_generations, int) else list(num_generations)
    if len(counts) != num_prompts:
        raise ValueError(f"{len(counts)} numbers of generations for {num_prompts} prompts")
    if min([num_generations] if isinstance(num_generations, int) else counts, default=1) < 1:
        raise ConfigError(f"num_generations is {num_generations}, expected at least 1")
    if noise_seeds is None:
        if settings.temperature > 0:
            raise ValueError("sampling needs noise_seeds; only greedy decoding (temperature 0) does without")
    elif (given := [len(seeds) for seeds in noise_seeds]) != counts:
        raise ValueError(f"expected {counts} noise seeds for {num_prompts} prompts, got {given}")
    return counts
