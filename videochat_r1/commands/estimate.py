"""`videochat-r1 estimate --config YAML [--gpu NAME] [--num_gpus N] [--flag value ...]`: what an update will take."""

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Any

from videochat_r1.commands.logs import loading
from videochat_r1.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Print tokens, operations, seconds and memory; 0."""
    with loading("torch, transformers and TRL"):
        from videochat_r1.doctor.estimate import estimate, to_text
        from videochat_r1.doctor.gpus import GPUS, gpu_named
        from videochat_r1.doctor.recipe import Recipe, processes_of_one_pass
        from videochat_r1.doctor.work import Assumptions

    options, flags = _parser(GPUS, Assumptions()).parse_known_args(argv)
    if options.num_gpus is not None and options.num_gpus < 1:
        raise ConfigError(f"--num_gpus {options.num_gpus}: expected at least 1")
    gpu = gpu_named(options.gpu)
    assumptions = Assumptions(
        mfu=options.mfu,
        bandwidth_use=options.bandwidth_use,
        launch_ms=options.launch_ms,
        completion_tokens=options.completion_tokens,
        clip=_clip(options.clip),
        questions=options.questions,
    )
    recipe = Recipe(options.config, [*(("--model_name_or_path", options.model) if options.model else ()), *flags])
    result = estimate(recipe, gpu, options.num_gpus or processes_of_one_pass(recipe), assumptions)
    print(json.dumps(result, indent=2) if options.json else to_text(result))
    return 0


def _parser(gpus: Iterable[str], defaults: Any) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="videochat-r1 estimate",
        description="Tokens, floating-point operations, seconds and memory of one update of a recipe on a kind of GPU, with "
        "prompts repeated for each completion and with prompts shared, from the formulas in docs/performance.md. Any flag "
        "of the recipe may follow, as for grpo and sft. Nothing is loaded and no GPU is needed.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="recipe")
    parser.add_argument(
        "--gpu",
        default="H100",
        help=f"kind of GPU, one of {', '.join(gpus)}, or as the driver names it (default %(default)s)",
    )
    parser.add_argument(
        "--model", help="model folder, or a published one's name; overrides the recipe's model_name_or_path"
    )
    parser.add_argument(
        "--num_gpus",
        "--num-gpus",
        "--num-processes",
        "--num_processes",
        type=int,
        help="default: as many as make an update in one pass",
    )
    parser.add_argument(
        "--mfu",
        type=float,
        default=defaults.mfu,
        help="share of the peak that prefill, log-probabilities and backward reach (default %(default)s)",
    )
    parser.add_argument(
        "--bandwidth_use",
        "--bandwidth-use",
        type=float,
        default=defaults.bandwidth_use,
        help="share of the memory bandwidth that decoding reaches (default %(default)s)",
    )
    parser.add_argument(
        "--launch_ms",
        "--launch-ms",
        type=float,
        default=defaults.launch_ms,
        help="least milliseconds of a layer in a decoding step that is not recorded (default %(default)s)",
    )
    parser.add_argument(
        "--completion_tokens",
        "--completion-tokens",
        type=int,
        default=defaults.completion_tokens,
        help="mean length of a completion (default %(default)s); memory is for the recipe's max_completion_length",
    )
    parser.add_argument(
        "--clip",
        default=":".join(f"{value:g}" for value in defaults.clip),
        help="seconds:width:height of a video (default %(default)s)",
    )
    parser.add_argument(
        "--questions",
        type=float,
        help="about each video in a micro-batch, on average (default: the recipe's questions_together)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser


def _clip(text: str) -> tuple[float, int, int]:
    try:
        seconds, width, height = text.split(":")
        return float(seconds), int(width), int(height)
    except ValueError as error:
        raise ConfigError(f"--clip {text!r}: expected seconds:width:height, such as 30:480:360") from error
