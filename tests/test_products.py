"""Products by oneDNN against torch's own layers."""

import copy
from typing import Any

import pytest
import torch

from videochat_r1.modeling.products import install_products, prepared


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return float((ours - theirs).norm() / theirs.norm()) < 1e-6


def layers() -> dict[str, tuple[torch.nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    strided = torch.randn(70, 3, 40).transpose(0, 1)
    return {
        "bias": (torch.nn.Linear(40, 24), torch.randn(5, 7, 40)),
        "no bias, strided": (torch.nn.Linear(40, 24, bias=False), strided),
        "one row": (torch.nn.Linear(40, 1), torch.randn(1, 40)),
        "patches": (torch.nn.Conv3d(3, 24, (2, 4, 4), (2, 4, 4)), torch.randn(9, 3, 2, 4, 4)),
        "several patches at once": (torch.nn.Conv3d(3, 24, (2, 4, 4), (2, 4, 4)), torch.randn(2, 3, 2, 8, 4)),
    }


@pytest.mark.parametrize("trained", ["all", "weights", "inputs"])
@pytest.mark.parametrize("name", layers())
def test_values_and_gradients(name: str, trained: str) -> None:
    layer, inputs = layers()[name]
    results = []
    for installed in (False, True):
        own = copy.deepcopy(layer).requires_grad_(trained != "inputs")
        if installed:
            install_products(own)
            own = copy.deepcopy(own)
        given = inputs.clone().requires_grad_(trained != "weights")
        out = own(given)
        out.square().sum().backward()
        grads = [tensor.grad for tensor in (given, *own.parameters()) if tensor.grad is not None]
        with torch.no_grad():
            results.append([out.detach(), own(given), *grads])
    plain, ours = results
    assert len(plain) == len(ours)
    assert all(map(close, ours, plain))


def test_layers_with_one_input_are_one_product() -> None:
    torch.manual_seed(0)
    first, second, inputs = torch.nn.Linear(40, 6), torch.nn.Linear(40, 4, bias=False), torch.randn(5, 40)

    def join(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.cat([one.unflatten(-1, (3, 2)).flip(1), other.unflatten(-1, (2, 2))], 1)

    expected = join(first(inputs), second(inputs)).detach()
    together: Any = prepared([first, second], 5, join)
    with torch.no_grad():
        first.weight.mul_(2)
        assert close(together(inputs), expected)  # of the weights then
        # A layer that is more than its weights is called.
        second.register_forward_hook(lambda module, given, out: 3 * out)
        changed = prepared([first, second], 5, join)(inputs)
        assert close(changed, join(first(inputs), second(inputs)))
        with torch.autocast("cpu", torch.bfloat16):
            assert prepared([first], 5)(inputs).dtype == torch.bfloat16
