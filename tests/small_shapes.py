"""Sizes small enough to work formulas out by hand."""

from videochat_r1.doctor.memory import ModelShape
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.sizes import DecoderSizes, TowerSizes


def small_shape(*, vocabulary: int = 11, mergers: int = 1) -> ModelShape:
    """1000 parameters, 100 of them in the tower; no two sizes are equal."""
    decoder = DecoderSizes(layers=3, hidden=4, query_width=6, key_width=2, intermediate=10, vocabulary=vocabulary)
    tower = TowerSizes(layers=2, hidden=5, intermediate=7, mlp_products=3, patch_values=1176, out_hidden=4,
                       full_layers=1, window=4, mergers=mergers)  # fmt: skip
    return ModelShape(FAMILIES[DEFAULT_FAMILY], 1000, 100, decoder, tower, token_side=28, tied=False)
