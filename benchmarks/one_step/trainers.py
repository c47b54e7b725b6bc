"""TRL's trainer and this project's, on the same work, with their seconds by phase."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from one_step.meters import synchronize
from one_step.workload import Preset, frame_side, make_model, prompt_builder, the_prompts, the_samples
from PIL import Image
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer

from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.modeling.load import load_processor, vision_token_ids
from videochat_r1.sample import Sample


class Timed:
    """Adds up seconds by phase; put before a trainer class."""

    seconds: defaultdict[str, float]

    @contextmanager
    def _timing(self, phase: str) -> Iterator[None]:
        synchronize()
        begin = time.perf_counter()
        try:
            yield
        finally:
            synchronize()
            self.seconds[phase] += time.perf_counter() - begin


_TIMED_METHODS = {
    "_generate_single_turn": "rollout",
    "_draw": "rollout",
    "_get_per_token_logps_and_entropies": "logps",
    "_prepare_inputs": "inputs",
    "training_step": "training_step",
}
"""Methods of TRL's trainer and of this project's -> what their time is called here. Inputs hold rollout and logps."""


def _timed(name: str, phase: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The same method computes the reference (no gradient) and the policy, whose time is part of the loss.
        label = "policy" if phase == "logps" and torch.is_grad_enabled() else phase
        with self._timing(label):
            return getattr(super(Timed, self), name)(*args, **kwargs)

    return method


for _name, _phase in _TIMED_METHODS.items():
    setattr(Timed, _name, _timed(_name, _phase))


class TimedTRL(Timed, GRPOTrainer):
    """TRL's."""


class TimedVideo(Timed, VideoGRPOTrainer):
    """This project's."""


class AgainAndAgain:
    """The same samples, in their order."""

    def __init__(self, samples: list[Sample], count: int) -> None:
        self._samples = samples * count

    def samples(self, epoch: int) -> list[Sample]:
        """Whatever the epoch."""
        return self._samples


def varied_reward(completions: list[Any], **columns: Any) -> list[float]:
    """Differs between completions, so that every step has a gradient."""
    return [(sum(map(ord, str(completion))) % 97) / 97 for completion in completions]


def common_options(preset: Preset, folder: Path, questions: int) -> dict[str, Any]:
    """What all trainers share; a micro-batch holds so many of a step's questions."""
    return {
        "output_dir": str(folder / "out"),
        "use_cpu": not preset.on_gpu,
        "bf16": preset.on_gpu,
        "gradient_checkpointing": preset.on_gpu,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "optim": "sgd" if preset.on_gpu else "adamw_torch",
        "per_device_train_batch_size": questions * preset.generations,
        "gradient_accumulation_steps": preset.questions // questions,
        "num_generations": preset.generations,
        "max_completion_length": preset.new_tokens,
        "beta": preset.beta,
        "loss_type": "grpo",
        "learning_rate": 1e-6,
        "max_steps": preset.steps + 1,
        "logging_steps": 1000,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
    }


@contextmanager
def references(folder: Path, preset: Preset) -> Iterator[None]:
    """In which a trainer's reference model is made as its policy is, instead of being loaded from where the policy lies."""
    original = grpo_trainer.create_model_from_path
    grpo_trainer.create_model_from_path = lambda *_, **__: make_model(folder / "model", preset)
    try:
        yield
    finally:
        grpo_trainer.create_model_from_path = original


def video_trainer(folder: Path, preset: Preset, *, share_prompt: bool, separate: bool = False) -> TimedVideo:
    """This project's, told never to end a completion early; all questions of a step share a micro-batch."""
    options = common_options(preset, folder, preset.questions)
    builder = prompt_builder(folder, preset)
    with references(folder, preset):
        trainer = TimedVideo(
            make_model(folder / "model", preset),
            args=VideoGRPOConfig(**options, share_prompt=share_prompt, log_rollouts=False),
            processor=builder.processor,
            builder=builder,
            source=AgainAndAgain(the_samples(folder, preset, separate=separate), preset.steps + 2),
            reward_funcs=[varied_reward],
        )
    sampling = trainer._sampling
    never = (*sampling.suppressed_token_ids, *sampling.eos_token_ids)
    trainer._sampling = replace(sampling, suppressed_token_ids=never, eos_token_ids=())
    return trainer


def trl_trainer(folder: Path, preset: Preset) -> TimedTRL:
    """TRL's, a question in each micro-batch, with filler so that its prompts have exactly as many tokens, whatever images add
    around themselves."""
    (num_tokens,) = {prompt.num_tokens for prompt in the_prompts(folder, preset)}
    processor = load_processor(folder / "model")
    side = frame_side(folder, preset)
    processor.image_processor.size = {"shortest_edge": side**2, "longest_edge": side**2}
    builder = prompt_builder(folder, preset)
    frames = builder.frames(the_samples(folder, preset)[0].video).pixels[::2]
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]

    def length(text: str) -> int:
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]
        message = [{"role": "user", "content": content}]
        encoded = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=True, return_dict=True)
        return len(encoded["input_ids"][0])

    # To this tokenizer every digit is a token.
    fillers = [f"a{index}" + "1" * (num_tokens - length("a1")) for index in range(preset.questions)]
    if {length(filler) for filler in fillers} != {num_tokens}:
        raise SystemExit(f"TRL's prompts of {length(fillers[0])} tokens cannot be brought to {num_tokens}")
    rows = [{"prompt": [{"role": "user", "content": filler}], "images": images} for filler in fillers]
    features = Features({"prompt": [{"role": Value("string"), "content": Value("string")}], "images": [ImageFeature()]})
    dataset = Dataset.from_list(rows * (preset.steps + 2), features=features)
    # TRL keeps the image token from being drawn, but not the other vision tokens, which would break the forward.
    forced = {"min_new_tokens": preset.new_tokens, "suppress_tokens": list(vision_token_ids(processor))}
    with references(folder, preset):
        return TimedTRL(
            make_model(folder / "model", preset),
            reward_funcs=[varied_reward],
            args=GRPOConfig(**common_options(preset, folder, 1), generation_kwargs=forced),
            train_dataset=dataset,
            processing_class=processor,
        )
