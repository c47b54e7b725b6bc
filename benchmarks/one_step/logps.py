"""Log-probabilities alone, shared against repeated: seconds, memory, and that they agree."""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from one_step.meters import peak_memory, synchronize
from one_step.workload import Preset, make_model, the_prompts
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix
from videochat_r1.modeling.inputs import PromptInputs, on_device


def logp_inputs(folder: Path, preset: Preset) -> tuple[PreTrainedModel, list[PromptInputs], torch.Tensor]:
    """A model with fused head, the prompt of each row and random completions."""
    policy = make_model(folder / "model", preset)
    add_fused_lm_head(policy, outputs=("log_probs", "entropy"))
    install_shared_prefix(policy)
    if preset.on_gpu:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
        policy.train()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 200, (preset.rows, preset.new_tokens), generator=generator).to(preset.device)
    prompts = on_device(the_prompts(folder, preset), preset.device)
    return policy, [prompt for prompt in prompts for _ in range(preset.generations)], ids


def logps(policy: PreTrainedModel, prompts: Sequence[PromptInputs], ids: torch.Tensor, *, share: bool) -> torch.Tensor:
    """(B, C) by one forward."""
    rows = (prompts, ids, torch.ones_like(ids))
    return completion_logps(policy, *rows, share_prompt=share, compute_entropy=False, pad_token_id=0)[0]


def parts_of(prompts: Sequence[PromptInputs], *, share: bool) -> list[slice]:
    """The rows of each forward: all where prompts are shared, else those of one question, as memory would not hold more."""
    size = len(prompts) if share else sum(prompt is prompts[0] for prompt in prompts)
    return [slice(begin, begin + size) for begin in range(0, len(prompts), size)]


def forward(
    policy: PreTrainedModel, prompts: Sequence[PromptInputs], ids: torch.Tensor, *, share: bool, train: bool = False
) -> torch.Tensor:
    """(B, C) of all rows; with `train` also the gradients of a loss with a weight of its own for each row."""
    values = []
    policy.zero_grad(set_to_none=False)
    for part in parts_of(prompts, share=share):
        found = logps(policy, prompts[part], ids[part], share=share)
        if train:
            weights = torch.linspace(-1.0, 1.0, len(ids), device=found.device)[part]
            ((found * weights[:, None]).sum() / ids.numel()).backward()
        values.append(found.detach())
    return torch.cat(values)


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
    policy, prompts, ids = logp_inputs(folder, preset)
    values: dict[bool, torch.Tensor] = {}
    found: dict[bool, list[torch.Tensor]] = {}
    seconds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for round_number in range(1 + preset.measured(repeating=True)):
        for share in (True, False):
            begin = time.perf_counter()
            result = forward(policy, prompts, ids, share=share, train=True)
            synchronize()
            both = time.perf_counter() - begin
            if round_number == 0:
                values[share], found[share] = result, gradients(policy)
            begin = time.perf_counter()
            with torch.no_grad():
                forward(policy, prompts, ids, share=share)
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
    policy, prompts, ids = logp_inputs(folder, preset)
    backward(policy, logps(policy, prompts[:1], ids[:1, :2], share=share))  # buffers that stay, gradients among them
    with peak_memory(preset) as peak:
        forward(policy, prompts, ids, share=share, train=True)
    return peak
