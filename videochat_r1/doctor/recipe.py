"""The resolved recipe: batch layout on the given processes, tokens of a video, and what fits into a GPU's memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from videochat_r1.doctor.data import tokens_of_clip
from videochat_r1.doctor.machine import GB
from videochat_r1.doctor.memory import (
    STRATEGIES,
    ModelShape,
    Strategy,
    engine_bytes,
    head_bytes,
    rollout_bytes,
    state_bytes,
    update_bytes,
)
from videochat_r1.doctor.report import Section
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.sft import VideoSFTConfig
from videochat_r1.text import read_yaml
from videochat_r1.video.frames import VideoBudget

# 30 seconds of 480 x 360: the size at which the paper's budget gives 3,240 tokens.
REFERENCE_CLIP = (30.0, 480, 360)
PROMPT_TEXT_TOKENS = 150
"""Words of a prompt around its video, roughly."""


class Recipe:
    """A recipe read without the things that need GPUs: DeepSpeed is noted, not started.

    Args:
        path: the YAML file.
        flags: overrides, as on the command line of `grpo` and `sft`.

    Raises:
        ConfigError: see `parse_recipe`.
    """

    def __init__(self, path: str, flags: Sequence[str]) -> None:
        self.path = path
        self.kind = kind_of(path)
        self.deepspeed, rest = _take_deepspeed(path, list(flags))
        config = VideoGRPOConfig if self.kind == "grpo" else VideoSFTConfig
        arguments = ["--config", path, *rest, "--deepspeed", ""]
        if not torch.cuda.is_available():
            arguments += ["--use_cpu", "true"]
        model, data, args = parse_recipe([ModelArguments, DataArguments, config], arguments)
        self.model: ModelArguments = model
        self.data: DataArguments = data
        self.args: Any = args

    @property
    def strategy(self) -> Strategy:
        """ZeRO stage and offload, from the DeepSpeed file that the recipe names.

        Raises:
            ConfigError: that file cannot be read.
        """
        if not self.deepspeed:
            return Strategy(0)
        path = Path(self.deepspeed)
        if not path.is_file():
            raise ConfigError(
                f"the recipe's DeepSpeed file {path} does not exist (paths start at the project's folder)"
            )
        zero = _mapping(path, "a DeepSpeed file").get("zero_optimization", {})
        return Strategy(int(zero.get("stage", 0)), "offload_optimizer" in zero)


def kind_of(path: str) -> str:
    """`sft` for a file with `samples_per_step`, which GRPO does not know; else `grpo`."""
    return "sft" if "samples_per_step" in _mapping(Path(path), "a recipe") else "grpo"


def _mapping(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file; empty for anything else."""
    value = read_yaml(path, what, ConfigError)
    return value if isinstance(value, dict) else {}


def _take_deepspeed(path: str, flags: list[str]) -> tuple[str, list[str]]:
    """The DeepSpeed file that flags or recipe name ("" for none), and the other flags."""
    named = _mapping(Path(path), "a recipe").get("deepspeed") or ""
    rest = []
    while flags:
        flag = flags.pop(0)
        if flag == "--deepspeed":
            named = flags.pop(0) if flags else ""
        elif flag.startswith("--deepspeed="):
            named = flag.partition("=")[2]
        else:
            rest.append(flag)
    return ("" if named in ("none", "null") else str(named)), rest


def check_recipe(
    recipe: Recipe,
    *,
    processes: int | None,
    samples_per_epoch: int,
    video_tokens: Sequence[int],
    shape: ModelShape | None,
    gpu_bytes: float | None,
) -> Section:
    """Layout, tokens and memory.

    Args:
        recipe: resolved.
        processes: of the planned launch, all nodes together; None for as many as make an update in one pass.
        samples_per_epoch: 0 where the data could not be read.
        video_tokens: of the videos that were decoded.
        shape: of the model; None where its folder could not be read.
        gpu_bytes: memory of the smallest GPU here; None without one.
    """
    section = Section("recipe", {"file": recipe.path, "trains with": recipe.kind})
    processes = processes or processes_of_one_pass(recipe)
    passes = _check_layout(section, recipe, processes, samples_per_epoch)
    budget = recipe.data.budget()
    typical = _describe_tokens(section, budget, video_tokens)
    try:
        section.facts["DeepSpeed"] = recipe.strategy.name
    except ConfigError as error:
        section.problem(str(error), "name one of configs/deepspeed, or none, with --deepspeed")
        return section
    if shape is not None:
        _describe_memory(section, recipe, processes, passes, shape, typical, gpu_bytes)
    return section


def processes_of_one_pass(recipe: Recipe) -> int:
    """The number of processes that need no accumulation for the recipe's prompts (or samples) per update."""
    args = recipe.args
    wanted = (args.prompts_per_step if recipe.kind == "grpo" else args.samples_per_step) or 1
    return max(1, wanted // rows_per_process(recipe))


def rows_per_process(recipe: Recipe) -> int:
    """Prompts (or samples) in a micro-batch of one process."""
    size: int = recipe.args.per_device_train_batch_size
    return size // recipe.args.num_generations if recipe.kind == "grpo" else size


def _check_layout(section: Section, recipe: Recipe, processes: int, samples_per_epoch: int) -> int:
    """Writes the layout; returns the passes of an update, 1 where the layout cannot work."""
    args = recipe.args
    mend = "change NUM_GPUS, prompts_per_step or per_device_train_batch_size"
    try:
        passes = accumulation(args, processes)
    except ConfigError as error:
        section.problem(str(error), mend)
        return 1
    per_device = rows_per_process(recipe)
    per_update = per_device * processes * passes
    what = "prompts" if recipe.kind == "grpo" else "samples"
    section.facts[f"{what} per update"] = per_update
    section.facts["layout"] = f"{per_device} {what} at a time, processes: {processes}, passes: {passes}"
    if recipe.kind == "grpo":
        section.facts["completions per update"] = per_update * args.num_generations
    if samples_per_epoch:
        section.facts["updates"] = (
            args.max_steps if args.max_steps > 0 else _updates(args, samples_per_epoch, per_device * processes, passes)
        )
    return passes


def _updates(args: VideoGRPOConfig | VideoSFTConfig, samples: int, per_pass: int, passes: int) -> int:
    """Updates of the whole run; what does not fill the last generation (SFT: the last update) of an epoch is left out."""
    together, uses = passes, 1
    if isinstance(args, VideoGRPOConfig):
        uses = args.num_iterations
        if args.steps_per_generation != args.gradient_accumulation_steps:
            together = args.steps_per_generation
    return math.ceil(samples // (per_pass * together) * together * uses / passes * args.num_train_epochs)


def accumulation(args: VideoGRPOConfig | VideoSFTConfig, processes: int) -> int:
    """Forward passes of each process per update.

    Raises:
        ConfigError: the layout cannot give the recipe's prompts or samples per update.
    """
    wanted = args.prompts_per_step if isinstance(args, VideoGRPOConfig) else args.samples_per_step
    return args.gradient_accumulation_steps if wanted is None else args.accumulation(processes)


def _describe_tokens(section: Section, budget: VideoBudget, video_tokens: Sequence[int]) -> int:
    """Writes what a video costs in tokens; returns the largest count that is known."""
    duration, width, height = REFERENCE_CLIP
    reference = tokens_of_clip(duration, width, height, budget)
    section.facts["tokens per video"] = "frames / 2 x height / 28 x width / 28"
    section.facts[f"  {duration:g} s of {width} x {height}"] = reference
    if video_tokens:
        section.facts[f"  {len(video_tokens)} videos of the data"] = (
            f"{min(video_tokens):,} to {max(video_tokens):,}, median {median(video_tokens):,.0f}"
        )
    return max([*video_tokens, 0]) or reference


def _describe_memory(
    section: Section,
    recipe: Recipe,
    processes: int,
    passes: int,
    shape: ModelShape,
    video_tokens: int,
    gpu_bytes: float | None,
) -> None:
    section.facts["GPU memory, estimated"] = f"a video of {video_tokens:,} tokens, completions at their longest"
    for strategy in STRATEGIES:
        needed, host = peak_bytes(recipe, strategy, processes, passes, shape, video_tokens, gpu_bytes)
        text = f"{needed / GB:.3g} GB a GPU" + (f", {host * processes / GB:.3g} GB on the host" if host else "")
        if gpu_bytes is not None:
            text += ": fits" if needed < 0.9 * gpu_bytes else ": does not fit"
        section.facts[f"  {strategy.name}"] = text
    if gpu_bytes is None:
        return
    needed, _ = peak_bytes(recipe, recipe.strategy, processes, passes, shape, video_tokens, gpu_bytes)
    if needed > gpu_bytes:
        section.problem(
            f"about {needed / GB:.0f} GB are needed on a GPU of {gpu_bytes / GB:.0f} GB",
            "use more GPUs, configs/deepspeed/zero3_offload.json, lora, or a smaller video.total_pixels",
        )


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Estimated bytes of one process: what lies there throughout, and what update and rollout take besides.

    `vllm` is what a vLLM engine takes, throughout unless `vllm_sleeps`; 0 without one.
    """

    state: float
    update: float
    head: float
    rollout: float
    host: float
    vllm: float = 0.0
    vllm_sleeps: bool = False

    @property
    def peak(self) -> float:
        """On the GPU. Update and rollout follow each other."""
        if self.vllm_sleeps:
            return self.state + max(self.update + self.head, self.vllm)
        return self.state + self.vllm + max(self.update + self.head, self.rollout)


def memory_parts(
    recipe: Recipe,
    strategy: Strategy,
    processes: int,
    passes: int,
    shape: ModelShape,
    video_tokens: int,
    *,
    share_logps: bool = True,
    share_rollout: bool = True,
    gpu_bytes: float | None = None,
) -> MemoryParts:
    """By the formulas of `doctor.memory`, with completions at their longest.

    Args:
        recipe: resolved.
        strategy: where the state lies.
        processes: of the launch.
        passes: micro-batches of each process per update.
        shape: of the model.
        video_tokens: of one video.
        share_logps: one prompt per group in forward and backward, instead of one per completion.
        share_rollout: the same in generation.
        gpu_bytes: of a GPU, a share of which vLLM takes; None counts what it needs only.
    """
    args, model = recipe.args, recipe.model
    grpo = recipe.kind == "grpo"
    lora = model.lora is not None
    bf16 = bool(args.bf16)
    rows = rows_per_process(recipe)
    completions = args.num_generations if grpo else 1
    prompt = video_tokens + PROMPT_TEXT_TOKENS
    shared = prompt + completions * args.max_completion_length
    repeated = completions * (prompt + args.max_completion_length)
    copies = 1 if share_logps else completions
    trained = shape.parameters - (shape.vision_parameters if model.freeze_vision_tower else 0)
    state, host = state_bytes(
        shape.parameters,
        0.01 * shape.parameters if lora else trained,
        strategy,
        processes,
        bf16=bf16,
        reference=grpo and args.beta > 0 and not lora,
        lora=lora,
    )
    update = update_bytes(
        shape,
        strategy,
        tokens=shared if share_logps else repeated,
        video_tokens=copies * video_tokens,
        rows=rows,
        bf16=bf16,
        checkpointing=bool(args.gradient_checkpointing),
        frozen_vision=model.freeze_vision_tower,
    )
    scored = rows * completions * args.max_completion_length
    head = head_bytes(shape, strategy, scored_tokens=scored, bf16=bf16, trained=not lora)
    rollout = vllm = 0.0
    if grpo and args.use_vllm:
        # Its cache pages: one completion has to fit.
        vllm = engine_bytes(
            shape,
            tokens=prompt + args.max_completion_length,
            processes=args.vllm_tensor_parallel_size,
            bf16=bf16,
            share=args.vllm_gpu_memory_utilization,
            gpu_bytes=gpu_bytes,
        )
    elif grpo:
        # The completions of a whole update are drawn together, unless rollout_batch_rows says how many at a time.
        together = args.rollout_batch_rows or rows * passes * completions
        groups = -(-together // completions)
        tokens = shared if share_rollout else repeated
        rollout = rollout_bytes(shape, strategy, tokens=tokens, groups=groups, bf16=bf16)
    sleeps = grpo and args.use_vllm and args.vllm_enable_sleep_mode
    return MemoryParts(state, update, head, rollout, host, vllm, sleeps)


def peak_bytes(
    recipe: Recipe,
    strategy: Strategy,
    processes: int,
    passes: int,
    shape: ModelShape,
    video_tokens: int,
    gpu_bytes: float | None = None,
) -> tuple[float, float]:
    """Estimated peak of one process: (bytes on the GPU, bytes on the host)."""
    share = recipe.kind == "sft" or bool(recipe.args.share_prompt)
    parts = memory_parts(
        recipe, strategy, processes, passes, shape, video_tokens, share_logps=share, gpu_bytes=gpu_bytes
    )
    return parts.peak, parts.host


def checkpoint_bytes(recipe: Recipe, shape: ModelShape) -> float:
    """Disk that a run's checkpoints take: `save_total_limit` + 1 of them and the final model.

    A checkpoint holds the weights and, unless `save_only_model`, the optimiser's fp32 copy and two moments.
    """
    if recipe.model.lora is not None:
        return 0.1 * shape.parameters
    width = 2 if recipe.args.bf16 else 4
    each = (width + (0 if recipe.args.save_only_model else 12 if width == 2 else 8)) * shape.parameters
    kept = 0 if str(recipe.args.save_strategy).endswith("no") else (recipe.args.save_total_limit or 3) + 1
    return each * kept + width * shape.parameters
