"""Sizes of a model that its work and memory are computed from."""

from dataclasses import dataclass

from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class DecoderSizes:
    """L layers of hidden size H, A width of queries, K width of keys (and of values), I width of the MLP, V vocabulary."""

    layers: int
    hidden: int
    query_width: int
    key_width: int
    intermediate: int
    vocabulary: int

    @property
    def per_token(self) -> int:
        """Operations of a token's products with the weights of one layer."""
        weights = 2 * self.query_width + 2 * self.key_width + 3 * self.intermediate
        return 2 * self.hidden * weights

    @property
    def weights(self) -> int:
        """Of the layers and the embedding, without norms and biases."""
        return self.layers * self.per_token // 2 + self.vocabulary * self.hidden


@dataclass(frozen=True, slots=True)
class TowerSizes:
    """Sizes of a vision tower.

    Args:
        layers: l.
        hidden: h.
        intermediate: i.
        mlp_products: products of h x i in an MLP: 3 where it has a gate, else 2.
        patch_values: numbers of a patch: 2 frames of its pixels in 3 colours.
        out_hidden: H, the width that a merger gives.
        full_layers: layers that attend over the whole frame; the others within windows.
        window: side of a window in merged patches; 0 where there are none.
        mergers: how often patches are merged into tokens: once, and for each level of DeepStack.
        patches_per_token: merged into one.
    """

    layers: int
    hidden: int
    intermediate: int
    mlp_products: int
    patch_values: int
    out_hidden: int
    full_layers: int
    window: int
    mergers: int = 1
    patches_per_token: int = 4


def decoder_sizes(config: PretrainedConfig) -> DecoderSizes:
    """Of the language model that a config describes."""
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


def patch_values(vision: PretrainedConfig) -> int:
    """Numbers of one patch of a tower."""
    return int(vision.in_channels * vision.temporal_patch_size * vision.patch_size**2)
