"""Qwen3-VL: a video is a picture per temporal step with its seconds as text before it; DeepStack; boxes are thousandths."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from videochat_r1.modeling.families.base import Family
from videochat_r1.modeling.inputs import Medium, MediumKind
from videochat_r1.modeling.positions import Piece
from videochat_r1.modeling.sizes import TowerSizes, patch_values

# Depth, width, MLP width, heads and DeepStack's layers of the two vision towers.
_SMALL_TOWER = (24, 1024, 4096, 16, [5, 11, 17])
_LARGE_TOWER = (27, 1152, 4304, 16, [8, 16, 24])


class Qwen3VL(Family):
    """Qwen3-VL, dense."""

    model_type = "qwen3_vl"
    model_class = Qwen3VLForConditionalGeneration
    box_convention = "thousandths"
    pixel_mean = pixel_std = (0.5, 0.5, 0.5)
    picture_pixels = (64 * 32 * 32, 16384 * 32 * 32)
    # Layers, hidden size, query heads, MLP width, one tensor for both embeddings, tower. 8 key heads of 128 everywhere.
    published: ClassVar[dict[str, Any]] = {
        "Qwen3-VL-2B": (28, 2048, 16, 6144, True, _SMALL_TOWER),
        "Qwen3-VL-4B": (36, 2560, 32, 9728, True, _SMALL_TOWER),
        "Qwen3-VL-8B": (36, 4096, 32, 12288, False, _LARGE_TOWER),
        "Qwen3-VL-32B": (64, 5120, 64, 25600, False, _LARGE_TOWER),
    }

    def mark(self, kind: MediumKind, processor: ProcessorMixin) -> str:
        """A video's mark includes the template's start and end, which the checkpoints were not trained with around a whole
        video: transformers' processor leaves them there from 5.10 on."""
        mark = super().mark(kind, processor)
        return f"{processor.vision_start_token}{mark}{processor.vision_end_token}" if kind == "video" else mark

    def medium_text(self, medium: Medium, processor: ProcessorMixin) -> str:
        """Of a video, for every temporal step the mean time of its frames, rounded to a decimal, and the step as a picture."""
        if medium.kind == "image":
            return super().medium_text(medium, processor)
        step = processor.video_token * (medium.rows * medium.columns)
        picture = f"{processor.vision_start_token}{step}{processor.vision_end_token}"
        return "".join(f"<{seconds:.1f} seconds>{picture}" for seconds in medium.mean_seconds)

    def seconds_tokens(self, duration: float) -> int:
        """`<`, every digit, `.`, a digit, ` seconds`, `>`, and a start and an end."""
        return 7 + max(1, len(str(math.floor(duration))))

    def pieces(self, medium: Medium, config: PretrainedConfig) -> list[Piece]:
        """A run of its own for every temporal step: time is in the text alone."""
        return [Piece((0,), medium.rows, medium.columns)] * medium.steps

    def span(self, medium: Medium, first: int, last: int) -> tuple[int, int]:
        """A video begins with its first picture's start and ends with its last one's end."""
        return (first - 1, last + 2) if medium.kind == "video" else (first, last + 1)

    def encode(self, model: PreTrainedModel, patches: torch.Tensor, grid_thw: torch.Tensor) -> torch.Tensor:
        """(tokens, 1 + levels, hidden size): after the tokens' own features those that DeepStack adds to the first layers' outputs."""
        output: Any = model.base_model.get_video_features(patches, grid_thw, return_dict=True)
        return torch.stack([torch.cat(part) for part in (output.pooler_output, *output.deepstack_features)], dim=1)

    def encoder_outputs(self, features: Sequence[torch.Tensor]) -> BaseModelOutputWithPooling:
        """See `Family`."""
        own, *levels = zip(*(feature.unbind(1) for feature in features), strict=True)
        return BaseModelOutputWithDeepstackFeatures(pooler_output=own, deepstack_features=levels)

    def tower_sizes(self, config: PretrainedConfig) -> TowerSizes:
        """A tower whose every layer attends over a whole frame, with a merger for each level of DeepStack."""
        vision = config.vision_config
        return TowerSizes(
            layers=vision.depth,
            hidden=vision.hidden_size,
            intermediate=vision.intermediate_size,
            mlp_products=2,
            patch_values=patch_values(vision),
            patches_per_token=vision.spatial_merge_size**2,
            out_hidden=vision.out_hidden_size,
            full_layers=vision.depth,
            window=0,
            mergers=1 + len(vision.deepstack_visual_indexes),
        )

    def published_config(self, name: str) -> PretrainedConfig:
        """See `Family`."""
        layers, hidden, heads, wide, tied, (depth, width, tower_wide, tower_heads, levels) = self.published[name]
        text = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": wide,
            "vocab_size": 151936,
            "max_position_embeddings": 262144,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
                "rope_theta": 5000000.0,
            },
            "tie_word_embeddings": tied,
        }
        tower = {
            "depth": depth,
            "hidden_size": width,
            "intermediate_size": tower_wide,
            "num_heads": tower_heads,
            "out_hidden_size": hidden,
            "patch_size": 16,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": levels,
        }
        return Qwen3VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=tied)

    def tiny_config(self, shared: dict[str, Any], tower: dict[str, Any]) -> PretrainedConfig:
        """See `Family`. DeepStack has fewer levels than the language model layers, as in the large ones."""
        text = shared["text_config"]
        text["head_dim"] = 32
        # Always on in transformers' model; vLLM's looks here.
        text["rope_parameters"] = {**text["rope_parameters"], "mrope_interleaved": True}
        vision = {
            **tower,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": list(range(max(1, tower["depth"] - 1)))[: text["num_hidden_layers"] - 1],
        }
        return Qwen3VLConfig(vision_config=vision, **shared)

    def tiny_texts(self) -> Iterable[str]:
        """Every time of a video of up to 64 seconds."""
        return (f"<{tenth / 10:.1f} seconds>" for tenth in range(640))

    def tiny_processor(self, tokenizer: Any, chat_template: str) -> ProcessorMixin:
        """See `Family`."""
        half = {"image_mean": list(self.pixel_mean), "image_std": list(self.pixel_std)}
        return Qwen3VLProcessor(
            image_processor=Qwen2VLImageProcessor(patch_size=16, **half),
            tokenizer=tokenizer,
            video_processor=Qwen3VLVideoProcessor(**half),
            chat_template=chat_template,
        )
