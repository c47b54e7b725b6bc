"""M-RoPE positions, computed in this one place from the true timestamps.

Qwen2-VL and Qwen2.5-VL checkpoints were trained with text that starts, after a video, at 1 + the maximum over all three
axes. Releases of transformers disagree about that (and about fractional seconds), so positions are never left to them:
every forward, and every rollout engine, is given the ones from here.
"""

import math
from collections.abc import Sequence

import torch

# Seconds like 5 * 0.6 come out a hair below the integer they mean; without this, floor would move them one step back.
_ROUNDING = 1e-6


def temporal_positions(grid_seconds: Sequence[float], tokens_per_second: float | None) -> list[int]:
    """Position of each temporal grid step relative to the video's start.

    Args:
        grid_seconds: time of each step's first frame, in seconds.
        tokens_per_second: positions per second (Qwen2.5-VL); None counts the steps instead (Qwen2-VL).

    Returns:
        floor(seconds * tokens_per_second): fractional seconds count, as in Qwen2.5-VL's own training code.
    """
    if tokens_per_second is None:
        return list(range(len(grid_seconds)))
    return [math.floor(seconds * tokens_per_second + _ROUNDING) for seconds in grid_seconds]


def mrope_positions(
    input_ids: torch.Tensor,
    *,
    video_token_id: int,
    video_grid_thw: torch.Tensor | None,
    grid_seconds: Sequence[float],
    merge_size: int,
    tokens_per_second: float | None,
) -> torch.Tensor:
    """(3, P) long: time, height and width position of every prompt token.

    Text counts up by one on all three axes. A video's tokens share its start and add, per axis, their time, row and
    column on the merged grid. What follows starts at 1 + the maximum over all three axes.

    Args:
        input_ids: (P,) with one placeholder per merged patch.
        video_token_id: the placeholder.
        video_grid_thw: (1, 3) patches before merging; None for a prompt without video.
        grid_seconds: true time of each temporal step; may jump, e.g. between two clips of one video.
        merge_size: patches per token along each spatial axis.
        tokens_per_second: see `temporal_positions`.

    Raises:
        ValueError: when placeholders and grid do not match.
    """
    num_tokens = int(input_ids.shape[0])
    is_video = input_ids == video_token_id
    num_video = int(is_video.sum())
    if num_video == 0:
        return torch.arange(num_tokens).expand(3, -1).clone()
    if video_grid_thw is None:
        raise ValueError(f"{num_video} video placeholders but no grid")
    steps, height, width = (int(value) for value in video_grid_thw[0])
    height, width = height // merge_size, width // merge_size
    if num_video != steps * height * width or steps != len(grid_seconds):
        raise ValueError(
            f"{num_video} video placeholders and {len(grid_seconds)} times do not match a merged grid of {steps} x {height} x {width}"
        )
    begin = int(is_video.nonzero()[0])
    end = begin + num_video
    if not bool(is_video[begin:end].all()):
        raise ValueError("the video placeholders are not in one piece")

    times = torch.tensor(temporal_positions(grid_seconds, tokens_per_second))
    video = torch.stack(
        [
            times.view(-1, 1, 1).expand(steps, height, width).reshape(-1),
            torch.arange(height).view(1, -1, 1).expand(steps, height, width).reshape(-1),
            torch.arange(width).view(1, 1, -1).expand(steps, height, width).reshape(-1),
        ]
    )
    before = torch.arange(begin).expand(3, -1)
    video = video + begin
    after = torch.arange(num_tokens - end).expand(3, -1) + int(video.max()) + 1
    return torch.cat([before, video, after], dim=1)
