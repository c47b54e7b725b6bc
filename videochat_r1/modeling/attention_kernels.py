"""Attention that also gives its log-sum-exp, so that attention over several sets of keys can be merged exactly.

For queries whose keys are split in two sets, attention over all keys follows from the two parts and their
log-sum-exps: lse = log(exp(lse_1) + exp(lse_2)), out = exp(lse_1 - lse) out_1 + exp(lse_2 - lse) out_2. The gradient of
each part needs only the merged out and lse, as in ring attention. torch's public attention function hides the
log-sum-exp; its kernels do not.

Letters: B batch, H query heads, K key heads (H a multiple of K), Q queries, S keys, D head size.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

logger = logging.getLogger(__name__)

_aten = torch.ops.aten

Forward = Callable[..., tuple[torch.Tensor, torch.Tensor, tuple[Any, ...]]]
Backward = Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class AttentionKernel:
    """A forward and a backward that speak of the log-sum-exp. Query heads may be a multiple of key heads.

    Args:
        name: for logs.
        forward: `(query, key, value, causal, scale, bias=None) -> (out, lse, state)`: out (B, H, Q, D), lse (B, H, Q)
            float32, state for the backward. With `causal`, Q equals S. `bias` is added to the scores.
        backward: `(grad_out, query, key, value, out, lse, state, causal, scale) -> (grad_query, grad_key, grad_value)`;
            out and lse may be those of a larger attention of which these keys are a part.
        takes_bias: whether forward accepts a bias, (B, 1, 1, S) in the query's dtype (the backward never does).
    """

    name: str
    forward: Forward
    backward: Backward
    takes_bias: bool


def merge(
    out_1: torch.Tensor, lse_1: torch.Tensor, out_2: torch.Tensor, lse_2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention (..., Q, D) and log-sum-exp (..., Q) over the union of two disjoint sets of keys."""
    lse = torch.logaddexp(lse_1, lse_2)
    share = torch.exp(lse_1 - lse).unsqueeze(-1)
    return torch.lerp(out_2.float(), out_1.float(), share).to(out_1.dtype), lse


def choose_kernel(device: torch.device, dtype: torch.dtype, head_dim: int) -> AttentionKernel:
    """torch's flash kernel where there is one, else the slow matrix products, with a warning.

    There is one on the CPU, and on CUDA in half precision on GPUs since Ampere.
    """
    if device.type == "cpu" and dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        return _CPU_FLASH
    half = dtype in (torch.bfloat16, torch.float16)
    if device.type == "cuda" and half and head_dim % 8 == 0 and head_dim <= 256 and _capability(device) >= (8, 0):
        return _CUDA_FLASH
    _warn_slow(device.type, dtype, head_dim)
    return MATH


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    # Without a driver "cuda" tensors are fake, and stand for those of any GPU.
    return torch.cuda.get_device_capability(device) if torch.cuda.is_available() else (9, 0)


@cache
def _warn_slow(device_type: str, dtype: torch.dtype, head_dim: int) -> None:
    logger.warning(
        "no flash attention kernel with log-sum-exp on %s for %s with head size %d: shared-prompt attention uses plain "
        "matrix products, several times slower (bf16 or fp16 on CUDA GPUs since Ampere, and the CPU, have one)",
        device_type,
        dtype,
        head_dim,
    )


def _cpu_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    causal: bool,
    scale: float,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, tuple[Any, ...]]:
    out, lse = _aten._scaled_dot_product_flash_attention_for_cpu.default(
        query, key, value, 0.0, causal, attn_mask=bias, scale=scale
    )
    return out, lse, ()


def _cpu_backward(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    state: tuple[Any, ...],
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = (
        _aten._scaled_dot_product_flash_attention_for_cpu_backward.default(
            grad_out, query, key, value, out, lse, 0.0, causal, scale=scale
        )
    )
    return grads


def _cuda_forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor, tuple[Any, ...]]:
    out, lse, *state, _ = _aten._scaled_dot_product_flash_attention.default(
        query, key, value, 0.0, causal, False, scale=scale
    )
    return out, lse, tuple(state)


def _cuda_backward(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    state: tuple[Any, ...],
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    cum_q, cum_k, max_q, max_k, seed, offset = state
    grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = _aten._scaled_dot_product_flash_attention_backward.default(
        grad_out, query, key, value, out, lse.contiguous(), cum_q, cum_k, max_q, max_k, 0.0, causal, seed, offset, scale=scale
    )  # fmt: skip
    return grads


_MATH_QUERIES = 512
"""Queries per block of the plain kernel: bounds the memory of its scores."""


def _math_scores(query: torch.Tensor, key: torch.Tensor, start: int, causal: bool, scale: float) -> torch.Tensor:
    """(B, K, H/K, block, S) float32 scores of the queries from `start` on."""
    scores = torch.einsum("bkrqd,bksd->bkrqs", query.float() * scale, key.float())
    if causal:
        rows = torch.arange(start, start + query.shape[-2], device=query.device)
        hidden = torch.arange(key.shape[-2], device=query.device) > rows[:, None]
        scores = scores.masked_fill(hidden, -torch.inf)
    return scores


def _math_forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    causal: bool,
    scale: float,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, tuple[Any, ...]]:
    grouped = query.unflatten(1, (key.shape[1], -1))
    outs, lses = [], []
    for start in range(0, query.shape[2], _MATH_QUERIES):
        scores = _math_scores(grouped[..., start : start + _MATH_QUERIES, :], key, start, causal, scale)
        if bias is not None:
            scores = scores + bias.unsqueeze(2)
        lse = scores.logsumexp(-1)
        outs.append(torch.einsum("bkrqs,bksd->bkrqd", torch.exp(scores - lse.unsqueeze(-1)), value.float()))
        lses.append(lse)
    return torch.cat(outs, 3).flatten(1, 2).to(query.dtype), torch.cat(lses, 3).flatten(1, 2), ()


def _math_backward(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    state: tuple[Any, ...],
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    heads = (key.shape[1], -1)
    grad_query = []
    grad_key, grad_value = torch.zeros_like(key, dtype=torch.float32), torch.zeros_like(value, dtype=torch.float32)
    for start in range(0, query.shape[2], _MATH_QUERIES):
        block = slice(start, start + _MATH_QUERIES)
        q, g, o = (tensor.unflatten(1, heads)[..., block, :].float() for tensor in (query, grad_out, out))
        scores = _math_scores(q, key, start, causal, scale)
        weights = torch.exp(scores - lse.unflatten(1, heads)[..., block].unsqueeze(-1))
        grad_value += torch.einsum("bkrqs,bkrqd->bksd", weights, g)
        grad_weights = torch.einsum("bkrqd,bksd->bkrqs", g, value.float())
        grad_scores = weights * (grad_weights - (g * o).sum(-1, keepdim=True)) * scale
        grad_query.append(torch.einsum("bkrqs,bksd->bkrqd", grad_scores, key.float()))
        grad_key += torch.einsum("bkrqs,bkrqd->bksd", grad_scores, q)
    return torch.cat(grad_query, 3).flatten(1, 2).to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype)


_CPU_FLASH = AttentionKernel("cpu flash", _cpu_forward, _cpu_backward, takes_bias=True)
_CUDA_FLASH = AttentionKernel("cuda flash", _cuda_forward, _cuda_backward, takes_bias=False)
MATH = AttentionKernel("math", _math_forward, _math_backward, takes_bias=True)
"""Plain matrix products in float32: works everywhere, slow; also the reference of the tests."""
