"""The rows of a batch while they are being decoded: their inputs, noise, tokens so far, and which of them go on.

Letters: N groups, G rows per group, R = N G rows, C the most completion tokens. A group that wants fewer rows than another has
rows at its end that have ended before they begin.
"""

from collections.abc import Sequence

import torch

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout.base import Rollout, SamplingSettings
from videochat_r1.rollout.ended import Ended
from videochat_r1.rollout.prefix_cache import SharedPrefixCache
from videochat_r1.rollout.sampling import uniform_noise

# Dropping rows copies what is kept, which pays once this share of the rows, or less, goes on.
_COMPACT_BELOW = 0.75


class DecodingRows:
    """All rows of a batch; those that go on are a grid of groups, equally many rows per group.

    Between two `go_on`, everything that a step reads and writes keeps its address.

    Args:
        prompts: one per group.
        counts: rows that each group wants; G is the most of them.
        settings: length limit and ending tokens.
        pad_token_id: input of rows that have ended.
        noise_seeds: one per row that is wanted, group by group; None when greedy.
        device: of the model.
    """

    def __init__(
        self,
        prompts: Sequence[PromptInputs],
        counts: Sequence[int],
        settings: SamplingSettings,
        pad_token_id: int,
        noise_seeds: Sequence[Sequence[int]] | None,
        device: torch.device,
    ) -> None:
        num_generations, limit = max(counts), settings.max_new_tokens
        rows = len(prompts) * num_generations
        self._counts = counts
        self._num_generations = num_generations
        self._pad_token_id = pad_token_id
        self._eos = torch.tensor(settings.eos_token_ids, dtype=torch.long, device=device)
        self._noise: torch.Tensor | None = None
        if noise_seeds is not None:
            seeds = [seed for seeds in noise_seeds for seed in [*seeds, *[0] * (num_generations - len(seeds))]]
            self._noise = uniform_noise(seeds, limit).to(device)
        self._tokens = torch.zeros(rows, limit, dtype=torch.long, device=device)
        self._logps = torch.zeros(rows, limit, device=device)
        self._active = torch.arange(rows, device=device)
        self._step = torch.zeros(1, dtype=torch.long, device=device)
        unwanted = torch.arange(num_generations) >= torch.tensor(counts)[:, None]
        self._ended = unwanted.flatten().to(device)
        self.token = _per_row([prompt.input_ids[-1] for prompt in prompts], num_generations, device)
        """(R,) the next step's input; at first the prompts' last tokens."""
        first, last = (edge(prompt.next_position for prompt in prompts) for edge in (min, max))
        after = torch.arange(first, last + limit).expand(3, -1)
        self.positions = torch.cat([torch.stack([p.position_ids[:, -1].cpu() for p in prompts], 1), after], 1).to(
            device
        )
        """(3, places) of every token that a step can have as its input."""
        self.place = _per_row([torch.tensor(group) for group in range(len(prompts))], num_generations, device)
        """(R,) of the next step's inputs in `positions`."""
        self._next_place = _per_row(
            [torch.tensor(len(prompts) + prompt.next_position - first) for prompt in prompts], num_generations, device
        )
        self.context: torch.Tensor | None = None
        """(R, P + C) prompt and completion so far, where a step needs them; open places hold a token of the prompt."""
        if settings.repetition_penalty != 1.0:
            self._prompt_width = max(prompt.num_tokens for prompt in prompts)
            width = self._prompt_width + limit
            wide = [torch.cat([p.input_ids, p.input_ids[-1:].expand(width - p.num_tokens)]) for p in prompts]
            self.context = _per_row(wide, num_generations, device)

    def noise(self) -> torch.Tensor | None:
        """(R,) uniform numbers of the next step."""
        return None if self._noise is None else self._noise[self._active, self._step]

    def record(self, tokens: torch.Tensor, logps: torch.Tensor) -> None:
        """Take a step's tokens and log-probabilities, (R,) each, and be ready for the next."""
        tokens = tokens.masked_fill(self._ended, self._pad_token_id)
        place = (self._active, self._step)
        self._tokens.index_put_(place, tokens)
        self._logps.index_put_(place, logps)
        if self.context is not None:
            self.context.index_copy_(1, self._step + self._prompt_width, tokens.unsqueeze(1))
        # Not indexed by a mask, nor by `isin`: on an accelerator the host would wait.
        self._ended |= (tokens.unsqueeze(1) == self._eos).any(1)
        self.token.copy_(tokens)
        torch.add(self._next_place, self._step, out=self.place)
        self._step += 1

    def go_on(self, cache: SharedPrefixCache) -> bool:
        """Whether any row has not ended; drops ended rows, and groups, where it pays. Waits for the device."""
        going = (~self._ended).view(-1, cache.rows_per_group).cpu()
        counts = going.sum(1)
        width = int(counts.max())
        kept_groups = counts.nonzero().squeeze(1)
        if 0 < width * len(kept_groups) <= _COMPACT_BELOW * len(self._active):
            # Rows that go on first; ended ones fill the grid up.
            columns = going[kept_groups].to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
            kept = (kept_groups.unsqueeze(1) * cache.rows_per_group + columns).flatten().to(self._active.device)
            cache.select(kept_groups.tolist(), kept)
            self._active, self._ended, self.token, self.place, self._next_place = (
                tensor[kept] for tensor in (self._active, self._ended, self.token, self.place, self._next_place)
            )
            self.context = None if self.context is None else self.context[kept]
        return width > 0

    def drawn(self) -> list[list[list[int]]]:
        """The tokens so far, group by group. Waits for the device."""
        return [[rollout.completion_ids for rollout in group] for group in self.rollouts(int(self._step))]

    def rollouts(self, limit: int | None = None) -> list[list[Rollout]]:
        """What was drawn, in the first `limit` steps or in all, group by group: what each wants."""
        tokens, logps = self._tokens[:, :limit].cpu(), self._logps[:, :limit].tolist()
        ending = torch.isin(tokens, self._eos.cpu())
        stopped = ending.any(1)
        lengths = torch.where(stopped, ending.int().argmax(1) + 1, tokens.shape[1]).tolist()
        flat = [
            Rollout(row[:length], values[:length], Ended.STOP if stop else Ended.LENGTH)
            for row, values, length, stop in zip(tokens.tolist(), logps, lengths, stopped.tolist(), strict=True)
        ]
        begins = range(0, len(flat), self._num_generations)
        return [flat[begin : begin + count] for begin, count in zip(begins, self._counts, strict=True)]


def _per_row(per_group: Sequence[torch.Tensor], num_generations: int, device: torch.device) -> torch.Tensor:
    """(R, ...) of one tensor per group."""
    return torch.stack([tensor.cpu() for tensor in per_group]).repeat_interleave(num_generations, 0).to(device)
