"""Sizes of the published Qwen checkpoints, so that a run can be planned, or timed on random weights, without their folders.

The values are those of each checkpoint's config.json.
"""

from transformers import PretrainedConfig, Qwen2_5_VLConfig, Qwen2VLConfig

# Layers, hidden size, query heads, key heads, MLP width, vocabulary, one tensor for both embeddings.
_TEXT = {
    "Qwen2-VL-2B": (28, 1536, 12, 2, 8960, 151936, True),
    "Qwen2-VL-7B": (28, 3584, 28, 4, 18944, 152064, False),
    "Qwen2.5-VL-3B": (36, 2048, 16, 2, 11008, 151936, True),
    "Qwen2.5-VL-7B": (28, 3584, 28, 4, 18944, 152064, False),
    "Qwen2.5-VL-32B": (64, 5120, 40, 8, 27648, 152064, False),
    "Qwen2.5-VL-72B": (80, 8192, 64, 8, 29568, 152064, False),
}
# MLP width of the vision tower; all are 32 layers of width 1280 with 16 heads.
_WIDE_TOWERS = {"Qwen2.5-VL-32B": 3456, "Qwen2.5-VL-72B": 3456}

PUBLISHED = tuple(_TEXT)
"""Known names; a checkpoint's own may go on after one of them (`-Instruct`)."""


def published_config(name: str) -> PretrainedConfig | None:
    """The config of a checkpoint by its name, folder or hub name; None for one that is not known.

    Token ids and generation settings are transformers' defaults: only the sizes count.
    """
    last = name.rstrip("/").rpartition("/")[2]
    known = next((key for key in PUBLISHED if last == key or last.startswith(f"{key}-")), None)
    if known is None:
        return None
    layers, hidden, heads, key_heads, wide, vocabulary, tied = _TEXT[known]
    text = {
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
    tower = {"depth": 32, "num_heads": 16, "patch_size": 14}
    if known.startswith("Qwen2-VL"):
        old = {**tower, "embed_dim": 1280, "hidden_size": hidden, "mlp_ratio": 4}
        return Qwen2VLConfig(text_config=text, vision_config=old, tie_word_embeddings=tied)
    new = {
        **tower,
        "hidden_size": 1280,
        "out_hidden_size": hidden,
        "intermediate_size": _WIDE_TOWERS.get(known, 3420),
        "fullatt_block_indexes": [7, 15, 23, 31],
        "window_size": 112,
        "tokens_per_second": 2,
    }
    return Qwen2_5_VLConfig(text_config=text, vision_config=new, tie_word_embeddings=tied)
