"""Keys and values of the rows' own tokens while they are decoded: buffers of fixed address, filled one place a step.

Letters: R rows, H query heads, K key heads, D head size, C the most own tokens.
"""

import logging
from functools import cache

import torch

from videochat_r1.modeling.attention_kernels import MATH, choose_kernel

logger = logging.getLogger(__name__)

# Where places not yet filled are hidden by a bias, reading some of them costs less than another shape at every step.
_LEAST_BUCKET = 32
_MOST_BUCKETS = 8


class OwnKeys:
    """What every row has said so far, for attention of one query per row.

    How far the places are filled is a tensor, so that a step is the same sequence of kernels whatever its number: CUDA's flash
    kernel takes the number of keys as a tensor; other kernels take a bias that hides the places of a bucket (`reach`) that
    are not filled yet.

    Args:
        num_layers: of the text decoder.
        rows: R.
        max_tokens: C.
        like: keys of any kind (..., K, tokens, D), for K, D, dtype and device.
        heads: H.
    """

    def __init__(self, num_layers: int, rows: int, max_tokens: int, like: torch.Tensor, heads: int) -> None:
        key_heads, size = like.shape[-3], like.shape[-1]
        self._max_tokens, self._key_heads = max_tokens, key_heads
        self._bucket = max(_LEAST_BUCKET, -(-max_tokens // _MOST_BUCKETS))
        # Zeros, as what a bias hides must be finite.
        self.stores = [like.new_zeros(rows, max_tokens, 2 * key_heads, size) for _ in range(num_layers)]
        self._at = torch.zeros(1, dtype=torch.long, device=like.device)
        self._kernel = choose_kernel(like.device, like.dtype, size)
        self._counted = not self._kernel.takes_bias and counts_keys(like.device, like.dtype, heads, key_heads, size)
        if not self._counted and not self._kernel.takes_bias:
            self._kernel = MATH
        self.reach = max_tokens if self._counted else min(self._bucket, max_tokens)
        """Places that a step reads; constant where the kernel counts them itself."""
        self._make_lengths(rows)

    def _make_lengths(self, rows: int) -> None:
        """How far places are filled, for `rows` rows that are all at the same one."""
        store = self.stores[0]
        filled = torch.arange(self._max_tokens, device=store.device) < self._at
        self._bias = torch.zeros(rows, 1, 1, self._max_tokens, dtype=store.dtype, device=store.device)
        self._bias.masked_fill_(~filled, -torch.inf)
        self._lengths = self._at.int().expand(rows).clone()
        self._row_starts = torch.arange(rows + 1, dtype=torch.int32, device=store.device)

    def reach_for(self, step: int) -> None:
        """Let `reach` take in the place of a step."""
        if not self._counted:
            self.reach = min((step // self._bucket + 1) * self._bucket, self._max_tokens)

    def begin_step(self) -> None:
        """Open the next place in every row."""
        if self._counted:
            self._lengths += 1
        else:
            self._bias.index_fill_(3, self._at, 0.0)

    def end_step(self) -> None:
        """The place that was opened has been written in every layer."""
        self._at += 1

    def write(self, layer_idx: int, keys_and_values: torch.Tensor) -> None:
        """Put (R, 2 K, D) in the open place."""
        self.stores[layer_idx].index_copy_(1, self._at, keys_and_values.unsqueeze(1))

    def attend(self, layer_idx: int, query: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention (R, K, H/K, D) of one query per row (R, H, D), and its log-sum-exp (R, K, H/K)."""
        store, key_heads = self.stores[layer_idx], self._key_heads
        grouped = (len(query), key_heads, -1)
        if self._counted:
            out, lse = _counted_attention(
                query, store[:, :, :key_heads], store[:, :, key_heads:], self._lengths, self._row_starts, scale
            )
            return out.unflatten(1, grouped[1:]), lse.reshape(grouped)
        own = store[:, : self.reach].transpose(1, 2)
        out, lse, _ = self._kernel.forward(
            query.unflatten(1, grouped[1:]),
            own[:, :key_heads],
            own[:, key_heads:],
            False,
            scale,
            self._bias[..., : self.reach],
        )
        return out, lse

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order, at new addresses."""
        for index, store in enumerate(self.stores):
            self.stores[index] = store.index_select(0, rows)
        self._make_lengths(len(rows))


def _counted_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    row_starts: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """CUDA's flash kernel over the first `lengths` (R,) int32 of keys (R, C, K, D): out (R, H, D), log-sum-exp (R, H).

    A row is a sequence of one query; `row_starts` counts them, (R + 1,) int32.
    """
    most = keys.shape[1]
    out, lse, *_ = torch.ops.aten._flash_attention_forward.default(
        query, keys.flatten(0, 1), values.flatten(0, 1), row_starts, row_starts * most, 1, most, 0.0, False, False,
        scale=scale, seqused_k=lengths,
    )  # fmt: skip
    return out, lse.t()


@cache
def counts_keys(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, head_dim: int) -> bool:
    """Whether CUDA's flash kernel reads no further than a tensor says and gives its log-sum-exp: tried once, against products."""
    schema = torch.ops.aten._flash_attention_forward.default._schema
    known = any(argument.name == "seqused_k" for argument in schema.arguments)
    # Without a driver "cuda" tensors are fake, and have no numbers to compare.
    proven = known and (not torch.cuda.is_available() or _counts_rightly(device, dtype, heads, key_heads, head_dim))
    if proven:
        logger.info("decoding on %s: the flash kernel takes the number of own keys as a tensor", device)
    else:
        logger.warning(
            "decoding on %s: torch %s has no flash kernel that takes the number of own keys as a tensor; own keys are "
            "attended to with plain matrix products, which is slow for long completions",
            device,
            torch.__version__,
        )
    return proven


def _counts_rightly(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, head_dim: int) -> bool:
    generator = torch.Generator(device).manual_seed(0)
    for rows, most in ((1, 32), (8, 200), (3, 1500), (96, 512)):
        query = torch.randn(rows, heads, head_dim, device=device, generator=generator).to(dtype)
        store = torch.randn(rows, most, 2 * key_heads, head_dim, device=device, generator=generator).to(dtype)
        lengths = torch.linspace(1, most, rows, device=device).int()
        starts = torch.arange(rows + 1, dtype=torch.int32, device=device)
        keys, values = store[:, :, :key_heads], store[:, :, key_heads:]
        scale = head_dim**-0.5
        out, lse = _counted_attention(query, keys, values, lengths, starts, scale)
        bias = torch.zeros(rows, 1, 1, most, device=device)
        bias.masked_fill_(torch.arange(most, device=device) >= lengths[:, None, None, None], -torch.inf)
        by_key_head = query.unflatten(1, (key_heads, -1))
        right, right_lse, _ = MATH.forward(
            by_key_head, keys.transpose(1, 2), values.transpose(1, 2), False, scale, bias
        )
        if not torch.allclose(out.float(), right.flatten(1, 2).float(), atol=0.03, rtol=0.02):
            return False
        if not torch.allclose(lse, right_lse.flatten(1, 2), atol=0.01):
            return False
    return True
