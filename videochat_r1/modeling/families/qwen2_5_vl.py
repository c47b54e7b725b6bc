"""Qwen2.5-VL: positions carry seconds, boxes are pixels, the tower attends within windows."""

from typing import Any, ClassVar

from transformers import (
    PretrainedConfig,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from videochat_r1.modeling.families.base import Family
from videochat_r1.modeling.families.qwen2_vl import published_text, tiny_processor
from videochat_r1.modeling.inputs import Medium
from videochat_r1.modeling.positions import Piece, temporal_positions
from videochat_r1.modeling.sizes import TowerSizes, patch_values

# MLP width of the vision tower; all are 32 layers of width 1280 with 16 heads.
_WIDE_TOWERS = {"Qwen2.5-VL-32B": 3456, "Qwen2.5-VL-72B": 3456}


class Qwen25VL(Family):
    """Qwen2.5-VL."""

    model_type = "qwen2_5_vl"
    model_class = Qwen2_5_VLForConditionalGeneration
    box_convention = "pixels"
    pixel_mean, pixel_std = tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)
    picture_pixels = (4 * 28 * 28, 16384 * 28 * 28)
    published: ClassVar[dict[str, Any]] = {
        "Qwen2.5-VL-3B": (36, 2048, 16, 2, 11008, 151936, True),
        "Qwen2.5-VL-7B": (28, 3584, 28, 4, 18944, 152064, False),
        "Qwen2.5-VL-32B": (64, 5120, 40, 8, 27648, 152064, False),
        "Qwen2.5-VL-72B": (80, 8192, 64, 8, 29568, 152064, False),
    }

    def pieces(self, medium: Medium, config: PretrainedConfig) -> list[Piece]:
        """One run, whose steps stand at their seconds; a picture is a single step."""
        seconds = medium.step_seconds or (0.0,)
        times = temporal_positions(seconds, config.vision_config.tokens_per_second)
        return [Piece(times, medium.rows, medium.columns)]

    def tower_sizes(self, config: PretrainedConfig) -> TowerSizes:
        """A tower of gated layers, some of which attend over the whole frame."""
        vision = config.vision_config
        return TowerSizes(
            layers=vision.depth,
            hidden=vision.hidden_size,
            intermediate=vision.intermediate_size,
            mlp_products=3,
            patch_values=patch_values(vision),
            patches_per_token=vision.spatial_merge_size**2,
            out_hidden=vision.out_hidden_size,
            full_layers=len(vision.fullatt_block_indexes),
            window=vision.window_size // vision.spatial_merge_size // vision.patch_size,
        )

    def published_config(self, name: str) -> PretrainedConfig:
        """See `Family`."""
        text = published_text(self.published[name])
        tower = {
            "depth": 32,
            "num_heads": 16,
            "patch_size": 14,
            "hidden_size": 1280,
            "out_hidden_size": text["hidden_size"],
            "intermediate_size": _WIDE_TOWERS.get(name, 3420),
            "fullatt_block_indexes": [7, 15, 23, 31],
            "window_size": 112,
            "tokens_per_second": 2,
        }
        return Qwen2_5_VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=text["tie_word_embeddings"])

    def tiny_config(self, shared: dict[str, Any], tower: dict[str, Any]) -> PretrainedConfig:
        """See `Family`. The last layer attends to the whole frame."""
        vision = {
            **tower,
            "fullatt_block_indexes": [tower["depth"] - 1],
            "window_size": 56,
            "tokens_per_second": 2,
        }
        return Qwen2_5_VLConfig(vision_config=vision, **shared)

    def tiny_processor(self, tokenizer: Any, chat_template: str) -> ProcessorMixin:
        """See `Family`."""
        return tiny_processor(Qwen2_5_VLProcessor, tokenizer, chat_template)
