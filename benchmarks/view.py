"""How fast `videochat-r1 view` opens a long run, and how fast a group is there: seconds and memory on this machine.

    .venv/bin/python benchmarks/view.py [--rollouts 1000000]

Writes a log of so many rollouts into a temporary folder (2 kB each), opens it without an index and with one, and asks for groups over HTTP.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

GROUP = 8
_PROGRAM = "import sys; from videochat_r1.cli import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(Path(folder) / "rollouts.jsonl", arguments.rollouts // GROUP)
        print(f"{arguments.rollouts:,} rollouts, {log.stat().st_size / 1e9:.2f} GB")
        for title in ("without an index", "with its index"):
            opened(title, Path(folder), arguments.rollouts // GROUP)


def write_log(path: Path, groups: int) -> Path:
    """Groups of temporal grounding, eight an update, with thoughts of some length."""
    thought = "The person walks to the door and opens it. " * 40
    with path.open("w") as file:
        for number in range(groups):
            rollouts = [
                {
                    "generation": place,
                    "completion": f"<think>{thought}</think><answer>{place} to {place + 3}</answer>",
                    "parsed": [place, place + 3],
                    "rewards": {"format": 1.0, "iou": place / GROUP},
                    "reward": 1.0 + place / GROUP,
                    "advantage": place - 3.5,
                    "num_tokens": 400,
                    "ended": "stop",
                    "whole_video": False,
                    "past_end": False,
                    "problem": None,
                }
                for place in range(GROUP)
            ]
            about = {"step": 1 + number // 8, "sample_id": f"s{number % 18_000}", "task": "temporal_grounding"}
            shown = {
                "source": "synthetic",
                "video": "a.mp4",
                "prompt": "When?",
                "target": {"span": [1, 3], "duration": 30},
            }
            file.write(json.dumps({**about, **shown, "rollouts": rollouts}) + "\n")
    return path


def opened(title: str, folder: Path, groups: int) -> None:
    """Start the command, and print when its page answers, when all is read, how long a group takes, and the memory used."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", _PROGRAM, "view", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        asked(f"{address}api/runs/0/groups?limit=100")
        first = time.perf_counter() - begin
        while asked(f"{address}api/runs")[0]["groups"] < groups:
            time.sleep(0.05)
        whole = time.perf_counter() - begin
        seconds = [timed(f"{address}api/runs/0/groups/{1 + number * groups // 50}") for number in range(50)]
        training = timed(f"{address}api/runs/0/training")
        status = Path(f"/proc/{process.pid}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    finally:
        process.terminate()
        process.wait()
    print(
        f"{title:<18} page after {first:5.2f} s  all read after {whole:6.2f} s  group {1000 * statistics.median(seconds):5.1f} ms "
        f"(slowest {1000 * max(seconds):.1f})  curves {1000 * training:6.1f} ms  {memory:5.0f} MB"
    )


def asked(address: str) -> list:
    """The JSON of an address."""
    with urlopen(address) as answer:
        return json.load(answer)


def timed(address: str) -> float:
    """Seconds that it takes."""
    begin = time.perf_counter()
    asked(address)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
