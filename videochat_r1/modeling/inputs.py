"""Model inputs of one prompt: the one object that rollout, policy, old policy, reference and evaluation all take."""

from dataclasses import dataclass, replace

import torch

from videochat_r1.modeling.literal_text import readable


@dataclass(frozen=True, slots=True, eq=False)
class PromptInputs:
    """A prompt with its video, ready for the model. Letters: P prompt tokens, N vision patches before merging.

    Args:
        input_ids: (P,) long, video placeholders expanded to one per merged patch.
        position_ids: (3, P) long, M-RoPE positions (time, height, width) from the true timestamps.
        pixel_values_videos: (N, patch values) float, or None for a prompt without video.
        video_grid_thw: (1, 3) long, on the host: temporal, vertical and horizontal patches; None without video.
        second_per_grid_ts: seconds between two temporal grid steps; None without video.
        rendered: the prompt as marked text (`LiteralText`), placeholders not expanded, to be built again for other frames.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    pixel_values_videos: torch.Tensor | None
    video_grid_thw: torch.Tensor | None
    second_per_grid_ts: float | None
    rendered: str

    @property
    def text(self) -> str:
        """The prompt as a person would read it, for logs."""
        return readable(self.rendered)

    @property
    def num_tokens(self) -> int:
        """P."""
        return int(self.input_ids.shape[0])

    @property
    def next_position(self) -> int:
        """Position, on all three axes, of the first completion token: 1 + the maximum over all axes."""
        return int(self.position_ids.max()) + 1

    def to(self, device: torch.device | str) -> "PromptInputs":
        """The same inputs on another device; the grid stays where it is, as only the host reads it.

        Copies to the host are waited for, because what takes them reads them at once.
        """
        non_blocking = torch.device(device).type != "cpu"

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return replace(
            self,
            input_ids=move(self.input_ids),
            position_ids=move(self.position_ids),
            pixel_values_videos=None if self.pixel_values_videos is None else move(self.pixel_values_videos),
        )
