"""Layers of full width in bf16: shared and repeated prompts, each against fp32.

The rule: what sharing adds to the error of bf16 may be at most half of it.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from on_gpu.prompts import noise_prompt
from on_gpu.report import Record
from on_gpu.sizes import Sizes, prepared
from one_step.logps import backward, logps
from one_step.workload import Preset, published_sizes, random_model
from transformers import PretrainedConfig, PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from videochat_r1.grpo.shared_prefix import install_shared_prefix
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_config

_LARGEST_RATIO = 1.5


def run(record: Record, sizes: Sizes) -> None:
    """See the module; every family, at the 7B's (8B's) width."""
    torch.backends.cuda.matmul.allow_tf32 = False
    wrong = []
    for family in FAMILIES:
        preset = replace(sizes.preset, family=family, frames=16 if sizes.preset.published else 4)
        with prepared(preset) as folder:
            found = _errors(folder, preset, sizes)
        record(family, found)
        wrong += [f"{family} {row['what']}" for row in found if not row["ratio"] <= _LARGEST_RATIO]
    record("wrong", wrong)


def _errors(folder: Path, preset: Preset, sizes: Sizes) -> list[dict[str, Any]]:
    config = load_config(folder / "model")
    if preset.published:
        config = _shortened(published_sizes(preset), config, sizes.layers)
    prompt = noise_prompt(folder, preset).to(sizes.device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 200, (preset.generations, preset.new_tokens), generator=generator).to(sizes.device)
    exact = _model(config, torch.float32, sizes.device)
    right = _values_and_gradients(exact, prompt, ids, share=False)
    half = _model(config, sizes.dtype, sizes.device)
    half.load_state_dict(exact.state_dict())
    errors = {}
    for share in (False, True):
        found = _values_and_gradients(half, prompt, ids, share=share)
        errors[share] = {
            "mean of log-probabilities": float((found[0] - right[0]).abs().mean()),
            "largest of log-probabilities": float((found[0] - right[0]).abs().max()),
            "norm of gradients": _apart(found[1], right[1]),
        }
    return [
        {
            "what": what,
            "repeated": errors[False][what],
            "shared": errors[True][what],
            "ratio": errors[True][what] / errors[False][what],
        }
        for what in errors[True]
        if not what.startswith("largest")
    ]


def _shortened(config: PretrainedConfig, ids: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The published sizes with a few layers, and the token ids of the folder's config."""
    config.vision_config.depth = layers
    config.text_config.num_hidden_layers = layers + 1  # more than levels of DeepStack
    if getattr(config.text_config, "layer_types", None):
        config.text_config.layer_types = config.text_config.layer_types[: layers + 1]
    if hasattr(config.vision_config, "fullatt_block_indexes"):
        config.vision_config.fullatt_block_indexes = [layers - 1]
    if hasattr(config.vision_config, "deepstack_visual_indexes"):
        config.vision_config.deepstack_visual_indexes = list(range(layers))
    for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        setattr(config, name, getattr(ids, name))
    return config


def _model(config: PretrainedConfig, dtype: torch.dtype, device: str) -> PreTrainedModel:
    # Preparing a model for sharing writes into its config.
    model = random_model(copy.deepcopy(config), dtype, device)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    install_shared_prefix(model)
    return model


def _values_and_gradients(
    model: PreTrainedModel, prompt: PromptInputs, ids: torch.Tensor, *, share: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    values = logps(model, [prompt] * len(ids), ids, share=share)
    backward(model, values)
    gradients = {name: each.grad.detach().clone() for name, each in model.named_parameters() if each.grad is not None}
    return values.detach().float(), gradients


def _apart(ours: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    difference = sum(float((ours[name].float() - grad).pow(2).sum(dtype=torch.float64)) for name, grad in right.items())
    return float((difference / sum(float(grad.pow(2).sum(dtype=torch.float64)) for grad in right.values())) ** 0.5)
