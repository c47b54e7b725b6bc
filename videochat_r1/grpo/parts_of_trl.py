"""What TRL's trainer makes by itself while it is built: the reference model and the vLLM engine, so that they fit the policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from transformers import PreTrainedModel
from trl.trainer import grpo_trainer


@contextmanager
def parts_for(model: PreTrainedModel, *, use_vllm: bool) -> Iterator[None]:
    """In which a `trl.GRPOTrainer` of this policy is built: it makes its parts by names in its module.

    The reference model is of the policy's class, which TRL would look for in transformers alone; the engine takes videos.
    """
    module: Any = grpo_trainer
    replaced: dict[str, Any] = {
        "create_model_from_path": partial(grpo_trainer.create_model_from_path, architecture=type(model))
    }
    if use_vllm:
        # Importing vLLM takes seconds, and it need not be installed.
        from videochat_r1.rollout.vllm_training import VideoVLLMGeneration

        replaced["VLLMGeneration"] = VideoVLLMGeneration
    originals = {name: getattr(module, name) for name in replaced}
    vars(module).update(replaced)
    try:
        yield
    finally:
        vars(module).update(originals)
