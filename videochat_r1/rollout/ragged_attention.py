"""CUDA's flash kernel over sets of keys of different lengths in one call, for the few queries of a decoding step.

Letters: B sets, T queries of all sets, S keys of all sets, K key heads (query heads of one key head are queries of their own),
D head size.
"""

import logging
from functools import cache

import torch

from videochat_r1.modeling.attention_kernels import MATH

logger = logging.getLogger(__name__)

_FLASH = torch.ops.aten._flash_attention_forward.default


def ragged_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest: tuple[int, int],
    scale: float,
    lengths: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention (T, K, D) of every set's queries over its keys, and its log-sum-exp (T, K).

    Args:
        query: (T, K, D), set by set.
        keys: (S, K, D), set by set.
        values: the same.
        query_starts: (B + 1,) int32, where each set's queries begin.
        key_starts: (B + 1,) int32, where its keys begin.
        longest: the most queries and the most keys of a set.
        scale: of the scores.
        lengths: (B,) int32, how many of its keys count, at least 1; None for all.
    """
    out, lse, *_ = _FLASH(
        query, keys, values, query_starts, key_starts, *longest, 0.0, False, False, scale=scale, seqused_k=lengths
    )
    return out, lse.t()


@cache
def has_ragged_attention(device: torch.device, dtype: torch.dtype, key_heads: int, head_dim: int) -> bool:
    """Whether the installed torch computes `ragged_attention` rightly there: tried once, against plain products."""
    if device.type != "cuda" or not any(argument.name == "seqused_k" for argument in _FLASH._schema.arguments):
        return False
    # Without a driver "cuda" tensors are fake, and have no numbers to compare.
    if not torch.cuda.is_available() or _is_right(device, dtype, key_heads, head_dim):
        logger.info("decoding on %s: the flash kernel takes numbers of keys as tensors", device)
        return True
    logger.warning(
        "decoding on %s: the flash kernel of torch %s does not take numbers of keys as tensors, so completions are attended "
        "to with plain matrix products, which is slow for long ones",
        device,
        torch.__version__,
    )
    return False


def _is_right(device: torch.device, dtype: torch.dtype, key_heads: int, head_dim: int) -> bool:
    generator = torch.Generator(device).manual_seed(0)
    scale = head_dim**-0.5
    for sets, queries, most in ((1, 7, 32), (8, 4, 200), (3, 1, 1500), (96, 2, 512), (2, 300, 40)):
        query = torch.randn(sets * queries, key_heads, head_dim, device=device, generator=generator).to(dtype)
        both = torch.randn(sets * most, 2, key_heads, head_dim, device=device, generator=generator).to(dtype)
        keys, values = both[:, 0], both[:, 1]
        starts = torch.arange(sets + 1, dtype=torch.int32, device=device)
        lengths = torch.linspace(1, most, sets, device=device).int()
        out, lse = ragged_attention(
            query, keys, values, starts * queries, starts * most, (queries, most), scale, lengths
        )
        if out.shape != query.shape or lse.shape != query.shape[:2]:
            return False
        hidden = torch.arange(most, device=device) >= lengths[:, None, None, None]
        bias = torch.zeros(hidden.shape, device=device).masked_fill(hidden, -torch.inf)
        grids = (tensor.unflatten(0, (sets, -1)).transpose(1, 2) for tensor in (query, keys, values))
        right, right_lse, _ = MATH.forward(*grids, False, scale, bias)
        if not torch.allclose(out.float(), right.transpose(1, 2).flatten(0, 1).float(), atol=0.03, rtol=0.02):
            return False
        if not torch.allclose(lse, right_lse.transpose(1, 2).flatten(0, 1), atol=0.01):
            return False
    return True
