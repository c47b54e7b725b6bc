"""Everything that only a GPU can tell, the most valuable first, in a few minutes; a run that is cut off keeps what it found.

    python benchmarks/gpu_check.py --minutes 8 --output FOLDER [--stages kernels,decoding] [--small]

Needs no video, no checkpoint and no network: models have random weights, made on the device. Every stage has a process and a
time box of its own, so that none takes another with it; after every figure FOLDER/gpu_check.json is written anew, after every
stage FOLDER/gpu_check.md, its tables. `--small` tries all of it on the smallest sizes, on a machine without a GPU too; its
figures say nothing. A stage that fails leaves the end of its output in the table, and the exit status is 1.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

# Imported before the stages' processes are forked: they then begin at once.
from on_gpu.report import Report
from on_gpu.stages import STAGES, Sizes

_LEAST_SECONDS = 10.0


def main() -> None:
    """Run the stages that fit into the minutes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all stages together (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--stages", help=f"some of them, with commas (default: all): {', '.join(STAGES)}")
    parser.add_argument("--small", action="store_true", help="the smallest sizes, without a GPU too")
    options = parser.parse_args()
    names = list(STAGES) if options.stages is None else options.stages.split(",")
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"no stage is called {', '.join(unknown)}: expected some of {', '.join(STAGES)}")
    end = time.monotonic() + 60 * options.minutes
    options.output.mkdir(parents=True, exist_ok=True)
    report = Report(options.output)
    for name in names:
        left = end - time.monotonic()
        box = min(STAGES[name].seconds, left)
        if left < _LEAST_SECONDS:
            report.end(name, "left out: no time", 0.0)
            continue
        _run(name, options.output, options.small, box)
    report = Report(options.output)
    report.write_tables()
    sys.stdout.write((options.output / "gpu_check.md").read_text() + "\n")
    sys.exit(1 if report.failed else 0)


def _run(name: str, output: Path, small: bool, seconds: float) -> None:
    """One stage in a process of its own, ended after `seconds`."""
    log = output / f"{name}.log"
    begin = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_stage, args=(name, output, small, log))
    process.start()
    process.join(seconds)
    ended = "done" if process.exitcode == 0 else f"failed, see {log.name}"
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        ended = f"cut off after {seconds:.0f} s"
    report = Report(output)
    report.end(name, ended, time.monotonic() - begin)
    if ended != "done":
        report.record(name, "the end of its output", log.read_text(errors="replace")[-1000:])
    else:
        log.unlink()
    report.write_tables()
    sys.stdout.write(f"{name}: {ended}, {time.monotonic() - begin:.0f} s\n")
    sys.stdout.flush()


def _stage(name: str, output: Path, small: bool, log: Path) -> None:
    os.setsid()  # what it starts ends with it
    with log.open("w") as file:
        # Also of libraries that write past Python.
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    STAGES[name].run(Report(output).of(name), Sizes.small() if small else Sizes.full())


if __name__ == "__main__":
    main()
