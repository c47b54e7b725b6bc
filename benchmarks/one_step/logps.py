"""Log-probabilities alone, shared against repeated: seconds, memory, and that they agree."""

import statistics
import time
from collections import defaultdict
from pathlib import Path

import torch
from one_step.meters import peak_memory, synchronize
from one_step.workload import Preset, make_model, the_prompt
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix
from videochat_r1.modeling.inputs import PromptInputs


def logp_inputs(folder: Path, preset: Preset) -> tuple[PreTrainedModel, PromptInputs, torch.Tensor]:
    """A model with fused head, a prompt and random completions."""
    policy = make_model(folder / "model", preset)
    add_fused_lm_head(policy, outputs=("log_probs", "entropy"))
    install_shared_prefix(policy)
    if preset.on_gpu:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
        policy.train()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 200, (preset.generations, preset.new_tokens), generator=generator).to(preset.device)
    return policy, the_prompt(folder, preset).to(preset.device), ids


def logps(policy: PreTrainedModel, prompt: PromptInputs, ids: torch.Tensor, *, share: bool) -> torch.Tensor:
    """(G, C) by one forward."""
    rows = ([prompt] * len(ids), ids, torch.ones_like(ids))
    return completion_logps(policy, *rows, share_prompt=share, compute_entropy=False, pad_token_id=0)[0]


def backward(policy: PreTrainedModel, values: torch.Tensor) -> None:
    """Gradients of a loss with a weight of its own for each row."""
    policy.zero_grad()
    weights = torch.linspace(-1.0, 1.0, len(values), device=values.device)
    (values * weights[:, None]).mean().backward()


def gradients(policy: PreTrainedModel) -> list[torch.Tensor]:
    """Copies of them."""
    return [p.grad.clone() for p in policy.parameters() if p.grad is not None]


def relative_difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """Norm of the difference over norm of the second."""
    apart = sum(
        float((a.float() - b.float()).pow(2).sum(dtype=torch.float64)) for a, b in zip(ours, theirs, strict=True)
    )
    return (apart / sum(float(b.float().pow(2).sum(dtype=torch.float64)) for b in theirs)) ** 0.5


def compare_logps(folder: Path, preset: Preset) -> dict[str, float]:
    """Times and largest differences of shared against repeated log-probabilities."""
    policy, prompt, ids = logp_inputs(folder, preset)
    values: dict[bool, torch.Tensor] = {}
    found: dict[bool, list[torch.Tensor]] = {}
    seconds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for round_number in range(1 + preset.steps):
        for share in (True, False):
            begin = time.perf_counter()
            result = logps(policy, prompt, ids, share=share)
            backward(policy, result)
            synchronize()
            both = time.perf_counter() - begin
            if round_number == 0:
                values[share], found[share] = result.detach(), gradients(policy)
            del result
            begin = time.perf_counter()
            with torch.no_grad():
                logps(policy, prompt, ids, share=share)
            synchronize()
            if round_number:
                seconds["fwd_bwd", share].append(both)
                seconds["fwd", share].append(time.perf_counter() - begin)
    median = {key: statistics.median(times) for key, times in seconds.items()}
    return {
        "logp_fwd_bwd": median["fwd_bwd", False] / median["fwd_bwd", True],
        "logp_fwd": median["fwd", False] / median["fwd", True],
        "seconds_fwd_bwd_repeated": median["fwd_bwd", False],
        "seconds_fwd_bwd_shared": median["fwd_bwd", True],
        "seconds_fwd_repeated": median["fwd", False],
        "seconds_fwd_shared": median["fwd", True],
        "max_logp_difference": float((values[True] - values[False]).abs().max()),
        "relative_gradient_difference": relative_difference(found[True], found[False]),
    }


def extra_memory(folder: Path, preset: Preset, *, share: bool) -> dict[str, float]:
    """MiB that one forward and backward needs beyond weights and gradients."""
    policy, prompt, ids = logp_inputs(folder, preset)
    backward(policy, logps(policy, prompt, ids[:1, :2], share=share))  # buffers that stay, gradients among them
    with peak_memory(preset) as peak:
        policy.zero_grad(set_to_none=False)
        values = logps(policy, prompt, ids, share=share)
        weights = torch.linspace(-1.0, 1.0, len(values), device=values.device)
        (values * weights[:, None]).mean().backward()
    return peak
