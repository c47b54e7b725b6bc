"""What this project knows of one model family. Everything else asks the family of a config and knows none by name.

A family of one's own is a subclass, named `package.module:Family` in a recipe (`model_family`) or with `--model-family`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.inputs import Medium, MediumKind
from videochat_r1.modeling.positions import Piece
from videochat_r1.modeling.sizes import TowerSizes
from videochat_r1.parsing.box_units import BoxConvention


class Family(ABC):
    """Checkpoints of one `model_type`.

    Args:
        model_type: of config.json.
        model_class: that loads its weights.
        box_convention: see `BoxConvention`.
        pixel_mean: of red, green and blue from 0 to 1, which the processor takes away from them.
        pixel_std: by which it then divides them.
        picture_pixels: least and most pixels of a picture where a recipe says nothing.
        lora_targets: regular expression of the linear layers that adapters go on: those of the language model, as adapters
            on the tower would undo what freezing it is for.
        published: sizes by checkpoint name, as `published_config` reads them.
    """

    model_type: ClassVar[str]
    model_class: ClassVar[type[PreTrainedModel]]
    box_convention: ClassVar[BoxConvention]
    pixel_mean: ClassVar[tuple[float, float, float]]
    pixel_std: ClassVar[tuple[float, float, float]]
    picture_pixels: ClassVar[tuple[int, int]]
    lora_targets: ClassVar[str] = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    published: ClassVar[Mapping[str, Any]] = {}

    # --- pixels ----------------------------------------------------------------------------------------------------

    def token_side(self, config: PretrainedConfig) -> int:
        """Pixels of a token's side: frames and pictures are multiples of it."""
        return int(config.vision_config.patch_size) * int(config.vision_config.spatial_merge_size)

    def reordered(self, medium: Medium, order: Sequence[int], config: PretrainedConfig) -> Medium:
        """A video whose frames had come in another order: what is paired into a temporal step changes, times stay.

        Patches are a temporal step after the other, and the values of one are of each colour, frame, row and column in turn.

        Args:
            medium: a video.
            order: its own frames, each once; a repeated last frame repeats the new last one.
            config: of the model.
        """
        size = int(config.vision_config.temporal_patch_size)
        repeated = [order[-1]] * (medium.steps * size - len(order))
        frames = torch.tensor([*order, *repeated], device=medium.patches.device)
        # (steps, patches of a step, colours, frames of a step, pixels), with all frames as one dimension in front.
        by_step = medium.patches.view(medium.steps, -1, 3, size, int(config.vision_config.patch_size) ** 2)
        by_frame = by_step.movedim(3, 1).flatten(0, 1)[frames].unflatten(0, (medium.steps, size))
        return medium.remade(by_frame.movedim(1, 3).reshape(medium.patches.shape), f"frames {order}")

    # --- text ------------------------------------------------------------------------------------------------------

    def mark(self, kind: MediumKind, processor: ProcessorMixin) -> str:
        """What the chat template writes for one medium, to be replaced by `medium_text`."""
        mark: str = processor.video_token if kind == "video" else processor.image_token
        return mark

    def medium_text(self, medium: Medium, processor: ProcessorMixin) -> str:
        """What stands for a medium in the prompt: a placeholder for each of its tokens."""
        return self.mark(medium.kind, processor) * medium.num_tokens

    def seconds_tokens(self, duration: float) -> int:
        """Tokens that a temporal step of a video of `duration` seconds takes in the prompt beside its placeholders, at most."""
        return 0

    # --- positions -------------------------------------------------------------------------------------------------

    @abstractmethod
    def pieces(self, medium: Medium, config: PretrainedConfig) -> list[Piece]:
        """The runs of placeholders that a medium makes, with their positions on the time axis."""

    def span(self, medium: Medium, first: int, last: int) -> tuple[int, int]:
        """[begin, end) of a medium whose first and last placeholder are given, as vLLM's model of the family counts it."""
        return first, last + 1

    # --- encoder ---------------------------------------------------------------------------------------------------

    def tower(self, model: PreTrainedModel) -> Any:
        """The vision tower with its mergers."""
        return model.base_model.visual

    def encode(self, model: PreTrainedModel, patches: torch.Tensor, grid_thw: torch.Tensor) -> torch.Tensor:
        """(tokens, ...) features of media, in the form that `encoder_outputs` takes.

        Args:
            model: plain.
            patches: (N, patch values) of all of them.
            grid_thw: (media, 3).
        """
        output = model.base_model.get_video_features(patches, grid_thw, return_dict=True)
        return torch.cat(output.pooler_output)

    def encoder_outputs(self, features: Sequence[torch.Tensor]) -> BaseModelOutputWithPooling:
        """What the model's forward takes as an encoder's output, from features as `encode` gives them."""
        return BaseModelOutputWithPooling(pooler_output=tuple(features))

    # --- sizes -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def tower_sizes(self, config: PretrainedConfig) -> TowerSizes:
        """Sizes that the vision tower's work and memory are computed from."""

    def published_config(self, name: str) -> PretrainedConfig:
        """The config of one of `published`. Token ids and generation settings are transformers' defaults: only sizes count."""
        raise ConfigError(f"no published sizes of {name!r} are known")

    # --- the tiny model --------------------------------------------------------------------------------------------

    @abstractmethod
    def tiny_config(self, shared: dict[str, Any], tower: dict[str, Any]) -> PretrainedConfig:
        """The config of a tiny model.

        Args:
            shared: `text_config` and ids, as every family takes them; may be changed.
            tower: of `vision_config`, by the names that most families have: depth, hidden_size, intermediate_size, num_heads,
                out_hidden_size (the language model's width), initializer_range.
        """

    def tiny_texts(self) -> Iterable[str]:
        """What prompts hold beside the question and its media, for the tokenizer of a tiny model to learn."""
        return ()

    @abstractmethod
    def tiny_processor(self, tokenizer: Any, chat_template: str) -> ProcessorMixin:
        """The processor class that real checkpoints use, around a tokenizer."""
