"""Run by torchrun: shared against repeated prompts on ZeRO-3 shards, with gradient checkpointing and an untied head.

Every rank has rows of its own, unequally many. Rank 0 writes the largest differences over ranks to the file named.
"""

import json
import sys
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_grad
from transformers.integrations import HfDeepSpeedConfig
from trl.trainer.utils import add_fused_lm_head

from tests.tiny_prompts import PAD, make_model, ragged_batch
from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix


def main(result: Path) -> None:
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    rank = dist.get_rank()
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
    }
    model = make_model(tied=False)
    enabled = HfDeepSpeedConfig(config)  # as long as it lives, TRL's head gathers its weight
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    install_shared_prefix(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=config)
    assert enabled.is_zero3()
    assert sum(parameter.numel() for parameter in model.parameters()) == 0
    prompts, ids, mask = ragged_batch(model)
    rows = slice(0, 3) if rank == 0 else slice(2, 5)
    logps, gradients = [], []
    for share_prompt in (True, False):
        values, _ = completion_logps(
            engine, prompts[rows], ids[rows], mask[rows],
            share_prompt=share_prompt, compute_entropy=False, pad_token_id=PAD,
        )  # fmt: skip
        weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(rank))
        engine.backward((values * weights).sum())
        gradients.append(torch.cat([safe_get_full_grad(parameter).flatten() for parameter in model.parameters()]))
        engine.optimizer.zero_grad()
        engine.zero_grad()
        logps.append(values.detach())
    worst = torch.stack([(logps[0] - logps[1]).abs().max(), (gradients[0] - gradients[1]).norm() / gradients[1].norm()])
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    if rank == 0:
        result.write_text(json.dumps({"logps": float(worst[0]), "gradients": float(worst[1])}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
