"""Milliseconds of a decoding step, host waits in it, and whether sampler and trainer agree."""

import inspect
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from on_gpu.machine import copy_rate
from on_gpu.prompts import noise_prompt
from on_gpu.report import Record
from on_gpu.sizes import Sizes, prepared
from one_step.meters import synchronize
from one_step.workload import Preset, make_model
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_processor, vision_token_ids
from videochat_r1.rollout.base import Rollout, SamplingSettings
from videochat_r1.rollout.transformers_engine import TransformersEngine

_SHARPENED = 4.0
"""Random weights give nearly equal logits; real ones reach 15 to 30, where bf16 rounds to eighths."""


def run(record: Record, sizes: Sizes) -> None:
    """See the module; on the preset's whole model."""
    preset = sizes.preset
    with prepared(preset) as folder:
        begin = time.perf_counter()
        model = make_model(folder / "model", preset).eval()
        synchronize()
        record("seconds to make the model", time.perf_counter() - begin)
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        install_shared_prefix(model)
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(_SHARPENED)
        prompt = noise_prompt(folder, preset).to(sizes.device)
        record("prompt tokens", prompt.num_tokens)
        suppressed = vision_token_ids(load_processor(folder / "model"))
    _agreement(record, model, prompt, preset, suppressed)
    text = [each for name, each in model.named_parameters() if "visual" not in name and "embed_tokens" not in name]
    weights = sum(each.numel() * each.element_size() for each in text)
    record("floor of a step, ms: reading the weights at the rate of a copy", weights / copy_rate(sizes) * 1e3)
    for name, options in _engines().items():
        engine = TransformersEngine(model, 0, **options)
        for groups in (1, 4):
            prompts = [prompt] * groups
            record(
                f"ms a step, {name}, {groups} x {preset.generations} rows",
                _step_ms(engine, prompts, preset, suppressed),
            )
        if sizes.device == "cuda":
            record(f"host waits in 16 steps, {name}", _waits(engine, prompt, preset, suppressed))


def _engines() -> dict[str, dict[str, Any]]:
    if "cuda_graph" not in inspect.signature(TransformersEngine.__init__).parameters:
        return {"eager": {}}
    return {"eager": {"cuda_graph": False}, "graph": {"cuda_graph": True}}


def _draw(
    engine: TransformersEngine, prompts: list[PromptInputs], preset: Preset, suppressed: tuple[int, ...], tokens: int
) -> list[list[Rollout]]:
    settings = SamplingSettings(max_new_tokens=tokens, suppressed_token_ids=suppressed)
    seeds = [[1000 * index + row for row in range(preset.generations)] for index in range(len(prompts))]
    return engine.generate(prompts, num_generations=preset.generations, settings=settings, noise_seeds=seeds)


def _step_ms(
    engine: TransformersEngine, prompts: list[PromptInputs], preset: Preset, suppressed: tuple[int, ...]
) -> float:
    """From two lengths, so that prefill does not count."""
    seconds = {}
    for tokens in (8, 8, preset.new_tokens):
        synchronize()
        begin = time.perf_counter()
        _draw(engine, prompts, preset, suppressed, tokens)
        synchronize()
        seconds[tokens] = time.perf_counter() - begin
    return (seconds[preset.new_tokens] - seconds[8]) / max(preset.new_tokens - 8, 1) * 1e3


def _agreement(
    record: Record, model: PreTrainedModel, prompt: PromptInputs, preset: Preset, suppressed: tuple[int, ...]
) -> None:
    (rollouts,) = _draw(TransformersEngine(model, 0), [prompt], preset, suppressed, preset.new_tokens)
    ids = torch.tensor([rollout.completion_ids for rollout in rollouts], device=prompt.input_ids.device)
    sampled = torch.tensor([rollout.logps for rollout in rollouts], device=ids.device)
    for share in (True, False):
        with torch.no_grad():
            values, entropy = completion_logps(
                model,
                [prompt] * len(ids),
                ids,
                torch.ones_like(ids),
                share_prompt=share,
                compute_entropy=True,
                pad_token_id=0,
            )
        assert entropy is not None
        apart = (values.float() - sampled).abs()
        way = "shared" if share else "repeated"
        record(f"sampler - trainer ({way}): mean, largest", f"{float(apart.mean()):.3g}, {float(apart.max()):.3g}")
        record("mean entropy of what was sampled from", float(entropy.float().mean()))


def _waits(
    engine: TransformersEngine, prompt: PromptInputs, preset: Preset, suppressed: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Where the host waited for the device, as torch reports it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            _draw(engine, [prompt], preset, suppressed, 16)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = Counter(
        f"{Path(each.filename).name}:{each.lineno}" for each in caught if "synchroniz" in str(each.message)
    )
    return [{"where": where, "times": times} for where, times in places.most_common()]
