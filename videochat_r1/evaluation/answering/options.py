"""What a benchmark run depends on: model, prompt, video sampling, decoding; as options and as the record of them."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.answering.clue_options import clue_options
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.load import load_config
from videochat_r1.modeling.prompts import Layout
from videochat_r1.rollout.base import SamplingSettings
from videochat_r1.rollout.sampling import check_settings
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.video.frames import VideoBudget
from videochat_r1.video.stills import PictureBudget

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")
_FINGERPRINT_BLOCKS, _BLOCK_BYTES = 16, 1 << 16
# How the work is done, not what comes out.
_WORK_FIELDS = ("batch_size", "workers", "device", "retry_failed")
_WORK_VIDEO_FIELDS = ("timeout_seconds", "num_threads", "isolation")
_NOT_IDENTITY = ("annotations", "videos", "durations", "bootstrap", "bootstrap_seed", "train_annotations", "judge")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the model sees and how it answers. The last four fields are about the work and have no influence on answers.

    Args:
        model: folder, or hub name.
        model_family: its family's name; None for the known one of its `model_type`.
        adapter: folder of a LoRA adapter to merge into it; None for none.
        engine: transformers or vllm.
        dtype: bfloat16, float16 or float32; None for bfloat16 on a GPU and float32 elsewhere.
        attn_implementation: of the vision tower and of prompts.
        thinking: whether prompts ask for `<think>`.
        prompt_layout: video_first or text_first.
        prompt: template that replaces the task's own.
        max_prompt_length: longer prompts get a smaller video; None for no limit.
        video: how videos are sampled and sized.
        picture: how large pictures are shown.
        clue_perception: how to look again at the clues of an answer; None for one pass.
        max_new_tokens: longest completion.
        temperature: 0 is greedy.
        top_p: this and the next three: see `SamplingSettings`.
        seed: of the sampling noise.
        batch_size: prompts answered together.
        workers: processes that read videos ahead.
        device: None for this process's GPU, else the CPU.
        retry_failed: ask again where an earlier run could draw no answer.

    Raises:
        ConfigError: a value out of range.
    """

    model: str
    model_family: str | None = None
    adapter: str | None = None
    engine: str = "transformers"
    dtype: str | None = None
    attn_implementation: str = "sdpa"
    thinking: bool = False
    prompt_layout: Layout = "video_first"
    prompt: str | None = None
    max_prompt_length: int | None = None
    video: VideoBudget = dataclasses.field(default_factory=VideoBudget)
    picture: PictureBudget = dataclasses.field(default_factory=PictureBudget)
    clue_perception: ClueOptions | None = None
    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    batch_size: int = 8
    workers: int = 1
    device: str | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise ConfigError(
                f"batch_size is {self.batch_size}, expected at least 1; workers {self.workers}, at least 0"
            )
        # Here, and not only once the model is loaded and a folder begun.
        check_settings(self.sampling((), ()), vocabulary_size=1)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RunOptions":
        """From the command's arguments, by their names."""
        names = ("fps", "min_frames", "max_frames", "total_pixels", "min_pixels", "max_pixels")
        budget = {name: values[name] for name in names}
        video = VideoBudget(**budget, backend=values["video_backend"], timeout_seconds=values["video_timeout"])
        picture = PictureBudget(values["picture_min_pixels"], values["picture_max_pixels"])
        made: dict[str, Any] = {"video": video, "picture": picture, "clue_perception": clue_options(values)}
        own = {field.name: values[field.name] for field in dataclasses.fields(cls) if field.name not in made}
        return cls(**own, **made)

    def sampling(self, eos: Iterable[int], suppressed: Sequence[int]) -> SamplingSettings:
        """Every field explicit, so that the checkpoint's generation_config has no say."""
        return SamplingSettings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            eos_token_ids=tuple(eos),
            suppressed_token_ids=tuple(suppressed),
        )

    def noise_seeds(self, sample_id: str) -> list[int]:
        """The noise of one sample's completion: the same in every batch and shard."""
        digest = hashlib.sha256(f"{self.seed}/{sample_id}".encode()).digest()
        return [int.from_bytes(digest[:8], "big") >> 1]

    def config(self) -> PretrainedConfig:
        """The model's; its family is known from then on, also one from outside. Raises ConfigError, see `load_config`."""
        return load_config(self.model, self.model_family)

    def settings(self, device: torch.device) -> dict[str, Any]:
        """What answers depend on, as JSON; the video's limits as the model's tokens make them."""
        config = self.config()
        fields = asdict(replace(self, video=self.video.sized(family_of(config).token_side(config))))
        for name in _WORK_FIELDS:
            del fields[name]
        for name in _WORK_VIDEO_FIELDS:
            fields["video"].pop(name, None)
        folder = Path(self.model)
        return {
            **fields,
            "picture": self.picture.stated(),
            "model": str(folder.resolve()) if folder.is_dir() else self.model,
            "checkpoint": folder.name,
            "weights": weights_fingerprint(folder),
            "adapter_weights": None if self.adapter is None else weights_fingerprint(Path(self.adapter)),
            "dtype": str(self.torch_dtype(device)).removeprefix("torch."),
        }

    def torch_dtype(self, device: torch.device) -> torch.dtype:
        """What the model computes in on that device."""
        dtype = getattr(torch, self.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
        assert isinstance(dtype, torch.dtype)
        return dtype


def identity(settings: Mapping[str, Any]) -> list[str]:
    """The names of the settings that all answers in a folder share: files are known by their contents, not by their place."""
    return [name for name in settings if name not in _NOT_IDENTITY]


def weights_fingerprint(folder: Path) -> str | None:
    """SHA-256 over the config and over samples of every weight file; None for what is no local folder.

    16 blocks of 64 KiB per file tell checkpoints of one run apart in milliseconds; hashing 15 GB would take minutes.
    """
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.name in ("config.json", "adapter_config.json"):
            digest.update(file.read_bytes())
        elif file.suffix in _WEIGHT_SUFFIXES and file.is_file():
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as stream:
                for block in range(_FINGERPRINT_BLOCKS):
                    stream.seek(max(0, size - _BLOCK_BYTES) * block // (_FINGERPRINT_BLOCKS - 1))
                    digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()
