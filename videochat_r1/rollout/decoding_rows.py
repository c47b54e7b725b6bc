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
        num_generations = max(counts)
        rows = len(prompts) * num_generations
        self._prompts = prompts
        self._counts = counts
        self._num_generations = num_generations
        self._pad_token_id = pad_token_id
        self._eos = torch.tensor(settings.eos_token_ids, dtype=torch.long, device=device)
        self._last_tokens = torch.stack([prompt.input_ids[-1] for prompt in prompts]).to(device)
        self._last_positions = torch.stack([prompt.position_ids[:, -1] for prompt in prompts], dim=1).to(device)
        self._next_positions = torch.tensor([prompt.next_position for prompt in prompts], device=device)
        self._noise: torch.Tensor | None = None
        if noise_seeds is not None:
            flat = [seed for seeds in noise_seeds for seed in [*seeds, *[0] * (num_generations - len(seeds))]]
            self._noise = uniform_noise(flat, settings.max_new_tokens).to(device)
        self._context: torch.Tensor | None = None
        self._tokens = torch.zeros(rows, settings.max_new_tokens, dtype=torch.long, device=device)
        self._logps = torch.zeros(rows, settings.max_new_tokens, device=device)
        self._lengths = torch.full((rows,), settings.max_new_tokens, device=device)
        unwanted = torch.arange(num_generations) >= torch.tensor(counts)[:, None]
        self._ended = unwanted.flatten().to(device)
        self._active = torch.arange(rows, device=device)

    def inputs(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (R, 1) and positions (3, R, 1) of a step; step 0 takes the prompts' last tokens."""
        groups = self._active // self._num_generations
        if step == 0:
            return self._last_tokens[groups].unsqueeze(1), self._last_positions[:, groups].unsqueeze(2)
        positions = (self._next_positions[groups] + (step - 1)).view(1, -1, 1).expand(3, -1, -1)
        return self._tokens[self._active, step - 1].unsqueeze(1), positions

    def noise(self, step: int) -> torch.Tensor | None:
        """(R,) uniform numbers of a step."""
        return None if self._noise is None else self._noise[self._active, step]

    def context(self, step: int) -> torch.Tensor:
        """(R, tokens) prompt and completion before a step; shorter prompts are filled with a token that they contain."""
        if self._context is None:
            width = max(prompt.num_tokens for prompt in self._prompts)
            self._context = torch.stack(
                [
                    torch.cat([prompt.input_ids, prompt.input_ids[-1:].expand(width - prompt.num_tokens)])
                    for prompt in self._prompts
                ]
            ).to(self._tokens.device)
        return torch.cat([self._context[self._active // self._num_generations], self._tokens[self._active, :step]], 1)

    def record(self, step: int, tokens: torch.Tensor, logps: torch.Tensor) -> None:
        """Take a step's tokens and log-probabilities, (R,) each."""
        ended = self._ended[self._active]
        self._tokens[self._active, step] = tokens.masked_fill(ended, self._pad_token_id)
        self._logps[self._active, step] = logps
        ending = torch.isin(tokens, self._eos)
        # Not indexed by a mask: on an accelerator the host would wait to learn how many rows it selects.
        self._lengths[self._active] = self._lengths[self._active].masked_fill(ending & ~ended, step + 1)
        self._ended[self._active] = ended | ending

    def go_on(self, cache: SharedPrefixCache) -> bool:
        """Whether any row has not ended; drops ended rows, and groups, where it pays. Waits for the device."""
        going = (~self._ended[self._active]).view(-1, cache.rows_per_group).cpu()
        counts = going.sum(1)
        width = int(counts.max())
        kept_groups = counts.nonzero().squeeze(1)
        if 0 < width * len(kept_groups) <= _COMPACT_BELOW * len(self._active):
            # Rows that go on first; ended ones fill the grid up.
            columns = going[kept_groups].to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
            kept = (kept_groups.unsqueeze(1) * cache.rows_per_group + columns).flatten().to(self._active.device)
            cache.select(kept_groups.tolist(), kept)
            self._active = self._active[kept]
        return width > 0

    def rollouts(self) -> list[list[Rollout]]:
        """What was drawn, group by group: what each wants."""
        tokens, logps = self._tokens.tolist(), self._logps.tolist()
        lengths = self._lengths.tolist()
        ended = [Ended.STOP if stopped else Ended.LENGTH for stopped in self._ended.tolist()]
        flat = [
            Rollout(tokens[row][: lengths[row]], logps[row][: lengths[row]], ended[row]) for row in range(len(lengths))
        ]
        begins = range(0, len(flat), self._num_generations)
        return [flat[begin : begin + count] for begin, count in zip(begins, self._counts, strict=True)]
