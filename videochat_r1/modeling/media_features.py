"""Videos and pictures in a forward: as patches, or as features computed once and given to every later forward, which is
worth it where the vision tower is frozen."""

import inspect
from collections.abc import Sequence

import torch
import transformers
from peft import PeftModel
from transformers import PretrainedConfig, PreTrainedModel

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.inputs import PromptInputs


def unwrap(model: torch.nn.Module) -> PreTrainedModel:
    """The plain transformers model inside DeepSpeed, DDP and PEFT wrappers (LoRA layers stay where they are)."""
    while not isinstance(model, PreTrainedModel):
        inner = model.get_base_model() if isinstance(model, PeftModel) else getattr(model, "module", None)
        if not isinstance(inner, torch.nn.Module):
            raise TypeError(f"expected a transformers model or a wrapper of one, got {type(model).__name__}")
        model = inner
    return model


def tower_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights of the vision tower and its mergers."""
    plain = unwrap(model)
    return list(family_of(plain.config).tower(plain).parameters())


def has_frozen_tower(model: torch.nn.Module) -> bool:
    """Whether no weight of the vision tower is trained, so that `encode_media` saves work.

    Raises:
        ConfigError: it does, but the installed transformers would swallow the features without a word.
    """
    if any(weight.requires_grad for weight in tower_parameters(model)):
        return False
    plain = unwrap(model)
    for part in (plain, plain.base_model):
        if "mm_encoder_outputs" not in inspect.signature(type(part).forward).parameters:
            raise ConfigError(
                f"the vision tower is frozen, and {type(part).__name__} of the installed transformers "
                f"{transformers.__version__} takes no features computed beforehand: install 5.18 or newer (constraints.txt)"
            )
    return True


@torch.no_grad()
def encode_media(model: torch.nn.Module, prompt: PromptInputs) -> torch.Tensor | None:
    """(tokens of media, ...) features that take the places of the prompt's placeholders, in the form of the model's family
    (`Family.encode`); None without media."""
    if not prompt.media:
        return None
    plain = unwrap(model)
    patches = torch.cat([medium.patches.to(plain.device) for medium in prompt.media])
    return family_of(plain.config).encode(plain, patches, torch.tensor([medium.grid for medium in prompt.media]))


def encode_each(model: torch.nn.Module, prompts: Sequence[PromptInputs]) -> list[torch.Tensor | None]:
    """`encode_media` of each prompt, once for all that show the same."""
    known: dict[tuple[str, ...], torch.Tensor | None] = {}
    for prompt in prompts:
        if (pixels := prompt.pixels) not in known:
            known[pixels] = encode_media(model, prompt)
    return [known[prompt.pixels] for prompt in prompts]


def media_arguments(
    config: PretrainedConfig,
    input_ids: torch.Tensor,
    prompts: Sequence[PromptInputs],
    features: Sequence[torch.Tensor | None] | None,
    shown: Sequence[tuple[int, int]] | None = None,
) -> dict[str, object]:
    """Keyword arguments that bring tokens and media into one forward, media as features where given, else as patches.

    To the model every medium is a video: the tower treats both alike, and placeholders only mark places. So one call of the
    tower encodes all, whatever the prompts show, and the ranks of ZeRO-3, which gather its weights together, stay in step.

    Args:
        config: of the model.
        input_ids: of the rows.
        prompts: that show something.
        features: one per prompt as `encode_media` gives them.
        shown: the media that the rows hold, in order: (which prompt, which of its media); None for all of all prompts.
    """
    if shown is None:
        shown = [(row, index) for row, prompt in enumerate(prompts) for index in range(len(prompt.media))]
    if not shown:
        return {"input_ids": input_ids}
    arguments: dict[str, object] = {
        "input_ids": input_ids.masked_fill(input_ids == config.image_token_id, config.video_token_id)
    }
    if features is not None:
        given = [_of_medium(features[row], prompts[row], index) for row, index in shown]
        return arguments | {"mm_encoder_outputs": {"video": family_of(config).encoder_outputs(given)}}
    media = [prompts[row].media[index] for row, index in shown]
    return arguments | {
        "pixel_values_videos": torch.cat([medium.patches.to(input_ids.device) for medium in media]),
        "video_grid_thw": torch.tensor([medium.grid for medium in media]),
    }


def _of_medium(features: torch.Tensor | None, prompt: PromptInputs, index: int) -> torch.Tensor:
    """The part of a prompt's features that stands for one of its media."""
    assert features is not None, "a prompt with media has features if any has"
    return features.split([medium.num_tokens for medium in prompt.media])[index]
