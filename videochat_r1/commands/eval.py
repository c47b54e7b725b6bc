"""`videochat-r1 eval`: run a benchmark with a model, score a prediction file, score a run again, or print a paper's table."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from videochat_r1.commands.logs import loading, show_library_logs
from videochat_r1.commands.model_arguments import add_clues, add_decoding, add_prompting, yes_no
from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.benchmarks.base import ALL, SUBTITLE_CHARS
from videochat_r1.evaluation.reports.paper_tables import TABLES, paper_table
from videochat_r1.evaluation.reports.summary import result_table
from videochat_r1.evaluation.scoring.answers import ScoringOptions
from videochat_r1.evaluation.scoring.files import recorded_options, rescore, score_predictions
from videochat_r1.evaluation.scoring.results import RESULTS, read_results
from videochat_r1.judge import read_judge_config
from videochat_r1.options import nearest
from videochat_r1.parsing.box_units import BOX_FORMATS
from videochat_r1.recipe_file import read_recipe
from videochat_r1.video.probe import durations

EPILOG = """examples:
  videochat-r1 eval --benchmark charades_sta --annotations test.json --videos videos --model MODEL --output out/charades
  videochat-r1 eval --benchmark nextgqa --annotations test.json --predictions answers.jsonl --output out/nextgqa
  videochat-r1 eval --rescore out/charades
  videochat-r1 eval --table out
docs/evaluation.md says what every metric means and where it comes from."""
_FRAMES = re.compile(r"\d+_frames")


def main(argv: Sequence[str]) -> int:
    """Run one mode; returns the exit code."""
    arguments = parse(argv)
    show_library_logs()
    if arguments.table is not None:
        print(paper_table(TABLES[arguments.paper], _rows_below(arguments.table, arguments.name)))
        return 0
    if arguments.rescore is not None:
        results = rescore(
            arguments.rescore,
            arguments.output or arguments.rescore,
            _changed_options(arguments),
            annotations=arguments.annotations,
            train_annotations=arguments.train_annotations,
        )
        return _show(results, arguments.output or arguments.rescore)
    if arguments.predictions is not None:
        results = score_predictions(
            arguments.benchmark,
            _source(arguments),
            arguments.predictions,
            arguments.output,
            _options(arguments),
            limit=arguments.limit,
            train_annotations=arguments.train_annotations,
        )
        return _show(results, arguments.output)
    return _run(arguments)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The checked arguments; those of a `--config` file give way to flags.

    Raises:
        ConfigError: an unknown key in the file, or arguments that do not go together.
    """
    top = parser()
    known, _ = top.parse_known_args(argv)
    if known.config is not None:
        top.set_defaults(**_read_config(known.config, top))
    arguments = top.parse_args(argv)
    modes = [name for name in ("model", "predictions", "rescore", "table") if getattr(arguments, name) is not None]
    if len(modes) != 1:
        given = ", ".join(f"--{name}" for name in modes) or "none"
        raise ConfigError(f"give one of --model, --predictions, --rescore and --table; given: {given}")
    if modes[0] in ("model", "predictions"):
        needed = ["benchmark", "annotations", "output"]
        missing = [f"--{name}" for name in needed if getattr(arguments, name) is None]
        if missing:
            raise ConfigError(f"--{modes[0]} also needs {', '.join(missing)}")
        BENCHMARKS[arguments.benchmark]
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit is {arguments.limit}; expected at least 1")
    return arguments


def parser() -> argparse.ArgumentParser:
    """All arguments."""
    top = argparse.ArgumentParser(
        prog="videochat-r1 eval", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    top.add_argument(
        "--config",
        type=Path,
        help="YAML file of these options, `-` for `_` or not; it may extend another (`extends: thinking.yaml`)",
    )
    _add_source(top.add_argument_group("what is asked"))
    _add_modes(top.add_argument_group("what is scored (one of the first four)"))
    _add_reading(top.add_argument_group("how answers are read and averaged"))
    add_prompting(top.add_argument_group("what the model sees"))
    add_decoding(top.add_argument_group("how the model answers (greedy unless told otherwise)"))
    clues = top.add_argument_group("a second look at the clues of an answer (paper, Algorithm 1)")
    clues.add_argument(
        "--clue-perception",
        type=yes_no,
        nargs="?",
        const=True,
        default=False,
        metavar="true|false",
        help="answer with clues, look again at the clues, answer again (questions with options)",
    )
    add_clues(clues)
    _add_running(top.add_argument_group("how the work is done (no influence on results)"))
    return top


def _add_source(group: Any) -> None:
    group.add_argument("--benchmark", metavar="NAME", help=", ".join(BENCHMARKS))
    group.add_argument("--annotations", type=Path, help="file or folder in the benchmark's own or the released format")
    group.add_argument("--videos", type=Path, help="folder that the annotations' video paths start from")
    group.add_argument("--task", help="one of the benchmark's tasks (default: its first)")
    group.add_argument("--subset", default=ALL, help="part of the benchmark, e.g. videomme's short (default: all)")
    group.add_argument("--limit", type=int, help="only the first samples")
    group.add_argument("--subtitles", type=Path, help="folder of subtitles to quote in prompts (default: none)")
    group.add_argument("--subtitle-chars", type=int, default=SUBTITLE_CHARS, help="most characters of them in a prompt")
    group.add_argument("--durations", type=Path, help="CSV with columns id, length, for annotations without durations")
    group.add_argument(
        "--train-annotations", type=Path, help="training split, for the baseline of the best constant interval"
    )


def _add_modes(group: Any) -> None:
    group.add_argument("--model", help="model folder, or a hub name that can be reached")
    group.add_argument("--predictions", type=Path, help='JSONL of {"id", "completion"} to score without a model')
    group.add_argument("--rescore", type=Path, metavar="DIR", help="a finished run whose answers are scored again")
    group.add_argument(
        "--table", type=Path, metavar="DIR", help="print the results below DIR as rows of a paper's table"
    )
    group.add_argument("--paper", choices=[*TABLES], default="videochat_r1", help="of --table (default: videochat_r1)")
    group.add_argument("--output", type=Path, metavar="DIR", help="folder of the result (of --rescore: the run's own)")
    group.add_argument("--name", help="name of the row of --table")


def _add_reading(group: Any) -> None:
    group.add_argument(
        "--untagged",
        type=yes_no,
        metavar="true|false",
        help="read completions without any <answer> as a whole (default: false, as in training)",
    )
    group.add_argument(
        "--box-format",
        choices=BOX_FORMATS,
        help="ask for boxes in pixels of the frames shown or in thousandths, and read answers in these too; native: whichever "
        "the model was trained with (default: normalised, fractions)",
    )
    group.add_argument("--bootstrap", type=int, help="resamples of the confidence intervals (default 1000)")
    group.add_argument(
        "--judge",
        type=Path,
        metavar="YAML",
        help="scores captions (dream1k): a file with base_url and model, or a recipe",
    )
    group.add_argument("--bootstrap-seed", type=int, help="of the resamples (default 0)")


def _add_running(group: Any) -> None:
    group.add_argument("--batch-size", type=int, default=8, help="prompts answered together")
    group.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="videos read at once")
    group.add_argument("--device", help="cuda, cuda:1, cpu (default: this process's GPU, else the CPU)")
    group.add_argument("--shard", type=shard, metavar="I/N", help="only the I-th of N parts (from 0); torchrun sets it")
    group.add_argument("--retry-failed", action="store_true", help="ask again where no answer could be drawn")


def shard(text: str) -> tuple[int, int]:
    """(index, count) of `I/N`."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"expected I/N with I from 0 to N-1, got {text!r}")
    return int(index), int(count)


def _run(arguments: argparse.Namespace) -> int:
    # Only here: scoring must not wait seconds for torch.
    with loading("torch and transformers"):
        from videochat_r1.evaluation.answering.options import RunOptions
        from videochat_r1.evaluation.running.run import run_benchmark

    results = run_benchmark(
        arguments.benchmark,
        _source(arguments),
        RunOptions.of(vars(arguments)),
        arguments.output,
        _options(arguments),
        limit=arguments.limit,
        train_annotations=arguments.train_annotations,
        shard=arguments.shard,
    )
    if results is None:
        return 0
    return _show(results, arguments.output)


def _source(arguments: argparse.Namespace) -> Source:
    return Source(
        arguments.annotations,
        arguments.videos,
        task=arguments.task,
        subset=arguments.subset,
        subtitles=arguments.subtitles,
        subtitle_chars=arguments.subtitle_chars,
        durations=arguments.durations,
        probe_durations=partial(durations, workers=arguments.workers, timeout_seconds=arguments.video_timeout),
    )


def _options(arguments: argparse.Namespace, base: ScoringOptions | None = None) -> ScoringOptions:
    """The scoring options, those not given taken from `base`."""
    base = base or ScoringOptions()
    given = {
        "untagged": arguments.untagged,
        "box_format": arguments.box_format,
        "bootstrap": arguments.bootstrap,
        "seed": arguments.bootstrap_seed,
        "judge": None if arguments.judge is None else read_judge_config(arguments.judge),
    }
    values = {name: getattr(base, name) if value is None else value for name, value in given.items()}
    return ScoringOptions(**values)


def _changed_options(arguments: argparse.Namespace) -> ScoringOptions:
    return _options(arguments, recorded_options(read_results(arguments.rescore)["settings"]))


def _show(results: dict[str, Any], folder: Path) -> int:
    print(result_table(results))
    print(f"written: {folder / RESULTS}")
    return 0


def _rows_below(folder: Path, name: str | None) -> dict[str, list[dict[str, Any]]]:
    """Name of a row -> its results: a row for each folder of results, and for each model where a folder has several."""
    if not folder.is_dir():
        raise ConfigError(f"the folder {folder} does not exist; name one that holds results of benchmarks")
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path in sorted(folder.rglob(RESULTS)):
        one = {**read_results(path.parent), "folder": str(path.parent)}
        above = path.parent if path.parent == folder else path.parent.parent
        # Where results of several numbers of frames lie side by side, the table tells them apart.
        if above != folder and _FRAMES.fullmatch(above.name):
            above = above.parent
        label = str(folder) if above == folder else str(above.relative_to(folder))
        found.setdefault(label, {}).setdefault(_answered_by(one["settings"]), []).append(one)
    if not found:
        print(f"no {RESULTS} below {folder}", file=sys.stderr)
        return {} if name is None else {name: []}
    rows = {
        label if len(models) == 1 else f"{label}: {model}": results
        for label, models in found.items()
        for model, results in models.items()
    }
    if name is None:
        return rows
    return {name if len(rows) == 1 else f"{name}: {label}": results for label, results in rows.items()}


def _answered_by(settings: Mapping[str, Any]) -> str:
    """What tells the models of a folder apart."""
    if (model := settings.get("model")) is None:
        return "predictions"
    parts = [Path(model).name, str(settings.get("weights") or "")[:8], Path(settings.get("adapter") or "").name]
    return " ".join(filter(None, [*parts, "thinking" if settings.get("thinking") else ""]))


def _read_config(path: Path, top: argparse.ArgumentParser) -> dict[str, Any]:
    """The values of a YAML file, each converted as its flag would be."""
    values = read_recipe(path, "eval").values
    actions = {action.dest: action for action in top._actions}
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        dest = str(key).replace("-", "_")
        if dest not in actions or dest in ("config", "help"):
            raise ConfigError(f"unknown key {key!r} in {path}{nearest(dest, actions)}")
        choices = actions[dest].choices
        if choices is not None and value not in choices:
            raise ConfigError(f"{path}: {key} is {value!r}; expected one of {', '.join(map(str, choices))}")
        # argparse converts text defaults by the flag's type, and leaves other values as they are.
        defaults[dest] = str(value) if isinstance(value, str) else value
    return defaults
