"""Rows of tokens for the log-probability forward: packed by group, or one per completion with its prompt repeated.

Letters: B completions, C completion tokens, P prompt tokens, L real tokens of one completion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.packed_attention import PackedLayout, pack_groups

IGNORED = -100
"""Label of a place that is not scored, as in TRL and transformers."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """Everything of one forward but the videos.

    Args:
        input_ids: (rows, tokens).
        position_ids: (3, rows, tokens).
        attention_mask: (rows, tokens) for repeated prompts, None for a packed row.
        layout: what may attend to what in a packed row, None for repeated prompts.
        scored_positions: (sum of L,) tokens of a packed row that predict a completion token; None for repeated prompts.
        labels: the token predicted at each place, completions in order: (1, sum of L) for the scored tokens of a packed
            row, (rows, tokens) with -100 where nothing is scored for repeated prompts.
        prompts: whose videos the rows hold, in order.
        prompt_rows: for each of `prompts`, the first completion that belongs to it.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    layout: PackedLayout | None
    scored_positions: torch.Tensor | None
    labels: torch.Tensor
    prompts: tuple[PromptInputs, ...]
    prompt_rows: tuple[int, ...]


def scored_lengths(completion_mask: torch.Tensor) -> list[int]:
    """L of each completion: its real tokens, at least 1 so that a masked-out row still reaches the model's parameters.

    Raises:
        ValueError: when a mask is not ones followed by zeros.
    """
    lengths = completion_mask.sum(1)
    expected = torch.arange(completion_mask.shape[1], device=completion_mask.device) < lengths[:, None]
    if not torch.equal(expected, completion_mask.bool()):
        raise ValueError("completion_mask must be ones followed by zeros in every row")
    return [max(length, 1) for length in lengths.tolist()]


def group_rows(prompts: Sequence[PromptInputs]) -> list[tuple[int, int]]:
    """[begin, end) of each run of rows that hold the very same prompt object."""
    starts = [row for row in range(len(prompts)) if row == 0 or prompts[row] is not prompts[row - 1]]
    return list(zip(starts, [*starts[1:], len(prompts)], strict=True))


def token_counts(prompts: Sequence[PromptInputs], completion_mask: torch.Tensor) -> tuple[int, int]:
    """Tokens that the text decoder computes with shared and with repeated prompts, padding included."""
    lengths = scored_lengths(completion_mask)
    shared = sum(prompts[begin].num_tokens - 1 for begin, _ in group_rows(prompts)) + sum(lengths)
    widest = max(prompt.num_tokens + length - 1 for prompt, length in zip(prompts, lengths, strict=True))
    return shared, len(prompts) * widest


def pack_rows(
    prompts: Sequence[PromptInputs], completion_ids: torch.Tensor, completion_mask: torch.Tensor
) -> TokenRows:
    """One row without padding: per group, the prompt without its last token, then every completion's segment.

    A segment begins with a copy of the prompt's last token, which predicts the completion's first token; its last token is
    left out, as it predicts nothing. So every token of a segment is scored, inside its own segment.
    """
    device = completion_ids.device
    lengths = scored_lengths(completion_mask)
    ids, positions, scored, labels, shapes = [], [], [], [], []
    start = 0
    groups = group_rows(prompts)
    for begin, end in groups:
        prompt = prompts[begin]
        input_ids, position_ids = prompt.input_ids.to(device), prompt.position_ids.to(device)
        ids.append(input_ids[:-1])
        positions.append(position_ids[:, :-1])
        start += len(input_ids) - 1
        following = _completion_positions(prompt, max(lengths[begin:end]), device)
        segment_positions = torch.cat([position_ids[:, -1:], following], dim=1)
        for row in range(begin, end):
            ids += [input_ids[-1:], completion_ids[row, : lengths[row] - 1]]
            positions.append(segment_positions[:, : lengths[row]])
            labels.append(completion_ids[row, : lengths[row]])
        total = sum(lengths[begin:end])
        scored.append(torch.arange(start, start + total, device=device))
        start += total
        shapes.append((len(input_ids) - 1, lengths[begin:end]))
    return TokenRows(
        input_ids=torch.cat(ids).unsqueeze(0),
        position_ids=torch.cat(positions, dim=1).unsqueeze(1),
        attention_mask=None,
        layout=pack_groups(shapes, device),
        scored_positions=torch.cat(scored),
        labels=torch.cat(labels).unsqueeze(0),
        prompts=tuple(prompts[begin] for begin, _ in groups),
        prompt_rows=tuple(begin for begin, _ in groups),
    )


def repeat_rows(
    prompts: Sequence[PromptInputs], completion_ids: torch.Tensor, completion_mask: torch.Tensor, pad_token_id: int
) -> TokenRows:
    """One row per completion, its whole prompt before it, padded on the right: what training without sharing computes."""
    device = completion_ids.device
    lengths = scored_lengths(completion_mask)
    width = max(prompt.num_tokens + length - 1 for prompt, length in zip(prompts, lengths, strict=True))
    input_ids = torch.full((len(prompts), width), pad_token_id, device=device)
    position_ids = torch.zeros((3, len(prompts), width), dtype=torch.long, device=device)
    attention_mask = torch.zeros((len(prompts), width), dtype=torch.long, device=device)
    labels = torch.full_like(input_ids, IGNORED)
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        size = prompt.num_tokens
        end = size + length - 1
        input_ids[row, :size] = prompt.input_ids
        input_ids[row, size:end] = completion_ids[row, : length - 1]
        position_ids[:, row, :size] = prompt.position_ids
        position_ids[:, row, size:end] = _completion_positions(prompt, length, device)
        attention_mask[row, :end] = 1
        labels[row, size - 1 : end] = completion_ids[row, :length]
    return TokenRows(
        input_ids=input_ids,
        position_ids=position_ids,
        attention_mask=attention_mask,
        layout=None,
        scored_positions=None,
        labels=labels,
        prompts=tuple(prompts),
        prompt_rows=tuple(range(len(prompts))),
    )


def _completion_positions(prompt: PromptInputs, length: int, device: torch.device) -> torch.Tensor:
    """(3, length - 1) positions of a completion's tokens, its last left out."""
    return (torch.arange(length - 1, device=device) + prompt.next_position).expand(3, -1)
