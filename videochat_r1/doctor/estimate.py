"""What one update of a recipe takes on a kind of GPU: tokens, operations, seconds and memory, prompts repeated against shared.

The formulas are those of `doctor.flops` and `doctor.memory`; docs/performance.md explains them and what they leave out.
`repeated` computes video and prompt once per completion everywhere, `shared` once per group, and a video once for all
questions about it that `questions_together` brings into a micro-batch. Of `second_look` it is the most there can be: every
rollout takes every look, and no two of a group see the same.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from videochat_r1.doctor.gpu_node import GB
from videochat_r1.doctor.gpus import GPUS
from videochat_r1.doctor.memory import model_shape
from videochat_r1.doctor.recipe import Recipe, accumulation, rows_per_process
from videochat_r1.doctor.recipe_memory import memory_parts
from videochat_r1.doctor.work import Assumptions, Phases, Work, decode_seconds
from videochat_r1.errors import ConfigError, counted
from videochat_r1.modeling.families import published_config, published_names
from videochat_r1.modeling.load import load_config


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
    recipe.args.check_questions(recipe.data.questions_together)
    work = Work(recipe, shape, assumptions, rows_per_process(recipe) * processes * passes)
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
            "questions_of_a_video": work.questions,
            "further_look_tokens": work.look_prompts,
        },
    }
    for way in ways:
        shared = way == "shared"
        operations = work.flops(shared)
        per_second = processes * gpu.teraflops * 1e12
        seconds = replace(
            operations.divided(per_second * assumptions.mfu),
            decode=decode_seconds(work, recipe, shape, gpu, processes, assumptions, shared=shared),
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
    questions = update["questions_of_a_video"]
    questions = f"; {questions:g} questions about each video at a time" if questions > 1 else ""
    further = "".join(
        f"; at most {counted(update['completions'], 'further look')} of {tokens:,}"
        for tokens in update["further_look_tokens"]
    )
    lines = [
        f"{model['name']}, {model['parameters']:,} parameters ({model['vision_parameters']:,} in the vision tower)",
        f"{gpu['number']} x {gpu['name']}: {gpu['gigabytes']:g} GB, {gpu['teraflops']:g} TFLOP/s, {gpu['terabytes']:g} TB/s",
        f"one update: {counted(update['prompts'], 'prompt')} of {update['prompt_tokens']:,} tokens ({update['video_tokens']:,} of "
        f"video{times}), {counted(update['completions'], 'completion')} of {update['completion_tokens']:,}{questions}{further}",
        "assumed: "
        + ", ".join(f"{name} {value}" for name, value in result["assumptions"].items() if value is not None),
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
