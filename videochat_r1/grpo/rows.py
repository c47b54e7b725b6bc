"""Generation batches as rows: TRL's tensors plus what it has no place for, cut, joined and filtered by whole groups."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout.base import Rollout
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample
from videochat_r1.second_look.view import Look

# Rewards that differ by less than about 5e-7 are equal up to rounding. Where TRL divides them by their own group's
# std + 1e-4, such a difference still shows as an advantage of up to 5e-3, and a real one as more.
_ROUNDING_OF_GROUP = 5e-3
# Elsewhere advantages are small because rewards are close, and a small one counts.
_ROUNDING = 1e-5

# Losses of TRL that are a mean over rows, or over micro-batches; the others divide by the number of tokens that count.
_ROW_MEAN_LOSSES = ("grpo", "sapo", "luspo", "dr_grpo")
_MICRO_BATCH_MEAN_LOSSES = ("bnpo",)


@dataclass(slots=True, eq=False)
class Turn:
    """A prompt with its completion: a row of a generation batch.

    Args:
        columns: what reward functions see of it.
        prompt: on the device, the same object for all rows that share it; None where there is nothing to draw.
        seed: of its sampling noise.
        left_out: why there is nothing to draw.
        rollout: what was drawn; None before, and where there is nothing.
        completion: its text as rewards and logs read it.
        look: what the prompt shows, of a sample that may be looked at again.
        look_problem: why the clues of the completion could not be looked at, if they were to be.
        features: of what the prompt shows, for a frozen vision tower; None computes them.
    """

    columns: dict[str, Any]
    prompt: PromptInputs | None
    seed: int
    left_out: Ended | None = None
    rollout: Rollout | None = None
    completion: str = ""
    look: Look | None = None
    look_problem: str | None = None
    features: torch.Tensor | None = None

    @property
    def lengths(self) -> tuple[int, int, bool] | None:
        """Tokens of prompt and completion, and whether the limit cut it off; None where the policy has drawn nothing."""
        if self.prompt is None or self.rollout is None or self.columns["truth"]:
            return None
        return self.prompt.num_tokens, len(self.rollout.completion_ids), self.rollout.ended is Ended.LENGTH

    @property
    def ended(self) -> Ended | None:
        """Why the completion ended, or never began; None before it is drawn, and where there is no such look."""
        return self.left_out if self.rollout is None else self.rollout.ended


@dataclass(frozen=True, slots=True)
class Shown:
    """What the rows of the batch in hand show, for methods of TRL that take tensors only.

    Args:
        prompts: one per row, the same object for all that share it; None for a row that nothing is learned from.
        features: of each row's media, for a frozen vision tower; None computes them.
        reference: its log-probabilities (B, C), in a loss with a KL term.
        truths: rows (B,) bool that the policy has not drawn.
        entropy_scale: see `weigh_rows`.
    """

    prompts: list[PromptInputs | None] = field(default_factory=list)
    features: list[torch.Tensor | None] | None = None
    reference: torch.Tensor | None = None
    truths: torch.Tensor | None = None
    entropy_scale: torch.Tensor | None = None

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> "Shown":
        """The rows of a micro-batch that is learned from."""
        names = ("row_prompts", "row_features", "ref_per_token_logps", "row_truth", "entropy_scale")
        return cls(*(batch.get(name) for name in names))  # type: ignore[arg-type]

    def with_bonus(self, entropies: torch.Tensor) -> torch.Tensor:
        """The entropies (B, C) with the gradient that a bonus for them is to have."""
        if self.entropy_scale is None:
            return entropies
        return entropies.detach() + (entropies - entropies.detach()) * self.entropy_scale

    def leave_kl_out(self, logps: torch.Tensor) -> None:
        """Write the policy's own log-probabilities (B, C) into the reference's of the rows that it has not drawn.

        KL is estimated from what the policy draws; on other tokens the same formula would only hold them back. Where both are the
        same, its value and its gradient are 0.
        """
        if self.reference is not None and self.truths is not None:
            self.reference[self.truths] = logps.detach()[self.truths].to(self.reference.dtype)


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


def complete_rows(
    batch: dict[str, Any],
    turns: Sequence[Turn],
    features: list[torch.Tensor | None] | None,
    source: tuple[int, int, int],
) -> None:
    """Add what TRL has no place for, and give rows of which nothing was drawn no part in the loss.

    Args:
        batch: of TRL.
        turns: its rows.
        features: see `Shown`.
        source: step, draw and number of the prompts, which a checkpoint keeps: with a prompt's index enough to find its sample.
    """
    device = batch["completion_mask"].device
    leave_out_rows(batch, torch.tensor([turn.rollout is not None for turn in turns], device=device))
    batch["row_prompts"], batch["row_features"] = [turn.prompt for turn in turns], features
    batch["row_truth"] = torch.tensor([turn.columns["truth"] for turn in turns], device=device)
    size = len(turns) // source[2]
    batch["row_source"] = torch.tensor([[*source, row // size] for row in range(len(turns))])
    logps = [[] if turn.rollout is None else turn.rollout.logps for turn in turns]
    batch["sampler_logps"] = padded(logps, batch["completion_ids"])


def leave_out_rows(batch: dict[str, Any], usable: torch.Tensor) -> None:
    """Give the rows that are not usable, (B,) bool, no part in the loss; `row_valid` keeps which are."""
    batch["row_valid"] = usable
    for name in ("advantages", "completion_mask", "old_per_token_logps", "ref_per_token_logps"):
        # Log-probabilities too: the policy's are zeros there, and a ratio that overflows stays NaN under a mask.
        if name in batch:
            batch[name][~usable] = 0


def weigh_rows(
    batch: dict[str, Any], loss_type: str, micro_batches: int, add_up: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Add what TRL's loss divides by, over all ranks: what rows of unusable videos would have weighed, the others weigh more.

    Completions that `mask_truncated_completions` leaves out keep their share, as in TRL. `loss_scale` is for the whole loss, of
    which a bonus for entropy is the mean over micro-batches whatever the rest is: `entropy_scale` is for its gradient beside.

    Args:
        batch: of this rank, rows that are left out included.
        loss_type: of TRL.
        micro_batches: of the batch.
        add_up: a tensor over all ranks.
    """
    mask, rows = batch["completion_mask"], batch["row_valid"]
    parts = rows.view(micro_batches, -1).any(dim=1)
    sizes = torch.tensor([len(rows), len(parts)], device=mask.device)
    counts = torch.cat([torch.stack([mask.sum(), rows.sum(), parts.sum()]), sizes])
    num_tokens, used_rows, used_parts, all_rows, all_parts = add_up(counts).tolist()
    of_rows, of_parts = all_rows / max(used_rows, 1), all_parts / max(used_parts, 1)
    scale = of_rows if loss_type in _ROW_MEAN_LOSSES else of_parts if loss_type in _MICRO_BATCH_MEAN_LOSSES else 1.0
    scale = scale if used_rows else 1.0
    batch["num_items_in_batch"] = torch.tensor(num_tokens, device=mask.device)
    batch["loss_scale"] = torch.tensor(scale, device=mask.device)
    batch["entropy_scale"] = torch.tensor(of_parts / scale, device=mask.device)


def without_groups(batch: Mapping[str, Any], groups: torch.Tensor, num_generations: int) -> dict[str, Any]:
    """The batch with no token to score of the groups that are False in (groups,) bool."""
    rows = groups.repeat_interleave(num_generations).unsqueeze(1)
    # Their log-probabilities come out as zeros; against real old ones the ratio could overflow.
    names = [name for name in ("completion_mask", "old_per_token_logps") if name in batch]
    return {**batch, **{name: batch[name] * rows for name in names}}


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
    joined = {name: _join(batch[name], extra[name]) for name in batch}
    return {name: _take(value, order) for name, value in joined.items()}, len(swaps)


def spread(values: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, C) with `values` in the given rows and zeros elsewhere."""
    if len(rows) == len(mask):
        return values
    return torch.zeros_like(mask, dtype=values.dtype).index_copy(0, rows, values)


def _join(first: Any, second: Any) -> Any:
    if not isinstance(first, torch.Tensor) or first.dim() == 0:
        return first if first is None or isinstance(first, torch.Tensor) else [*first, *second]
    if first.dim() == 1:
        return torch.cat([first, second])
    width = max(first.shape[1], second.shape[1])
    return torch.cat([torch.nn.functional.pad(each, (0, width - each.shape[1])) for each in (first, second)])


def _take(value: Any, order: list[int]) -> Any:
    if value is None or (isinstance(value, torch.Tensor) and value.dim() == 0):
        return value
    return value[order] if isinstance(value, torch.Tensor) else [value[index] for index in order]
