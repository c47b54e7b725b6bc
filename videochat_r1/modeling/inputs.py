"""Model inputs of one prompt: the one object that rollout, policy, old policy, reference and evaluation all take."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, eq=False)
class PromptInputs:
    """A prompt with its video, ready for the model. Letters: P prompt tokens, N vision patches before merging.

    Args:
        input_ids: (P,) long, video placeholders expanded to one per merged patch.
        position_ids: (3, P) long, M-RoPE positions (time, height, width) from the true timestamps.
        pixel_values_videos: (N, patch values) float, or None for a prompt without video.
        video_grid_thw: (1, 3) long: temporal, vertical and horizontal patches; None without video.
        second_per_grid_ts: seconds between two temporal grid steps; None without video.
        text: the rendered prompt, placeholders not expanded, for logs and engines that expand by themselves.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    pixel_values_videos: torch.Tensor | None
    video_grid_thw: torch.Tensor | None
    second_per_grid_ts: float | None
    text: str

    @property
    def num_tokens(self) -> int:
        """P."""
        return int(self.input_ids.shape[0])

    @property
    def next_position(self) -> int:
        """Position, on all three axes, of the first completion token: 1 + the maximum over all axes."""
        return int(self.position_ids.max()) + 1

    def to(self, device: torch.device | str) -> "PromptInputs":
        """The same inputs on another device."""

        def move(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return PromptInputs(
            input_ids=self.input_ids.to(device, non_blocking=True),
            position_ids=self.position_ids.to(device, non_blocking=True),
            pixel_values_videos=move(self.pixel_values_videos),
            video_grid_thw=move(self.video_grid_thw),
            second_per_grid_ts=self.second_per_grid_ts,
            text=self.text,
        )
