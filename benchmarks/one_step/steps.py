"""Whole steps of a trainer: seconds by phase, tokens, operations, memory."""

import statistics
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from one_step.meters import peak_memory, synchronize
from one_step.trainers import trl_trainer, video_trainer
from one_step.workload import Preset, the_prompts
from transformers import TrainerCallback

from videochat_r1.doctor import flops
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.load import load_config
from videochat_r1.modeling.media_features import unwrap
from videochat_r1.modeling.sizes import decoder_sizes

WAYS = ("shared", "repeated", "separate", "trl")


def ways_of(preset: Preset) -> tuple[str, ...]:
    """Those that say something about a preset."""
    return tuple(way for way in WAYS if way != ("separate" if preset.questions == 1 else "repeated"))


PHASES = ("decode", "rollout", "logps", "loss", "update")
"""Columns of the table: videos read and preprocessed, and whatever is no other; completions; log-probabilities of the
reference; forward and backward of the policy; optimiser."""


class StepClock(TrainerCallback):
    """Keeps seconds and computed tokens of every step, from the end of the update before it to the end of its own."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._counts: defaultdict[str, int] = defaultdict(int)
        self.first_shape: tuple[int, ...] | None = None
        self.steps: list[dict[str, float]] = []
        self.counts: list[dict[str, int]] = []
        for model in (trainer.model, trainer.ref_model):
            if model is not None:
                inner = unwrap(trainer.accelerator.unwrap_model(model)).model
                inner.language_model.register_forward_pre_hook(self._count_tokens, with_kwargs=True)
                inner.visual.register_forward_pre_hook(self._count_patches, with_kwargs=True)

    def _count_tokens(self, module: Any, args: Any, kwargs: Any) -> None:
        shape = tuple(kwargs["inputs_embeds"].shape[:2])
        self.first_shape = self.first_shape or shape
        self._counts["tokens"] += shape[0] * shape[1]

    def _count_patches(self, module: Any, args: Any, kwargs: Any) -> None:
        self._counts["patches"] += len(args[0] if args else kwargs["hidden_states"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        self._begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the step's figures and start the next."""
        synchronize()
        now = time.perf_counter()
        spent = self._trainer.seconds
        step = {"total": now - self._started, "rollout": spent["rollout"], "logps": spent["logps"]}
        step["loss"] = spent["training_step"] - spent["inputs"]
        step["update"] = now - self._trainer.step_ended
        step["decode"] = step["total"] - sum(step[phase] for phase in PHASES if phase != "decode")
        self.steps.append(step)
        self.counts.append(dict(self._counts))
        self._begin()

    def _begin(self) -> None:
        self._trainer.seconds = defaultdict(float)
        self._counts.clear()
        self._started = time.perf_counter()


def measure_steps(folder: Path, preset: Preset, way: str) -> dict[str, Any]:
    """Seconds by phase, tokens and memory of one way's steps."""
    preset = replace(preset, steps=preset.measured(repeating=way in ("trl", "repeated")))
    if way == "trl":
        trainer: Any = trl_trainer(folder, preset)
    else:
        trainer = video_trainer(folder, preset, share_prompt=way != "repeated", separate=way == "separate")
    trainer.seconds = defaultdict(float)
    training_step = trainer.training_step

    def step(*args: Any, **kwargs: Any) -> Any:
        result = training_step(*args, **kwargs)
        trainer.step_ended = time.perf_counter()
        return result

    trainer.training_step = step
    clock = StepClock(trainer)
    trainer.add_callback(clock)
    with peak_memory(preset) as peak:
        trainer.train()
    prompt_tokens = the_prompts(folder, preset)[0].num_tokens
    if way == "trl" and clock.first_shape != (preset.rows, prompt_tokens):
        raise SystemExit(f"TRL's prompts are {clock.first_shape}, expected {(preset.rows, prompt_tokens)}")
    seconds = {name: statistics.median(step[name] for step in clock.steps[1:]) for name in ("total", *PHASES)}
    phases = phase_flops(folder, preset, prompt_tokens, way)
    computed = clock.counts[-1]
    if way != "trl":
        # Decoding calls the layers themselves, and where it is recorded nothing at all that could count.
        computed["tokens"] += preset.rows * preset.new_tokens
    return {
        "seconds": seconds,
        "computed": computed,
        "peak_extra_mib": peak["mib"],
        "peak_mib": peak.get("whole_mib"),
        "flops": sum(phases.values()),
        "phase_flops": phases,
        "prompt_tokens": prompt_tokens,
    }


def phase_flops(folder: Path, preset: Preset, prompt_tokens: int, way: str) -> dict[str, float]:
    """Operations of a step's phases by the formulas of docs/performance.md, without what checkpointing computes again."""
    config = load_config(folder / "model")
    decoder, generations = decoder_sizes(config), preset.generations
    sizes = (decoder, prompt_tokens, generations, preset.new_tokens)
    video = flops.vision_forward(family_of(config).tower_sizes(config), preset.grid)
    if way == "trl":
        rollout = flops.prefill_repeated(decoder, prompt_tokens, generations) + generations * video
    else:
        rollout = flops.prefill(decoder, prompt_tokens) + video
    if way in ("shared", "separate"):
        forward = flops.logps_shared(*sizes) + video
    else:
        forward = flops.logps_repeated(*sizes) + generations * video
    once = (preset.questions - 1) * (flops.prefill(decoder, preset.grid.tokens) + video) if way == "shared" else 0.0
    forward = preset.questions * forward - once
    return {
        "rollout": preset.questions * (rollout + flops.decode(*sizes)) - once,
        "logps": forward if preset.beta else 0.0,
        "loss": 3 * forward,
    }
