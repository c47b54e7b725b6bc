"""Qwen2-VL: positions count temporal steps, boxes are thousandths."""

from typing import Any, ClassVar

from transformers import (
    PretrainedConfig,
    ProcessorMixin,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from videochat_r1.modeling.families.base import Family
from videochat_r1.modeling.inputs import Medium
from videochat_r1.modeling.positions import Piece
from videochat_r1.modeling.sizes import TowerSizes, patch_values

# Layers, hidden size, query heads, key heads, MLP width, vocabulary, one tensor for both embeddings.
TextSizes = tuple[int, int, int, int, int, int, bool]


class Qwen2VL(Family):
    """Qwen2-VL."""

    model_type = "qwen2_vl"
    model_class = Qwen2VLForConditionalGeneration
    box_convention = "thousandths"
    pixel_mean, pixel_std = tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)
    picture_pixels = (4 * 28 * 28, 16384 * 28 * 28)
    published: ClassVar[dict[str, Any]] = {
        "Qwen2-VL-2B": (28, 1536, 12, 2, 8960, 151936, True),
        "Qwen2-VL-7B": (28, 3584, 28, 4, 18944, 152064, False),
    }

    def pieces(self, medium: Medium, config: PretrainedConfig) -> list[Piece]:
        """One run, whose steps are one position apart."""
        return [Piece(tuple(range(medium.steps)), medium.rows, medium.columns)]

    def tower_sizes(self, config: PretrainedConfig) -> TowerSizes:
        """A tower without windows and without gates."""
        vision = config.vision_config
        wide = int(vision.embed_dim * vision.mlp_ratio)
        return TowerSizes(
            layers=vision.depth,
            hidden=vision.embed_dim,
            intermediate=wide,
            mlp_products=2,
            patch_values=patch_values(vision),
            patches_per_token=vision.spatial_merge_size**2,
            out_hidden=vision.hidden_size,
            full_layers=vision.depth,
            window=0,
        )

    def published_config(self, name: str) -> PretrainedConfig:
        """See `Family`."""
        text = published_text(self.published[name])
        tower = {"depth": 32, "num_heads": 16, "patch_size": 14, "embed_dim": 1280, "mlp_ratio": 4}
        tower["hidden_size"] = text["hidden_size"]
        return Qwen2VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=text["tie_word_embeddings"])

    def tiny_config(self, shared: dict[str, Any], tower: dict[str, Any]) -> PretrainedConfig:
        """See `Family`."""
        vision = {
            "depth": tower["depth"],
            "embed_dim": tower["hidden_size"],
            "hidden_size": tower["out_hidden_size"],
            "mlp_ratio": tower["intermediate_size"] // tower["hidden_size"],
            "num_heads": tower["num_heads"],
            "initializer_range": tower["initializer_range"],
        }
        return Qwen2VLConfig(vision_config=vision, **shared)

    def tiny_processor(self, tokenizer: Any, chat_template: str) -> ProcessorMixin:
        """See `Family`."""
        return tiny_processor(Qwen2VLProcessor, tokenizer, chat_template)


def tiny_processor(processor_class: type[ProcessorMixin], tokenizer: Any, chat_template: str) -> ProcessorMixin:
    """The processor of Qwen2-VL and Qwen2.5-VL, which differ in its class alone."""
    return processor_class(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=chat_template,
    )


def published_text(sizes: TextSizes) -> dict[str, Any]:
    """`text_config` of Qwen2's and Qwen2.5's language models."""
    layers, hidden, heads, key_heads, wide, vocabulary, tied = sizes
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": wide,
        "vocab_size": vocabulary,
        "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0},
        "tie_word_embeddings": tied,
    }
