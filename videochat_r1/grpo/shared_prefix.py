"""Log-probabilities of completions with everything that prompts have in common computed once: a group's whole prompt, and the
video of several questions about it.

Policy, old policy and reference all come from `completion_logps`. Shared and repeated prompts give the same numbers; the
repeated computation is kept as the slow, obvious version, and `verify_shared` compares the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.packing import TokenRows, pack_rows, repeat_rows, token_counts
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.media_features import encode_media, media_arguments, unwrap
from videochat_r1.modeling.prefix_attention import has_prefix_attention, install_prefix_attention

__all__ = [
    "SharedPrefixDifference",
    "completion_logps",
    "encode_media",
    "first_dropout",
    "install_shared_prefix",
    "refuse_dropout",
    "sharing_pays",
    "verify_shared",
]

# Attention in two parts costs a few percent of a forward of a few tokens; fewer tokens have to make up for it.
_LARGEST_SHARE = 0.92


def install_shared_prefix(model: torch.nn.Module) -> None:
    """Prepare a model, before or after it is wrapped, for `completion_logps`. Idempotent; ordinary forwards do not change.

    Raises:
        ConfigError: the text decoder has sliding-window layers, or the model is spread over several devices.
    """
    install_prefix_attention(unwrap(model))


def sharing_pays(prompts: Sequence[PromptInputs], completion_mask: torch.Tensor) -> bool:
    """Whether sharing saves work on these rows: not for single completions of equal length, nor prompts of a few tokens.

    Args:
        prompts: one per completion, as for `completion_logps`.
        completion_mask: (B, C).
    """
    shared, repeated = token_counts(prompts, completion_mask)
    return shared <= _LARGEST_SHARE * repeated


def completion_logps(
    model: torch.nn.Module,
    prompts: Sequence[PromptInputs],
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    *,
    share_prompt: bool,
    compute_entropy: bool,
    pad_token_id: int,
    media_features: Sequence[torch.Tensor | None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability and entropy of every completion token, (B, C) each, 0 where masked; entropy None unless asked for.

    Args:
        model: with TRL's fused head (whose temperature counts) and `install_shared_prefix`; may be wrapped. Called once.
        prompts: one per completion, in any order.
        completion_ids: (B, C).
        completion_mask: (B, C), ones followed by zeros.
        share_prompt: compute what prompts share once instead of once per completion.
        compute_entropy: also give the entropy over the whole vocabulary.
        pad_token_id: fills rows of repeated prompts.
        media_features: one per completion as `encode_media` gives them, for a frozen vision tower; None computes them.

    Raises:
        ConfigError: the model is not prepared, or sharing with dropout in training.
        ValueError: shapes that do not fit, or a mask with holes.
    """
    if not len(prompts) == completion_ids.shape[0] == completion_mask.shape[0]:
        raise ValueError(
            f"{len(prompts)} prompts for completion_ids {tuple(completion_ids.shape)} and "
            f"completion_mask {tuple(completion_mask.shape)}"
        )
    if share_prompt:
        _check_ready(model)
        rows = pack_rows(prompts, completion_ids, completion_mask)
    else:
        rows = repeat_rows(prompts, completion_ids, completion_mask, pad_token_id)
    outputs = model(**_forward_arguments(unwrap(model).config, rows, prompts, media_features))
    logps = _unpack(outputs.log_probs, rows, completion_mask)
    return logps, _unpack(outputs.entropy, rows, completion_mask) if compute_entropy else None


@dataclass(frozen=True, slots=True)
class SharedPrefixDifference:
    """Largest absolute differences between shared and repeated prompts."""

    logps: float
    entropy: float


@torch.no_grad()
def verify_shared(
    model: torch.nn.Module,
    prompts: Sequence[PromptInputs],
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    *,
    pad_token_id: int,
    media_features: Sequence[torch.Tensor | None] | None = None,
) -> SharedPrefixDifference:
    """How far shared prompts are from repeated ones on these completions; arguments as in `completion_logps`."""
    (shared, shared_entropy), (repeated, repeated_entropy) = (
        completion_logps(
            model,
            prompts,
            completion_ids,
            completion_mask,
            share_prompt=share_prompt,
            compute_entropy=True,
            pad_token_id=pad_token_id,
            media_features=media_features,
        )
        for share_prompt in (True, False)
    )
    assert shared_entropy is not None and repeated_entropy is not None
    return SharedPrefixDifference(
        logps=float((shared - repeated).abs().max()), entropy=float((shared_entropy - repeated_entropy).abs().max())
    )


def _forward_arguments(
    config: PretrainedConfig,
    rows: TokenRows,
    prompts: Sequence[PromptInputs],
    features: Sequence[torch.Tensor | None] | None,
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "position_ids": rows.position_ids,
        "attention_mask": rows.attention_mask,
        "shift_labels": rows.labels,
        "fused_lm_head": True,
        **media_arguments(config, rows.input_ids, prompts, features, rows.shown),
    }
    if rows.layout is not None:
        arguments |= {"shared_prefix": rows.layout, "scored_positions": rows.scored_positions}
    return arguments


def _unpack(values: torch.Tensor, rows: TokenRows, completion_mask: torch.Tensor) -> torch.Tensor:
    """Values, shaped like the labels, as (B, C); 0 where masked."""
    grid = values.flatten().index_select(0, rows.read.flatten()).view(rows.read.shape)
    return grid.masked_fill(~completion_mask.bool(), 0)


def _check_ready(model: torch.nn.Module) -> None:
    plain = unwrap(model)
    if not has_prefix_attention(plain):
        raise ConfigError("call install_shared_prefix(model) first (and again after set_attn_implementation)")
    if model.training:
        refuse_dropout(plain)


def first_dropout(model: torch.nn.Module) -> tuple[str, float] | None:
    """Name and probability of a module that drops in training; None if none does."""
    for name, module in model.named_modules():
        probability = module.p if isinstance(module, torch.nn.Dropout) else getattr(module, "attention_dropout", 0.0)
        if probability > 0:
            return name or "the model", probability
    return None


def refuse_dropout(model: torch.nn.Module) -> None:
    """A shared prompt is computed once, so all its completions would see one and the same dropout.

    Raises:
        ConfigError: a module that would drop in training.
    """
    if (found := first_dropout(model)) is not None:
        raise ConfigError(
            f"{found[0]} has dropout {found[1]}: sharing the prompt needs 0. "
            "Set lora_dropout and attention_dropout to 0, or share_prompt to false."
        )
