"""How fast `videochat-r1 view` opens a long run, how fast a group is drawn after a click, and what a training run loses to being watched.

    .venv/bin/python benchmarks/view.py open [--rollouts 1000000]
    .venv/bin/python benchmarks/view.py click [--rollouts 1000000]
    .venv/bin/python benchmarks/view.py watch [--pairs 8] [--updates 5] [--browser elsewhere]

`open` and `click` write a log of so many rollouts (2 kB each) into `--folder`, unless it is there. `open` starts the command without
an index and with one, and asks for groups over HTTP: seconds, and megabytes at most. `click` needs Chromium: milliseconds from the click
on a group of the list to its answers and the first frame of its video. `watch` trains a tiny model, by turns with and without a window
whose page draws the curves: the ratio of the turns' seconds, with its interval. With the browser elsewhere something asks the window
what the page asks it, and draws nothing.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
from transformers import PrinterCallback, TrainerCallback

GROUP = 8
_PROGRAM = "import sys; from videochat_r1.cli import main; sys.exit(main(sys.argv[1:]))"


_FOLLOWING = """
import sys, time
from urllib.request import urlopen
address, last = sys.argv[1], 0.0
for line in urlopen(address + "api/news"):
    if line.startswith(b"data") and time.monotonic() > last + 10:
        last = time.monotonic()
        urlopen(address + "api/runs/0/training").read()
"""
"""What a page of curves asks, as often as it does."""

CHROMIUM = "/usr/bin/chromium"
UPDATE = {"prompts_per_step": 8, "num_generations": 8, "per_device_train_batch_size": 32, "max_completion_length": 200}
"""Of the watched training: as many rollouts, of as many tokens, as the paper's recipe writes in an update."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("open", "click", "watch"))
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=8, help="of turns, watched and unwatched")
    parser.add_argument("--updates", type=int, default=5, help="of a turn")
    parser.add_argument("--browser", choices=("here", "elsewhere"), default="here", help="of who watches")
    parser.add_argument("--folder", type=Path, help="of the log; kept (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.part == "watch":
            with chromium() if arguments.browser == "here" else nullcontext() as page:
                watched_and_not(folder, arguments.pairs, arguments.updates, page)
            return
        groups = arguments.rollouts // GROUP
        log = folder / "rollouts.jsonl"
        if not log.exists():
            write_log(log, groups)
        print(f"{arguments.rollouts:,} rollouts, {log.stat().st_size / 1e9:.2f} GB", flush=True)
        if arguments.part == "click":
            clicked(folder, groups)
            return
        for title in ("without an index", "with its index"):
            opened(title, folder, groups)


def write_log(path: Path, groups: int) -> Path:
    """Groups of temporal grounding, eight an update, with thoughts of some length."""
    from videochat_r1.video.mp4 import write_mp4

    thought = "The person walks to the door and opens it. " * 40
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    write_mp4(path.parent / "a.mp4", ((np.roll(noise, place, 1), Fraction(place, 10)) for place in range(300)), 320)
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
                "video": str(path.parent / "a.mp4"),
                "prompt": "When?",
                "target": {"span": [1, 3], "duration": 30},
            }
            file.write(json.dumps({**about, **shown, "rollouts": rollouts}) + "\n")
    return path


@contextmanager
def window(folder: Path) -> Iterator[tuple[str, int]]:
    """The command, started: its address, once it answers, and its process."""
    command = [sys.executable, "-c", _PROGRAM, "view", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1], process.pid
    finally:
        process.terminate()
        process.wait()


def opened(title: str, folder: Path, groups: int) -> None:
    """Print when the page of a log answers, when all is read, how long a group takes, and the memory used."""
    begin = time.perf_counter()
    with window(folder) as (address, process):
        asked(f"{address}api/runs/0/groups?limit=100")
        first = time.perf_counter() - begin
        read_all(address, groups)
        whole = time.perf_counter() - begin
        seconds = [timed(f"{address}api/runs/0/groups/{1 + number * groups // 50}") for number in range(50)]
        training = timed(f"{address}api/runs/0/training")
        status = Path(f"/proc/{process}/status").read_text()
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    print(
        f"{title:<18} page after {first:5.2f} s  all read after {whole:6.2f} s  group {1000 * statistics.median(seconds):5.1f} ms "
        f"(slowest {1000 * max(seconds):.1f})  curves {1000 * training:6.1f} ms  {memory:5.0f} MB",
        flush=True,
    )


def read_all(address: str, groups: int) -> None:
    """Wait until a window knows so many groups."""
    while asked(f"{address}api/runs")[0]["groups"] < groups:
        time.sleep(0.2)


def clicked(folder: Path, groups: int) -> None:
    """Print milliseconds from the click on a group to its answers, and to the first frame of its video, of 30 groups."""
    with window(folder) as (address, _), chromium() as page:
        read_all(address, groups)
        texts, frames = [], []
        for number in range(30):
            first = 1 + number * groups // 8 // 31
            page.goto(f"{address}#/0/groups?from={first}&to={first}")
            page.locator(".list a").first.wait_for()
            drawn, played = page.evaluate(
                """async () => {
                    const until = async (found) => { while (!found()) await new Promise(requestAnimationFrame); return performance.now(); };
                    const begin = performance.now();
                    document.querySelector(".list a").click();
                    const drawn = await until(() => document.querySelector(".answers > li code") !== null);
                    const played = await until(() => document.querySelector("video")?.readyState >= 2);
                    return [drawn - begin, played - begin];
                }"""
            )
            texts.append(drawn)
            frames.append(played)
    for title, values in (("answers drawn", texts), ("first frame there", frames)):
        print(f"{title:<18} median {statistics.median(values):4.0f} ms, slowest of {len(values)} {max(values):4.0f} ms")


@contextmanager
def chromium() -> Iterator[Any]:
    """A page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page(viewport={"width": 1300, "height": 850})
        browser.close()


def watched_and_not(folder: Path, pairs: int, updates: int, page: Any | None) -> None:
    """Print how much longer the updates of a run take while a window with a page of its curves is open, here or elsewhere."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.tiny_runs import make_trainer

    folder.mkdir(parents=True, exist_ok=True)
    turns = [turn for pair in range(pairs) for turn in random.Random(pair).sample((True, False), 2)]
    trainer = make_trainer(folder, max_steps=(len(turns) + 1) * updates, **UPDATE)
    turning = Turns(page, folder / "run", turns, updates)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(turning)
    trainer.train()
    watched, alone = (
        np.array([took for turn, took in zip(turns, turning.seconds, strict=True) if turn is which])
        for which in (True, False)
    )
    ratios = watched / alone
    low, high = np.percentile(np.median(np.random.default_rng(0).choice(ratios, (10_000, pairs)), axis=1), [2.5, 97.5])
    print(
        f"{pairs} pairs of {updates} updates, {np.median(alone) / updates:.2f} s each: watched they take {np.median(ratios):.3f} times "
        f"as long (median; 95 % {low:.3f} to {high:.3f})"
    )
    of_update = {who: 1000 * spent / (pairs * updates) for who, spent in turning.spent.items()}
    print(
        ", ".join(f"{who} {spent:.0f} ms" for who, spent in of_update.items())
        + " of a core for an update that is watched"
    )


class Turns(TrainerCallback):
    """Opens and closes a window on a run between its updates, after some that warm up; `seconds` are those of each turn.

    Args:
        page: that shows the curves; None for one that is elsewhere.
        run: the run's folder.
        turns: whether it is watched.
        updates: of a turn.
    """

    def __init__(self, page: Any | None, run: Path, turns: list[bool], updates: int) -> None:
        self._page, self._run, self._turns, self._updates = page, run, turns, updates
        self._open = ExitStack()
        self._begun: float | None = None
        self.seconds: list[float] = []
        self.spent = {"server": 0.0, "browser": 0.0}
        self._clocks: dict[str, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by transformers."""
        if state.global_step % self._updates:
            return
        if self._begun is not None:
            self.seconds.append(time.perf_counter() - self._begun)
            if self._turns[len(self.seconds) - 1]:
                for who, clock in self._read_clocks().items():
                    self.spent[who] += clock - self._clocks[who]
            self._open.close()
        if len(self.seconds) == len(self._turns):
            return
        if self._turns[len(self.seconds)]:
            address, self._server = self._open.enter_context(window(self._run))
            if self._page is None:
                self._open.enter_context(following(address))
            else:
                self._page.goto(f"{address}#/0/training")
                self._page.locator(".map").wait_for()
                self._open.callback(self._page.goto, "about:blank")
        # What opening costs is no part of watching.
        time.sleep(2)
        if self._turns[len(self.seconds)]:
            self._clocks = self._read_clocks()
        self._begun = time.perf_counter()

    def _read_clocks(self) -> dict[str, float]:
        """The processor's seconds of the server and of all processes of the browser."""
        browser = [one for one in psutil.Process().children(recursive=True) if "chrom" in one.name()]
        return {"server": cpu_seconds(psutil.Process(self._server)), "browser": sum(map(cpu_seconds, browser))}


@contextmanager
def following(address: str) -> Iterator[None]:
    """Something that asks a window what a page of its curves does."""
    process = subprocess.Popen([sys.executable, "-c", _FOLLOWING, address])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def cpu_seconds(process: psutil.Process) -> float:
    """Of one process, so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


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
