"""Keys and values for decoding groups: one copy of each prompt's, and every row's own.

Letters: N groups, G rows per group, R = N G rows, K key heads, H query heads, D head size, P shared prompt tokens, C the most
own tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from videochat_r1.modeling.attention_kernels import choose_kernel
from videochat_r1.modeling.prefix_attention import attention_dtype
from videochat_r1.rollout.own_keys import OwnKeys

# Reading padding costs less than one more call, up to this much of it.
_LARGEST_PADDING = 1.25


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


class SharedPrefixCache:
    """What one decoding step of all rows attends to.

    Attention of a group's rows over their prompt has all of them as queries of one call, so that its keys are read once.

    Args:
        num_layers: of the text decoder.
        heads: H.
        rows_per_group: G.
        max_tokens: C.
    """

    def __init__(self, num_layers: int, heads: int, rows_per_group: int, max_tokens: int) -> None:
        self.rows_per_group = rows_per_group
        self.blocks: list[PromptBlock] = []
        self.version = 0
        """Changes whenever tensors move to other addresses."""
        self._own: OwnKeys | None = None
        self._num_layers, self._heads, self._max_tokens = num_layers, heads, max_tokens

    @property
    def own(self) -> OwnKeys:
        """The rows' own keys; prompts have to be there first."""
        if self._own is None:
            groups = sum(len(block.lengths) for block in self.blocks)
            self._own = OwnKeys(
                self._num_layers,
                groups * self.rows_per_group,
                self._max_tokens,
                self.blocks[0].keys[0],
                self._heads,
            )
        return self._own

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

    def attend(self, layer_idx: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        """(R, H D) attention of one query per row (R, H, D) over its own keys, the newest written already, and its prompt's."""
        own_out, own_lse = self.own.attend(layer_idx, query, scale)
        kernel = choose_kernel(query.device, query.dtype, query.shape[-1])
        _, key_heads, _, size = own_out.shape
        # The queries of a group's rows, and of the query heads of one key head, side by side: (N, K, G H/K, D).
        folded = (
            query.view(-1, self.rows_per_group, key_heads, query.shape[1] // key_heads, size)
            .transpose(1, 2)
            .flatten(2, 3)
        )
        outs, lses = [], []
        begin = 0
        for block in self.blocks:
            end = begin + len(block.lengths)
            bias = () if block.bias is None else (block.bias,)
            part = folded[begin:end], block.keys[layer_idx], block.values[layer_idx]
            out, lse, _ = kernel.forward(*part, False, scale, *bias)
            outs.append(out)
            lses.append(lse)
            begin = end
        out, lse = (
            (parts[0] if len(parts) == 1 else torch.cat(parts)).unflatten(2, (self.rows_per_group, -1)).transpose(1, 2)
            for parts in (outs, lses)
        )
        # As `merge`, in the fewest kernels.
        share = torch.sigmoid(lse - own_lse.reshape(lse.shape)).unsqueeze(-1).to(out.dtype)
        return torch.lerp(own_out.reshape(out.shape), out, share).reshape(len(query), -1)

    def select(self, groups: Sequence[int], rows: torch.Tensor) -> None:
        """Keep these groups, in ascending order, and of all rows these.

        Args:
            groups: kept groups.
            rows: kept rows, group by group and equally many of each.
        """
        self.own.select(rows)
        self.version += 1
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
