"""What one update of a recipe takes on a kind of GPU: tokens, operations, seconds and memory, prompts repeated against shared.

The formulas are those of `doctor.flops` and `doctor.memory`; docs/performance.md explains them and what they leave out.
`repeated` computes video and prompt once per completion everywhere, `shared` once per group.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from videochat_r1.doctor import flops
from videochat_r1.doctor.data import grid_of_clip
from videochat_r1.doctor.gpu_node import GB
from videochat_r1.doctor.memory import ModelShape, model_shape
from videochat_r1.doctor.recipe import (
    PROMPT_TEXT_TOKENS,
    REFERENCE_CLIP,
    Recipe,
    accumulation,
    rows_per_process,
)
from videochat_r1.doctor.recipe_memory import memory_parts
from videochat_r1.errors import ConfigError, counted
from videochat_r1.modeling.families import published_config, published_names
from videochat_r1.modeling.load import load_config


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU as its data sheet describes it.

    Args:
        gigabytes: memory.
        teraflops: dense bf16 operations per second.
        terabytes: memory bandwidth per second.
    """

    gigabytes: float
    teraflops: float
    terabytes: float


GPUS = {
    "A100-40GB": Gpu(40, 312, 1.555),
    "A100-80GB": Gpu(80, 312, 2.039),
    "A800-80GB": Gpu(80, 312, 2.039),
    "H20": Gpu(96, 148, 4.0),
    "H100": Gpu(80, 989, 3.35),
    "H800": Gpu(80, 989, 3.35),
    "H200": Gpu(141, 989, 4.8),
    "B200": Gpu(180, 2250, 7.7),
    "L40S": Gpu(48, 362, 0.864),
    "RTX-4090": Gpu(24, 165, 1.008),
}
"""Name -> data sheet (SXM boards where there are several)."""

# In the names that drivers give, beside what tells the kinds apart.
_NAME_FILLERS = re.compile(r"nvidia|geforce|sxm\d?|hbm\d\w?")


def gpu_named(name: str) -> str:
    """The key of `GPUS` that a name as people or drivers write it means: "h100", "4090", "NVIDIA A100-SXM4-80GB".

    Raises:
        ConfigError: it means none, or several.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and not _NAME_FILLERS.fullmatch(word)]
    meant = [
        key
        for key, gpu in GPUS.items()
        if words and set(words) <= {*key.lower().split("-"), f"{gpu.gigabytes:g}gb", key.lower().replace("-", "")}
    ]
    if len(meant) == 1:
        return meant[0]
    problem = f"may be {' or '.join(meant)}" if meant else "is none of the GPUs whose data sheet is known"
    raise ConfigError(f"--gpu {name!r} {problem}; known are {', '.join(GPUS)}")


# Qwen's resizing refuses more.
_LARGEST_ASPECT = 200


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no formula gives.

    Args:
        mfu: share of a GPU's peak reached in prefill, log-probabilities and backward, recomputed operations counted too.
        bandwidth_use: share of the memory bandwidth reached in decoding.
        launch_ms: least time of one decoder layer in a decoding step, for starting its kernels.
        completion_tokens: C, the mean length of a completion. Memory is for the recipe's `max_completion_length`.
        clip: seconds, width and height of a video.
    """

    mfu: float = 0.4
    bandwidth_use: float = 0.6
    launch_ms: float = 0.5
    completion_tokens: int = 200
    clip: tuple[float, int, int] = REFERENCE_CLIP

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


def resolve_config(name: str) -> PretrainedConfig:
    """The config in a model folder or, of a published checkpoint that is not here, the known sizes.

    Raises:
        ConfigError: neither a model folder nor a known name.
    """
    if Path(name).is_dir():
        return load_config(name)
    config = published_config(name)
    if config is None:
        raise ConfigError(
            f"{name!r} is no folder here and no checkpoint whose sizes are known ({', '.join(published_names())}): name a model folder "
            "with --model_name_or_path"
        )
    return config


def estimate(recipe: Recipe, gpu_name: str, processes: int, assumptions: Assumptions) -> dict[str, Any]:
    """Everything that `videochat-r1 estimate --json` prints.

    Raises:
        ConfigError: a model that is not known, or a layout that cannot give the recipe's prompts per update.
    """
    gpu, shape = GPUS[gpu_name], model_shape(resolve_config(recipe.model.model_name_or_path))
    passes = accumulation(recipe.args, processes)
    work = _Work(recipe, shape, assumptions, rows_per_process(recipe) * processes * passes)
    ways = ("repeated", "shared") if recipe.kind == "grpo" else ("shared",)
    result: dict[str, Any] = {
        "recipe": recipe.path,
        "model": {
            "name": recipe.model.model_name_or_path,
            "parameters": shape.parameters,
            "vision_parameters": shape.vision_parameters,
        },
        "gpu": {"name": gpu_name, "number": processes, **asdict(gpu)},
        "assumptions": asdict(assumptions),
        "update": {
            "prompts": work.groups,
            "completions": work.groups * work.completions,
            "prompt_tokens": work.prompt,
            "video_tokens": work.video.tokens,
            "time_tokens": work.video.time_tokens,
            "completion_tokens": assumptions.completion_tokens,
        },
    }
    for way in ways:
        shared = way == "shared"
        operations = work.flops(shared)
        per_second = processes * gpu.teraflops * 1e12
        seconds = replace(
            operations.divided(per_second * assumptions.mfu),
            decode=_decode_seconds(work, recipe, shape, gpu, processes, assumptions, shared=shared),
        )
        parts = memory_parts(
            recipe,
            recipe.strategy,
            processes,
            passes,
            shape,
            work.video,
            share_logps=shared,
            share_rollout=shared,
            gpu_bytes=gpu.gigabytes * GB,
        )
        useful = operations.total - operations.recomputation
        result[way] = {
            "tokens": _with_total(work.tokens(shared)),
            "flops": {**_with_total(operations), "vision tower": work.vision_flops(shared)},
            "seconds": _with_total(seconds),
            "gigabytes": {
                "state": parts.state / GB,
                "update": parts.update / GB,
                "head": parts.head / GB,
                "rollout": parts.rollout / GB,
                "vllm": parts.vllm / GB,
                "peak": parts.peak / GB,
                "host": parts.host / GB,
                "fits": bool(parts.peak < 0.9 * gpu.gigabytes * GB),
            },
            "mfu": useful / (seconds.total * per_second),
        }
    if "repeated" in result:
        result["ratio"] = {
            **{
                name: result["repeated"][name]["total"] / result["shared"][name]["total"]
                for name in ("tokens", "flops", "seconds")
            },
            "gigabytes": result["repeated"]["gigabytes"]["peak"] / result["shared"]["gigabytes"]["peak"],
        }
    return result


class _Work:
    """Tokens and operations of one update over all GPUs; see `flops` for the letters."""

    def __init__(self, recipe: Recipe, shape: ModelShape, assumptions: Assumptions, groups: int) -> None:
        args, model = recipe.args, recipe.model
        grpo = recipe.kind == "grpo"
        lora = model.lora is not None
        self.decoder, self.tower = shape.decoder, shape.tower
        self.video = grid_of_clip(*assumptions.clip, recipe.data.budget(), shape)
        self.prompt = self.video.prompt_tokens + PROMPT_TEXT_TOKENS
        self.length = assumptions.completion_tokens
        self.groups = groups
        self.completions: int = args.num_generations if grpo else 1
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
        prompt = self.prompt * (1 if shared else self.completions)
        completions = self.completions * self.length
        row = prompt + completions
        return self._per_update(Phases(prompt, completions, row, row, row, row))

    def flops(self, shared: bool) -> Phases:
        """Operations, the vision tower's included."""
        language, vision = asdict(self._language(shared)), asdict(self._vision(shared))
        return self._per_update(Phases(**{name: language[name] + vision[name] for name in language}))

    def vision_flops(self, shared: bool) -> float:
        """Those of the vision tower alone."""
        return self._per_update(self._vision(shared)).total

    def _language(self, shared: bool) -> Phases:
        sizes = (self.decoder, self.prompt, self.completions, self.length)
        if shared:
            prefill, forward = flops.prefill(self.decoder, self.prompt), flops.logps_shared(*sizes)
        else:
            prefill = flops.prefill_repeated(self.decoder, self.prompt, self.completions)
            forward = flops.logps_repeated(*sizes)
        return Phases(prefill, flops.decode(*sizes), forward, forward, (1 + self.backward) * forward, forward)

    def _vision(self, shared: bool) -> Phases:
        forward = flops.vision_forward(self.tower, self.video) * (1 if shared else self.completions)
        if not self.frozen_vision:
            return Phases(forward, 0.0, forward, forward, 3 * forward, forward)
        # Features of a frozen tower are kept where prompts are shared.
        again = 0.0 if shared else forward
        return Phases(forward, 0.0, again, again, again, 0.0)

    def _per_update(self, group: Phases) -> Phases:
        times = asdict(self.times)
        return Phases(**{name: self.groups * times[name] * value for name, value in asdict(group).items()})


def _decode_seconds(
    work: _Work, recipe: Recipe, shape: ModelShape, gpu: Gpu, processes: int, assumptions: Assumptions, *, shared: bool
) -> float:
    """Decoding steps of an update times the longest of: starting the kernels, reading weights and keys, computing.

    Every GPU decodes the groups of its own generation together, or `rollout_batch_rows` rows at a time.
    """
    if work.times.decode == 0:
        return 0.0
    drawn = work.groups / processes / work.iterations
    together = drawn * work.updates_per_generation
    if recipe.args.rollout_batch_rows:
        together = min(together, max(1, recipe.args.rollout_batch_rows // work.completions))
    width = 2 if recipe.args.bf16 else 4
    # Of the input embedding, unless it is the head too, a step reads a few rows only.
    sizes = shape.decoder
    unread = shape.vision_parameters + (0 if shape.tied else sizes.vocabulary * sizes.hidden)
    prompt_copies = 1 if shared else work.completions
    keys = prompt_copies * work.prompt + work.completions * work.length / 2
    read = width * (shape.parameters - unread + together * 2 * sizes.layers * sizes.key_width * keys)
    computed = together * flops.decode(sizes, work.prompt, work.completions, work.length) / work.length
    launching = 0.0 if recipe.args.use_vllm else sizes.layers * assumptions.launch_ms / 1e3
    step = max(
        launching,
        read / (gpu.terabytes * 1e12 * assumptions.bandwidth_use),
        computed / (gpu.teraflops * 1e12 * assumptions.mfu),
    )
    return drawn / together * work.length * step


_TABLES = (
    ("tokens", "of an update", {"tokens": 1.0}, ",.0f"),
    ("flops", "of an update", {"PFLOP": 1e15, "TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}, ",.2f"),
    ("seconds", "of an update", {"seconds": 1.0, "ms": 1e-3, "us": 1e-6}, ",.2f"),
    ("gigabytes", "of a GPU, at most", {"GB": 1.0, "MB": 1e-3, "kB": 1e-6}, ",.1f"),
)
"""Quantity, title, units, of which the largest number of a table has at least one, and how numbers are written."""


def to_text(result: Mapping[str, Any]) -> str:
    """The same for people."""
    model, gpu, update = result["model"], result["gpu"], result["update"]
    times = f", {update['time_tokens']:,} of its times" if update["time_tokens"] else ""
    lines = [
        f"{model['name']}, {model['parameters']:,} parameters ({model['vision_parameters']:,} in the vision tower)",
        f"{gpu['number']} x {gpu['name']}: {gpu['gigabytes']:g} GB, {gpu['teraflops']:g} TFLOP/s, {gpu['terabytes']:g} TB/s",
        f"one update: {counted(update['prompts'], 'prompt')} of {update['prompt_tokens']:,} tokens ({update['video_tokens']:,} of "
        f"video{times}), {counted(update['completions'], 'completion')} of {update['completion_tokens']:,}",
        "assumed: " + ", ".join(f"{name} {value}" for name, value in result["assumptions"].items()),
    ]
    ways = [way for way in ("repeated", "shared") if way in result]
    for name, title, units, number in _TABLES:
        keys = [key for key in result[ways[0]][name] if key != "fits"]
        rows = {key: [result[way][name][key] for way in ways] for key in keys}
        largest = max(value for values in rows.values() for value in values)
        unit, scale = next((each for each in units.items() if largest >= each[1]), list(units.items())[-1])
        scaled = {key: [value / scale for value in values] for key, values in rows.items()}
        lines += _table(f"{unit} {title}", scaled, ways, number)
    for way in ways:
        fits = "fits" if result[way]["gigabytes"]["fits"] else "does not fit"
        lines.append(f"{way}: {fits}; model FLOPs utilisation of the whole update {result[way]['mfu']:.2g}")
    return "\n".join(lines)


def _table(title: str, rows: Mapping[str, list[float]], ways: list[str], number: str) -> list[str]:
    """Lines with the ratio at their end where there are two ways; rows of zeros are left out."""
    heads = [*ways, "ratio"] if len(ways) == 2 else ways
    lines = ["", f"{title:<24}" + "".join(f"{head:>14}" for head in heads)]
    for key, values in rows.items():
        if not any(values):
            continue
        text = f"  {key.replace('_', ' '):<22}" + "".join(f"{_written(value, number):>14}" for value in values)
        ratio = f"{values[0] / values[1]:14.1f}" if len(values) == 2 and values[1] else ""
        lines.append(text + ratio)
    return lines


def _written(value: float, number: str) -> str:
    """`value` in that format, or with two digits of its own where that would be 0."""
    text = format(value, number)
    return f"{value:.2g}" if value and not text.strip("0.,") else text


def _with_total(phases: Phases) -> dict[str, float]:
    return {**asdict(phases), "total": phases.total}
