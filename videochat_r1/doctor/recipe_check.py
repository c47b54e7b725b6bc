"""The resolved recipe: batch layout on the given processes, tokens of a video, and what fits into a GPU's memory."""

import math
from collections.abc import Sequence
from statistics import median

from videochat_r1.doctor.data import grid_of_clip
from videochat_r1.doctor.flops import VideoGrid
from videochat_r1.doctor.gpu_node import GB, shared_memory_problem
from videochat_r1.doctor.memory import STRATEGIES, ModelShape, loader_bytes
from videochat_r1.doctor.recipe import REFERENCE_CLIP, Recipe, accumulation, processes_of_one_pass, rows_per_process
from videochat_r1.doctor.recipe_memory import peak_bytes, vllm_bytes
from videochat_r1.doctor.report import Section
from videochat_r1.errors import ConfigError, counted
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.sft import VideoSFTConfig
from videochat_r1.video.frames import VideoBudget


def check_recipe(
    recipe: Recipe,
    *,
    processes: int | None,
    samples_per_epoch: int,
    videos: Sequence[VideoGrid],
    shape: ModelShape | None,
    gpu_bytes: float | None,
    num_gpus: int = 0,
) -> Section:
    """Layout, tokens and memory.

    Args:
        recipe: resolved.
        processes: of the planned launch, all nodes together; None for as many as make an update in one pass.
        samples_per_epoch: 0 where the data could not be read.
        videos: that were decoded.
        shape: of the model; None where it is not known, and then neither are tokens and memory.
        gpu_bytes: memory of the smallest GPU here; None without one.
        num_gpus: how many are here.
    """
    section = Section("recipe", {"file": recipe.path, "trains with": recipe.kind})
    # Without a GPU the planned node is another one, unless so many processes are meant to run here.
    here = min(processes or 1, num_gpus or processes or 1)
    processes = processes or processes_of_one_pass(recipe)
    passes = _check_layout(section, recipe, processes, samples_per_epoch)
    try:
        section.facts["DeepSpeed"] = recipe.strategy.name
    except ConfigError as error:
        section.problem(str(error), "name one of configs/deepspeed, or none, with --deepspeed")
        return section
    if shape is not None:
        largest = _describe_tokens(section, recipe.data.budget(), shape, videos)
        needed = loader_bytes(shape, largest.tokens, workers=recipe.args.dataloader_num_workers, processes=here)
        if (problem := shared_memory_problem(needed)) is not None:
            section.problems.append(problem)
        _describe_memory(section, recipe, processes, passes, shape, largest, gpu_bytes)
    return section


def _check_layout(section: Section, recipe: Recipe, processes: int, samples_per_epoch: int) -> int:
    """Writes the layout; returns the passes of an update, 1 where the layout cannot work."""
    args = recipe.args
    mend = "change NUM_GPUS, prompts_per_step or per_device_train_batch_size"
    try:
        passes = accumulation(args, processes)
        args.check_questions(recipe.data.questions_together)
    except ConfigError as error:
        section.problem(str(error), mend)
        return 1
    per_device = rows_per_process(recipe)
    per_update = per_device * processes * passes
    what = "prompts" if recipe.kind == "grpo" else "samples"
    section.facts[f"{what} per update"] = per_update
    section.facts["layout"] = f"{what} at a time: {per_device}, processes: {processes}, passes: {passes}"
    if recipe.data.questions_together > 1:
        section.facts["questions about a video"] = f"up to {recipe.data.questions_together} in one micro-batch"
    if recipe.kind == "grpo":
        completions = section.facts["completions per update"] = per_update * args.num_generations
        if (looks := args.several_looks()) is not None:
            section.facts["further looks per update"] = f"at most {looks.rounds * completions}"
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


def _describe_tokens(
    section: Section, budget: VideoBudget, shape: ModelShape, videos: Sequence[VideoGrid]
) -> VideoGrid:
    """Writes what a video costs in tokens; returns the largest one that is known."""
    duration, width, height = REFERENCE_CLIP
    reference = grid_of_clip(duration, width, height, budget, shape)
    section.facts["tokens per video"] = f"frames / 2 x height / {shape.token_side} x width / {shape.token_side}"
    if reference.time_tokens:
        section.facts["tokens per video"] += f", and {reference.time_tokens // reference.steps} a pair for its time"
    section.facts[f"  {duration:g} s of {width} x {height}"] = reference.prompt_tokens
    if videos:
        tokens = [video.prompt_tokens for video in videos]
        section.facts[f"  {counted(len(tokens), 'video')} of the data"] = (
            f"{min(tokens):,} to {max(tokens):,}, median {median(tokens):,.0f}"
        )
    return max(videos, key=lambda video: video.prompt_tokens, default=reference)


def _describe_memory(
    section: Section,
    recipe: Recipe,
    processes: int,
    passes: int,
    shape: ModelShape,
    video: VideoGrid,
    gpu_bytes: float | None,
) -> None:
    section.facts["GPU memory, estimated"] = f"a video of {video.prompt_tokens:,} tokens, completions at their longest"
    for strategy in STRATEGIES:
        needed, host = peak_bytes(recipe, strategy, processes, passes, shape, video, gpu_bytes)
        text = f"{needed / GB:.3g} GB a GPU" + (f", {host * processes / GB:.3g} GB on the host" if host else "")
        if gpu_bytes is not None:
            text += ": fits" if needed < 0.9 * gpu_bytes else ": does not fit"
        section.facts[f"  {strategy.name}"] = text
    if gpu_bytes is None:
        return
    _check_engine(section, recipe, shape, video, gpu_bytes)
    needed, _ = peak_bytes(recipe, recipe.strategy, processes, passes, shape, video, gpu_bytes)
    if needed > gpu_bytes:
        section.problem(
            f"about {needed / GB:.0f} GB are needed on a GPU of {gpu_bytes / GB:.0f} GB",
            "use more GPUs, configs/deepspeed/zero3_offload.json, lora, or a smaller video.total_pixels",
        )


def _check_engine(section: Section, recipe: Recipe, shape: ModelShape, video: VideoGrid, gpu_bytes: float) -> None:
    """vLLM ends at its start when its share of the GPU has no room for the cache of one completion."""
    if recipe.kind != "grpo" or not recipe.args.use_vllm:
        return
    share = recipe.args.vllm_gpu_memory_utilization
    needed = vllm_bytes(recipe, shape, video, None)
    if needed > share * gpu_bytes:
        section.problem(
            f"vLLM gets {share * gpu_bytes / GB:.1f} GB of a GPU (vllm_gpu_memory_utilization {share}), its weights and the cache "
            f"of one completion need {needed / GB:.1f} GB",
            f"--vllm_gpu_memory_utilization {min(0.9, math.ceil(20 * 1.2 * needed / gpu_bytes) / 20):g}, or divide it with "
            "vllm_tensor_parallel_size",
        )
