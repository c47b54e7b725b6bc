"""Prompts about noise, without a video file."""

from pathlib import Path

import torch
from one_step.workload import Preset, frame_side, prompt_builder

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.video.frames import Frames
from videochat_r1.video.probe import VideoInfo


def noise_prompt(folder: Path, preset: Preset, seed: int = 0) -> PromptInputs:
    """A question about frames of noise, of the preset's sizes."""
    side = frame_side(folder, preset)
    builder = prompt_builder(folder, preset)
    generator = torch.Generator().manual_seed(seed)
    frames = Frames(
        pixels=torch.randint(0, 256, (preset.frames, 3, side, side), generator=generator, dtype=torch.uint8),
        timestamps=tuple(index / 2 for index in range(preset.frames)),
        source=VideoInfo(preset.frames / 2, preset.frames, 2.0, side, side),
        sample_fps=2.0,
        num_frames=preset.frames,
    )
    return builder.from_frames(frames, builder.render_text(f"What happens in video {seed}, and when?"))
