"""Seconds and memory of scoring a prediction file as large as ActivityNet's test split, in a process of its own on one core.

    python benchmarks/scoring.py [--samples 17031] [--json]

The annotations are random, in ActivityNet's format; the answers are written as models write them, thoughts included.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=17_031)
    parser.add_argument("--train-samples", type=int, default=37_421, help="as many as ActivityNet's training split")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), arguments.samples, arguments.train_samples)
    if arguments.json:
        print(json.dumps(measured))
        return
    print(
        f"{measured['samples']:,} predictions scored in {measured['seconds']:.1f} s ({measured['cpu_seconds']:.1f} s of "
        f"the core), {measured['peak_mb']:.0f} MB (limits for 17,000: 10 s, 1000 MB)"
    )
    print(
        f"with the training split's baseline: {measured['seconds_with_train']:.1f} s "
        f"({measured['cpu_seconds_with_train']:.1f} s of the core)"
    )


def measure(folder: Path, samples: int, train_samples: int) -> dict[str, Any]:
    """Wall-clock seconds and peak memory of `videochat-r1 eval --predictions`."""
    generator = random.Random(0)
    write_annotations(folder / "val_2.json", samples, generator)
    write_annotations(folder / "train.json", train_samples, generator)
    write_answers(folder / "val_2.json", folder / "answers.jsonl", generator)
    alone, cpu_alone = run(folder, [])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    with_train, cpu_with_train = run(folder, ["--train-annotations", str(folder / "train.json")])
    return {
        "samples": samples,
        "seconds": alone,
        "cpu_seconds": cpu_alone,
        "peak_mb": peak,
        "seconds_with_train": with_train,
        "cpu_seconds_with_train": cpu_with_train,
    }


def run(folder: Path, more: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one call on one core, Python's start included."""
    command = [sys.executable, "-m", "videochat_r1.cli", "eval", "--benchmark", "activitynet", *more]
    command += ["--annotations", str(folder / "val_2.json"), "--predictions", str(folder / "answers.jsonl")]
    command += ["--output", str(folder / f"output{len(more)}")]
    core = min(os.sched_getaffinity(0))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_annotations(path: Path, samples: int, generator: random.Random) -> None:
    """ActivityNet's JSON with 3 or 4 sentences per video."""
    videos: dict[str, Any] = {}
    written = 0
    while written < samples:
        count = min(generator.choice([3, 4]), samples - written)
        duration = round(generator.uniform(10, 240), 2)
        spans = [sorted(round(generator.uniform(0, duration), 2) for _ in range(2)) for _ in range(count)]
        sentences = [f" Person number {written + index} opens the door." for index in range(count)]
        videos[f"v_{len(videos):011d}"] = {"duration": duration, "timestamps": spans, "sentences": sentences}
        written += count
    path.write_text(json.dumps(videos))


def write_answers(annotations: Path, path: Path, generator: random.Random) -> None:
    """One answer in 50 is none."""
    thought = "The person walks to the door at about 12 seconds and opens it; " * 8
    with path.open("w") as file:
        for video, entry in json.loads(annotations.read_text()).items():
            for index, (start, end) in enumerate(entry["timestamps"]):
                times = sorted((start + generator.gauss(0, 5), end + generator.gauss(0, 5)))
                answer = f"<answer>{max(0.0, times[0]):.2f} to {max(0.1, times[1]):.2f}</answer>"
                text = "I cannot tell." if generator.random() < 0.02 else answer
                row = {"id": f"{video}_{index}", "completion": f"<think>{thought}</think>\n{text}"}
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
