"""How much GPU memory a run takes, from formulas. Estimates: the allocator's slack and the libraries' own are not in them.

N parameters, n of them trained, W processes, b bytes a value (2 in bf16, 4 in fp32), L layers of width H and MLP width I,
A width of queries, K width of keys (and of values), V vocabulary, G completions of C tokens after a prompt of P tokens, S = P + G C the packed row of
a group, or G (P + C) where prompts are repeated.

Weights and optimiser (`state_bytes`):
  weights b N, gradients b n, fp32 copy of bf16 weights 4 n (DeepSpeed keeps it; without it the weights are fp32), two
  moments of Adam 8 n, reference model b N (beta > 0; none with LoRA, whose base is the reference).
  ZeRO-3 divides all of it by W; ZeRO-2 divides gradients, copy and moments; offload moves all of it to the host.
Update of one micro-batch (`update_bytes`):
  gathered weights of ZeRO-3, at most 1e9 values: b 1e9;
  what the forward keeps: with gradient checkpointing b S H per layer, without it b S (8 H + 3 A + 3 K + 4 I), the vision tower
  likewise over its patches; the features of a video's tokens, b H each, and what makes them, for each level of DeepStack again;
  and the larger of two that are never there together:
  a layer that is computed again, b S (8 H + 3 A + 3 K + 6 I), with gradient checkpointing;
  the head (`head_bytes`): logits and their gradient share a tile of at most 4,096 tokens x 32,768 words, b each; the head's weight
  is gathered by ZeRO-3, b V H, and where it is trained its gradient is added up in fp32, 4 V H, and copied, in bf16 2 V H.
Rollout (`rollout_bytes`):
  whole weights b N under ZeRO-3 (gathered for generation), keys and values 2 b L K (P + G C) for each group, and as many for
  that of its shuffled frames where `temporal_contrast` draws them; and the larger of what prefill computes with and the weights of
  queries, keys and values side by side, b L H (A + 2 K), for decoding.
With `second_look` each of K further looks of each completion is at most a prompt of its own with C tokens: all of them add to the
  tokens of an update, and a rollout holds those of one look at a time.
With vLLM (`engine_bytes`) instead: its weights b N over `vllm_tensor_parallel_size` and its keys and values, for which it
  takes `vllm_gpu_memory_utilization` of the GPU for the whole run; with sleep mode only while it draws.
The loaders' prompts lie in shared memory (`loader_bytes`).
The peak is the state plus the larger of update and rollout, plus vLLM's where it does not sleep.
"""

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from videochat_r1.modeling.families import Family, family_of
from videochat_r1.modeling.sizes import DecoderSizes, TowerSizes, decoder_sizes
from videochat_r1.rollout.transformers_engine import PREFILL_TOKENS

LIVE_PARAMETERS = 1e9
"""`stage3_max_live_parameters` of the configs."""

LOGIT_TILE = (4096, 32768)
"""Tokens and words whose logits TRL's fused head holds at a time."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that the formulas need.

    Args:
        family: of the model.
        parameters: of all of it.
        vision_parameters: of the vision tower.
        decoder: sizes of the language model.
        tower: sizes of the vision tower.
        token_side: pixels of a token's side.
        tied: whether the input embedding is the head too.
    """

    family: Family
    parameters: int
    vision_parameters: int
    decoder: DecoderSizes
    tower: TowerSizes
    token_side: int
    tied: bool


@dataclass(frozen=True, slots=True)
class Strategy:
    """How the state is spread: ZeRO stage (0 without DeepSpeed) and whether it lies on the host."""

    stage: int
    offload: bool = False

    @property
    def name(self) -> str:
        """As the files in configs/deepspeed are called."""
        return "without DeepSpeed" if self.stage == 0 else f"zero{self.stage}{'_offload' if self.offload else ''}"


STRATEGIES = (Strategy(3), Strategy(3, offload=True), Strategy(2), Strategy(0))


def model_shape(config: PretrainedConfig) -> ModelShape:
    """Sizes of the model that a config describes; nothing is allocated."""
    family = family_of(config)
    with torch.device("meta"):
        model = family.model_class(config)
    return ModelShape(
        family=family,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vision_parameters=sum(parameter.numel() for parameter in family.tower(model).parameters()),
        decoder=decoder_sizes(config),
        tower=family.tower_sizes(config),
        token_side=family.token_side(config),
        tied=bool(config.tie_word_embeddings),
    )


def state_bytes(
    parameters: float, trained: float, strategy: Strategy, processes: int, *, bf16: bool, reference: bool, lora: bool
) -> tuple[float, float]:
    """Bytes of weights, gradients, optimiser and reference of one process: (on the GPU, on the host)."""
    low = 2 if bf16 and (strategy.stage > 0 or lora) else 4
    copy = 4 if low == 2 else 0
    weights = low * parameters * (2 if reference else 1)
    trained_bytes = (low + copy + 8) * trained
    if strategy.stage == 3:
        weights /= processes
    if strategy.stage >= 2:
        trained_bytes /= processes
    total = weights + trained_bytes
    return (0.0, total) if strategy.offload else (total, 0.0)


def update_bytes(
    shape: ModelShape,
    strategy: Strategy,
    *,
    tokens: float,
    video_tokens: float,
    rows: int,
    scored_tokens: float,
    bf16: bool,
    checkpointing: bool,
    frozen_vision: bool,
    trained_head: bool,
) -> float:
    """Bytes of forward and backward over `rows` packed rows of `tokens`, whose videos make `video_tokens` and whose completions
    `scored_tokens` each."""
    width = 2 if bf16 else 4
    gathered = min(shape.parameters, LIVE_PARAMETERS) * width if strategy.stage == 3 else 0.0
    text, tower = shape.decoder, shape.tower
    inside = 8 * text.hidden + 3 * (text.query_width + text.key_width) + 4 * text.intermediate
    passes = [_Pass(tokens, text.layers, text.hidden, inside, text.intermediate)]
    merging = tower.out_hidden
    if not frozen_vision:
        gate = tower.mlp_products - 2
        inside = (10 + 5 * gate) * tower.hidden + (3 + gate) * tower.intermediate
        patches = tower.patches_per_token * video_tokens
        passes.append(_Pass(patches, tower.layers, tower.hidden, inside, tower.intermediate))
        merging += 5 * tower.patches_per_token * tower.hidden
    kept = sum(one.kept(checkpointing) for one in passes) + tower.mergers * video_tokens * merging
    then = [head_bytes(shape, strategy, scored_tokens=rows * scored_tokens, bf16=bf16, trained=trained_head)]
    if checkpointing:
        then += [width * rows * one.recomputed for one in passes]
    return gathered + width * rows * kept + max(then)


@dataclass(frozen=True, slots=True)
class _Pass:
    """Of `tokens` through `layers` of a width, in values; a layer keeps `inside` a token for its backward."""

    tokens: float
    layers: int
    hidden: int
    inside: float
    intermediate: int

    def kept(self, checkpointing: bool) -> float:
        """Between forward and backward."""
        return self.tokens * self.layers * (self.hidden if checkpointing else self.inside)

    @property
    def recomputed(self) -> float:
        """In the backward of one layer, with what becomes gradients in it."""
        return self.tokens * (self.inside + 2 * self.intermediate)


def head_bytes(shape: ModelShape, strategy: Strategy, *, scored_tokens: float, bf16: bool, trained: bool) -> float:
    """Bytes of the head's forward and backward over a micro-batch's completion tokens."""
    width = 2 if bf16 else 4
    tile = min(scored_tokens, LOGIT_TILE[0]) * min(shape.decoder.vocabulary, LOGIT_TILE[1]) * width
    weight = shape.decoder.vocabulary * shape.decoder.hidden
    gradient = 4 + (width if bf16 else 0)
    return tile + weight * ((width if strategy.stage == 3 else 0) + (gradient if trained else 0))


def rollout_bytes(
    shape: ModelShape,
    strategy: Strategy,
    *,
    tokens: float,
    groups: int,
    prompt_tokens: float,
    video_tokens: float,
    bf16: bool,
) -> float:
    """Bytes of generating `groups` groups whose prompt and completions are `tokens` together.

    Args:
        shape: of the model.
        strategy: where the weights lie.
        tokens: whose keys and values are held for a group.
        groups: at a time.
        prompt_tokens: of a group, as often as it is computed.
        video_tokens: of them.
        bf16: what the model computes in, else fp32.
    """
    width = 2 if bf16 else 4
    gathered = shape.parameters * width if strategy.stage == 3 else 0.0
    together = min(groups, max(1, PREFILL_TOKENS // max(1, round(prompt_tokens))))
    text, tower = shape.decoder, shape.tower
    patches = tower.patches_per_token * video_tokens
    encoding = patches * ((24 + 5 * width) * tower.hidden + (4 + width) * tower.patch_values)
    layer = width * prompt_tokens * (5 * text.hidden + 3 * text.intermediate) + 4 * patches * tower.patch_values
    features = width * tower.mergers * video_tokens * tower.out_hidden
    no_keys_yet = _cache_bytes(shape, prompt_tokens, width)
    prefill = together * (features + max(encoding - no_keys_yet, layer))
    joined = width * text.layers * text.hidden * (text.query_width + 2 * text.key_width)
    return gathered + _cache_bytes(shape, tokens * groups, width) + max(prefill, joined)


def engine_bytes(
    shape: ModelShape, *, tokens: float, processes: int, bf16: bool, share: float, gpu_bytes: float | None
) -> float:
    """Bytes of a vLLM engine over `processes` GPUs on each of them, and no less than it needs.

    Args:
        shape: of the model.
        tokens: whose keys and values it holds at least.
        processes: `vllm_tensor_parallel_size`.
        bf16: what it computes in, else fp32.
        share: `vllm_gpu_memory_utilization`.
        gpu_bytes: of a GPU; None counts what is needed only.
    """
    width = 2 if bf16 else 4
    needed = (shape.parameters * width + _cache_bytes(shape, tokens, width)) / processes
    return max(needed, share * (gpu_bytes or 0.0))


def loader_bytes(shape: ModelShape, tokens: float, *, workers: int, processes: int) -> float:
    """Bytes of the prompts that lie ready in shared memory: pixels in fp32, two prompts of each worker and one more in passing.

    Args:
        shape: of the model.
        tokens: of a video.
        workers: `dataloader_num_workers` of each process.
        processes: of one node.
    """
    return processes * 3 * workers * tokens * shape.tower.patches_per_token * shape.tower.patch_values * 4.0


def _cache_bytes(shape: ModelShape, tokens: float, width: int) -> float:
    return 2 * width * shape.decoder.layers * shape.decoder.key_width * tokens
