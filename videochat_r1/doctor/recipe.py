"""A recipe read without the things that need GPUs, and the layout that it describes."""

from collections.abc import Sequence
from typing import Any

import torch

from videochat_r1.doctor.memory import Strategy
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.options import read_yaml, untyped
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.recipe_file import read_recipe
from videochat_r1.sft import VideoSFTConfig

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
        zero = untyped(read_yaml(self.deepspeed, "a DeepSpeed file")).get("zero_optimization") or {}
        stage = zero.get("stage", 0) if isinstance(zero, dict) else None
        if stage not in (0, 1, 2, 3):
            raise ConfigError(f"the DeepSpeed file {self.deepspeed} has no zero_optimization with a stage from 0 to 3")
        return Strategy(stage, "offload_optimizer" in zero)


def kind_of(path: str) -> str:
    """`sft` for a file with `samples_per_step`, which GRPO does not know; else `grpo`.

    Raises:
        ConfigError: it cannot be read, or is no recipe.
    """
    return "sft" if "samples_per_step" in read_recipe(path, "grpo").values else "grpo"


def _take_deepspeed(path: str, flags: list[str]) -> tuple[str, list[str]]:
    """The DeepSpeed file that flags or recipe name ("" for none), and the other flags."""
    named = read_recipe(path, "grpo").values.get("deepspeed") or ""
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


def processes_of_one_pass(recipe: Recipe) -> int:
    """The number of processes that need no accumulation for the recipe's prompts (or samples) per update."""
    args = recipe.args
    wanted = (args.prompts_per_step if recipe.kind == "grpo" else args.samples_per_step) or 1
    return max(1, wanted // rows_per_process(recipe))


def rows_per_process(recipe: Recipe) -> int:
    """Prompts (or samples) in a micro-batch of one process."""
    size: int = recipe.args.per_device_train_batch_size
    return size // recipe.args.num_generations if recipe.kind == "grpo" else size


def shuffled_generations(recipe: Recipe) -> int:
    """Completions that a video's frames in another order are drawn for, beside a group; every prompt is taken to show one."""
    contrast = recipe.args.temporal_contrast if recipe.kind == "grpo" else None
    return 0 if contrast is None else int(contrast["shuffled_generations"])


def accumulation(args: VideoGRPOConfig | VideoSFTConfig, processes: int) -> int:
    """Forward passes of each process per update.

    Raises:
        ConfigError: the layout cannot give the recipe's prompts or samples per update.
    """
    wanted = args.prompts_per_step if isinstance(args, VideoGRPOConfig) else args.samples_per_step
    return args.gradient_accumulation_steps if wanted is None else args.accumulation(processes)
