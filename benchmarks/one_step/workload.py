"""What every way computes: sizes, a model with random weights, a video and questions about it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

from videochat_r1.doctor import flops
from videochat_r1.geometry import Span
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES, family_of
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_processor, build_tiny, build_tokenizer
from videochat_r1.sample import Sample, SpanTarget, Video
from videochat_r1.video.frames import VideoBudget


@dataclass(frozen=True)
class Preset:
    """Sizes of one comparison. P prompt tokens follow from frames, side and family.

    Args:
        frames: of the video, two of which make a row of tokens.
        tokens: of a frame's side.
        new_tokens: C.
        steps: measured.
        repeated_steps: of ways that repeat what prompts share, which take minutes; None for as many.
        sizes: arguments of `build_tiny`; unused where `published` is given.
        published: ends of the names of published checkpoints, the first of which in the family gives the model's sizes.
        family: of the model.
        questions: of a step, about one video.
    """

    frames: int
    tokens: int
    new_tokens: int
    steps: int
    sizes: tuple[tuple[str, int], ...] = ()
    published: tuple[str, ...] = ()
    generations: int = 8
    beta: float = 0.04
    device: str = "cpu"
    family: str = DEFAULT_FAMILY
    questions: int = 1
    repeated_steps: int | None = None

    @property
    def on_gpu(self) -> bool:
        """bf16, gradient checkpointing, and an optimiser without state, whose moments one GPU could not hold."""
        return self.device != "cpu"

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and computation."""
        return torch.bfloat16 if self.on_gpu else torch.float32

    @property
    def rows(self) -> int:
        """Completions of a step."""
        return self.questions * self.generations

    def measured(self, *, repeating: bool) -> int:
        """Steps of a way."""
        return self.repeated_steps if repeating and self.repeated_steps is not None else self.steps

    @property
    def grid(self) -> flops.VideoGrid:
        """The video in tokens."""
        return flops.VideoGrid(self.frames // 2, self.tokens, self.tokens)


_SIX_MILLION = (("hidden", 256), ("layers", 6), ("vision_hidden", 128), ("vision_layers", 4))
PRESETS = {
    "cpu_short": Preset(frames=16, tokens=8, new_tokens=64, steps=5, sizes=_SIX_MILLION),
    "cpu_long": Preset(frames=64, tokens=11, new_tokens=200, steps=3, sizes=_SIX_MILLION, repeated_steps=1),
    "cpu_questions": Preset(
        frames=32, tokens=11, new_tokens=32, steps=3, sizes=_SIX_MILLION, questions=4, repeated_steps=1
    ),
    "gpu_7b": Preset(frames=64, tokens=11, new_tokens=200, steps=3, published=("-7B", "-8B"), device="cuda"),
    "debug": Preset(frames=4, tokens=4, new_tokens=6, steps=1, sizes=(("hidden", 64), ("layers", 2)), generations=3),
    "debug_questions": Preset(
        frames=4, tokens=4, new_tokens=6, steps=1, sizes=(("hidden", 64), ("layers", 2)), generations=3, questions=2
    ),
}
"""`debug` and `debug_questions` say nothing: they only try everything, on the smallest sizes."""


def build_model(path: Path, preset: Preset) -> None:
    """Save a model with random weights, the same for the same preset, and its processor; of a published size without weights."""
    if not preset.published:
        build_tiny(path, family=preset.family, **dict(preset.sizes))  # type: ignore[arg-type]
        return
    processor = build_processor(build_tokenizer(), preset.family)
    config = published_sizes(preset)
    tokens = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    tokens |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    for name, token in tokens.items():
        setattr(config, name, processor.tokenizer.convert_tokens_to_ids(token))
    config.save_pretrained(path)
    ids = {"eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    GenerationConfig(**ids).save_pretrained(path)
    processor.save_pretrained(path)


def published_sizes(preset: Preset) -> PretrainedConfig:
    """The config of the preset's published checkpoint."""
    family = FAMILIES[preset.family]
    name = next((name for name in family.published if name.endswith(preset.published)), None)
    if name is None:
        raise SystemExit(f"{preset.family} has no published checkpoint of the preset's size")
    return family.published_config(name)


def make_model(path: Path, preset: Preset) -> PreTrainedModel:
    """The folder's model; of a published size with random weights made on the device, which takes seconds and no disk."""
    if not preset.published:
        return load_model(path, dtype=preset.dtype).to(preset.device)
    config = load_config(path)
    model = random_model(config, preset.dtype, preset.device)
    model.config._name_or_path = str(path)
    model.generation_config = GenerationConfig.from_pretrained(path)
    return model


def random_model(config: PretrainedConfig, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """A model made on the device, the same for the same config."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model: PreTrainedModel = family_of(config).model_class(config)
    finally:
        torch.set_default_dtype(before)
    return model


def write_video(path: Path, preset: Preset, side: int, *, seed: int = 0) -> None:
    """A video of exactly the preset's frames of that side, two a second."""
    generator = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(2))
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for _ in range(preset.frames):
            small = generator.integers(0, 255, (14, 14, 3), dtype=np.uint8)
            picture = np.asarray(Image.fromarray(small).resize((side, side)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def prepare(folder: Path, preset: Preset) -> None:
    """Write model and videos into the folder, once for all measurements: one for each question, if it is asked for itself."""
    build_model(folder / "model", preset)
    for index in range(preset.questions):
        write_video(_video(folder, index), preset, frame_side(folder, preset), seed=index)


def _video(folder: Path, index: int) -> Path:
    return folder / f"video_{index}.mp4"


def frame_side(folder: Path, preset: Preset) -> int:
    """Pixels of a frame's side."""
    config = load_config(folder / "model")
    return preset.tokens * FAMILIES[preset.family].token_side(config)


def the_samples(folder: Path, preset: Preset, *, separate: bool = False) -> list[Sample]:
    """The questions of a step, about one video, or each about a video of its own. All have equally many tokens."""
    duration = preset.frames / 2
    target = SpanTarget(Span(0.5, duration / 2), duration)
    return [
        Sample(
            f"bench{index}",
            "temporal_grounding",
            Video(path=str(_video(folder, index if separate else 0))),
            # To this tokenizer every digit is a token.
            "the square is red" + (f" {index}" if preset.questions > 1 else ""),
            target,
            duration,
        )
        for index in range(preset.questions)
    ]


def prompt_builder(folder: Path, preset: Preset) -> PromptBuilder:
    """For a question of a few words, and as many digits as TRL's prompt has tokens around its images."""
    template = "{query}? " + "1" * preset.frames
    processor, config = load_processor(folder / "model"), load_config(folder / "model")
    return PromptBuilder(processor, config, budget(folder, preset), templates={"temporal_grounding": template})


def the_prompts(folder: Path, preset: Preset) -> list[PromptInputs]:
    """These questions about one video as the model gets them."""
    return prompt_builder(folder, preset).build_together(the_samples(folder, preset))


def budget(folder: Path, preset: Preset) -> VideoBudget:
    """Frames as they are in the file."""
    area = frame_side(folder, preset) ** 2
    return VideoBudget(fps=2.0, max_frames=preset.frames, min_pixels=area, max_pixels=area, total_pixels=area * 1000)
