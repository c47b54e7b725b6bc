"""Keys and values for decoding: what prompts share once for all of their rows, and every row's own.

Letters: N groups, G rows per group, R = N G rows, K key heads, H query heads, D head size, C the most own tokens, T queries: query
heads of one key head are queries of their own, so T = R H/K.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from transformers import DynamicCache

from videochat_r1.modeling.attention_kernels import choose_kernel
from videochat_r1.modeling.prefix_attention import attention_dtype
from videochat_r1.modeling.prompt_tree import PromptBranch
from videochat_r1.rollout.own_keys import OwnKeys
from videochat_r1.rollout.ragged_attention import has_ragged_attention, ragged_attention

# Reading padding costs less than one more call, up to this much of it: so many times the tokens, or so many tokens a branch.
_LARGEST_PADDING = 1.25
_LITTLE_PADDING = 32

# The ragged kernel reads a branch's keys one after the other, the dense one many at a time, but a branch a call.
_KEYS_PER_CALL = 2000


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A branch of the prompts' forest, and the groups [begin, end) below it."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    groups: tuple[int, int]

    @property
    def length(self) -> int:
        return int(self.keys[0].shape[0])

    @property
    def num_groups(self) -> int:
        return self.groups[1] - self.groups[0]


@dataclass(frozen=True, slots=True, eq=False)
class SharedBlock:
    """Consecutive branches of one level of the forest, which one attention call reads.

    Args:
        keys: per layer, (branches, P, K, D), shorter branches padded to P; without padding (tokens, K, D) where `starts` says which
            are whose.
        values: the same.
        lengths: tokens of each branch.
        groups: [begin, end) below each branch, one after the other; equally many where there are no `starts`.
        bias: (branches, 1, 1, P) -inf at padding; None where there is none.
        starts: (branches + 1,) int32 where queries and keys of each branch begin, for the ragged kernel.
        longest: the most queries and keys of a branch, for the same.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    lengths: tuple[int, ...]
    groups: tuple[tuple[int, int], ...]
    bias: torch.Tensor | None = None
    starts: tuple[torch.Tensor, torch.Tensor] | None = None
    longest: tuple[int, int] = (0, 0)

    @property
    def span(self) -> tuple[int, int]:
        """[begin, end) of all groups below."""
        return self.groups[0][0], self.groups[-1][1]

    def attend(self, layer_idx: int, query: torch.Tensor, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention (T, K, D) of the queries below (T, K, D), and its log-sum-exp (T, K)."""
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        if self.starts is not None:
            return ragged_attention(query, keys, values, *self.starts, self.longest, scale)
        kernel = choose_kernel(query.device, query.dtype, query.shape[-1])
        grids = (query.unflatten(0, (len(self.groups), -1)), keys, values)
        bias = () if self.bias is None else (self.bias,)
        out, lse, _ = kernel.forward(*(grid.transpose(1, 2) for grid in grids), False, scale, *bias)
        return out.transpose(1, 2).flatten(0, 1), lse.transpose(1, 2).flatten(0, 1)

    def pieces(self, place: dict[int, int]) -> list[_Piece]:
        """Its branches with anything left below them, groups at their new places; views of its tensors."""
        left = []
        edges = [0, *accumulate(self.lengths)]
        for index, (begin, end) in enumerate(self.groups):
            if below := [place[group] for group in range(begin, end) if group in place]:
                if self.starts is not None:
                    where: tuple[int | slice, ...] = (slice(*edges[index : index + 2]),)
                else:
                    where = index, slice(self.lengths[index])
                keys, values = (tuple(tensor[where] for tensor in tensors) for tensors in (self.keys, self.values))
                left.append(_Piece(keys, values, (below[0], below[-1] + 1)))
        return left


class SharedPrefixCache:
    """What one decoding step of all rows attends to.

    All rows below a branch are queries of one attention call over it, so that its keys are read once a step.

    Args:
        num_layers: of the text decoder.
        rows_per_group: G.
        max_tokens: C.
        queries: of a row, H/K.
    """

    def __init__(self, num_layers: int, rows_per_group: int, max_tokens: int, queries: int) -> None:
        self.rows_per_group = rows_per_group
        self.levels: list[list[SharedBlock]] = []
        self.version = 0
        """Changes whenever tensors move to other addresses."""
        self._num_layers, self._max_tokens, self._queries = num_layers, max_tokens, queries
        self._groups = 0
        self._own: OwnKeys | None = None

    @property
    def own(self) -> OwnKeys:
        """The rows' own keys; prompts have to be there first."""
        if self._own is None:
            self._own = OwnKeys(
                self._num_layers,
                self._groups * self.rows_per_group,
                self._max_tokens,
                self.levels[0][0].keys[0],
                self._queries,
            )
        return self._own

    def add_prompts(self, prefilled: DynamicCache, forest: Sequence[PromptBranch]) -> None:
        """Take the branches of further prompts, a group each, out of the row that is this forest in pre-order.

        Groups are counted in the order of `PromptBranch.below`.
        """
        # Not the dtype they come in: rotation promotes keys under autocast, and their cache the values with them.
        dtype = attention_dtype(prefilled.layers[0].values)
        keys, values = (
            [getattr(layer, name)[0].transpose(0, 1).to(dtype) for layer in prefilled.layers]
            for name in ("keys", "values")
        )
        levels: list[list[_Piece]] = []
        start = 0

        def take(branch: PromptBranch, level: int) -> None:
            nonlocal start
            tokens = slice(start, start + branch.num_tokens)
            start = tokens.stop
            if level == len(levels):
                levels.append([])
            groups = self._groups, self._groups + len(branch.below)
            levels[level].append(_Piece(tuple(t[tokens] for t in keys), tuple(t[tokens] for t in values), groups))
            self._groups += len(branch.prompts)
            for child in branch.children:
                take(child, level + 1)

        for tree in forest:
            take(tree, 0)
        for level, pieces in enumerate(levels):
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level] += self._blocks(pieces)

    def attend(self, layer_idx: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        """(R, H D) attention of every row's queries (R, H/K, K, D) over its own keys, the newest among them, and its prompt's."""
        rows, queries, key_heads, size = query.shape
        folded = query.reshape(rows * queries, key_heads, size)
        out, lse = self.own.attend(layer_idx, folded, scale)
        # As the projection takes them. All rows lie below a root, so the roots come last and write them.
        attended = out.new_empty(rows, key_heads, queries, size)
        for level in reversed(self.levels):
            is_last = level is self.levels[0]
            into = attended.transpose(1, 2) if is_last else out.unflatten(0, (rows, queries))
            for block in level:
                of_rows = slice(*(group * self.rows_per_group for group in block.span))
                here = slice(of_rows.start * queries, of_rows.stop * queries)
                part, part_lse = block.attend(layer_idx, folded[here], scale)
                # As `merge`, in fp32 as the trainer does: in bf16 sampler and trainer would be half as far apart again.
                share = torch.sigmoid(part_lse - lse[here]).unsqueeze(-1)
                rest = torch.addcmul(out[here], out[here], share, value=-1)
                by_row = (tensor.unflatten(0, (-1, queries)) for tensor in (rest, part, share))
                torch.addcmul(*by_row, out=into[of_rows])
                if not is_last:
                    torch.logaddexp(lse[here], part_lse, out=lse[here])
        return attended.flatten(1)

    def select(self, groups: Sequence[int], rows: torch.Tensor) -> None:
        """Keep these groups, in ascending order, and of all rows these.

        Args:
            groups: kept groups.
            rows: kept rows, group by group and equally many of each.
        """
        self.own.select(rows)
        self.version += 1
        self.rows_per_group = len(rows) // len(groups)
        place = {group: index for index, group in enumerate(groups)}
        self._groups = len(groups)
        levels = [[piece for block in level for piece in block.pieces(place)] for level in self.levels]
        self.levels = [self._blocks(pieces) for pieces in levels if pieces]

    def _blocks(self, pieces: Sequence[_Piece]) -> list[SharedBlock]:
        """The branches of a level in as few calls as is fast."""
        first = pieces[0].keys[0]
        bias = choose_kernel(first.device, first.dtype, first.shape[-1]).takes_bias
        ragged = has_ragged_attention(first.device, first.dtype, *first.shape[-2:])
        blocks = []
        for run in _runs(pieces, lambda run: _follow(run) and (ragged or _fit_a_grid(run, padded=bias))):
            if ragged and max(piece.length for piece in run) <= _KEYS_PER_CALL * len(run):
                blocks.append(self._ragged(run))
            elif ragged:
                blocks += [_grid([piece]) for piece in run]
            else:
                blocks.append(_grid(run))
        return blocks

    def _ragged(self, run: Sequence[_Piece]) -> SharedBlock:
        lengths = tuple(piece.length for piece in run)
        queries = [piece.num_groups * self.rows_per_group * self._queries for piece in run]
        device = run[0].keys[0].device
        starts = [torch.tensor([0, *accumulate(counts)]).to(device, torch.int32) for counts in (queries, lengths)]
        keys, values = _per_layer(run, torch.cat)
        groups = tuple(piece.groups for piece in run)
        return SharedBlock(keys, values, lengths, groups, None, (starts[0], starts[1]), (max(queries), max(lengths)))


def _grid(run: Sequence[_Piece]) -> SharedBlock:
    lengths = tuple(piece.length for piece in run)
    keys, values = _per_layer(run, lambda parts: torch.nn.utils.rnn.pad_sequence(parts, batch_first=True))
    return SharedBlock(keys, values, lengths, tuple(piece.groups for piece in run), _padding_bias(lengths, keys[0]))


def _per_layer(
    run: Sequence[_Piece], join: Callable[[list[torch.Tensor]], torch.Tensor]
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Keys and values of several branches joined, layer by layer."""
    keys = tuple(join(list(parts)) for parts in zip(*(piece.keys for piece in run), strict=True))
    return keys, tuple(join(list(parts)) for parts in zip(*(piece.values for piece in run), strict=True))


def _runs(pieces: Sequence[_Piece], belong: Callable[[Sequence[_Piece]], bool]) -> list[Sequence[_Piece]]:
    """Runs of pieces, each as long as its pieces belong together."""
    runs: list[Sequence[_Piece]] = []
    for piece in pieces:
        if runs and belong([*runs[-1], piece]):
            runs[-1] = [*runs[-1], piece]
        else:
            runs.append([piece])
    return runs


def _follow(run: Sequence[_Piece]) -> bool:
    """Whether no group between the last two is missing: one whose prompt has no branch on this level."""
    return run[-2].groups[1] == run[-1].groups[0]


def _fit_a_grid(run: Sequence[_Piece], *, padded: bool) -> bool:
    """Whether one call of a kernel for equally many queries and keys can read them."""
    lengths = [piece.length for piece in run]
    if len({piece.num_groups for piece in run}) > 1:
        return False
    if not padded:
        return len(set(lengths)) == 1
    padding = max(lengths) * len(run) - sum(lengths)
    return padding <= max((_LARGEST_PADDING - 1) * sum(lengths), _LITTLE_PADDING * len(run))


def _padding_bias(lengths: Sequence[int], like: torch.Tensor) -> torch.Tensor | None:
    if len(set(lengths)) == 1:
        return None
    hidden = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    bias = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
    return bias[:, None, None].to(like.device, like.dtype)
