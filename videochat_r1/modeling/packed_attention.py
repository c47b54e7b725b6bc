"""Attention over a packed row: a forest in pre-order, whose branches are shared by all that lies below them.

    [beginning | rest 1 | its completions | rest 2 | its completions | ...] [another beginning | ...]

A token attends to the branches above its own, and causally to its own branch or leaf. All that lies below a branch is one
slice right after it, so attention is two kinds of kernel calls, whatever the depth: `Run` and `Link`, merged by their
log-sum-exps. No dense mask, no key copied or expanded.

Letters: H query heads, K key heads, N tokens of the row, T tokens of a run, S its longest piece, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from videochat_r1.modeling.attention_kernels import choose_kernel, merge


@dataclass(frozen=True, slots=True)
class Branch:
    """A run of tokens and what lies below it.

    Args:
        tokens: its own, may be 0.
        leaves: tokens of each leaf, none of them 0; they lie right after it.
        children: further branches, after the leaves.
    """

    tokens: int
    leaves: tuple[int, ...] = ()
    children: tuple["Branch", ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Consecutive pieces of the row that attend causally, each to itself: a branch, or the leaves of one.

    Args:
        start: first token.
        lengths: tokens of each piece.
        slots: (T,) place of each token on a padded grid of pieces; None when all are equally long.
        scored: whether they are leaves.
    """

    start: int
    lengths: tuple[int, ...]
    slots: torch.Tensor | None
    scored: bool

    @property
    def tokens(self) -> slice:
        """Where they lie."""
        return slice(self.start, self.start + sum(self.lengths))

    def to_grid(self, tensor: torch.Tensor) -> torch.Tensor:
        """The run's part of (1, H, N, D) as (pieces, H, S, D), pieces padded with zeros at their end."""
        part = tensor[:, :, self.tokens]
        if len(self.lengths) == 1:
            return part
        heads, _, size = part.shape[1:]
        rows, width = len(self.lengths), max(self.lengths)
        flat = part[0].transpose(0, 1)
        if self.slots is not None:
            flat = flat.new_zeros(rows * width, heads, size).index_copy_(0, self.slots, flat)
        return flat.reshape(rows, width, heads, size).transpose(1, 2)

    def from_grid(self, grid: torch.Tensor) -> torch.Tensor:
        """The reverse of `to_grid`: (pieces, H, S, D) as (1, H, T, D), padding left out."""
        if len(self.lengths) == 1:
            return grid
        flat = grid.transpose(1, 2).flatten(0, 1)
        if self.slots is not None:
            flat = flat.index_select(0, self.slots)
        return flat.transpose(0, 1).unsqueeze(0)


@dataclass(frozen=True, slots=True)
class Link:
    """All tokens below a branch, as queries, and the branch's, as keys; every query sees every key.

    Args:
        queries: in the row.
        keys: in the row.
        scored: whether leaves are among the queries.
    """

    queries: slice
    keys: slice
    scored: bool


@dataclass(frozen=True, slots=True, eq=False)
class PackedLayout:
    """What may attend to what in a packed row of `num_tokens`."""

    runs: tuple[Run, ...]
    links: tuple[Link, ...]
    num_tokens: int

    def leaves_only(self) -> "PackedLayout":
        """The same row where nobody reads what branches attend to: without the calls that no leaf needs.

        Branches below a branch still are among the queries of its link; what comes out for them means nothing.
        """
        runs = tuple(run for run in self.runs if run.scored)
        return PackedLayout(runs, tuple(link for link in self.links if link.scored), self.num_tokens)

    def attend(
        self, layer_idx: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """See `SharedPrefix`; B is 1."""
        out: torch.Tensor = _PackedAttention.apply(query, key, value, self, scale)
        return out


def lay_out(forest: Sequence[Branch], device: torch.device) -> PackedLayout:
    """The layout of the row that is this forest in pre-order."""
    runs: list[Run] = []
    links: list[Link] = []

    def grow(branch: Branch, start: int) -> tuple[int, bool]:
        """Where the row goes on, and whether there are leaves."""
        end = start + branch.tokens
        if branch.tokens:
            runs.append(Run(start, (branch.tokens,), None, scored=False))
        if branch.leaves:
            runs.append(Run(end, branch.leaves, _slots(branch.leaves, device), scored=True))
        stop, scored = end + sum(branch.leaves), bool(branch.leaves)
        for child in branch.children:
            stop, below = grow(child, stop)
            scored |= below
        if branch.tokens and stop > end:
            links.append(Link(slice(end, stop), slice(start, end), scored))
        return stop, scored

    total = 0
    for tree in forest:
        total, _ = grow(tree, total)
    return PackedLayout(tuple(runs), tuple(links), total)


def dense_mask(forest: Sequence[Branch]) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, N) what may attend to what, written out token by token, and (N,) which tokens are leaves': what `lay_out` is tested against."""
    paths: list[list[int]] = []
    leaves: list[int] = []

    def tokens(count: int, above: list[int]) -> list[int]:
        path = list(above)
        for _ in range(count):
            path.append(len(paths))
            paths.append(list(path))
        return path

    def grow(branch: Branch, above: list[int]) -> None:
        path = tokens(branch.tokens, above)
        for length in branch.leaves:
            leaves.extend(range(len(paths), len(paths) + length))
            tokens(length, path)
        for child in branch.children:
            grow(child, path)

    for tree in forest:
        grow(tree, [])
    mask = torch.zeros(len(paths), len(paths), dtype=torch.bool)
    for token, path in enumerate(paths):
        mask[token, path] = True
    is_leaf = torch.zeros(len(paths), dtype=torch.bool)
    is_leaf[leaves] = True
    return mask, is_leaf


def _slots(lengths: Sequence[int], device: torch.device) -> torch.Tensor | None:
    if len(set(lengths)) == 1:
        return None
    width = max(lengths)
    return torch.cat([torch.arange(length) + row * width for row, length in enumerate(lengths)]).to(
        device, non_blocking=True
    )


class _PackedAttention(torch.autograd.Function):
    """Attention of a packed row as one differentiable operation. Every part's gradient uses the merged out and lse."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: PackedLayout, scale: float
    ) -> torch.Tensor:
        kernel = choose_kernel(query.device, query.dtype, query.shape[-1])
        batch, heads, tokens, size = query.shape
        if batch != 1 or tokens != layout.num_tokens:
            raise ValueError(
                f"the packed row has {layout.num_tokens} tokens, the query's shape is {tuple(query.shape)}"
            )
        out = query.new_zeros(1, tokens, heads, size).transpose(1, 2)
        # Nothing attended to yet. A token that nobody reads may stay so where no link reaches it, and where one does has to
        # have that link's lse: with a made-up one the link's backward would overflow to infinity, and times 0 to NaN.
        lse = query.new_full((1, heads, tokens), -torch.inf, dtype=torch.float32)
        states = []
        for run in layout.runs:
            part, part_lse, state = kernel.forward(*map(run.to_grid, (query, key, value)), True, scale)
            out[:, :, run.tokens] = run.from_grid(part)
            lse[:, :, run.tokens] = run.from_grid(part_lse.unsqueeze(-1)).squeeze(-1)
            states.append(state)
        for link in layout.links:
            q, k = link.queries, link.keys
            part, part_lse, state = kernel.forward(query[:, :, q], key[:, :, k], value[:, :, k], False, scale)
            out[:, :, q], lse[:, :, q] = merge(out[:, :, q], lse[:, :, q], part, part_lse)
            states.append(state)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.kernel, ctx.layout, ctx.scale, ctx.states = kernel, layout, scale, states
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out, lse = ctx.saved_tensors
        grad_out = grad_out.transpose(1, 2)
        grads = [torch.zeros_like(tensor) for tensor in (query, key, value)]
        states = iter(ctx.states)
        for run in ctx.layout.runs:
            grid_lse = run.to_grid(lse.unsqueeze(-1)).squeeze(-1)
            parts = ctx.kernel.backward(
                *map(run.to_grid, (grad_out, query, key, value, out)), grid_lse, next(states), True, ctx.scale
            )
            for grad, part in zip(grads, parts, strict=True):
                grad[:, :, run.tokens] = run.from_grid(part)
        for link in ctx.layout.links:
            q, k = link.queries, link.keys
            parts = ctx.kernel.backward(
                grad_out[:, :, q],
                query[:, :, q],
                key[:, :, k],
                value[:, :, k],
                out[:, :, q],
                lse[:, :, q],
                next(states),
                False,
                ctx.scale,
            )
            for grad, part, tokens in zip(grads, parts, (q, k, k), strict=True):
                grad[:, :, tokens] += part
        return *grads, None, None
