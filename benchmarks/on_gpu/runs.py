"""Whole runs through the command line: DeepSpeed's ZeRO-3 on one GPU, with checkpoints and resuming, and the quickstart."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from on_gpu.report import Record
from on_gpu.sizes import Sizes

_ROOT = Path(__file__).resolve().parent.parent.parent


def zero3(record: Record, sizes: Sizes) -> None:
    """The tiny recipe with ZeRO-3, ended and resumed; then with ZeRO-2, and without DeepSpeed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _call(record, "synthetic videos", ["data", "synthesize", "--output", str(folder / "data"), "--num-train", "64"])
        flags = ["--data_root", str(folder / "data"), "--save_steps", "2", "--logging_steps", "1"]
        if sizes.device == "cuda":
            flags += ["--bf16", "true", "--gradient_checkpointing", "true"]
            flags += ["--gradient_checkpointing_kwargs", '{"use_reentrant": false}']
        else:
            flags += ["--use_cpu", "true"]
        recipe = ["grpo", "--config", str(_ROOT / "configs/grpo/tiny.yaml"), *flags]
        for layout in ("zero3", "zero2", "none"):
            output = folder / layout
            command = [*recipe, "--output_dir", str(output), "--max_steps", "8" if layout == "zero3" else "2"]
            command += ["--deepspeed", "" if layout == "none" else str(_ROOT / f"configs/deepspeed/{layout}.json")]
            if layout == "zero3":
                saved = output / "checkpoint-2" / "complete.json"
                _call(record, f"{layout}, ended after two updates", command, launched=True, until=saved)
            _call(record, f"{layout}, to its end", command, launched=True)
            record(f"{layout}, what the updates logged", _logged(output))


def quickstart(record: Record, sizes: Sizes) -> None:
    """A tiny model that learns, in two minutes."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "run"
        small = sizes.preset.published == ()
        flags = "--use_cpu true" if sizes.device == "cpu" else "--use_cpu false --bf16 false"
        flags += f" --max_steps {4 if small else 100} --save_steps 100"
        count = ["--num-train", "64" if small else "300", "--num-eval", "8" if small else "128"]
        _call(record, "quickstart", ["quickstart", "--output", str(output), *count, f"--grpo={flags}"])
        summary = json.loads((output / "summary.json").read_text())
        record("summary", json.dumps(summary)[:4000])


def _call(
    record: Record, name: str, arguments: list[str], *, launched: bool = False, until: Path | None = None
) -> None:
    """A command of this project, which writes to the log of the stage; its seconds.

    Args:
        record: takes them.
        name: of the figure.
        arguments: of the command line.
        launched: by torch's launcher, as DeepSpeed needs it.
        until: a file with whose appearing the command is ended.

    Raises:
        SystemExit: it failed.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"] if launched else []
    begin = time.perf_counter()
    # As training_scripts/launch.sh does where there is no GPU.
    device = {} if torch.cuda.is_available() else {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "videochat_r1.cli", *arguments],
        env={**os.environ, **device, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=_ROOT,
    )
    while process.poll() is None:
        if until is not None and until.exists():
            process.terminate()
            process.wait()
            break
        time.sleep(0.05)
    record(f"{name}, seconds", time.perf_counter() - begin)
    if process.returncode and (until is None or not until.exists()):
        raise SystemExit(f"{name} failed: {' '.join(arguments)}")


def _logged(output: Path) -> list[dict[str, object]]:
    newest = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), default=None)
    if newest is None:
        return []
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    shown = ("step", "loss", "reward", "grad_norm", "kl", "sampling/sampling_logp_difference/mean", "step_time")
    return [{name: entry.get(name) for name in shown} for entry in history]
