"""The vision tower in few attention calls gives the numbers of transformers' own loop over windows and frames."""

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from tests.host_waits import counted_host_waits
from videochat_r1.modeling.tiny import build_tokenizer, tiny_config
from videochat_r1.modeling.vision_segments import install_batched_segments

TOWERS: dict[str, Any] = {
    "qwen2_vl": Qwen2VisionTransformerPretrainedModel,
    "qwen2_5_vl": Qwen2_5_VisionTransformerPretrainedModel,
    "qwen3_vl": Qwen3VLVisionModel,
}

# Windows are 4 x 4 merged patches here: whole, cut on one side or both, smaller than one, exactly one.
GRIDS = [
    [(2, 18, 26)],
    [(3, 10, 6)],
    [(1, 2, 2)],
    [(5, 8, 8)],
    [(1, 16, 4), (4, 6, 18)],
    [(2, 10, 10), (3, 6, 4), (2, 10, 10)],
]


def make_tower(family: str, *, depth: int = 4, full: tuple[int, ...] = (1, 3)) -> PreTrainedModel:
    """`full`: the layers that attend over the whole frame where others have windows; where there is DeepStack, its levels."""
    torch.manual_seed(0)
    config: Any = tiny_config(
        build_tokenizer([]),
        hidden=64,
        layers=5,
        vision_hidden=32,
        vision_layers=depth,
        tie_word_embeddings=True,
        family=family,
        initializer_range=0.2,
    ).vision_config
    if hasattr(config, "window_size"):
        config.window_size, config.fullatt_block_indexes = 112, list(full)
    config._attn_implementation = "sdpa"
    return TOWERS[family]._from_config(config)


def make_pixels(grid: list[tuple[int, int, int]], patch_size: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    thw = torch.tensor(grid)
    return torch.randn(int(thw.prod(-1).sum()), 3 * 2 * patch_size**2), thw


def features_and_gradients(
    tower: PreTrainedModel, pixels: torch.Tensor, grid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    tower.zero_grad()
    pixels = pixels.clone().requires_grad_()
    output = tower(pixels, grid_thw=grid)
    features = torch.cat([output.pooler_output, *getattr(output, "deepstack_features", ())])
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(3))
    (features * weights).sum().backward()
    grads = [pixels.grad, *(parameter.grad for parameter in tower.parameters())]
    return features.detach(), torch.cat([grad.flatten() for grad in grads if grad is not None])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("family", TOWERS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_batched_segments_equal_the_loop(family: str, grid: list, checkpointing: bool) -> None:
    ordinary = make_tower(family).train()
    batched = copy.deepcopy(ordinary)
    install_batched_segments(batched)
    install_batched_segments(batched)
    if checkpointing:
        batched.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = make_pixels(grid, ordinary.config.patch_size)
    expected, actual = (features_and_gradients(tower, *inputs) for tower in (ordinary, batched))
    for mine, theirs in zip(actual, expected, strict=True):
        assert (mine - theirs).norm() < 1e-6 * theirs.norm()


def test_the_comparison_notices_a_wrong_segment() -> None:
    tower = make_tower("qwen2_5_vl")
    pixels, grid = make_pixels([(2, 18, 26)])
    expected = tower(pixels, grid_thw=grid).pooler_output
    tower.window_size = 56
    assert (tower(pixels, grid_thw=grid).pooler_output - expected).abs().max() > 1e-3


class _AttentionCalls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls["scaled_dot_product" in str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("family", "calls"), [("qwen2_5_vl", 28 * 3 + 4), ("qwen2_vl", 32), ("qwen3_vl", 32)])
@torch.no_grad()
def test_a_tower_of_real_depth_makes_few_calls_and_waits_for_nothing(family: str, calls: int) -> None:
    tower = make_tower(family, depth=32, full=(7, 15, 23, 31))
    install_batched_segments(tower)
    pixels, grid = make_pixels([(2, 18, 26)], tower.config.patch_size)
    tower(pixels, grid_thw=grid)
    with counted_host_waits() as waits, _AttentionCalls() as counted:
        tower(pixels, grid_thw=grid)
    assert counted.calls[True] == calls
    assert waits == {"tolist": 1}  # of the grid, which lies on the host


def test_other_attention_is_left_alone() -> None:
    tower = make_tower("qwen2_5_vl")
    tower.config._attn_implementation = "eager"
    inputs = make_pixels([(2, 10, 6)])
    expected = features_and_gradients(tower, *inputs)
    install_batched_segments(tower)
    assert tower.config._attn_implementation == "eager"
    assert torch.equal(features_and_gradients(tower, *inputs)[0], expected[0])
