"""Keys and values for decoding groups: one copy of each prompt's, and every row's own.

Letters: N groups, G rows per group, R = N G rows, K key heads, H query heads, D head size, P shared prompt tokens, C the most
own tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

from videochat_r1.modeling.attention_kernels import choose_kernel, merge
from videochat_r1.modeling.prefix_attention import attention_dtype

# Reading padding costs less than one more call, up to this much of it.
_LARGEST_PADDING = 1.25


class OwnKeysLayer(CacheLayerMixin):
    """One layer's keys and values of the rows' own tokens, in a buffer allocated once."""

    is_sliding = False

    def __init__(self, max_tokens: int) -> None:
        super().__init__()
        self.max_tokens = max_tokens
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate (R, K, C, D) for keys and for values, both in the values' dtype: rotation may have promoted keys."""
        rows, heads, _, size = key_states.shape
        self.keys, self.values = (value_states.new_empty(rows, heads, self.max_tokens, size) for _ in range(2))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token's keys and values (R, K, 1, D); all of the rows' own so far come back as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        self.keys[:, :, self.length] = key_states[:, :, 0]
        self.values[:, :, self.length] = value_states[:, :, 0]
        self.length += 1
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        assert self.keys is not None and self.values is not None
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(len(rows), *old.shape[1:])
            new[:, :, : self.length] = old[rows, :, : self.length]
            setattr(self, name, new)

    def get_seq_length(self) -> int:
        """Own tokens so far."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that the next query sees among its own, and their offset."""
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        """C."""
        return self.max_tokens


@dataclass(frozen=True, slots=True, eq=False)
class PromptBlock:
    """Keys and values of some consecutive groups' prompts, which one attention call reads.

    Args:
        keys: per layer, (groups, K, P, D).
        values: the same.
        lengths: tokens of each prompt; shorter ones are padded to P.
        bias: (groups, 1, 1, P) -inf at padding; None where there is none.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    lengths: tuple[int, ...]
    bias: torch.Tensor | None

    def select(self, groups: list[int]) -> "PromptBlock":
        """The same block with only these of its groups."""
        if len(groups) == len(self.lengths):
            return self
        return PromptBlock(
            tuple(keys[groups] for keys in self.keys),
            tuple(values[groups] for values in self.values),
            tuple(self.lengths[group] for group in groups),
            None if self.bias is None else self.bias[groups],
        )


class SharedPrefixCache(Cache):
    """Given to a forward both as its cache and as `shared_prefix`: one decoding step for all rows.

    Attention of a group's rows over their prompt has all of them as queries of one call, so that its keys are read once.

    Args:
        num_layers: of the text decoder.
        rows_per_group: G.
        max_tokens: C.
    """

    def __init__(self, num_layers: int, rows_per_group: int, max_tokens: int) -> None:
        super().__init__(layers=[OwnKeysLayer(max_tokens) for _ in range(num_layers)])
        self.rows_per_group = rows_per_group
        self.blocks: list[PromptBlock] = []

    def add_prompts(self, prefilled: DynamicCache, lengths: Sequence[int]) -> None:
        """Take the prompts out of one prefilled row in which they follow each other; `prefilled` is used up."""
        first = prefilled.layers[0].values
        # Not the dtype they come in: rotation promotes keys under autocast, and their cache the values with them.
        dtype = attention_dtype(first)
        kernel = choose_kernel(first.device, dtype, first.shape[-1])
        for begin, end in _blocks_of(lengths, padded=kernel.takes_bias):
            tokens = slice(sum(lengths[:begin]), sum(lengths[:end]))
            part = tuple(lengths[begin:end])
            keys, values = (
                tuple(_split_and_pad(getattr(layer, name)[:, :, tokens].to(dtype), part) for layer in prefilled.layers)
                for name in ("keys", "values")
            )
            self.blocks.append(PromptBlock(keys, values, part, _padding_bias(part, first.device, dtype)))

    def attend(
        self, layer_idx: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """(R, 1, H, D) attention of one query per row (R, H, 1, D) over its own keys (R, K, t, D) and its prompt's."""
        kernel = choose_kernel(query.device, query.dtype, query.shape[-1])
        rows, heads, _, size = query.shape
        per_key_head = (key.shape[1], heads // key.shape[1])
        own_out, own_lse, _ = kernel.forward(query.view(rows, *per_key_head, size), key, value, False, scale)
        # The queries of a group's rows, and of the query heads of one key head, side by side: (N, K, G H/K, D).
        folded = query.view(-1, self.rows_per_group, *per_key_head, size).transpose(1, 2).flatten(2, 3)
        outs, lses = [], []
        begin = 0
        for block in self.blocks:
            end = begin + len(block.lengths)
            bias = () if block.bias is None else (block.bias,)
            out, lse, _ = kernel.forward(
                folded[begin:end], block.keys[layer_idx], block.values[layer_idx], False, scale, *bias
            )
            outs.append(out)
            lses.append(lse)
            begin = end
        prompt_out, prompt_lse = (
            torch.cat(parts).unflatten(2, (self.rows_per_group, -1)).transpose(1, 2).flatten(0, 1)
            for parts in (outs, lses)
        )
        out, _ = merge(own_out, own_lse, prompt_out, prompt_lse)
        return out.reshape(rows, 1, heads, size)

    def select(self, groups: Sequence[int], rows: torch.Tensor) -> None:
        """Keep these groups, in ascending order, and of all rows these.

        Args:
            groups: kept groups.
            rows: kept rows, group by group and equally many of each.
        """
        for layer in self.layers:
            layer.select(rows)
        self.rows_per_group = len(rows) // len(groups)
        blocks = []
        begin = 0
        for block in self.blocks:
            end = begin + len(block.lengths)
            if kept := [group - begin for group in groups if begin <= group < end]:
                blocks.append(block.select(kept))
            begin = end
        self.blocks = blocks


def _blocks_of(lengths: Sequence[int], *, padded: bool) -> list[tuple[int, int]]:
    """[begin, end) of runs of prompts that one call can read: of equal lengths, or padded by at most a quarter."""
    runs = [(0, 1)]
    for index in range(1, len(lengths)):
        begin = runs[-1][0]
        run = lengths[begin : index + 1]
        wide = max(run) * len(run) <= _LARGEST_PADDING * sum(run) if padded else len(set(run)) == 1
        if wide:
            runs[-1] = (begin, index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _split_and_pad(tensor: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """(1, K, sum of lengths, D) as (len(lengths), K, P, D), padded with zeros."""
    parts = [part.squeeze(0).transpose(0, 1) for part in tensor.split(list(lengths), dim=2)]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).transpose(1, 2).contiguous()


def _padding_bias(lengths: Sequence[int], device: torch.device, dtype: torch.dtype) -> torch.Tensor | None:
    if len(set(lengths)) == 1:
        return None
    hidden = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    bias = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
    return bias[:, None, None].to(device, dtype)
