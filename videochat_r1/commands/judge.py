"""`videochat-r1 judge`: try a judge, compare judges, serve one that needs no model."""

import argparse
import asyncio
import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videochat_r1.commands.logs import show_library_logs
from videochat_r1.errors import ConfigError, counted
from videochat_r1.evaluation.scoring.compare_judges import compare, read_captions
from videochat_r1.judge import Judge, JudgeConfig, read_judge_config
from videochat_r1.judge.rule_server import FAULTS, MODEL, QUICK_FAULTS, RuleJudgeServer

_EPILOG = """examples:
  videochat-r1 judge check configs/grpo/captioning.yaml
  videochat-r1 judge compare --judges qwen.yaml gpt.yaml outputs/grpo/captioning/rollouts.jsonl
  videochat-r1 judge serve-rules --port 8000
A judge is a YAML file with base_url and model, or a recipe with `judge`. docs/judge.md says more."""

_MEASURES = {
    "pearson": "correlation over all captions (Pearson)",
    "spearman": "correlation of the ranks over all captions (Spearman)",
    "kendall_tau_b": "within groups: rank correlation (Kendall's tau-b)",
    "pairwise_agreement": "within groups: pairs ranked alike",
    "same_best": "within groups: same best caption",
    "advantage_pearson": "correlation of the advantages (Pearson)",
}


def main(argv: Sequence[str]) -> int:
    """Run one subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="videochat-r1 judge",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_check(commands.add_parser("check", help="see that a judge can be reached and answers as agreed"))
    _add_compare(commands.add_parser("compare", help="agreement of judges on the same captions"))
    _add_serve(commands.add_parser("serve-rules", help="serve a judge that goes by rules, for tests and trials"))
    arguments = parser.parse_args(argv)
    show_library_logs()
    return int(arguments.run(arguments))


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("judge", type=Path, help="YAML file of the judge, or a recipe")
    parser.set_defaults(run=_check)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.usage = "videochat-r1 judge compare [--precision-weight SHARE] [--json] --judges A.yaml B.yaml [...] FILE"
    parser.add_argument("--judges", type=Path, nargs="+", required=True, metavar="YAML", help="two judges or more")
    file = parser.add_argument("file", type=Path, help="JSONL of id, completion, target, or a run's rollouts.jsonl")
    file.required = False  # after the judges, where argparse takes it for one more of them
    parser.add_argument(
        "--precision-weight", type=float, default=0.0, help="as in the reward (default 0: recall alone)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.set_defaults(run=_compare)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one (default 8000)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--model", default=MODEL, help=f"name that it answers to (default {MODEL})")
    parser.add_argument("--api-key", help="require this key")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of the requests that go wrong")
    quick = ",".join(QUICK_FAULTS)
    parser.add_argument("--faults", default=quick, help=f"which of {','.join(FAULTS)} (default {quick})")
    parser.add_argument("--retry-after", type=float, default=0.0, help="seconds told with a 429")
    parser.add_argument("--hang", type=float, default=60.0, help="seconds of a hang (default 60)")
    parser.add_argument("--down", type=float, default=1.0, help="seconds of a restart (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.set_defaults(run=_serve)


def _check(arguments: argparse.Namespace) -> int:
    config = read_judge_config(arguments.judge)

    async def ask() -> None:
        async with Judge(config) as judge:
            await judge.check()

    asyncio.run(ask())
    print(f"the judge {config.model} at {config.base_url} answers as agreed")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    judges, file = arguments.judges, arguments.file
    if file is None:
        *judges, file = judges
    if len(judges) < 2:
        raise ConfigError("compare at least two judges: --judges a.yaml b.yaml FILE")
    configs = [read_judge_config(path) for path in judges]
    rows, without = read_captions(file)
    result = {
        **compare(configs, rows, precision_weight=arguments.precision_weight),
        "num_without_caption": without,
    }
    print(json.dumps(result) if arguments.json else _table(result, configs))
    return 0


def _table(result: dict[str, Any], configs: Sequence[JudgeConfig]) -> str:
    lines = [
        f"{counted(result['num_captions'], 'caption')} ({counted(result['num_without_caption'], 'row')} without one left out)"
    ]
    for number, (judge, config) in enumerate(zip(result["judges"], configs, strict=True), start=1):
        mean = "-" if judge["mean"] is None else f"{judge['mean']:.4f}"
        lines.append(
            f"judge {number}: {config.model} at {config.base_url}: mean {mean}, {judge['num_scored']:,} scored, "
            f"{judge['num_unscored']:,} unscored"
        )
    for pair in result["pairs"]:
        first, second = (place + 1 for place in pair["judges"])
        lines.append(
            f"judges {first} and {second}: {counted(pair['num_captions'], 'caption')} scored by both, "
            f"{counted(pair['num_groups'], 'group')}, {pair['num_groups_compared']:,} in which both find a difference"
        )
        for name, meaning in _MEASURES.items():
            lines.append(f"  {meaning:<53} {'-' if pair[name] is None else format(pair[name], '.4f')}")
        if (reason := _why_nothing(pair)) is not None:
            lines.append(f"  {reason}")
    return "\n".join(lines)


def _why_nothing(pair: Mapping[str, Any]) -> str | None:
    """Why measures of two judges are missing; None where they are all there."""
    if pair["num_captions"] < 2:
        return "-: nothing can be compared in fewer than two captions that both have scored"
    if pair["num_groups"] == pair["num_captions"]:
        return "-: no two captions answer the same prompt; give those that do the same id, or the same `group`"
    if any(pair[name] is None for name in _MEASURES):
        return "-: one of the two judges gives all these captions the same value, or all those of every group"
    return None


def _serve(arguments: argparse.Namespace) -> int:
    server = RuleJudgeServer(
        arguments.port,
        host=arguments.host,
        models=(arguments.model,),
        api_key=arguments.api_key,
        latency_seconds=arguments.latency,
        fault_rate=arguments.fault_rate,
        faults=[fault for fault in arguments.faults.split(",") if fault],
        retry_after=arguments.retry_after,
        hang_seconds=arguments.hang,
        down_seconds=arguments.down,
        seed=arguments.seed,
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *unused: ended.set())
    with server:
        print(server.base_url, flush=True)
        print("a judge by rules, for tests and trials; Ctrl-C ends it", file=sys.stderr)
        ended.wait()
    return 0
