"""Floating-point operations of the parts of a GRPO step; a multiplication and an addition are two.

Letters: L layers of hidden size H, A width of queries, K width of keys (and of values), I width of the MLP, V vocabulary;
G completions of C tokens after a prompt of P tokens. The vision tower has l layers of width h and MLP width i over n patches,
four of which make one of P's tokens.

Of one token in one decoder layer, the products with weights cost w = 2 (2 H A + 2 H K + 3 H I), of which 4 H K make its key
and value. Every (query, key) pair costs 4 A. The head costs 2 H V for each scored token.

A prompt alone has P^2/2 pairs, repeated prompts G (P + C)^2 / 2, a shared one P^2/2 + G (P C + C^2/2); there the last layer
computes nothing but keys and values for the prompt.
"""

from dataclasses import dataclass

from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class DecoderSizes:
    """L, H, A, K, I and V."""

    layers: int
    hidden: int
    query_width: int
    key_width: int
    intermediate: int
    vocabulary: int

    @property
    def per_token(self) -> int:
        """w: a token's products with the weights of one layer."""
        weights = 2 * self.query_width + 2 * self.key_width + 3 * self.intermediate
        return 2 * self.hidden * weights


@dataclass(frozen=True, slots=True)
class TowerSizes:
    """Sizes of a vision tower.

    Args:
        layers: l.
        hidden: h.
        intermediate: i.
        mlp_products: products of h x i in an MLP: 3 where it has a gate, else 2.
        patch_values: numbers of a patch: 2 frames of 14 x 14 pixels of 3 colours.
        out_hidden: H, the width that the merger gives.
        full_layers: layers that attend over the whole frame; the others within windows.
        window: side of a window in merged patches; 0 where there are none.
    """

    layers: int
    hidden: int
    intermediate: int
    mlp_products: int
    patch_values: int
    out_hidden: int
    full_layers: int
    window: int


@dataclass(frozen=True, slots=True)
class VideoGrid:
    """A video in tokens: pairs of frames (0 for no video), rows and columns of a frame."""

    steps: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """Tokens of the prompt."""
        return self.steps * self.rows * self.columns


def decoder_sizes(config: PretrainedConfig) -> DecoderSizes:
    """Of the language model that a Qwen2-VL or Qwen2.5-VL config describes."""
    text = config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return DecoderSizes(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        query_width=text.num_attention_heads * head,
        key_width=text.num_key_value_heads * head,
        intermediate=text.intermediate_size,
        vocabulary=text.vocab_size,
    )


def tower_sizes(config: PretrainedConfig) -> TowerSizes:
    """Of the vision tower that a Qwen2-VL or Qwen2.5-VL config describes."""
    vision = config.vision_config
    patch_values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    if config.model_type == "qwen2_vl":
        wide, depth = int(vision.embed_dim * vision.mlp_ratio), vision.depth
        return TowerSizes(depth, vision.embed_dim, wide, 2, patch_values, vision.hidden_size, depth, 0)
    return TowerSizes(
        layers=vision.depth,
        hidden=vision.hidden_size,
        intermediate=vision.intermediate_size,
        mlp_products=3,
        patch_values=patch_values,
        out_hidden=vision.out_hidden_size,
        full_layers=len(vision.fullatt_block_indexes),
        window=vision.window_size // vision.spatial_merge_size // vision.patch_size,
    )


def vision_forward(tower: TowerSizes, video: VideoGrid) -> float:
    """One video through the tower. A patch attends to the patches of its frame pair, or of its window in it."""
    patches, h = 4 * video.tokens, tower.hidden
    products = tower.patch_values * h + tower.layers * (4 * h**2 + tower.mlp_products * h * tower.intermediate)
    merger = (4 * h) ** 2 + 4 * h * tower.out_hidden
    frame = 4 * video.rows * video.columns
    window = 4 * _mean_window(video.rows, tower.window) * _mean_window(video.columns, tower.window)
    pairs = patches * (tower.full_layers * frame + (tower.layers - tower.full_layers) * window)
    return 2.0 * (patches * products + video.tokens * merger) + 4.0 * h * pairs


def _mean_window(size: int, window: int) -> float:
    """Mean length of the window that a place on an axis lies in; the last window may be cut off."""
    if window == 0 or size == 0:
        return float(size)
    whole, rest = divmod(size, window)
    return (whole * window**2 + rest**2) / size


def prefill(decoder: DecoderSizes, prompt: float) -> float:
    """A prompt of `prompt` tokens whose last layer computes nothing but keys and values."""
    full = prompt * decoder.per_token + 2.0 * decoder.query_width * prompt**2
    return (decoder.layers - 1) * full + 4.0 * decoder.hidden * decoder.key_width * prompt


def prefill_repeated(decoder: DecoderSizes, prompt: float, completions: int) -> float:
    """The prompt once for each completion, every layer whole, and the logits of its last token."""
    full = prompt * decoder.per_token + 2.0 * decoder.query_width * prompt**2
    return completions * (decoder.layers * full + 2.0 * decoder.hidden * decoder.vocabulary)


def decode(decoder: DecoderSizes, prompt: float, completions: int, length: float) -> float:
    """`length` tokens of each completion, one after the other, over the keys of the prompt and their own."""
    pairs = completions * (prompt * length + length**2 / 2)
    per_token = decoder.layers * decoder.per_token + 2.0 * decoder.hidden * decoder.vocabulary
    return completions * length * per_token + 4.0 * decoder.layers * decoder.query_width * pairs


def logps_shared(decoder: DecoderSizes, prompt: float, completions: int, length: float) -> float:
    """Log-probabilities of a group by one forward over `[prompt | completion 1 | ... | completion G]`."""
    return prefill(decoder, prompt) + decode(decoder, prompt, completions, length)


def logps_repeated(decoder: DecoderSizes, prompt: float, completions: int, length: float) -> float:
    """The same with the prompt before every completion."""
    tokens = prompt + length
    layer = tokens * decoder.per_token + 2.0 * decoder.query_width * tokens**2
    return completions * (decoder.layers * layer + 2.0 * decoder.hidden * decoder.vocabulary * length)
