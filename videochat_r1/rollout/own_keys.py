"""Keys and values of the rows' own tokens while they are decoded: buffers of fixed address, filled one place a step.

Letters: R rows, H query heads, K key heads, D head size, C the most own tokens, T = R H/K: query heads of one key head are queries
of their own.
"""

import torch

from videochat_r1.modeling.attention_kernels import MATH, choose_kernel
from videochat_r1.rollout.ragged_attention import has_ragged_attention, ragged_attention

# Where places not yet filled are hidden by a bias, reading some of them costs less than another shape at every step.
_LEAST_BUCKET = 32
_MOST_BUCKETS = 8


class OwnKeys:
    """What every row has said so far.

    How far the places are filled is a tensor, so that a step is the same sequence of kernels whatever its number: CUDA's flash
    kernel takes the number of keys as a tensor; other kernels take a bias that hides the places of a bucket (`reach`) that
    are not filled yet.

    Args:
        num_layers: of the text decoder.
        rows: R.
        max_tokens: C.
        like: keys of any kind (..., K, D), for K, D, dtype and device.
        queries: of a row, H/K.
    """

    def __init__(self, num_layers: int, rows: int, max_tokens: int, like: torch.Tensor, queries: int) -> None:
        key_heads, size = like.shape[-2:]
        self._max_tokens, self._queries = max_tokens, queries
        self._bucket = max(_LEAST_BUCKET, -(-max_tokens // _MOST_BUCKETS))
        # Zeros, as what a bias hides must be finite.
        self.stores = [like.new_zeros(rows, max_tokens, 2, key_heads, size) for _ in range(num_layers)]
        self._at = torch.zeros(1, dtype=torch.long, device=like.device)
        self._counted = has_ragged_attention(like.device, like.dtype, key_heads, size)
        kernel = choose_kernel(like.device, like.dtype, size)
        self._kernel = kernel if kernel.takes_bias else MATH
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
        numbers = torch.arange(rows + 1, dtype=torch.int32, device=store.device)
        self._starts = numbers * self._queries, numbers * self._max_tokens

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
        """Put (R, 2, K, D) in the open place."""
        self.stores[layer_idx].index_copy_(1, self._at, keys_and_values.unsqueeze(1))

    def attend(self, layer_idx: int, query: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention (T, K, D) of queries (T, K, D), row by row, and its log-sum-exp (T, K)."""
        keys, values = self.stores[layer_idx].unbind(2)
        if self._counted:
            longest = self._queries, self._max_tokens
            return ragged_attention(
                query, keys.flatten(0, 1), values.flatten(0, 1), *self._starts, longest, scale, self._lengths
            )
        places = slice(self.reach)
        out, lse, _ = self._kernel.forward(
            query.unflatten(0, (len(keys), -1)).transpose(1, 2),
            keys[:, places].transpose(1, 2),
            values[:, places].transpose(1, 2),
            False,
            scale,
            self._bias[..., places],
        )
        return out.transpose(1, 2).flatten(0, 1), lse.transpose(1, 2).flatten(0, 1)

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order, at new addresses."""
        for index, store in enumerate(self.stores):
            self.stores[index] = store.index_select(0, rows)
        self._make_lengths(len(rows))
