"""Run by torchrun: shared against repeated prompts on ZeRO-3 shards, with gradient checkpointing and an untied head.

Every rank has rows of its own, unequally many. Rank 0 writes for every family the largest differences over ranks to the file
named: with nothing wrong in the shared prompts, and with one thing wrong at a time.
"""

import json
import sys
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_grad
from transformers.integrations import HfDeepSpeedConfig
from trl.trainer.utils import add_fused_lm_head

from tests.tiny_prompts import (
    PAD,
    make_model,
    make_prompt,
    make_questions,
    question_batch,
    ragged_batch,
    shift_one_position,
    without_last_token,
)
from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.training.start import leave_process_groups


def main(result: Path) -> None:
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
    }
    found = {family: differences(family, config) for family in FAMILIES}
    if dist.get_rank() == 0:
        result.write_text(json.dumps(found))
    leave_process_groups()


def differences(family: str, config: dict[str, Any]) -> dict[str, list[float]]:
    """Of log-probabilities, and relative of gradients, between shared and repeated prompts, by what is wrong."""
    rank = dist.get_rank()
    model = make_model(family, tied=False)
    enabled = HfDeepSpeedConfig(config)  # as long as it lives, TRL's head gathers its weight
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    install_shared_prefix(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=config)
    assert enabled.is_zero3()
    assert sum(parameter.numel() for parameter in model.parameters()) == 0
    # A family of questions about one video on one rank, a group alone on its video on the other.
    prompts, ids, mask = question_batch(model) if rank == 0 else ragged_batch(model)
    rows = slice(1, 8) if rank == 0 else slice(2, 5)
    prompts, ids, mask = prompts[rows], ids[rows], mask[rows]
    first = prompts[0]

    def with_first(other: PromptInputs) -> list[PromptInputs]:
        return [other if prompt is first else prompt for prompt in prompts]

    cases = {
        "repeated": (prompts, mask),
        "nothing": (prompts, mask),
        "position": (with_first(shift_one_position(first)), mask),
    }
    if family == DEFAULT_FAMILY:
        cases["mask"] = (prompts, without_last_token(mask))
        # The others' positions know no seconds.
        slower = (
            make_questions(model, 1, (5, 9, 2), seconds=1.0)[0] if rank == 0 else make_prompt(model, 1, (4, 4, 6), 1.0)
        )
        cases["seconds"] = (with_first(slower), mask)
    logps, gradients = {}, {}
    for case, (its_prompts, its_mask) in cases.items():
        values, _ = completion_logps(
            engine, its_prompts, ids, its_mask,
            share_prompt=case != "repeated", compute_entropy=False, pad_token_id=PAD,
        )  # fmt: skip
        weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(rank))
        engine.backward((values * weights).sum())
        gradients[case] = torch.cat([safe_get_full_grad(parameter).flatten() for parameter in model.parameters()])
        engine.optimizer.zero_grad()
        engine.zero_grad()
        logps[case] = values.detach()
    found = {}
    for case in list(cases)[1:]:
        apart = (gradients[case] - gradients["repeated"]).norm() / gradients["repeated"].norm()
        worst = torch.stack([(logps[case] - logps["repeated"]).abs().max(), apart])
        dist.all_reduce(worst, op=dist.ReduceOp.MAX)
        found[case] = worst.tolist()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
