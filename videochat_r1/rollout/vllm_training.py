"""TRL's vLLM integration, extended to video: an engine in the training process that always has the newest weights.

TRL's part is how a trainer's weights are walked through (DeepSpeed ZeRO-3, FSDP), its options and its sleep mode. What
does not serve here is replaced:

* `_init_vllm`: TRL leaves dtype, positions, pixels and log-probabilities to vLLM's defaults.
* `_iter_named_params`: TRL merges adapters into the frozen weights and subtracts them again, which leaves rounding behind.
* `sync_weights`: TRL keeps features that the old vision tower made, and does not notice a weight that was not loaded.
* `generate`: TRL carries images only, and gives all rows of a group one and the same seed when one is set.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate.utils import is_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from trl.generation.vllm_generation import VLLMGeneration, empty_cache

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.media_features import has_frozen_tower, unwrap
from videochat_r1.rollout.base import Rollout, SamplingSettings, rollouts_per_prompt
from videochat_r1.rollout.vllm_engine import VLLMEngine

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class VideoVLLMGeneration(VLLMGeneration):
    """A `RolloutEngine` with the trainer's weights; built by TRL's trainer with all its options."""

    engine: VLLMEngine

    def _init_vllm(self) -> None:
        """As TRL's colocate mode, with an engine that takes videos. Server mode is refused when options are read."""
        accelerator, size = self.accelerator, self.tensor_parallel_size
        if accelerator.num_processes % size:
            raise ConfigError(f"vllm_tensor_parallel_size={size} must divide the {accelerator.num_processes} processes")
        if size > 1:
            groups = [list(range(first, first + size)) for first in range(0, accelerator.num_processes, size)]
            self.tp_group, _ = torch.distributed.new_subgroups_by_enumeration(groups)
        self.engine = VLLMEngine(
            self.model.name_or_path,
            dtype=_DTYPES.get(accelerator.mixed_precision, unwrap(self.model).dtype),
            max_num_seqs=self.max_num_seqs,
            max_model_length=self.max_model_length,
            gpu_memory_utilization=self.gpu_memory_utilization,
            tensor_parallel_size=size,
            enable_sleep_mode=self.enable_sleep_mode,
        )
        self.llm = self.engine.llm
        self._llm_weights_sleeping = self.enable_sleep_mode
        if self.enable_sleep_mode:
            self.llm.sleep(level=2)
        accelerator.wait_for_everyone()

    def _iter_named_params(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Weights under their published names, adapters merged, one layer at a time.

        In bf16 what merging and unmerging leave behind adds up: after some updates the frozen weights would not be those
        any more that the saved adapter belongs to. Here they are put back as they were.
        """
        if self._dist.is_fsdp or not is_peft_model(self.model):
            yield from super()._iter_named_params()
            return
        seen: set[int] = set()
        adapted = None
        for path, module in self.model.base_model.model.named_modules():
            if adapted is not None and path.startswith(adapted):
                continue
            is_adapted = isinstance(module, BaseTunerLayer)
            adapted = f"{path}." if is_adapted else None
            base = module.get_base_layer() if is_adapted else module
            own = [
                (name, weight) for name, weight in base.named_parameters(recurse=is_adapted) if id(weight) not in seen
            ]
            seen |= {id(weight) for _, weight in own}
            if not own or "original_module" in path:
                continue
            with self._dist.gather_params(list(module.parameters(recurse=is_adapted))), _merged(module):
                for name, weight in own:
                    yield self._fix_param_name_to_vllm(f"{path}.{name}", ["modules_to_save.default."]), weight.data

    def sync_weights(self) -> None:
        """Give vLLM the trainer's weights; called after every update, before the next generation."""
        if self.enable_sleep_mode:
            empty_cache()
            self.llm.wake_up(tags=["weights"])
            self._llm_weights_sleeping = False
        self.engine.load_weights(self._iter_named_params(), keep_videos=has_frozen_tower(self.model))

    def generate(  # type: ignore[override]
        self,
        prompts: Sequence[PromptInputs],
        *,
        num_generations: int | Sequence[int],
        settings: SamplingSettings,
        noise_seeds: Sequence[Sequence[int]] | None = None,
        media_features: Sequence[torch.Tensor | None] | None = None,
    ) -> list[list[Rollout]]:
        """See `VLLMEngine.generate`. With tensor parallelism the ranks of an engine generate all their prompts together."""
        if self.enable_sleep_mode:
            if self._llm_weights_sleeping:
                self.sync_weights()
            self.llm.wake_up(tags=["kv_cache"])
        counts = rollouts_per_prompt(len(prompts), num_generations, settings, noise_seeds)
        nothing = [None] * len(prompts)
        mine = [
            (prompt.to("cpu"), count, seeds, None if features is None else features.cpu())
            for prompt, count, seeds, features in zip(
                prompts, counts, noise_seeds or nothing, media_features or nothing, strict=True
            )
        ]
        everyone = [mine]
        rank = 0
        if self.tensor_parallel_size > 1:
            rank = torch.distributed.get_rank(group=self.tp_group)
            everyone = [[] for _ in range(self.tensor_parallel_size)]
            if is_peft_model(self.model):
                # vLLM's collectives must not race with those of a LoRA update, which is small (TRL's issue 3671).
                torch.distributed.barrier(device_ids=[self.accelerator.local_process_index])
            torch.distributed.all_gather_object(everyone, mine, group=self.tp_group)
        rows = [row for part in everyone for row in part]
        groups = self.engine.generate(
            [prompt for prompt, _, _, _ in rows],
            num_generations=[count for _, count, _, _ in rows],
            settings=settings,
            noise_seeds=None if noise_seeds is None else [seeds for _, _, seeds, _ in rows if seeds is not None],
            media_features=[features for _, _, _, features in rows],
        )
        if self.enable_sleep_mode:
            self.llm.sleep(level=2)
            self._llm_weights_sleeping = True
        first = sum(len(part) for part in everyone[:rank])
        return groups[first : first + len(mine)]


@contextmanager
def _merged(module: torch.nn.Module) -> Iterator[None]:
    """With a layer's adapter merged into its weights; afterwards these are bit for bit what they were."""
    if not isinstance(module, BaseTunerLayer):
        yield
        return
    weights = list(module.get_base_layer().parameters())
    before = [weight.detach().clone() for weight in weights]
    module.merge()
    try:
        yield
    finally:
        module.unmerge()
        for weight, value in zip(weights, before, strict=True):
            weight.data.copy_(value)
