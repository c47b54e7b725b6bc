"""Whole steps of the 7B by phase, its log-probabilities alone, and its vision tower."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from on_gpu.machine import product_rate
from on_gpu.prompts import noise_prompt
from on_gpu.report import Record
from on_gpu.sizes import Sizes, prepared
from one_step.logps import compare_logps, extra_memory
from one_step.meters import seconds_of
from one_step.steps import PHASES, measure_steps
from one_step.workload import Preset, make_model

from videochat_r1.doctor import memory
from videochat_r1.modeling.load import load_config
from videochat_r1.modeling.vision_segments import install_batched_segments


def _step(record: Record, sizes: Sizes, *, way: str) -> None:
    """A way's step: seconds by phase, rates, utilisation, and memory beside the formulas' figure."""
    preset = sizes.preset
    with prepared(preset) as folder:
        step = measure_steps(folder, preset, way)
        seconds = step["seconds"]
        record(
            "prompt tokens, generations, new tokens",
            f"{step['prompt_tokens']}, {preset.generations}, {preset.new_tokens}",
        )
        record("seconds", {phase: round(seconds[phase], 3) for phase in ("total", *PHASES)})
        record("tokens through the language model", step["computed"]["tokens"])
        record("completion tokens a second", preset.generations * preset.new_tokens / seconds["total"])
        record("TFLOP/s, without what checkpointing computes again", step["flops"] / seconds["total"] / 1e12)
        record("share of the measured product rate", step["flops"] / seconds["total"] / product_rate(sizes))
        if step["peak_mib"] is not None:
            record("peak memory, GB", step["peak_mib"] * 2**20 / 1e9)
        if way != "trl":
            record("peak memory by the formulas, GB", _formulas(folder, preset, step["prompt_tokens"], way) / 1e9)


shared = partial(_step, way="shared")
repeated = partial(_step, way="repeated")
trl = partial(_step, way="trl")


def _formulas(folder: Path, preset: Preset, prompt: int, way: str) -> float:
    """Bytes by `doctor.memory`, of bf16 weights, their gradients and a reference; this optimiser has no state."""
    shape = memory.model_shape(load_config(folder / "model"))
    strategy, bf16 = memory.Strategy(0), preset.on_gpu
    width = 2 if bf16 else 4
    rows = 1 if way == "shared" else preset.generations
    completions = preset.generations * preset.new_tokens
    common = {"bf16": bf16, "video_tokens": preset.grid.tokens}
    update = memory.update_bytes(
        shape,
        strategy,
        tokens=prompt + completions / rows,
        rows=rows,
        scored_tokens=completions / rows,
        checkpointing=preset.on_gpu,
        frozen_vision=False,
        trained_head=True,
        **common,
    )
    tokens = prompt + completions
    rollout = memory.rollout_bytes(shape, strategy, tokens=tokens, groups=1, prompt_tokens=prompt, **common)
    return 3 * width * shape.parameters + max(update, rollout)


def log_probabilities(record: Record, sizes: Sizes) -> None:
    """Shared against repeated prompts: seconds, memory, agreement."""
    preset = sizes.preset
    with prepared(preset) as folder:
        for name, value in compare_logps(folder, preset).items():
            record(name, value)
        for way in (True, False):
            found = extra_memory(folder, preset, share=way)
            record(f"extra MiB, {'shared' if way else 'repeated'}", found["mib"])


def tower(record: Record, sizes: Sizes) -> None:
    """Transformers' loop over windows and frames against few calls."""
    preset = sizes.preset
    with prepared(preset) as folder:
        loop = make_model(folder / "model", replace(preset, steps=1)).model.visual.to(sizes.dtype)
        (video,) = noise_prompt(folder, preset).media
    patches, grid = video.patches.to(sizes.device, sizes.dtype), torch.tensor([video.grid])
    batched = copy.deepcopy(loop)
    install_batched_segments(batched)
    record("patches", len(patches))

    def once(which: Any, *, backward: bool) -> torch.Tensor:
        with torch.set_grad_enabled(backward):
            features = which(patches, grid_thw=grid.to(sizes.device)).pooler_output
            if backward:
                features.float().sum().backward()
        return features.detach()

    apart = (once(loop, backward=False).float() - once(batched, backward=False).float()).norm()
    record("features apart, relative", float(apart / once(loop, backward=False).float().norm()))
    for name, which in (("few calls", batched), ("loop", loop)):
        for backward in (False, True):
            what = "forward and backward" if backward else "forward"
            record(f"ms, {what}, {name}", seconds_of(lambda: once(which, backward=backward), 3) * 1e3)  # noqa: B023
