"""`videochat-r1 doctor [--config YAML] [--model PATH] [--data DIR] [--output DIR] [--flag value ...]`: checks before a run."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from videochat_r1.commands.logs import loading
from videochat_r1.commands.model_arguments import add_family
from videochat_r1.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Print what was found; 0 without problems, 1 with them."""
    parser = _parser()
    options, flags = parser.parse_known_args(argv)
    if flags and options.config is None:
        parser.error(f"unknown arguments {' '.join(flags)}; recipe flags need --config")
    if options.config is None and (options.data or options.num_processes):
        parser.error(
            "--data and --num-processes need --config: the recipe says which corpora and which batch are meant"
        )
    logging.getLogger("transformers").setLevel(logging.ERROR)
    sections = _examine(options, flags)
    from videochat_r1.doctor.report import to_json, to_text

    result = to_json(sections)
    print(json.dumps(result, indent=2) if options.json else to_text(sections))
    return 0 if result["ok"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="videochat-r1 doctor",
        description="Check machine, model folder, data and recipe before a long run. With --config, any flag of the recipe "
        "may follow, as for grpo and sft. Exit code 1 where something has to be mended.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="recipe to resolve")
    parser.add_argument("--model", help="model folder; overrides the recipe's model_name_or_path")
    add_family(parser)
    parser.add_argument("--data", help="folder of the corpora; overrides the recipe's data_root")
    parser.add_argument("--output", help="folder of the run; overrides the recipe's output_dir")
    parser.add_argument(
        "--num-processes",
        "--num_processes",
        type=int,
        help="processes of the planned run (default: the GPUs here, or as many as make an update in one pass)",
    )
    parser.add_argument(
        "--num-videos", "--num_videos", type=int, default=20, help="videos of each corpus to decode (default 20)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser


def _examine(options: argparse.Namespace, flags: Sequence[str]) -> list:
    import torch

    with loading("torch, transformers and TRL"):
        from videochat_r1.doctor import machine
        from videochat_r1.doctor.data import check_data
        from videochat_r1.doctor.model_folder import check_model
        from videochat_r1.doctor.recipe import Recipe
        from videochat_r1.doctor.recipe_check import check_recipe
        from videochat_r1.doctor.recipe_memory import checkpoint_bytes
        from videochat_r1.doctor.report import Section
        from videochat_r1.video.frames import VideoBudget

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpu_bytes = min((torch.cuda.get_device_properties(i).total_memory for i in range(num_gpus)), default=None)
    sections = [machine.check_machine(), machine.check_versions()]
    if options.config is None:
        sections[0].notes.append(
            "name a recipe with --config, such as configs/grpo/joint.yaml, to check its data and batch too"
        )
    recipe = None
    if options.config is not None:
        try:
            recipe = Recipe(options.config, [*_as_flags(options), *flags])
        except ConfigError as error:
            sections.append(Section("recipe", {"file": options.config}))
            sections[-1].problem(str(error), "correct the recipe or the flags")
    budget = recipe.data.budget() if recipe else VideoBudget()
    sections.append(machine.check_decoder(budget))
    path = recipe.model.model_name_or_path if recipe else options.model
    family = recipe.model.model_family if recipe else options.model_family
    model, shape = check_model(path, family) if path else (None, None)
    if model is not None and shape is not None:
        try:
            budget.sized(shape.token_side)
        except ConfigError as error:
            model.problem(
                f"the recipe's video limits do not fit its tokens: {error}", "state all three, or none of them"
            )
            shape = None
    output = str(recipe.args.output_dir) if recipe else options.output
    if output:
        needed = checkpoint_bytes(recipe, shape) if recipe and shape else 0.0
        sections.append(machine.check_output(Path(output), needed))
    if model is not None:
        sections.append(model)
    if recipe is not None:
        progress = not options.json and sys.stderr.isatty()
        found = check_data(recipe.data, recipe.args.seed, shape=shape, num_videos=options.num_videos, progress=progress)
        sections.append(found.section)
        sections.append(
            check_recipe(
                recipe,
                processes=options.num_processes or num_gpus or None,
                samples_per_epoch=found.samples_per_epoch,
                videos=found.videos,
                shape=shape,
                gpu_bytes=gpu_bytes,
                num_gpus=num_gpus,
            )
        )
    return sections


def _as_flags(options: argparse.Namespace) -> list[str]:
    names = {"model": "model_name_or_path", "model_family": "model_family", "data": "data_root", "output": "output_dir"}
    return [
        part for name, flag in names.items() if (value := getattr(options, name)) for part in (f"--{flag}", str(value))
    ]
