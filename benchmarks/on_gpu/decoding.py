"""Milliseconds of a decoding step, host waits in it, and whether sampler and trainer agree."""

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
    sampled = _same_tokens(record, model, prompt, preset, suppressed)
    _agreement(record, model, prompt, sampled)
    text = [each for name, each in model.named_parameters() if "visual" not in name and "embed_tokens" not in name]
    weights = sum(each.numel() * each.element_size() for each in text)
    record("floor of a step, ms: reading the weights at the rate of a copy", weights / copy_rate(sizes) * 1e3)
    for name, graph in (("kernels one by one", False), ("recorded", True)):
        engine = TransformersEngine(model, 0, cuda_graph=graph)
        for groups in (1, 4):
            prompts = [prompt] * groups
            record(
                f"ms a step, {name}, {groups} x {preset.generations} rows",
                _step_ms(engine, prompts, preset, suppressed),
            )
        if sizes.device == "cuda":
            record(f"host waits in 16 steps, {name}", _waits(engine, prompt, preset, suppressed))
    _against_exact(record, model, prompt, sampled)


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


def _same_tokens(
    record: Record, model: PreTrainedModel, prompt: PromptInputs, preset: Preset, suppressed: tuple[int, ...]
) -> list[Rollout]:
    """What is drawn, which has to be the same whether steps are recorded or not."""
    drawn = [
        _draw(TransformersEngine(model, 0, cuda_graph=graph), [prompt], preset, suppressed, preset.new_tokens)[0]
        for graph in (False, True)
    ]
    rows = [[len(rollout.completion_ids) for rollout in drawn[0]]]
    same = [one.completion_ids == other.completion_ids for one, other in zip(*drawn, strict=True)]
    record("rollouts that are the same recorded and not", f"{sum(same)} of {len(same)}, tokens {rows[0]}")
    return drawn[0]


def _ids(rollouts: list[Rollout], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([rollout.completion_ids for rollout in rollouts], device=device)
    return ids, torch.tensor([rollout.logps for rollout in rollouts], device=device)


def _values(
    model: PreTrainedModel, prompt: PromptInputs, ids: torch.Tensor, *, share: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = ([prompt] * len(ids), ids, torch.ones_like(ids))
    with torch.no_grad():
        values, entropy = completion_logps(model, *rows, share_prompt=share, compute_entropy=True, pad_token_id=0)
    assert entropy is not None
    return values.float(), entropy.float()


def _agreement(record: Record, model: PreTrainedModel, prompt: PromptInputs, rollouts: list[Rollout]) -> None:
    ids, sampled = _ids(rollouts, model.device)
    for way, share in (("shared", True), ("repeated", False)):
        values, entropy = _values(model, prompt, ids, share=share)
        record(f"sampler - trainer, {way}: mean, largest", _mean_and_largest(values - sampled))
        record("mean entropy of what was sampled from", float(entropy.mean()))


def _against_exact(record: Record, model: PreTrainedModel, prompt: PromptInputs, rollouts: list[Rollout]) -> None:
    """All of them against fp32: what of their difference is rounding. Turns the model into fp32."""
    ids, sampled = _ids(rollouts, model.device)
    found = {way: _values(model, prompt, ids, share=way == "shared")[0] for way in ("shared", "repeated")}
    torch.backends.cuda.matmul.allow_tf32 = False
    exact, _ = _values(model.float(), prompt, ids, share=True)
    for way, values in {"sampler": sampled, **found}.items():
        record(f"{way} - fp32: mean, largest", _mean_and_largest(values - exact))


def _mean_and_largest(difference: torch.Tensor) -> str:
    return f"{float(difference.abs().mean()):.3g}, {float(difference.abs().max()):.3g}"


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
