"""M-RoPE positions, computed in this one place from the true timestamps.

The checkpoints were trained with text that starts, after a video or a picture, at 1 + the maximum over all three axes.
Releases of transformers disagree about that (and about fractional seconds), so positions are never left to them: every
forward, and every rollout engine, is given the ones from here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Seconds like 5 * 0.6 come out a hair below the integer they mean; without this, floor would move them one step back.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of placeholders that is one grid of tokens.

    Args:
        times: position of each temporal step relative to the start of the run.
        rows: of tokens in a step.
        columns: of tokens in a step.
    """

    times: tuple[int, ...]
    rows: int
    columns: int

    @property
    def num_tokens(self) -> int:
        """Length of the run."""
        return len(self.times) * self.rows * self.columns

    def positions(self) -> torch.Tensor:
        """(3, tokens) time, row and column of each token, the run's start at 0."""
        axes = (torch.tensor(self.times), torch.arange(self.rows), torch.arange(self.columns))
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)


def temporal_positions(grid_seconds: Sequence[float], tokens_per_second: float) -> tuple[int, ...]:
    """Position of each temporal grid step relative to the video's start.

    Args:
        grid_seconds: time of each step's first frame, in seconds.
        tokens_per_second: positions per second.

    Returns:
        floor(seconds * tokens_per_second): fractional seconds count, as in Qwen2.5-VL's own training code.
    """
    return tuple(math.floor(seconds * tokens_per_second + _ROUNDING) for seconds in grid_seconds)


def mrope_positions(is_placeholder: torch.Tensor, pieces: Sequence[Piece]) -> torch.Tensor:
    """(3, P) long: time, height and width position of every prompt token.

    Text counts up by one on all three axes. The tokens of a piece share its start and add, per axis, their time, row and
    column. What follows starts at 1 + the maximum over all three axes.

    Args:
        is_placeholder: (P,) bool, where the prompt has placeholders.
        pieces: the runs of placeholders, in order.

    Raises:
        ValueError: when placeholders and pieces do not match.
    """
    places = is_placeholder.nonzero().flatten().tolist()
    if len(places) != (expected := sum(piece.num_tokens for piece in pieces)):
        raise ValueError(f"{len(places)} placeholders do not match grids of {expected} tokens")
    parts = []
    taken = used = position = 0
    for piece in pieces:
        begin, size = places[used], piece.num_tokens
        if places[used + size - 1] != begin + size - 1:
            raise ValueError(f"the placeholders of a grid of {size} tokens are not in one piece")
        parts.append(torch.arange(begin - taken).expand(3, -1) + position)
        parts.append(piece.positions() + (position + begin - taken))
        position = int(parts[-1].max()) + 1
        taken, used = begin + size, used + size
    parts.append(torch.arange(len(is_placeholder) - taken).expand(3, -1) + position)
    return torch.cat(parts, dim=1)
