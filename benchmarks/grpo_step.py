"""One GRPO step in several ways, in one run on one model and machine: seconds, tokens, memory, and that they agree.

    python benchmarks/grpo_step.py [--preset cpu_short|cpu_long|cpu_questions|gpu_7b|...] [--family NAME] [--threads N] [--json]

(a) `trl`       TRL's own GRPOTrainer, fed every second frame as an image: an image fills a whole temporal patch, so that
                the prompts have equally many tokens (asserted)
(b) `repeated`  this project's trainer with `share_prompt: false` (its rollout shares the prompt all the same)
(c) `shared`    this project's trainer
(d) `separate`  where a step asks several questions about one video (`cpu_questions`), instead of (b): the same trainer, with
                a video of its own for each question

A preset's video has equally many tokens in every family. All with the same weights, threads, precision, prompts and completion lengths (forced). On the CPU without gradient
checkpointing; `gpu_7b` is the 7B (8B) model with random weights in bf16, which does not fit without. Every measurement has a process of
its own, so that none inherits another's memory. Figures are medians of steps (of ways that repeat what
prompts share, of which one takes a minute, a single one) after one warm-up step, and a step is all that
lies between the ends of two updates.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from videochat_r1.training.start import keep_vllm_out

keep_vllm_out()

from one_step.logps import compare_logps, extra_memory  # noqa: E402
from one_step.meters import product_rates  # noqa: E402
from one_step.steps import PHASES, WAYS, measure_steps, ways_of  # noqa: E402
from one_step.workload import PRESETS, Preset, prepare  # noqa: E402

from videochat_r1.doctor.gpus import GPUS, gpu_named  # noqa: E402
from videochat_r1.errors import ConfigError  # noqa: E402
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES  # noqa: E402

ALWAYS = {"prepare": prepare, "product_rates": product_rates}
LOGPS = {
    "agreement": compare_logps,
    "memory_shared": lambda folder, preset: extra_memory(folder, preset, share=True),
    "memory_repeated": lambda folder, preset: extra_memory(folder, preset, share=False),
}
MEASUREMENTS: dict[str, Callable[[Path, Preset], Any]] = {
    **ALWAYS,
    **LOGPS,
    **{way: lambda folder, preset, way=way: measure_steps(folder, preset, way) for way in WAYS},
}
"""Name -> what one child process does."""


def run_preset(name: str, family: str, threads: int, only: Sequence[str]) -> dict[str, Any]:
    """Everything about one preset, or what was asked for."""
    preset = replace(PRESETS[name], family=family)
    if preset.on_gpu and not torch.cuda.is_available():
        raise SystemExit(f"{name} needs a GPU, and torch sees none here")
    ways = [way for way in ways_of(preset) if way == "shared" or not only or way in only]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for measurement in [*ALWAYS, *(name for name in LOGPS if not only or name in only), *ways]:
            print(f"{name}: {measurement}", file=sys.stderr, flush=True)
            found[measurement] = _in_child(name, measurement, folder, family, threads)
    steps = {way: found[way] for way in ways}
    total = {way: steps[way]["seconds"]["total"] for way in ways}
    rates_of = found["product_rates"]
    ratios = {f"step_vs_{way}": total[way] / total["shared"] for way in ways if way != "shared"}
    ratios["step_vs_floor"] = total["shared"] * rates_of["matmul"] / steps["shared"]["flops"]
    if "agreement" in found:
        ratios |= {kind: found["agreement"][kind] for kind in ("logp_fwd_bwd", "logp_fwd")}
    extra = {way: found[f"memory_{way}"]["mib"] for way in ("repeated", "shared") if f"memory_{way}" in found}
    if len(extra) == 2:
        ratios["memory"] = extra["repeated"] / extra["shared"]
    return {
        "ratios": ratios,
        "steps": {
            way: {**steps[way], **rates(steps[way], preset), **floor(steps[way], rates_of["matmul"])} for way in ways
        },
        "product_teraflops": {way: rate / 1e12 for way, rate in rates_of.items()},
        "agreement": found.get("agreement"),
        "logp_extra_mib": extra,
        "family": family,
        "prompt_tokens": steps["shared"]["prompt_tokens"],
        "questions": preset.questions,
        "generations": preset.generations,
        "new_tokens": preset.new_tokens,
        "device": torch.cuda.get_device_name() if preset.on_gpu else "cpu",
        "threads": threads,
        "torch": torch.__version__,
    }


def rates(step: dict[str, Any], preset: Preset) -> dict[str, float]:
    """Tokens and operations per second and, on a GPU whose peak is known, the share of it."""
    seconds = step["seconds"]["total"]
    result = {
        "completion_tokens_per_second": preset.rows * preset.new_tokens / seconds,
        "computed_tokens_per_second": step["computed"]["tokens"] / seconds,
        "teraflops": step["flops"] / seconds / 1e12,
    }
    if preset.on_gpu:
        with suppress(ConfigError):  # a GPU whose peak is not known
            result["mfu"] = result["teraflops"] / GPUS[gpu_named(torch.cuda.get_device_name())].teraflops
    return result


def floor(step: dict[str, Any], product_rate: float) -> dict[str, dict[str, float]]:
    """Seconds that a step's operations would take at the rate of a matrix product, and how many times that they took."""
    operations = {"total": step["flops"], **{phase: count for phase, count in step["phase_flops"].items() if count}}
    seconds = {phase: count / product_rate for phase, count in operations.items()}
    return {
        "floor_seconds": seconds,
        "times_floor": {phase: step["seconds"][phase] / least for phase, least in seconds.items()},
    }


def _in_child(name: str, measurement: str, folder: str, family: str, threads: int) -> Any:
    command = [sys.executable, __file__, "--preset", name, "--measure", measurement, folder]
    command += ["--family", family, "--threads", str(threads)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{name}: {measurement} failed, see above")
    return json.loads(finished.stdout.splitlines()[-1])


def print_table(name: str, result: dict[str, Any]) -> None:
    """For people."""
    print(
        f"\n{name}, {result['family']}: questions = {result['questions']}, P = {result['prompt_tokens']}, G = {result['generations']}, C = {result['new_tokens']}, {result['device']}, "
        f"{result['threads']} threads; medians"
    )
    columns = [*(f"{phase} s" for phase in ("total", *PHASES)), "tokens", "patches", "extra MiB", "TFLOP/s", "tokens/s"]
    print(f"{'':10}" + "".join(f"{column:>11}" for column in columns))
    for way, step in result["steps"].items():
        figures = [f"{step['seconds'][phase]:.2f}" for phase in ("total", *PHASES)]
        figures += [f"{step['computed'][kind]:,}" for kind in ("tokens", "patches")]
        figures += [f"{step['peak_extra_mib']:,.0f}", f"{step['teraflops']:.3g}"]
        figures += [f"{step['completion_tokens_per_second']:.1f}"]
        utilisation = f"  MFU {step['mfu']:.2f}" if "mfu" in step else ""
        print(f"{way:10}" + "".join(f"{figure:>11}" for figure in figures) + utilisation)
    print("tokens: computed by the language model; patches: by the vision tower; tokens/s: of completions")
    matmul, layer = (result["product_teraflops"][way] for way in ("matmul", "layer"))
    print(
        f"floor: operations at the {matmul:.3g} TFLOP/s of torch's matrix product on these threads; the linear layers of (b), (c) and "
        f"(d) reach {layer:.3g}"
    )
    for way, step in result["steps"].items():
        parts = [
            f"{phase} {least:.2f} s ({step['times_floor'][phase]:.1f} times)"
            for phase, least in step["floor_seconds"].items()
        ]
        print(f"{way:10} {', '.join(parts)}")
    for key, value in result["ratios"].items():
        print(f"{key:18} {value:6.2f}")
    agreement, extra = result["agreement"], result["logp_extra_mib"]
    if extra:
        print(f"extra memory of log-probabilities, MiB: {', '.join(f'{way} {mib:,.0f}' for way, mib in extra.items())}")
    if agreement is None:
        return
    for kind in ("fwd_bwd", "fwd"):
        repeated, shared = (agreement[f"seconds_{kind}_{way}"] for way in ("repeated", "shared"))
        print(f"log-probabilities, {kind}: {repeated:.3f} s repeated, {shared:.3f} s shared")
    print(
        f"shared against repeated: log-probabilities within {agreement['max_logp_difference']:.1e}, "
        f"gradients within a relative {agreement['relative_gradient_difference']:.1e}"
    )


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), help="default: both CPU presets")
    parser.add_argument("--family", choices=list(FAMILIES), default=DEFAULT_FAMILY, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[*LOGPS, *WAYS], help="what is measured beside shared (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        name, folder = arguments.measure
        preset = replace(PRESETS[arguments.preset], family=arguments.family)
        print(json.dumps(MEASUREMENTS[name](Path(folder), preset)))
        return
    names = [arguments.preset] if arguments.preset else ["cpu_short", "cpu_long"]
    results = {name: run_preset(name, arguments.family, arguments.threads, arguments.only) for name in names}
    for name, result in results.items():
        print_table(name, result)
    if arguments.json:
        print(json.dumps({"presets": results}))


if __name__ == "__main__":
    main()
