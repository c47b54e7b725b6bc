"""The vision tower in few attention calls gives the numbers of transformers' own loop over windows and frames."""

import copy
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from tests.host_waits import counted_host_waits
from tests.tiny_prompts import MODEL_TYPES
from videochat_r1.modeling.tiny import ModelType
from videochat_r1.modeling.vision_segments import install_batched_segments

# Windows are 4 x 4 merged patches here: whole, cut on one side or both, smaller than one, exactly one.
GRIDS = [
    [(2, 18, 26)],
    [(3, 10, 6)],
    [(1, 2, 2)],
    [(5, 8, 8)],
    [(1, 16, 4), (4, 6, 18)],
    [(2, 10, 10), (3, 6, 4), (2, 10, 10)],
]


def make_tower(model_type: ModelType, *, depth: int = 4, full: tuple[int, ...] = (1, 3)) -> PreTrainedModel:
    torch.manual_seed(0)
    shared = {"depth": depth, "num_heads": 2, "patch_size": 14, "initializer_range": 0.2}
    if model_type == "qwen2_vl":
        tower_class, own = Qwen2VisionTransformerPretrainedModel, {"embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2}
    else:
        tower_class = Qwen2_5_VisionTransformerPretrainedModel
        sizes = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 48}
        own = {**sizes, "window_size": 112, "fullatt_block_indexes": list(full)}
    config = tower_class.config_class(**shared, **own)
    config._attn_implementation = "sdpa"
    return tower_class(config)


def make_pixels(grid: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    thw = torch.tensor(grid)
    return torch.randn(int(thw.prod(-1).sum()), 3 * 2 * 14 * 14), thw


def features_and_gradients(
    tower: PreTrainedModel, pixels: torch.Tensor, grid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    tower.zero_grad()
    pixels = pixels.clone().requires_grad_()
    features = tower(pixels, grid_thw=grid).pooler_output
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(3))
    (features * weights).sum().backward()
    grads = [pixels.grad, *(parameter.grad for parameter in tower.parameters())]
    return features.detach(), torch.cat([grad.flatten() for grad in grads if grad is not None])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_batched_segments_equal_the_loop(model_type: ModelType, grid: list, checkpointing: bool) -> None:
    ordinary = make_tower(model_type).train()
    batched = copy.deepcopy(ordinary)
    install_batched_segments(batched)
    install_batched_segments(batched)
    if checkpointing:
        batched.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = make_pixels(grid)
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


@pytest.mark.parametrize(("model_type", "calls"), [("qwen2_5_vl", 28 * 3 + 4), ("qwen2_vl", 32)])
@torch.no_grad()
def test_a_tower_of_real_depth_makes_few_calls_and_waits_for_nothing(model_type: ModelType, calls: int) -> None:
    tower = make_tower(model_type, depth=32, full=(7, 15, 23, 31))
    install_batched_segments(tower)
    pixels, grid = make_pixels([(2, 18, 26)])
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
