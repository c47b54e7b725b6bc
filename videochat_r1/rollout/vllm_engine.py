"""Rollouts with vLLM, in this process, on exactly the inputs that the trainer computes with.

A prompt goes in as `PromptInputs`: its token ids with the placeholders expanded, its normalised pixels, its M-RoPE
positions. vLLM runs no processor of its own, so nothing is resized, resampled or expanded a second time. The rollouts of a
group are requests with the same tokens and the same media: the first to be scheduled encodes these and fills the prompt's
cache, the others find both.
"""

import math
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from transformers import BatchFeature
from vllm import LLM, RequestOutput, SamplingParams
from vllm.distributed.parallel_state import destroy_model_parallel
from vllm.inputs import mm_input, tokens_input
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems, PlaceholderRange
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_config
from videochat_r1.modeling.prompt_tree import plant
from videochat_r1.rollout.base import Rollout, SamplingSettings, Watch, rollouts_per_prompt
from videochat_r1.rollout.ended import Ended
from videochat_r1.rollout.sampling import check_settings, refuse_diverged
from videochat_r1.rollout.vllm_model import ModelControls, loadable_weights

# A whole prompt should be prefilled in one step; prompts shorter than this share one.
_LEAST_BATCHED_TOKENS = 4096
# What vLLM's models call the patches of a medium.
_PATCHES = {"video": "pixel_values_videos", "image": "pixel_values"}
# vLLM's CPU build would otherwise take a share of the machine's memory, which other processes may have taken.
_CPU_CACHE_BYTES = 1 << 30


class VLLMEngine:
    """A `RolloutEngine`. Weights are those of the folder until `load_weights`.

    Args:
        model_path: model folder or hub name.
        dtype: that vLLM computes in.
        max_model_length: most tokens of a prompt and its completion together; None takes the model's own limit.
        max_num_seqs: most completions decoded at a time.
        gpu_memory_utilization: share of the GPU's memory for weights, activations and cache; unused on the CPU.
        tensor_parallel_size: GPUs per engine; every rank of such a group has to make the same calls.
        enable_sleep_mode: let weights and cache leave the GPU between calls (`llm.sleep`).

    Raises:
        ConfigError: the model cannot be used this way, or sleep mode on the CPU.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        dtype: torch.dtype,
        max_num_seqs: int,
        max_model_length: int | None = None,
        gpu_memory_utilization: float = 0.9,
        tensor_parallel_size: int = 1,
        enable_sleep_mode: bool = False,
    ) -> None:
        on_cpu = current_platform.is_cpu()
        if on_cpu and enable_sleep_mode:
            raise ConfigError("vLLM has no sleep mode on the CPU: set vllm_enable_sleep_mode to false")
        config = load_config(str(model_path))
        self._family = family_of(config)
        # Else memory is set aside for a picture as large as the checkpoint's processor would make one.
        area = self._family.token_side(config) ** 2
        size = {"shortest_edge": area, "longest_edge": (max_model_length or 0) * area}
        with _launcher_variables(), loadable_weights():
            self.llm = LLM(
                model=str(model_path),
                dtype=dtype,
                max_model_len=max_model_length,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max(max_model_length or 0, _LEAST_BATCHED_TOKENS),
                gpu_memory_utilization=gpu_memory_utilization,
                kv_cache_memory_bytes=_CPU_CACHE_BYTES if on_cpu else None,
                tensor_parallel_size=tensor_parallel_size,
                enable_sleep_mode=enable_sleep_mode,
                enforce_eager=on_cpu,
                enable_prefix_caching=True,
                # In this process: the model, its positions and its temperature have to be within reach.
                distributed_executor_backend="external_launcher",
                model_impl="vllm",
                # No sampling defaults from the checkpoint.
                generation_config="vllm",
                logprobs_mode="raw_logprobs",
                # A prompt may hold more: only vLLM's own processor, which never sees one, would count them. What the start sets
                # memory aside for is the largest one, whatever their number.
                limit_mm_per_prompt={"video": 1, "image": 1},
                mm_processor_kwargs={"size": size} if max_model_length else None,
                # Pixels come processed.
                mm_device_do_normalize=False,
                mm_processor_cache_gb=0,
            )
        self._model = self.llm.llm_engine.model_executor.driver_worker.model_runner.get_model()
        self._controls = ModelControls(self._model)
        self._placeholder_ids = torch.tensor([config.image_token_id, config.video_token_id])
        self._vocabulary_size = int(config.get_text_config().vocab_size)
        self._request_ids = map(str, count())

    def generate(
        self,
        prompts: Sequence[PromptInputs],
        *,
        num_generations: int | Sequence[int],
        settings: SamplingSettings,
        noise_seeds: Sequence[Sequence[int]] | None = None,
        media_features: Sequence[torch.Tensor | None] | None = None,
        watch: Watch | None = None,
    ) -> list[list[Rollout]]:
        """See `RolloutEngine`. Greedy log-probabilities are at temperature 1.

        The noise of a seed is vLLM's own: reproducible, but not that of `TransformersEngine` for the same seed.

        Args:
            prompts: with placeholders expanded.
            num_generations: of every prompt, or of each its own.
            settings: how to draw.
            noise_seeds: one per rollout; may be None only when greedy.
            media_features: one per prompt as `encode_media` gives them, for a frozen vision tower; None computes them.
            watch: told after every step.

        Raises:
            ConfigError: settings out of range, or a vLLM that does not do as this engine relies on.
            DivergedError: the model's logits are NaN or infinite.
            ValueError: numbers, seeds or features that do not fit the prompts.
        """
        check_settings(settings, self._vocabulary_size)
        counts = rollouts_per_prompt(len(prompts), num_generations, settings, noise_seeds)
        seeds: Sequence[Sequence[int | None]] = noise_seeds or ()
        if noise_seeds is None or settings.temperature == 0:
            seeds = [[None] * count for count in counts]
        longest = max((prompt.num_tokens for prompt in prompts), default=0) + settings.max_new_tokens
        if longest > (limit := self.llm.model_config.max_model_len):
            raise ConfigError(f"prompt and completion may take {longest} tokens, vLLM was started for {limit}")
        largest = max((medium.num_tokens for prompt in prompts for medium in prompt.media), default=0)
        if largest > (limit := self.llm.llm_engine.input_processor.mm_encoder_cache_size):
            raise ConfigError(
                f"a video or picture takes {largest} tokens, vLLM was started for {limit}: "
                "lower total_pixels of videos, or max_pixels of pictures"
            )
        with self._controls.requests(settings.temperature or 1.0):
            features = media_features or [None] * len(prompts)
            # One after the other, so that what they share is still in vLLM's caches.
            order = [index for tree in plant(prompts) for index in tree.below]
            asked: list[list[str]] = [[] for _ in prompts]
            for index in order:
                request = self._request(prompts[index], features[index])
                for seed in seeds[index]:
                    asked[index].append(next(self._request_ids))
                    params = _sampling_params(settings, seed, watched=watch is not None)
                    self.llm.llm_engine.add_request(asked[index][-1], request, params)
            outputs = self._outputs(asked, watch)
        groups = [
            [_rollout(outputs[name], prompt, settings) for name in names]
            for prompt, names in zip(prompts, asked, strict=True)
        ]
        refuse_diverged(groups)
        return groups

    def _outputs(self, asked: Sequence[Sequence[str]], watch: Watch | None) -> dict[str, RequestOutput]:
        """The finished requests by name.

        Args:
            asked: names of each prompt's requests.
            watch: what it raises ends them all.
        """
        engine = self.llm.llm_engine
        prompt_of = {name: index for index, names in enumerate(asked) for name in names}
        latest: dict[str, RequestOutput] = {}
        try:
            while engine.has_unfinished_requests():
                told = {output.request_id: output for output in engine.step() if isinstance(output, RequestOutput)}
                latest |= told
                if watch is not None:
                    for index in sorted({prompt_of[name] for name in told}):
                        watch(index, [_tokens(latest.get(name)) for name in asked[index]])
        finally:
            engine.abort_request([name for name in prompt_of if name not in latest or not latest[name].finished])
        return latest

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]], *, keep_videos: bool = False) -> None:
        """Take all weights, under the names that the trainer's model has for them.

        Args:
            weights: one at a time, so that no second copy of the model is needed.
            keep_videos: the vision tower has not changed, so features of videos seen before still hold.

        Raises:
            ConfigError: a weight of vLLM's model was not among them.
        """
        loaded: set[str] = set()
        for name, weight in weights:
            loaded |= self._model.load_weights([(name, weight)])
        if missing := sorted({name for name, _ in self._model.named_parameters()} - loaded):
            raise ConfigError(
                f"{len(missing)} weights of vLLM's model were not given new values, first {missing[:3]}: "
                "trainer and engine are not the same model"
            )
        # Keys and values of old prompts, and features of old videos, belong to the old weights.
        self.llm.reset_prefix_cache()
        if not keep_videos:
            self.llm.llm_engine.reset_encoder_cache()

    def close(self) -> None:
        """Give the engine's memory and process groups back; it cannot be used afterwards."""
        self.llm.llm_engine.engine_core.shutdown()
        destroy_model_parallel()
        del self._controls, self._model, self.llm

    def _request(self, prompt: PromptInputs, features: torch.Tensor | None) -> Any:
        """What vLLM's own processor would give its engine, made from the trainer's tensors."""
        input_ids = prompt.input_ids.tolist()
        if not prompt.media:
            return tokens_input(input_ids)
        kind = prompt.media[0].kind
        sizes = [medium.num_tokens for medium in prompt.media]
        places = torch.isin(prompt.input_ids.cpu(), self._placeholder_ids).nonzero().flatten().split(sizes)
        grids = torch.tensor([medium.grid for medium in prompt.media])
        if features is None:
            name, values = _PATCHES[kind], torch.cat([medium.patches.cpu() for medium in prompt.media])
            flat = grids.prod(-1)
        else:
            # What comes with the features of a token (DeepStack) lies beside them, as vLLM splits it.
            name, values, flat = f"{kind}_embeds", features.flatten(1).cpu(), torch.tensor(sizes)
        fields = {
            name: MultiModalFieldConfig.flat_from_sizes(kind, flat),
            f"{kind}_grid_thw": MultiModalFieldConfig.batched(kind, keep_on_cpu=True),
        }
        items = MultiModalKwargsItems.from_hf_inputs(BatchFeature({name: values, f"{kind}_grid_thw": grids}), fields)
        positions = prompt.position_ids.cpu()
        ranges, identifiers = [], []
        for medium, where, part, grid in zip(prompt.media, places, values.split(flat.tolist()), grids, strict=True):
            begin, end = self._family.span(medium, int(where[0]), int(where[-1]))
            is_embed = torch.isin(torch.arange(begin, end), where)
            ranges.append(PlaceholderRange(begin, end - begin, None if bool(is_embed.all()) else is_embed))
            # Keys and values can be shared where tokens, pixels and positions are the same; the text's follow from these.
            timing = positions[:, begin:end] - begin
            identifiers.append(MultiModalHasher.hash_kwargs("blake3", values=part, grid=grid, timing=timing))
        self._controls.add_positions(identifiers, input_ids, positions)
        return mm_input(input_ids, items, {kind: identifiers}, {kind: ranges})


def _sampling_params(settings: SamplingSettings, seed: int | None, *, watched: bool) -> SamplingParams:
    """Every field is stated. The temperature is in the logits already (`ModelControls`)."""
    return SamplingParams(
        max_tokens=settings.max_new_tokens,
        temperature=0.0 if settings.temperature == 0 else 1.0,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        repetition_penalty=settings.repetition_penalty,
        seed=seed,
        # Only the given ids end a completion, whatever tokenizer and checkpoint say.
        ignore_eos=True,
        stop_token_ids=list(settings.eos_token_ids),
        # Not `bad_words`, which is a loop over rows and words in every step.
        logit_bias=dict.fromkeys(settings.suppressed_token_ids, -math.inf),
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.CUMULATIVE if watched else RequestOutputKind.FINAL_ONLY,
    )


def _tokens(output: RequestOutput | None) -> list[int]:
    return [] if output is None else list(output.outputs[0].token_ids)


def _rollout(output: RequestOutput, prompt: PromptInputs, settings: SamplingSettings) -> Rollout:
    """One finished request, checked."""
    if output.prompt_token_ids != prompt.input_ids.tolist():
        raise ConfigError("vLLM's prompt ids are not the trainer's")
    completion, tokens = output.outputs[0], _tokens(output)
    if clash := set(tokens) & set(settings.suppressed_token_ids):
        raise ConfigError(f"vLLM sampled the suppressed tokens {sorted(clash)}")
    logps = [entry[token].logprob for entry, token in zip(completion.logprobs, tokens, strict=True)]
    if completion.finish_reason not in ("stop", "length"):
        raise ConfigError(f"vLLM ended a request for {completion.finish_reason!r}; expected stop or length")
    return Rollout(tokens, logps, Ended(completion.finish_reason))


@contextmanager
def _launcher_variables() -> Iterator[None]:
    """vLLM reads its place among the processes from what their launcher states.

    Processes that train together are left as they are. A process on its own, or one of several that evaluate
    independently, states that it is alone; it keeps its GPU.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        yield
        return
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    gpu = os.environ.get("LOCAL_RANK", "0")
    alone = {"RANK": "0", "LOCAL_RANK": gpu, "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    before = {name: os.environ.get(name) for name in alone}
    os.environ.update(alone)
    try:
        yield
    finally:
        # Left behind, they would make a later accelerate believe in a launcher.
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
