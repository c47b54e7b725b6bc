"""Makes a transformers model understand rows that share a prompt, through its attention interface.

What a forward attends to travels as its keyword argument `shared_prefix`, so that ZeRO-3, PEFT and gradient
checkpointing (which runs a layer twice) need to know nothing. Its keyword argument `scored_positions` names the tokens
whose hidden states are wanted: the last layer computes the keys and values of the others and nothing else, so that only
wanted hidden states reach the head. Forwards without these arguments behave as with "sdpa".
"""

import logging
from types import MethodType
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.products import install_products
from videochat_r1.modeling.vision_segments import install_batched_segments

logger = logging.getLogger(__name__)

ATTENTION_NAME = "sdpa_shared_prefix"
"""Name under which transformers finds the attention; it lives in the model object only, never in a saved config."""


class SharedPrefix(Protocol):
    """What the keyword argument `shared_prefix` of a forward may be."""

    def attend(
        self, layer_idx: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """(B, N, H, D) attention of query (B, H, N, D) over key and value (B, K, N, D) and what is shared."""
        ...


def install_prefix_attention(model: PreTrainedModel) -> None:
    """Make the text decoder understand `shared_prefix` and `scored_positions`, the vision tower attend in few calls, and all layers
    multiply by `products`.

    Idempotent.

    Raises:
        ConfigError: the text decoder has layers of another attention, whose masks this one does not have, no more layers
            than levels of DeepStack, or is spread over several devices.
    """
    if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
        raise ConfigError("sharing the prompt needs the whole model on one device, not a device_map over several")
    family = family_of(model.config)
    install_batched_segments(family.tower(model))
    install_products(model)
    AttentionInterface.register(ATTENTION_NAME, _attention)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    config = model.base_model.language_model.config
    if others := sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"}):
        raise ConfigError(
            f"sharing the prompt needs full attention in every layer, this model has {', '.join(others)}; "
            "set use_sliding_window to false if it is that"
        )
    levels = family.tower_sizes(model.config).mergers - 1
    if levels >= config.num_hidden_layers:
        raise ConfigError(
            f"{levels} levels of DeepStack need more decoder layers than {config.num_hidden_layers}: they are added to every "
            "token of a layer's output, but the last layer computes scored tokens only"
        )
    decoder = model.base_model.language_model
    if levels:
        decoder._deepstack_process = MethodType(_add_features, decoder)
    last_layer = decoder.layers[-1]
    last_layer.forward = MethodType(_last_layer_forward, last_layer)
    if config._attn_implementation == ATTENTION_NAME:
        return
    if config._attn_implementation != "sdpa":
        logger.info("the text decoder's attention changes from %s to sdpa", config._attn_implementation)
    config._attn_implementation = ATTENTION_NAME


def has_prefix_attention(model: PreTrainedModel) -> bool:
    """Whether `install_prefix_attention` is in force."""
    return bool(model.base_model.language_model.config._attn_implementation == ATTENTION_NAME)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    shared_prefix: SharedPrefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if shared_prefix is None:
        plain: tuple[torch.Tensor, torch.Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return plain
    if dropout > 0:
        raise ConfigError(f"attention_dropout is {dropout}: sharing the prompt needs 0, or its copies would differ")
    layer_idx: int = module.layer_idx  # type: ignore[assignment]
    dtype = attention_dtype(value)
    return shared_prefix.attend(layer_idx, query.to(dtype), key.to(dtype), value.to(dtype), scaling), None


def attention_dtype(value: torch.Tensor) -> torch.dtype:
    """As autocast treats attention: its dtype where it is on, else the values' (rotary positions may have promoted)."""
    device_type = value.device.type
    return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else value.dtype


def _last_layer_forward(
    layer: Any,
    hidden_states: torch.Tensor,
    scored_positions: torch.Tensor | None = None,
    shared_prefix: Any = None,
    **kwargs: Any,
) -> torch.Tensor:
    """The decoder layer's own forward, which the families have in common, for scored tokens only.

    Args:
        layer: the last decoder layer.
        hidden_states: (1, N, hidden size).
        scored_positions: (scored,) tokens of the row; None for an ordinary forward.
        shared_prefix: the packed layout.
        kwargs: what else the layer takes.

    Returns:
        (1, scored, hidden size), or all N where `scored_positions` is None.
    """
    if scored_positions is None:
        if shared_prefix is not None:
            kwargs["shared_prefix"] = shared_prefix
        ordinary: torch.Tensor = type(layer).forward(layer, hidden_states, **kwargs)
        return ordinary
    attended, _ = layer.self_attn(
        layer.input_layernorm(hidden_states), shared_prefix=shared_prefix.leaves_only(), **kwargs
    )
    scored = (hidden_states + attended).index_select(1, scored_positions)
    out: torch.Tensor = scored + layer.mlp(layer.post_attention_layernorm(scored))
    return out


def _add_features(
    decoder: torch.nn.Module, hidden_states: torch.Tensor, visual_pos_masks: torch.Tensor, visual_embeds: torch.Tensor
) -> torch.Tensor:
    """A level of DeepStack: (B, N, hidden size) with features (V, hidden size) added at the V places of (B, N) bool.

    The decoder's own asks the device how many places these are.
    """
    places = torch.nonzero_static(visual_pos_masks.flatten(), size=len(visual_embeds)).squeeze(1)
    features = visual_embeds.to(hidden_states.device, hidden_states.dtype)
    return hidden_states.flatten(0, 1).index_add(0, places, features).view_as(hidden_states)
