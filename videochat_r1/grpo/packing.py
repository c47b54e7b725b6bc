"""Rows of tokens for the log-probability forward: one row in which everything that prompts share comes once, or one row per
completion with its prompt repeated.

Rows are laid out on the host, where prompts and lengths are known, and go to the device as a whole: what is read of the device, it has
to be waited for.

Letters: B completions, C completion tokens, P prompt tokens, L real tokens of one completion.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.packed_attention import Branch, PackedLayout, lay_out
from videochat_r1.modeling.prompt_tree import PromptBranch, plant, walk

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
        labels: the token predicted at each place: (1, sum of L) for the scored tokens of a packed row, (rows, tokens) with -100
            where nothing is scored for repeated prompts.
        read: (B, C) the place among all labels of each completion token; 0 beyond a completion's end.
        shown: the media that the rows hold, in order: (a completion whose prompt shows it, which of its media).
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    layout: PackedLayout | None
    scored_positions: torch.Tensor | None
    labels: torch.Tensor
    read: torch.Tensor
    shown: tuple[tuple[int, int], ...]


def scored_lengths(completion_mask: torch.Tensor) -> list[int]:
    """L of each completion: its real tokens, at least 1 so that a masked-out row still reaches the model's parameters.

    Waits for the device of the mask.

    Raises:
        ValueError: when a mask is not ones followed by zeros.
    """
    mask = completion_mask.cpu().bool()
    lengths = mask.sum(1)
    if not torch.equal(torch.arange(mask.shape[1]) < lengths[:, None], mask):
        raise ValueError("completion_mask must be ones followed by zeros in every row")
    return [max(length, 1) for length in lengths.tolist()]


def distinct_prompts(prompts: Sequence[PromptInputs]) -> tuple[list[PromptInputs], list[list[int]]]:
    """The different objects among the prompts of rows, and the rows of each."""
    rows: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(id(prompt), []).append(row)
    return [prompts[of_one[0]] for of_one in rows.values()], list(rows.values())


def token_counts(prompts: Sequence[PromptInputs], completion_mask: torch.Tensor) -> tuple[int, int]:
    """Tokens that the text decoder computes with shared and with repeated prompts, padding included."""
    lengths = scored_lengths(completion_mask)
    forest = plant(distinct_prompts(prompts)[0])
    widest = max(prompt.num_tokens + length - 1 for prompt, length in zip(prompts, lengths, strict=True))
    return sum(branch.num_tokens for branch in walk(forest)) + sum(lengths), len(prompts) * widest


def shared_share(micro_batches: Iterable[Sequence[PromptInputs | None]]) -> float:
    """Which part of the tokens of all prompts is computed for another prompt of the same micro-batch."""
    whole = computed = 0
    for prompts in micro_batches:
        distinct, _ = distinct_prompts([prompt for prompt in prompts if prompt is not None])
        whole += sum(prompt.num_tokens - 1 for prompt in distinct)
        computed += sum(branch.num_tokens for branch in walk(plant(distinct)))
    return 1 - computed / whole if whole else 0.0


def pack_rows(
    prompts: Sequence[PromptInputs], completion_ids: torch.Tensor, completion_mask: torch.Tensor
) -> TokenRows:
    """One row without padding: the forest of the prompts (`plant`), and after each prompt's end its completions' segments.

    A segment begins with a copy of the prompt's last token, which predicts the completion's first token; its last token is
    left out, as it predicts nothing. So every token of a segment is scored, inside its own segment.
    """
    device, completion_ids = completion_ids.device, completion_ids.cpu()
    lengths = scored_lengths(completion_mask)
    distinct, rows_of = distinct_prompts(prompts)
    forest = plant(distinct)
    ids, positions, scored, labels, shown = [], [], [], [], []
    read = torch.zeros_like(completion_ids)
    start = num_labels = 0
    for branch in walk(forest):
        of_branch = slice(branch.begin, branch.end)
        source = distinct[branch.below[0]]
        ids.append(source.input_ids[of_branch].cpu())
        positions.append(source.position_ids[:, of_branch].cpu())
        shown += [(rows_of[branch.below[0]][0], medium) for medium in branch.media(source)]
        start += branch.num_tokens
        for index in branch.prompts:
            prompt, rows = distinct[index], rows_of[index]
            last_id, last_position = prompt.input_ids[-1:].cpu(), prompt.position_ids[:, -1:].cpu()
            following = _completion_positions(prompt, max(lengths[row] for row in rows))
            segment_positions = torch.cat([last_position, following], dim=1)
            begin = num_labels
            for row in rows:
                length = lengths[row]
                ids += [last_id, completion_ids[row, : length - 1]]
                positions.append(segment_positions[:, :length])
                labels.append(completion_ids[row, :length])
                read[row, :length] = torch.arange(num_labels, num_labels + length)
                num_labels += length
            total = num_labels - begin
            scored.append(torch.arange(start, start + total))
            start += total
    return TokenRows(
        input_ids=_sent(torch.cat(ids).unsqueeze(0), device),
        position_ids=_sent(torch.cat(positions, dim=1).unsqueeze(1), device),
        attention_mask=None,
        layout=lay_out([_with_leaves(tree, rows_of, lengths) for tree in forest], device),
        scored_positions=_sent(torch.cat(scored), device),
        labels=_sent(torch.cat(labels).unsqueeze(0), device),
        read=_sent(read, device),
        shown=tuple(shown),
    )


def _with_leaves(branch: PromptBranch, rows_of: Sequence[Sequence[int]], lengths: Sequence[int]) -> Branch:
    return Branch(
        branch.num_tokens,
        tuple(lengths[row] for index in branch.prompts for row in rows_of[index]),
        tuple(_with_leaves(child, rows_of, lengths) for child in branch.children),
    )


def repeat_rows(
    prompts: Sequence[PromptInputs], completion_ids: torch.Tensor, completion_mask: torch.Tensor, pad_token_id: int
) -> TokenRows:
    """One row per completion, its whole prompt before it, padded on the right: what training without sharing computes."""
    device, completion_ids = completion_ids.device, completion_ids.cpu()
    lengths = scored_lengths(completion_mask)
    width = max(prompt.num_tokens + length - 1 for prompt, length in zip(prompts, lengths, strict=True))
    input_ids = torch.full((len(prompts), width), pad_token_id)
    position_ids = torch.zeros((3, len(prompts), width), dtype=torch.long)
    attention_mask = torch.zeros((len(prompts), width), dtype=torch.long)
    labels, read = torch.full_like(input_ids, IGNORED), torch.zeros_like(completion_ids)
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        size = prompt.num_tokens
        end = size + length - 1
        input_ids[row, :size] = prompt.input_ids
        input_ids[row, size:end] = completion_ids[row, : length - 1]
        position_ids[:, row, :size] = prompt.position_ids
        position_ids[:, row, size:end] = _completion_positions(prompt, length)
        attention_mask[row, :end] = 1
        labels[row, size - 1 : end] = completion_ids[row, :length]
        read[row, :length] = torch.arange(size - 1, end) + row * width
    return TokenRows(
        input_ids=_sent(input_ids, device),
        position_ids=_sent(position_ids, device),
        attention_mask=_sent(attention_mask, device),
        layout=None,
        scored_positions=None,
        labels=_sent(labels, device),
        read=_sent(read, device),
        shown=tuple((row, index) for row, prompt in enumerate(prompts) for index in range(len(prompt.media))),
    )


def _completion_positions(prompt: PromptInputs, length: int) -> torch.Tensor:
    """(3, length - 1) positions of a completion's tokens, its last left out."""
    return (torch.arange(length - 1) + prompt.next_position).expand(3, -1)


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy there, which nobody waits for; itself on the host."""
    return tensor.to(device, non_blocking=True)
