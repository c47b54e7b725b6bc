"""Attention over a packed row: groups one after the other, each `[shared tokens | segment 1 | ... | segment G]`.

Shared tokens attend causally to each other; a segment's tokens attend to the shared tokens of their group and causally to
their own segment. Cost per group: P^2/2 + G (P C + C^2/2), no dense mask, no key copied or expanded.

Letters: H query heads, K key heads, N tokens of the row, T tokens of a group's segments, S the longest segment, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from videochat_r1.modeling.attention_kernels import AttentionKernel, choose_kernel, merge


@dataclass(frozen=True, slots=True, eq=False)
class PackedGroup:
    """Where one group lies in the row.

    Args:
        start: its first token.
        num_shared: shared tokens, may be 0.
        lengths: tokens of each segment, none of them 0; empty for a prompt alone.
        slots: (sum of lengths,) place of each segment token on a padded grid of segments; None when all are equally long.
    """

    start: int
    num_shared: int
    lengths: tuple[int, ...]
    slots: torch.Tensor | None

    @property
    def segments_start(self) -> int:
        """First token of the first segment."""
        return self.start + self.num_shared

    @property
    def end(self) -> int:
        """One past the group's last token."""
        return self.segments_start + sum(self.lengths)

    def to_grid(self, tensor: torch.Tensor) -> torch.Tensor:
        """Segment tokens (1, H, T, D) as (G, H, S, D), segments padded with zeros at their end."""
        heads, _, size = tensor.shape[1:]
        rows, width = len(self.lengths), max(self.lengths)
        flat = tensor[0].transpose(0, 1)
        if self.slots is not None:
            flat = flat.new_zeros(rows * width, heads, size).index_copy_(0, self.slots, flat)
        return flat.reshape(rows, width, heads, size).transpose(1, 2)

    def from_grid(self, grid: torch.Tensor) -> torch.Tensor:
        """The reverse of `to_grid`: (G, H, S, D) as (1, H, T, D), padding left out."""
        flat = grid.transpose(1, 2).flatten(0, 1)
        if self.slots is not None:
            flat = flat.index_select(0, self.slots)
        return flat.transpose(0, 1).unsqueeze(0)


@dataclass(frozen=True, slots=True, eq=False)
class PackedLayout:
    """A packed row: its groups, one after the other.

    Args:
        groups: in order.
        with_prompts: whether shared tokens attend too; without, their output is 0 and only their keys and values count.
    """

    groups: tuple[PackedGroup, ...]
    with_prompts: bool = True

    @property
    def num_tokens(self) -> int:
        """Tokens of the row."""
        return self.groups[-1].end

    def segments_only(self) -> "PackedLayout":
        """The same row where nobody reads what shared tokens attend to."""
        return replace(self, with_prompts=False)

    def attend(
        self, layer_idx: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """See `SharedPrefix`; B is 1."""
        out: torch.Tensor = _PackedAttention.apply(query, key, value, self, scale)
        return out


def pack_groups(shapes: Sequence[tuple[int, Sequence[int]]], device: torch.device) -> PackedLayout:
    """The layout of groups given as (shared tokens, tokens of each segment)."""
    groups = []
    start = 0
    for num_shared, lengths in shapes:
        slots = None
        if len(set(lengths)) > 1:
            width = max(lengths)
            slots = torch.cat([torch.arange(length) + row * width for row, length in enumerate(lengths)]).to(device)
        groups.append(PackedGroup(start, num_shared, tuple(lengths), slots))
        start = groups[-1].end
    return PackedLayout(tuple(groups))


class _PackedAttention(torch.autograd.Function):
    """Attention of a packed row as one differentiable operation."""

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
        out = query.new_empty(1, tokens, heads, size).transpose(1, 2)
        lse = query.new_empty(1, heads, tokens, dtype=torch.float32)
        states = [
            _group_forward(kernel, (query, key, value), out, lse, group, scale, layout.with_prompts)
            for group in layout.groups
        ]
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.kernel, ctx.layout, ctx.scale, ctx.states = kernel, layout, scale, states
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        saved = ctx.saved_tensors
        grads = [torch.empty_like(tensor) for tensor in saved[:3]]
        for group, states in zip(ctx.layout.groups, ctx.states, strict=True):
            _group_backward(
                ctx.kernel, grad_out.transpose(1, 2), saved, grads, group, states, ctx.scale, ctx.layout.with_prompts
            )
        return *grads, None, None


def _group_forward(
    kernel: AttentionKernel,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    out: torch.Tensor,
    lse: torch.Tensor,
    group: PackedGroup,
    scale: float,
    with_prompt: bool,
) -> list[tuple[Any, ...]]:
    """Writes the group's part of `out` and `lse`; gives the states of its up to three kernel calls."""
    query, key, value = inputs
    shared, segments = slice(group.start, group.segments_start), slice(group.segments_start, group.end)
    states: list[tuple[Any, ...]] = [(), (), ()]
    shared_key, shared_value = key[:, :, shared], value[:, :, shared]
    if not with_prompt:
        out[:, :, shared], lse[:, :, shared] = 0.0, 0.0
    elif group.num_shared:
        out[:, :, shared], lse[:, :, shared], states[0] = kernel.forward(
            query[:, :, shared], shared_key, shared_value, True, scale
        )
    if not group.lengths:
        return states
    own = [group.to_grid(tensor[:, :, segments]) for tensor in inputs]
    own_out, own_lse, states[1] = kernel.forward(*own, True, scale)
    merged, merged_lse = group.from_grid(own_out), group.from_grid(own_lse.unsqueeze(-1)).squeeze(-1)
    if group.num_shared:
        prompt_out, prompt_lse, states[2] = kernel.forward(
            query[:, :, segments], shared_key, shared_value, False, scale
        )
        merged, merged_lse = merge(merged, merged_lse, prompt_out, prompt_lse)
    out[:, :, segments], lse[:, :, segments] = merged, merged_lse
    return states


def _group_backward(
    kernel: AttentionKernel,
    grad_out: torch.Tensor,
    saved: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    group: PackedGroup,
    states: Sequence[tuple[Any, ...]],
    scale: float,
    with_prompt: bool,
) -> None:
    """Writes the group's part of the three gradients. Every part uses the merged out and lse."""
    query, key, value, out, lse = saved
    shared, segments = slice(group.start, group.segments_start), slice(group.segments_start, group.end)
    if not with_prompt:
        for grad in grads:
            grad[:, :, shared] = 0.0
    elif group.num_shared:
        parts = kernel.backward(
            *(tensor[:, :, shared] for tensor in (grad_out, query, key, value, out, lse)), states[0], True, scale
        )
        for grad, part in zip(grads, parts, strict=True):
            grad[:, :, shared] = part
    if not group.lengths:
        return
    own = [group.to_grid(tensor[:, :, segments]) for tensor in (grad_out, query, key, value, out)]
    own_lse = group.to_grid(lse[:, :, segments].unsqueeze(-1)).squeeze(-1)
    parts = kernel.backward(*own, own_lse, states[1], True, scale)
    for grad, part in zip(grads, parts, strict=True):
        grad[:, :, segments] = group.from_grid(part)
    if group.num_shared:
        grad_query, grad_key, grad_value = kernel.backward(
            grad_out[:, :, segments],
            query[:, :, segments],
            key[:, :, shared],
            value[:, :, shared],
            out[:, :, segments],
            lse[:, :, segments],
            states[2],
            False,
            scale,
        )
        grads[0][:, :, segments] += grad_query
        grads[1][:, :, shared] += grad_key
        grads[2][:, :, shared] += grad_value
