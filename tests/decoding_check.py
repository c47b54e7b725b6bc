"""Rollouts of a device against plain generation and the trainer, and recorded against unrecorded steps.

    python -m tests.decoding_check [--device cuda]

prints a line per family and precision, and needs neither pytest nor files.
"""

import argparse
import copy
from dataclasses import replace
from typing import Any

import torch
from trl.trainer.utils import add_fused_lm_head

from tests.tiny_prompts import PAD, make_model, make_prompt, plain_arguments
from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout.base import Rollout, SamplingSettings
from videochat_r1.rollout.transformers_engine import TransformersEngine

TEMPERATURE = 0.8
ROWS = 4
LIMIT = 90


def sampling(model: Any, **changes: Any) -> SamplingSettings:
    """Everything that a step can do; vision tokens cannot be drawn."""
    names = ("video_token_id", "image_token_id", "vision_start_token_id", "vision_end_token_id")
    settings = SamplingSettings(
        LIMIT, temperature=TEMPERATURE, top_k=200, top_p=0.99, repetition_penalty=1.1,
        eos_token_ids=tuple(range(100, 112)), suppressed_token_ids=tuple(getattr(model.config, name) for name in names),
    )  # fmt: skip
    return replace(settings, **changes)


def differences(family: str, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Shares of tokens that differ, and largest gaps of log-probabilities, by what was compared with what."""
    model = make_model(family, tied=False)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    model = model.to(device, dtype)
    plain = copy.deepcopy(model)
    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    install_shared_prefix(model)
    prompts = [
        make_prompt(model, seed, grid, 0.7, num_text).to(device)
        for seed, grid, num_text in ((1, (4, 4, 6), 9), (2, (4, 4, 6), 13), (3, (2, 4, 4), 9))
    ]
    noise = [[1000 * i + g for g in range(ROWS)] for i in range(len(prompts))]

    def drawn(graph: bool, settings: SamplingSettings) -> list[Rollout]:
        engine = TransformersEngine(model, PAD, cuda_graph=graph)
        groups = engine.generate(prompts, num_generations=ROWS, settings=settings, noise_seeds=noise)
        return [rollout for group in groups for rollout in group]

    settings = sampling(model)
    eager, recorded = drawn(False, settings), drawn(True, settings)
    greedy = drawn(True, replace(settings, temperature=0.0, eos_token_ids=()))
    generated = [tokens for prompt in prompts for tokens in [_generated(plain, prompt)] * ROWS]
    return {
        "recorded tokens": _share_apart(
            [row.completion_ids for row in eager], [row.completion_ids for row in recorded]
        ),
        "recorded log-probabilities": max(
            abs(ours - theirs)
            for one, other in zip(eager, recorded, strict=True)
            for ours, theirs in zip(one.logps, other.logps, strict=False)
        ),
        "generated tokens": _share_apart([row.completion_ids for row in greedy], generated),
        "the trainer's log-probabilities": _gap_to_trainer(model, prompts, recorded),
        "lengths": float(len({len(row.completion_ids) for row in eager})),
    }


def _share_apart(ours: list[list[int]], theirs: list[list[int]]) -> float:
    """Of tokens; what follows a token that differs counts as different, so ends do too."""
    same = total = 0
    for one, other in zip(ours, theirs, strict=True):
        pairs = [a == b for a, b in zip(one, other, strict=False)]
        same += [*pairs, False].index(False)
        total += max(len(one), len(other))
    return 1 - same / total


def _generated(model: Any, prompt: PromptInputs) -> list[int]:
    settings = sampling(model)
    tokens: list[int] = model.generate(
        input_ids=prompt.input_ids[None].to(model.device),
        position_ids=prompt.position_ids[:, None].to(model.device),
        **{name: value.to(model.device) for name, value in plain_arguments([prompt]).items()},
        repetition_penalty=settings.repetition_penalty,
        suppress_tokens=list(settings.suppressed_token_ids),
        max_new_tokens=LIMIT,
        do_sample=False,
        eos_token_id=None,
    )[0, prompt.num_tokens :].tolist()
    return tokens


def _gap_to_trainer(model: Any, prompts: list[PromptInputs], rollouts: list[Rollout]) -> float:
    width = max(len(rollout.completion_ids) for rollout in rollouts)
    device = model.device
    ids, mask = (torch.zeros(len(rollouts), width, dtype=torch.long) for _ in range(2))
    sampled = torch.zeros(len(rollouts), width)
    for row, rollout in enumerate(rollouts):
        size = len(rollout.completion_ids)
        ids[row, :size], mask[row, :size] = torch.tensor(rollout.completion_ids), 1
        sampled[row, :size] = torch.tensor(rollout.logps)
    with torch.no_grad():
        logps, _ = completion_logps(
            model, [prompt for prompt in prompts for _ in range(ROWS)], ids.to(device), mask.to(device),
            share_prompt=True, compute_entropy=False, pad_token_id=PAD,
        )  # fmt: skip
    return float(((logps.cpu().float() - sampled) * mask).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    for family in FAMILIES:
        for dtype in (torch.float32, torch.bfloat16):
            found = differences(family, dtype, device)
            print(family, dtype, ", ".join(f"{name} {value:.2g}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
