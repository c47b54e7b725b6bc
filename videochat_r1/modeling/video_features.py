"""Features of a video, computed once and given to every later forward: worth it where the vision tower is frozen."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.inputs import PromptInputs


def unwrap(model: torch.nn.Module) -> PreTrainedModel:
    """The plain transformers model inside DeepSpeed, DDP and PEFT wrappers (LoRA layers stay where they are)."""
    while not isinstance(model, PreTrainedModel):
        inner: Any = model.get_base_model() if isinstance(model, PeftModel) else getattr(model, "module", None)
        if not isinstance(inner, torch.nn.Module):
            raise TypeError(f"expected a transformers model or a wrapper of one, got {type(model).__name__}")
        model = inner
    return model


def has_frozen_tower(model: torch.nn.Module) -> bool:
    """Whether no weight of the vision tower is trained, so that `encode_video` saves work.

    Raises:
        ConfigError: it does, but the installed transformers would swallow the features without a word.
    """
    plain = unwrap(model)
    if any(weight.requires_grad for weight in plain.base_model.visual.parameters()):
        return False
    for part in (plain, plain.base_model):
        if "mm_encoder_outputs" not in inspect.signature(type(part).forward).parameters:
            raise ConfigError(
                f"the vision tower is frozen, and {type(part).__name__} of the installed transformers "
                f"{transformers.__version__} takes no features computed beforehand: install 5.18 or newer (constraints.txt)"
            )
    return True


@torch.no_grad()
def encode_video(model: torch.nn.Module, prompt: PromptInputs) -> torch.Tensor | None:
    """(video tokens, hidden size) features that take the places of the prompt's video tokens; None without a video."""
    if prompt.pixel_values_videos is None:
        return None
    plain = unwrap(model)
    pixels, grid = prompt.pixel_values_videos.to(plain.device), prompt.video_grid_thw
    features: torch.Tensor = plain.base_model.get_video_features(pixels, grid, return_dict=True).pooler_output[0]
    return features


def encoder_outputs(features: Sequence[torch.Tensor | None]) -> dict[str, BaseModelOutputWithPooling]:
    """`mm_encoder_outputs` of a forward over prompts with these features, in order."""
    return {"video": BaseModelOutputWithPooling(pooler_output=tuple(f for f in features if f is not None))}


def video_arguments(
    prompts: Sequence[PromptInputs], features: Sequence[torch.Tensor | None] | None, device: torch.device
) -> dict[str, object]:
    """Keyword arguments that bring the prompts' videos into one forward, as features where given, else as pixels."""
    with_video = [index for index, prompt in enumerate(prompts) if prompt.pixel_values_videos is not None]
    if not with_video:
        return {}
    if features is not None:
        return {"mm_encoder_outputs": encoder_outputs([features[index] for index in with_video])}
    pixels = [prompts[index].pixel_values_videos for index in with_video]
    grids = [prompts[index].video_grid_thw for index in with_video]
    return {
        "pixel_values_videos": torch.cat([tensor.to(device) for tensor in pixels if tensor is not None]),
        "video_grid_thw": torch.cat([tensor for tensor in grids if tensor is not None]),
    }
