"""What one update computes, phase by phase: tokens and operations from `doctor.flops`, seconds of decoding."""

import math
from dataclasses import asdict, dataclass

from videochat_r1.doctor import flops
from videochat_r1.doctor.data import grid_of_clip
from videochat_r1.doctor.gpus import Gpu
from videochat_r1.doctor.looks import further_looks
from videochat_r1.doctor.memory import ModelShape
from videochat_r1.doctor.recipe import PROMPT_TEXT_TOKENS, REFERENCE_CLIP, Recipe, shuffled_generations
from videochat_r1.errors import ConfigError

# Qwen's resizing refuses more.
_LARGEST_ASPECT = 200


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no formula gives; the defaults were measured on an H200 (docs/performance.md).

    Args:
        mfu: share of a GPU's peak reached in prefill, log-probabilities and backward, recomputed operations counted too.
        bandwidth_use: share of the memory bandwidth reached in decoding.
        launch_ms: least time of one decoder layer in a decoding step that is not recorded, for starting its kernels.
        completion_tokens: C, the mean length of a completion. Memory is for the recipe's `max_completion_length`.
        clip: seconds, width and height of a video.
        questions: about each video in a micro-batch, on average; None for the recipe's `questions_together`.
    """

    mfu: float = 0.35
    bandwidth_use: float = 0.43
    launch_ms: float = 0.76
    completion_tokens: int = 200
    clip: tuple[float, int, int] = REFERENCE_CLIP
    questions: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("mfu", 0.0, 1.0), ("bandwidth_use", 0.0, 1.0)):
            if not low < getattr(self, name) <= high:
                raise ConfigError(f"--{name} {getattr(self, name)} is a share: expected more than 0, at most 1")
        if not 0 <= self.launch_ms < math.inf:
            raise ConfigError(f"--launch_ms {self.launch_ms} is a time: expected 0 or more milliseconds")
        if self.completion_tokens < 1 or min(self.clip) <= 0:
            raise ConfigError(
                f"--completion_tokens {self.completion_tokens} and --clip {self.clip} must be greater than 0"
            )
        if self.questions is not None and not 1 <= self.questions < math.inf:
            raise ConfigError(f"--questions {self.questions} is how many questions there are about a video: at least 1")
        if max(self.clip[1:]) >= _LARGEST_ASPECT * min(self.clip[1:]):
            raise ConfigError(
                f"--clip {self.clip[0]:g}:{self.clip[1]}:{self.clip[2]}: no video whose sides differ by a factor of "
                f"{_LARGEST_ASPECT} can be resized"
            )


@dataclass(frozen=True, slots=True)
class Phases:
    """A number for each part of an update, over all GPUs."""

    prefill: float = 0.0
    decode: float = 0.0
    old_policy: float = 0.0
    reference: float = 0.0
    policy: float = 0.0
    recomputation: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(asdict(self).values())

    def divided(self, by: float) -> "Phases":
        """Every number divided by another."""
        return Phases(**{name: value / by for name, value in asdict(self).items()})


class Work:
    """Tokens and operations of one update over all GPUs; see `flops` for the letters."""

    def __init__(self, recipe: Recipe, shape: ModelShape, assumptions: Assumptions, groups: int) -> None:
        args, model = recipe.args, recipe.model
        grpo = recipe.kind == "grpo"
        lora = model.lora is not None
        self.decoder, self.tower = shape.decoder, shape.tower
        self.video = grid_of_clip(*assumptions.clip, recipe.data.budget(), shape)
        self.prompt = self.video.prompt_tokens + PROMPT_TEXT_TOKENS
        self.questions: float = assumptions.questions or recipe.data.questions_together
        # Of a video's tokens, what a prompt is spared where it shares them with the other questions about it.
        self.spared = 1 - 1 / self.questions
        self.length = assumptions.completion_tokens
        self.groups = groups
        self.completions: int = args.num_generations if grpo else 1
        # Of each video, beside them: drawn from the same prompt with its frames shuffled.
        self.shuffled = shuffled_generations(recipe)
        # At most: every rollout looks again, and no two of them at the same.
        self.looks = further_looks(recipe, self.video, shape)
        self.look_prompts = [grid.prompt_tokens + PROMPT_TEXT_TOKENS for grid in self.looks]
        self.frozen_vision = lora or bool(model.freeze_vision_tower)
        # With adapters only activations have a gradient; the adapters' own products are small.
        self.backward = 1 if lora else 2
        # A generation serves several updates where there are several iterations or it is larger than an update.
        self.iterations: int = args.num_iterations if grpo else 1
        self.updates_per_generation: float = (
            self.iterations * args.steps_per_generation / args.gradient_accumulation_steps if grpo else 1.0
        )
        corrected = grpo and args.use_vllm and args.vllm_importance_sampling_correction
        once = 1 / self.iterations
        self.times = Phases(
            prefill=once if grpo else 0.0,
            decode=once if grpo else 0.0,
            old_policy=once if corrected or self.updates_per_generation > 1 else 0.0,
            reference=once if grpo and args.beta > 0 else 0.0,
            policy=1.0,
            recomputation=1.0 if args.gradient_checkpointing else 0.0,
        )

    def tokens(self, shared: bool) -> Phases:
        """Tokens that the language model computes."""
        prompt = self.prompt - self.spared * self.video.prompt_tokens if shared else self.prompt * self.completions
        completions = self.completions * self.length
        further = self.completions * sum(self.look_prompts)
        answers = completions * (1 + len(self.looks))
        row = prompt + further + answers
        prefilled = prompt + self._shuffled_prompts(shared) * self.prompt + further
        drawn = answers + self.shuffled * self.length
        return self._per_update(Phases(prefilled, drawn, row, row, row, row))

    def flops(self, shared: bool) -> Phases:
        """Operations, the vision tower's included."""
        language, vision = asdict(self._language(shared)), asdict(self._vision(shared))
        return self._per_update(Phases(**{name: language[name] + vision[name] for name in language}))

    def vision_flops(self, shared: bool) -> float:
        """Those of the vision tower alone."""
        return self._per_update(self._vision(shared)).total

    def _shuffled_prompts(self, shared: bool) -> int:
        return min(self.shuffled, 1) if shared else self.shuffled

    def _language(self, shared: bool) -> Phases:
        sizes = (self.decoder, self.prompt, self.completions, self.length)
        if shared:
            # A question after its video costs what both cost without the video alone.
            spared = self.spared * flops.prefill(self.decoder, self.video.prompt_tokens)
            forward = flops.logps_shared(*sizes) - spared
            prefill = (1 + self._shuffled_prompts(shared)) * flops.prefill(self.decoder, self.prompt) - spared
        else:
            forward = flops.logps_repeated(*sizes)
            prefill = flops.prefill_repeated(self.decoder, self.prompt, self.completions + self.shuffled)
        drawn = flops.decode(self.decoder, self.prompt, self.completions + self.shuffled, self.length)
        for tokens in self.look_prompts:
            alone = (self.decoder, tokens, 1, self.length)
            forward += self.completions * (flops.logps_shared(*alone) if shared else flops.logps_repeated(*alone))
            begun = flops.prefill(*alone[:2]) if shared else flops.prefill_repeated(*alone[:3])
            prefill += self.completions * begun
            drawn += flops.decode(self.decoder, tokens, self.completions, self.length)
        return Phases(prefill, drawn, forward, forward, (1 + self.backward) * forward, forward)

    def _vision(self, shared: bool) -> Phases:
        video = flops.vision_forward(self.tower, self.video)
        further = self.completions * sum(flops.vision_forward(self.tower, grid) for grid in self.looks)
        forward = video * (1 - self.spared if shared else self.completions) + further
        prefill = forward + video * self._shuffled_prompts(shared)
        if not self.frozen_vision:
            return Phases(prefill, 0.0, forward, forward, 3 * forward, forward)
        # Features of a frozen tower are kept where prompts are shared.
        again = 0.0 if shared else forward
        return Phases(prefill, 0.0, again, again, again, 0.0)

    def _per_update(self, group: Phases) -> Phases:
        times = asdict(self.times)
        return Phases(**{name: self.groups * times[name] * value for name, value in asdict(group).items()})


def decode_seconds(
    work: Work, recipe: Recipe, shape: ModelShape, gpu: Gpu, processes: int, assumptions: Assumptions, *, shared: bool
) -> float:
    """Decoding steps of an update times the longest of: starting the kernels, reading weights and keys, computing.

    Every GPU decodes the groups of its own generation together, or `rollout_batch_rows` rows at a time.
    """
    if work.times.decode == 0:
        return 0.0
    drawn = work.groups / processes / work.iterations
    width = 2 if recipe.args.bf16 else 4
    # Of the input embedding, unless it is the head too, a step reads a few rows only.
    sizes = shape.decoder
    unread = shape.vision_parameters + (0 if shape.tied else sizes.vocabulary * sizes.hidden)
    recorded = recipe.args.use_vllm or recipe.args.rollout_cuda_graph
    launching = 0.0 if recorded else sizes.layers * assumptions.launch_ms / 1e3

    def of_look(prompt: int, rows: int, prompt_keys: float) -> float:
        """All steps of one look, of `rows` completions of a group over the keys of a prompt."""
        together = drawn * work.updates_per_generation
        if recipe.args.rollout_batch_rows:
            together = min(together, max(1, recipe.args.rollout_batch_rows // rows))
        keys = prompt_keys + rows * work.length / 2
        read = width * (shape.parameters - unread + together * 2 * sizes.layers * sizes.key_width * keys)
        computed = together * flops.decode(sizes, prompt, rows, work.length) / work.length
        step = max(
            launching,
            read / (gpu.terabytes * 1e12 * assumptions.bandwidth_use),
            computed / (gpu.teraflops * 1e12 * assumptions.mfu),
        )
        return drawn / together * work.length * step

    rows = work.completions + work.shuffled
    once = work.prompt * (1 + min(work.shuffled, 1)) - work.spared * work.video.prompt_tokens
    first = of_look(work.prompt, rows, once if shared else rows * work.prompt)
    further = (of_look(prompt, work.completions, work.completions * prompt) for prompt in work.look_prompts)
    return first + sum(further)
