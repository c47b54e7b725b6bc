"""Linear layers as the fastest product that torch has for them, and the embedding of patches as the product that it is.

On x86 torch multiplies fp32 matrices by MKL, which reaches less than half of oneDNN's rate on AMD's processors. The embedding is a
convolution whose kernel covers its whole input.

Letters: N tokens, I inputs, O outputs.
"""

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
from torch.autograd.function import once_differentiable

# A torch without oneDNN has no such functions.
_HAS_ONEDNN = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
_MULTIPLY: Any = torch.ops.mkldnn._linear_pointwise.default if _HAS_ONEDNN else None
_PACK: Any = torch.ops.mkldnn._reorder_linear_weight.default if _HAS_ONEDNN else None


def install_products(model: torch.nn.Module) -> None:
    """Let every plain linear layer, and every convolution over its whole input, compute by `product`. Idempotent."""
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.forward = MethodType(_linear_forward, module)  # type: ignore[method-assign]
        elif type(module) is torch.nn.Conv3d and module.kernel_size == module.stride:
            module.forward = MethodType(_patch_forward, module)  # type: ignore[method-assign]


def product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., O) of inputs (..., I), as `torch.nn.functional.linear`."""
    if not _by_onednn(inputs, weight):
        return torch.nn.functional.linear(inputs, weight, bias)
    if torch.is_grad_enabled():
        out: torch.Tensor = _Product.apply(inputs, weight, bias)
        return out
    return _multiply(inputs, weight, bias)


def prepared(
    layers: Sequence[torch.nn.Module], rows: int, join: Callable[..., torch.Tensor] = lambda alone: alone
) -> Callable[[torch.Tensor], torch.Tensor]:
    """`join` of what the layers make of an input, for many inputs of `rows` tokens, without gradients and with the weights of now.

    The weights of several plain layers are joined instead, in a copy, and on the CPU laid out as oneDNN reads them; layers that are
    more than that, as adapters are, are called.

    Args:
        layers: with the same inputs.
        rows: tokens of an input, about.
        join: gives (N, ...) of an (N, O) for each layer, each value from one value of one layer; itself the one layer's.
    """
    if not all(map(_is_plain, layers)):
        return lambda inputs: join(*(layer(inputs) for layer in layers))
    plain: Sequence[Any] = layers
    joined = join(*(layer.weight.detach().t() for layer in plain))
    shape, weight, bias = joined.shape[1:], joined.flatten(1).t().contiguous(), None
    if any(layer.bias is not None for layer in plain):
        biases = (layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in plain)
        bias = join(*(each.detach().unsqueeze(0) for each in biases)).flatten()
    if _by_onednn(weight, weight):
        packed = _PACK(weight, rows)
        return lambda inputs: _multiply(inputs, packed, bias).unflatten(-1, shape)
    return lambda inputs: torch.nn.functional.linear(inputs, weight, bias).unflatten(-1, shape)


def prepared_sum(layer: torch.nn.Module, rows: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The same of one layer, added to a second argument (N, O), in its place where one call does both."""
    if _is_plain(layer) and layer.bias is None and not _by_onednn(layer.weight, layer.weight):  # type: ignore[arg-type]
        weight: torch.Tensor = layer.weight.detach().t()  # type: ignore[operator, union-attr]
        return lambda inputs, to: to.addmm_(inputs, weight)
    alone = prepared([layer], rows)
    return lambda inputs, to: to + alone(inputs)


def _is_plain(layer: torch.nn.Module) -> bool:
    """Whether its output is a product with its weight as it is."""
    return (
        type(layer) is torch.nn.Linear
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
        and not torch.is_autocast_enabled(layer.weight.device.type)
    )


def _by_onednn(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether torch would take MKL."""
    return (
        _HAS_ONEDNN
        and inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _multiply(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    out: torch.Tensor = _MULTIPLY(inputs, weight, bias, "none", [], "")
    return out


def _linear_forward(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    return product(inputs, layer.weight, layer.bias)


def _patch_forward(layer: Any, patches: torch.Tensor) -> torch.Tensor:
    """(patches, O, 1, 1, 1), as the convolution gives them."""
    if patches.shape[2:] != layer.kernel_size:
        whole: torch.Tensor = type(layer).forward(layer, patches)
        return whole
    return product(patches.flatten(1), layer.weight.flatten(1), layer.bias)[..., None, None, None]


class _Product(torch.autograd.Function):
    """`_multiply` with its gradients, which are products of the same kind."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        return _multiply(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        inputs, weight = ctx.saved_tensors
        for_inputs, for_weight, for_bias = ctx.needs_input_grad
        flat = grad.flatten(0, -2)
        return (
            _multiply(grad, weight.t()) if for_inputs else None,
            _multiply(flat.t(), inputs.flatten(0, -2).t()) if for_weight else None,
            flat.sum(0) if for_bias else None,
        )
