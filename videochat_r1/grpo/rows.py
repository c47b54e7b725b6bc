"""Generation batches as rows: TRL's tensors plus what it has no place for, cut, joined and filtered by whole groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from videochat_r1.modeling.inputs import PromptInputs

# Rewards that differ by less than about 5e-7 are equal up to rounding. Divided by their group's std + 1e-4, such a difference
# still shows as an advantage of up to 5e-3.
_EQUAL_REWARDS = 5e-7
_EQUAL_DIVIDED_REWARDS = 5e-3

# Padded on the left, so that prompts end together; everything else starts together.
_LEFT_PADDED = ("prompt_ids", "prompt_mask")


@dataclass
class RowContext:
    """Which prompt each row of the batch in hand belongs to, for methods of TRL that take tensors only.

    Args:
        prompts: one per row, the same object for the rows of a group.
        features: of each row's video, for a frozen vision tower; None computes them.
        valid: False for rows whose video could not be read.
        noise: seed of each row's sampling noise.
        columns: what reward functions see of each row.
    """

    prompts: list[PromptInputs] = field(default_factory=list)
    features: list[torch.Tensor | None] | None = None
    valid: list[bool] = field(default_factory=list)
    noise: list[int] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)


def cut_rows(batch: Mapping[str, Any], part: int, parts: int) -> dict[str, Any]:
    """Rows of micro-batch `part` of `parts`; values without rows (None, 0-dimensional tensors) go to all."""

    def cut(value: Any) -> Any:
        if value is None or (isinstance(value, torch.Tensor) and value.dim() == 0):
            return value
        size = len(value) // parts
        return value[part * size : (part + 1) * size]

    return {name: cut(value) for name, value in batch.items()}


def padded(rows: Sequence[Sequence[float]], like: torch.Tensor) -> torch.Tensor:
    """(B, C) float32 with zeros after each row's end, shape and device as `like`."""
    result = torch.zeros(like.shape, dtype=torch.float32)
    for index, row in enumerate(rows):
        result[index, : len(row)] = torch.tensor(row)
    return result.to(like.device)


def informative_groups(advantages: torch.Tensor, num_generations: int, *, divided_by_std: bool) -> torch.Tensor:
    """(groups,) bool: whether the rewards of a group differ, so that its advantages (B,) carry a signal.

    Args:
        advantages: (B,) in whole groups.
        num_generations: rows of a group.
        divided_by_std: whether they were divided by the standard deviation of their own group.
    """
    smallest = _EQUAL_DIVIDED_REWARDS if divided_by_std else _EQUAL_REWARDS
    return advantages.view(-1, num_generations).abs().amax(dim=1) >= smallest


def replace_groups(
    batch: dict[str, Any], extra: dict[str, Any], replaced: torch.Tensor, chosen: torch.Tensor
) -> tuple[dict[str, Any], int]:
    """`batch` with groups put in place of others, in order; and how many were.

    Args:
        batch: rows in whole groups.
        extra: further ones, with the same keys.
        replaced: (groups of `batch`,) bool.
        chosen: (groups of `extra`,) bool: those that may take the place of another.
    """
    empty, fresh = replaced.nonzero().flatten().tolist(), chosen.nonzero().flatten().tolist()
    swaps = dict(zip(empty, fresh, strict=False))
    num_groups = len(replaced)
    num_generations = len(batch["advantages"]) // num_groups
    sources = [swaps[group] + num_groups if group in swaps else group for group in range(num_groups)]
    order = [source * num_generations + row for source in sources for row in range(num_generations)]
    joined = {name: _join(name, batch[name], extra[name]) for name in batch}
    return {name: _take(value, order) for name, value in joined.items()}, len(swaps)


def _join(name: str, first: Any, second: Any) -> Any:
    if not isinstance(first, torch.Tensor) or first.dim() == 0:
        return first if first is None or isinstance(first, torch.Tensor) else [*first, *second]
    if first.dim() == 1:
        return torch.cat([first, second])
    width = max(first.shape[1], second.shape[1])
    return torch.cat([_widen(tensor, width, left=name in _LEFT_PADDED) for tensor in (first, second)])


def _widen(tensor: torch.Tensor, width: int, *, left: bool) -> torch.Tensor:
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (missing, 0) if left else (0, missing))


def _take(value: Any, order: list[int]) -> Any:
    if value is None or (isinstance(value, torch.Tensor) and value.dim() == 0):
        return value
    return value[order] if isinstance(value, torch.Tensor) else [value[index] for index in order]
