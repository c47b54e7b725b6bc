"""Memory and disk that a recipe takes, by the formulas of `doctor.memory`."""

from dataclasses import dataclass

from videochat_r1.doctor.flops import VideoGrid
from videochat_r1.doctor.looks import further_looks
from videochat_r1.doctor.memory import (
    ModelShape,
    Strategy,
    engine_bytes,
    rollout_bytes,
    state_bytes,
    update_bytes,
)
from videochat_r1.doctor.recipe import PROMPT_TEXT_TOKENS, Recipe, rows_per_process, shuffled_generations


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Estimated bytes of one process: what lies there throughout, and what update and rollout take besides.

    `vllm` is what a vLLM engine takes, throughout unless `vllm_sleeps`; 0 without one.
    """

    state: float
    update: float
    rollout: float
    host: float
    vllm: float = 0.0
    vllm_sleeps: bool = False

    @property
    def peak(self) -> float:
        """On the GPU. Update and rollout follow each other."""
        if self.vllm_sleeps:
            return self.state + max(self.update, self.vllm)
        return self.state + self.vllm + max(self.update, self.rollout)


def memory_parts(
    recipe: Recipe,
    strategy: Strategy,
    processes: int,
    passes: int,
    shape: ModelShape,
    video: VideoGrid,
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
        video: of a prompt.
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
    prompt = video.prompt_tokens + PROMPT_TEXT_TOKENS
    shared = prompt + completions * args.max_completion_length
    repeated = completions * (prompt + args.max_completion_length)
    copies = 1 if share_logps else completions
    # At most, as the clues of every completion may be others: each has a prompt of its own.
    closer = further_looks(recipe, video, shape)
    further = [completions * (grid.prompt_tokens + PROMPT_TEXT_TOKENS) for grid in closer]
    answers = completions * args.max_completion_length
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
        tokens=(shared if share_logps else repeated) + sum(prompts + answers for prompts in further),
        video_tokens=copies * video.tokens + completions * sum(grid.tokens for grid in closer),
        rows=rows,
        scored_tokens=(1 + len(closer)) * answers,
        bf16=bf16,
        checkpointing=bool(args.gradient_checkpointing),
        frozen_vision=model.freeze_vision_tower,
        trained_head=not lora,
    )
    rollout = vllm = 0.0
    if grpo and args.use_vllm:
        vllm = vllm_bytes(recipe, shape, video, gpu_bytes)
    elif grpo:
        # The completions of a whole update are drawn together, unless rollout_batch_rows says how many at a time.
        shuffled = shuffled_generations(recipe)
        together = args.rollout_batch_rows or rows * passes * (completions + shuffled)
        groups = -(-together // (completions + shuffled))
        tokens = shared if share_rollout else repeated
        prompts = 1 if share_rollout else completions
        if shuffled:
            # A group of its own, with room for as many rows as the larger of both.
            width = max(completions, shuffled)
            tokens = 2 * (prompt + width * args.max_completion_length) if share_rollout else 2 * repeated
            prompts *= 2
        rollout = rollout_bytes(
            shape,
            strategy,
            tokens=tokens,
            groups=groups,
            prompt_tokens=prompts * prompt,
            video_tokens=prompts * video.tokens,
            bf16=bf16,
        )
        # Looks are drawn one after the other.
        for grid, tokens in zip(closer, further, strict=True):
            again = rollout_bytes(
                shape,
                strategy,
                tokens=tokens + answers,
                groups=groups,
                prompt_tokens=tokens,
                video_tokens=completions * grid.tokens,
                bf16=bf16,
            )
            rollout = max(rollout, again)
    sleeps = grpo and args.use_vllm and args.vllm_enable_sleep_mode
    return MemoryParts(state, update, rollout, host, vllm, sleeps)


def vllm_bytes(recipe: Recipe, shape: ModelShape, video: VideoGrid, gpu_bytes: float | None) -> float:
    """What a vLLM engine of the recipe takes of a GPU of so many bytes; None counts what it needs only."""
    args = recipe.args
    longest = max(grid.prompt_tokens for grid in (video, *further_looks(recipe, video, shape)))
    return engine_bytes(
        shape,
        # Its cache pages: one completion has to fit.
        tokens=longest + PROMPT_TEXT_TOKENS + args.max_completion_length,
        processes=args.vllm_tensor_parallel_size,
        bf16=bool(args.bf16),
        share=args.vllm_gpu_memory_utilization,
        gpu_bytes=gpu_bytes,
    )


def peak_bytes(
    recipe: Recipe,
    strategy: Strategy,
    processes: int,
    passes: int,
    shape: ModelShape,
    video: VideoGrid,
    gpu_bytes: float | None = None,
) -> tuple[float, float]:
    """Estimated peak of one process: (bytes on the GPU, bytes on the host)."""
    share = recipe.kind == "sft" or bool(recipe.args.share_prompt)
    parts = memory_parts(recipe, strategy, processes, passes, shape, video, share_logps=share, gpu_bytes=gpu_bytes)
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
