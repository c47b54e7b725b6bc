"""Whether two computations of the same log-probabilities agree; training on ones that do not is refused before the first update."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.shared_prefix import SharedPrefixDifference

# Without rounding to 16 bits, and with it.
_SAMPLER_LIMITS = 1e-3, 0.1
_SHARING_LIMITS = 1e-4, 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """Absolute differences on the tokens that count, over all ranks."""

    mean: float
    largest: float


def agreement(
    trained: torch.Tensor,
    sampled: torch.Tensor,
    mask: torch.Tensor,
    add_up: Callable[[torch.Tensor], torch.Tensor],
    gather: Callable[[torch.Tensor], torch.Tensor],
) -> Agreement:
    """How far trainer and sampler are apart; tensors are (B, C), the functions work over all ranks. `sampled` is NaN for tokens that
    the sampler has not drawn or could not score."""
    known = mask.bool() & ~sampled.isnan()
    difference = (trained.detach() - sampled)[known].abs()
    peak = difference.max() if len(difference) else difference.sum()
    total, count = add_up(torch.stack([difference.sum(), known.sum().float()])).tolist()
    return Agreement(total / max(count, 1.0), gather(peak.unsqueeze(0)).max().item())


def apart(batch: Mapping[str, Any]) -> list[list[float]] | None:
    """Of each row of a generation batch, the sampler's log-probability of every token less the trainer's; None where TRL has had
    no need of the trainer's before the update."""
    trained = batch.get("old_per_token_logps")
    if trained is None:
        return None
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    rows = (batch["sampler_logps"] - trained).tolist()
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def refuse_other_sampler(mean_difference: float, *, exact: bool) -> None:
    """Completions that another computation has drawn are nothing to train on.

    Raises:
        ConfigError: they differ by more than rounding, of fp32 (`exact`) or of 16 bits.
    """
    limit = _SAMPLER_LIMITS[not exact]
    if mean_difference > limit:
        raise ConfigError(
            f"log-probabilities of sampler and trainer differ by {mean_difference:.2g} on average (allowed: {limit}): "
            "they do not see the same positions, pixels or weights. Compare the installed versions with "
            "constraints.txt; if they are the same, report the model."
        )


def refuse_other_prompts(difference: SharedPrefixDifference, *, exact: bool) -> None:
    """Shared prompts have to give what repeated ones give.

    Raises:
        ConfigError: they differ by more than rounding, of fp32 (`exact`) or of 16 bits, or are no numbers.
    """
    limit = _SHARING_LIMITS[not exact]
    if not difference.logps <= limit:
        raise ConfigError(
            f"log-probabilities with shared prompts differ by {difference.logps:.2g} from those with repeated ones "
            f"(allowed: {limit}). Train with share_prompt=false and report the model and versions."
        )
