"""Generation batches as rows: TRL's tensors plus what it has no place for, cut, joined and filtered by whole groups."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample

# Rewards that differ by less than about 5e-7 are equal up to rounding. Where TRL divides them by their own group's
# std + 1e-4, such a difference still shows as an advantage of up to 5e-3, and a real one as more.
_ROUNDING_OF_GROUP = 5e-3
# Elsewhere advantages are small because rewards are close, and a small one counts.
_ROUNDING = 1e-5

# Padded on the left, so that prompts end together; everything else starts together.
_LEFT_PADDED = ("prompt_ids", "prompt_mask")


@dataclass
class AsideGroup:
    """Rollouts of a group's question from another prompt, which are scored, but are no rows: nothing is learned from them.

    Args:
        prompt: of all of them.
        noise: a seed for each.
        features: of its media, for a frozen vision tower; None computes them.
    """

    prompt: PromptInputs
    noise: list[int]
    features: torch.Tensor | None = None


@dataclass
class RowContext:
    """Which prompt each row of the batch in hand belongs to, for methods of TRL that take tensors only.

    Args:
        prompts: one per row, the same object for the rows of a group.
        features: of each row's video, for a frozen vision tower; None computes them.
        left_out: why nothing is drawn for a row; None where something is.
        noise: seed of each row's sampling noise.
        columns: what reward functions see of each row.
        shuffled: first row of a group that shows a video -> its rollouts with the frames in another order.
    """

    prompts: list[PromptInputs] = field(default_factory=list)
    features: list[torch.Tensor | None] | None = None
    left_out: list[Ended | None] = field(default_factory=list)
    noise: list[int] = field(default_factory=list)
    columns: list[dict[str, Any]] = field(default_factory=list)
    shuffled: dict[int, AsideGroup] = field(default_factory=dict)


def noise_seed(seed: int, step: int, draw: int, sample: Sample, what: int | str) -> int:
    """A 63-bit seed for a sample's noise: of the sampling of one rollout, which `what` numbers, or of something else by name.

    It knows nothing of ranks and batches, so any number of processes draws the same completions.
    """
    name = f"{seed}/{step}/{draw}/{sample.source}/{sample.id}/{what}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def cut_rows(batch: Mapping[str, Any], part: int, parts: int) -> dict[str, Any]:
    """Rows of micro-batch `part` of `parts`; values without rows (None, 0-dimensional tensors) go to all."""

    def cut(value: Any) -> Any:
        if value is None or (isinstance(value, torch.Tensor) and value.dim() == 0):
            return value
        size = len(value) // parts
        return value[part * size : (part + 1) * size]

    return {name: cut(value) for name, value in batch.items()}


def leave_out_rows(batch: dict[str, Any], usable: torch.Tensor) -> None:
    """Give the rows that are not usable, (B,) bool, no part in the loss; `row_valid` keeps which are."""
    batch["row_valid"] = usable
    for name in ("completion_mask", "old_per_token_logps", "ref_per_token_logps"):
        # Log-probabilities too: the policy's are zeros there, and a ratio that overflows stays NaN under a mask.
        if name in batch:
            batch[name][~usable] = 0


def padded(rows: Sequence[Sequence[float]], like: torch.Tensor) -> torch.Tensor:
    """(B, C) float32 with zeros after each row's end, shape and device as `like`."""
    result = torch.zeros(like.shape, dtype=torch.float32)
    for index, row in enumerate(rows):
        result[index, : len(row)] = torch.tensor(row)
    return result.to(like.device)


def advantage_rounding(scale_rewards: str, multi_objective_aggregation: str) -> float:
    """What rounding can make of the advantages of equal rewards, under these options of TRL."""
    by_group = scale_rewards == "group" or multi_objective_aggregation == "normalize_then_sum"
    return _ROUNDING_OF_GROUP if by_group else _ROUNDING


def informative_groups(advantages: torch.Tensor, num_generations: int, rounding: float) -> torch.Tensor:
    """(groups,) bool: whether the rewards of a group differ, so that its advantages (B,) carry a signal."""
    return advantages.view(-1, num_generations).abs().amax(dim=1) >= rounding


def replace_groups(
    batch: dict[str, Any], extra: dict[str, Any], num_generations: int, rounding: float
) -> tuple[dict[str, Any], int]:
    """`batch` with uninformative groups replaced, in order, by informative ones of `extra`; and how many were."""
    empty = (~informative_groups(batch["advantages"], num_generations, rounding)).nonzero().flatten().tolist()
    fresh = informative_groups(extra["advantages"], num_generations, rounding).nonzero().flatten().tolist()
    swaps = dict(zip(empty, fresh, strict=False))
    num_groups = len(batch["advantages"]) // num_generations
    sources = [swaps[group] + num_groups if group in swaps else group for group in range(num_groups)]
    order = [source * num_generations + row for source in sources for row in range(num_generations)]
    joined = {name: _join(name, batch[name], extra[name]) for name in batch}
    return {name: _take(value, order) for name, value in joined.items()}, len(swaps)


def spread(values: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, C) with `values` in the given rows and zeros elsewhere."""
    if len(rows) == len(mask):
        return values
    return torch.zeros_like(mask, dtype=values.dtype).index_copy(0, rows, values)


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
