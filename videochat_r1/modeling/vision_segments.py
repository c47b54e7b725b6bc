"""The vision tower's attention in a few calls: segments of equal length are one batch.

A patch attends to its window or, in full blocks, to its frame. Transformers calls attention once per segment, thousands of
times a video, and asks the device for the lengths in every layer. The windows of a video have at most four different
lengths (whole, cut on the right, at the bottom, at both), its frames one; all are known from the grid.

Letters: N patches, H heads, D head size.
"""

from dataclasses import dataclass
from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

ATTENTION_NAME = "sdpa_by_length_as_flash"
"""Name under which transformers finds the attention. "flash" in it makes transformers hand over all segments at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """What the patches of a row attend to, the segments in ascending order of their lengths.

    Args:
        lengths: the different lengths.
        counts: segments of each.
        order: (N,) brings the row's patches into the order of the segments; None where they lie in it.
        back: undoes `order`.
    """

    lengths: tuple[int, ...]
    counts: tuple[int, ...]
    order: torch.Tensor | None
    back: torch.Tensor | None


def install_batched_segments(tower: PreTrainedModel) -> None:
    """Attend with "sdpa" in one call per layer and length; any other attention stays as it is. Idempotent.

    The grid may then lie on the host, whatever the tower's device, which saves waiting for it.
    """
    AttentionInterface.register(ATTENTION_NAME, _attention)
    if tower.config._attn_implementation == "sdpa":
        tower.config._attn_implementation = ATTENTION_NAME
    tower.forward = MethodType(_forward, tower)


def _forward(tower: Any, hidden_states: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
    """The tower's own forward, given what it would otherwise compute from the grid on the device."""
    ordinary = type(tower).forward
    if tower.config._attn_implementation != ATTENTION_NAME:
        return ordinary(tower, hidden_states, grid_thw.to(hidden_states.device), **kwargs)
    windows = (tower.window_size, tower.patch_size) if hasattr(tower, "window_size") else None
    grid = tuple((int(steps), int(height), int(width)) for steps, height, width in grid_thw.tolist())
    made = _arguments(grid, int(tower.spatial_merge_size), windows, hidden_states.device)
    if hasattr(tower, "num_grid_per_side"):
        table = (tower.num_grid_per_side, tower.interpolation_mode, tower.interpolation_align_corners)
        made = made | _learned_places(grid, int(tower.spatial_merge_size), *table, hidden_states.device)
    return ordinary(tower, hidden_states, grid_thw, **{**made, **kwargs})


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _arguments(
    grid: tuple[tuple[int, int, int], ...],
    merge_size: int,
    windows: tuple[int, int] | None,
    device: torch.device,
) -> dict[str, Any]:
    """Keyword arguments of the tower's forward; `windows` is the side of a window and of a patch in pixels, None without.

    Transformers hands `cu_seqlens` and `cu_window_seqlens` through to the attention untouched, so `Segments` take their
    places. It undoes `window_index` at its end, so windows may come in any order: by length, which leaves nothing to move.
    """
    thw, unit = torch.tensor(grid), merge_size**2
    frames = get_vision_cu_seqlens(thw).diff().long()
    frame_of_token = torch.arange(len(frames)).repeat_interleave(frames // unit)
    arguments: dict[str, Any] = {"position_ids": get_vision_position_ids(thw, merge_size).to(device)}
    if windows is not None:
        index, ends = get_vision_window_index(thw, merge_size, *windows)
        lengths = ends.diff().long()
        by_length = lengths.argsort(stable=True)
        parts = index.split((lengths // unit).tolist())
        index = torch.cat([parts[window] for window in by_length.tolist()])
        lengths = lengths[by_length]
        arguments["window_index"] = index.to(device)
        arguments["cu_window_seqlens"] = _segments(
            lengths, torch.arange(len(lengths)).repeat_interleave(lengths), device
        )
        arguments["max_window_seqlen"] = int(lengths.max())
        frame_of_token = frame_of_token[index]
    arguments["cu_seqlens"] = _segments(frames, frame_of_token.repeat_interleave(unit), device)
    arguments["max_seqlen"] = int(frames.max())
    return arguments


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _learned_places(
    grid: tuple[tuple[int, int, int], ...], merge_size: int, side: int, mode: str, corners: bool, device: torch.device
) -> dict[str, Any]:
    """Keyword arguments that say where each patch lies in the tower's learned grid of side x side places."""
    indices, weights = get_vision_interpolation_indices_and_weights(
        torch.tensor(grid), side, mode=mode, align_corners=corners, spatial_merge_size=merge_size
    )
    return {"interp_indices": indices.to(device), "interp_weights": weights.to(device)}


def _segments(lengths: torch.Tensor, segment: torch.Tensor, device: torch.device) -> Segments:
    """Of segments with these lengths; `segment` (N,) says which one each patch belongs to."""
    order = lengths.argsort(stable=True).argsort()[segment].argsort(stable=True)
    kinds, counts = lengths.sort().values.unique_consecutive(return_counts=True)
    shape = tuple(kinds.tolist()), tuple(counts.tolist())
    if torch.equal(order, torch.arange(len(order))):
        return Segments(*shape, None, None)
    return Segments(*shape, order.to(device), order.argsort().to(device))


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    cu_seq_lens_q: Segments,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """(1, N, H, D) attention of query, key and value, (1, H, N, D) each, within segments."""
    segments = cu_seq_lens_q
    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    if segments.order is not None:
        rows = [row.index_select(0, segments.order) for row in rows]
    sizes = [length * count for length, count in zip(segments.lengths, segments.counts, strict=True)]
    outs = []
    for length, *parts in zip(segments.lengths, *(row.split(sizes) for row in rows), strict=True):
        query, key, value = (part.unflatten(0, (-1, length)).transpose(1, 2) for part in parts)
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling)
        outs.append(out.transpose(1, 2).flatten(0, 1))
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return (out if segments.back is None else out.index_select(0, segments.back)).unsqueeze(0), None
