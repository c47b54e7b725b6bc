"""How fast captions are judged, how fast the cache answers, and that injected faults lose nothing.

    python benchmarks/judge.py [--captions 512] [--json]

The judge is the local rule-based server in a process of its own, behind real HTTP, with 50 ms of latency.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videochat_r1.judge import Judge, JudgeConfig
from videochat_r1.judge.cache import JudgeCache
from videochat_r1.rewards import Unscored
from videochat_r1.rewards.recall import recall

LATENCY = 0.05
CONCURRENCY = 64
EVENTS = ["A man opens a door.", "A dog barks.", "A red square moves left.", "A woman pours water into a glass."]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=512)
    parser.add_argument("--entries", type=int, default=10_000, help="cached entries to look up")
    parser.add_argument("--repeats", type=int, default=3, help="medians are taken over so many runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    arguments = parser.parse_args()
    measured = {
        "judging": judging(arguments.captions, arguments.repeats),
        "lookups": lookups(arguments.entries, arguments.repeats),
        "faults": faults(arguments.captions),
    }
    if arguments.json:
        print(json.dumps(measured))
        return
    first, cache, broken = measured["judging"], measured["lookups"], measured["faults"]
    print(
        f"{first['captions']} captions at concurrency {CONCURRENCY}, {1000 * LATENCY:.0f} ms latency: {first['seconds']:.2f} s, "
        f"{first['ratio']:.2f} times the bound of {first['bound_seconds']:.2f} s (limit 3), {first['requests']} requests, "
        f"{first['cpu_seconds']:.2f} s of this process's CPU"
    )
    print(f"second pass: {first['second_seconds']:.2f} s, {first['second_requests']} requests (limit 0)")
    print(f"{cache['entries']:,} cached entries looked up in {cache['seconds']:.2f} s (limit 1)")
    print(
        f"with a fifth of the requests failing: {broken['scored']} scored, {broken['unscored']} unscored of "
        f"{broken['captions']} captions, {broken['wrong']} wrong, {broken['answered']} answers for "
        f"{broken['scored']} verdicts, {broken['seconds']:.2f} s"
    )


def judging(captions: int, repeats: int) -> dict[str, Any]:
    """Seconds of a first pass over new captions and of a second pass over the same."""
    runs = []
    for _ in range(repeats):
        with server() as port, tempfile.TemporaryDirectory() as folder:
            runs.append(asyncio.run(_two_passes(port, folder, captions)))
    bound = captions * LATENCY / CONCURRENCY
    seconds = statistics.median(run["seconds"] for run in runs)
    return {
        "captions": captions,
        "bound_seconds": bound,
        "seconds": seconds,
        "ratio": seconds / bound,
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in runs),
        "requests": max(run["requests"] for run in runs),
        "second_seconds": statistics.median(run["second_seconds"] for run in runs),
        "second_requests": max(run["second_requests"] for run in runs),
    }


async def _two_passes(port: int, folder: str, number: int) -> dict[str, float]:
    async with Judge(config(port, folder)) as judge:
        await judge.check()  # as before every training; opens what the first request would
        before = served(port)
        began, cpu = time.perf_counter(), time.process_time()
        first = await judged(judge, number)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        between = served(port)
    async with Judge(config(port, folder)) as judge:
        began = time.perf_counter()
        assert await judged(judge, number) == first == [right(index) for index in range(number)]
        second_seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "requests": between["requests"] - before["requests"],
        "second_seconds": second_seconds,
        "second_requests": served(port)["requests"] - between["requests"],
    }


def lookups(entries: int, repeats: int) -> dict[str, Any]:
    """Seconds to look up so many entries of a cache that was filled before and opened anew."""
    answer = json.dumps({"labels": {str(number): "entailment" for number in range(1, 8)}})
    with tempfile.TemporaryDirectory() as folder:
        cache = JudgeCache(folder)
        keys = [b"%032d" % number for number in range(entries)]
        for key in keys:
            cache.put(key, answer)
        cache.close()
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            cache = JudgeCache(folder)
            assert all(cache.get(key) == answer for key in keys)
            seconds.append(time.perf_counter() - began)
            cache.close()
    return {"entries": entries, "seconds": statistics.median(seconds)}


def faults(captions: int) -> dict[str, Any]:
    """What becomes of every caption when a fifth of the requests fail in one of six ways."""
    with server("--fault-rate", "0.2") as port, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_with_faults(port, folder, captions))


async def _with_faults(port: int, folder: str, number: int) -> dict[str, Any]:
    async with Judge(config(port, folder, backoff_seconds=0.05)) as judge:
        began = time.perf_counter()
        values = await judged(judge, number)
        seconds = time.perf_counter() - began
    unscored = [value for value in values if isinstance(value, Unscored)]
    scored = {index: value for index, value in enumerate(values) if not isinstance(value, Unscored)}
    assert len(values) == number
    return {
        "captions": number,
        "scored": len(scored),
        "unscored": len(unscored),
        "wrong": sum(value != right(index) for index, value in scored.items()),
        "answered": served(port)["answered"],
        "requests": served(port)["requests"],
        "seconds": seconds,
    }


def config(port: int, folder: str, **options: Any) -> JudgeConfig:
    """The local judge."""
    address = f"http://127.0.0.1:{port}/v1"
    return JudgeConfig(base_url=address, model="rules", concurrency=CONCURRENCY, cache_dir=folder, **options)


async def judged(judge: Judge, number: int) -> list[float | None]:
    """The rewards of so many different captions."""
    texts = [
        f"In room {index} a man opens a door. {'A dog' if index % 3 else 'A cat'} barks. A blue square moves left, then a woman "
        f"pours water into a glass with {index} flowers on it."
        for index in range(number)
    ]
    targets = [{"caption": " ".join(EVENTS), "events": EVENTS}] * number
    return await recall(
        [f"<answer>{text}</answer>" for text in texts], task=["captioning"] * number, target=targets, judge=judge
    )


def right(index: int) -> float:
    """What the rules say of a caption: the door, the glass and in two of three the dog; the square has another colour."""
    return (3 if index % 3 else 2) / len(EVENTS)


def served(port: int) -> dict[str, int]:
    """What the server has counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/counts") as response:
        return json.load(response)  # type: ignore[no-any-return]


@contextmanager
def server(*flags: str) -> Iterator[int]:
    """A local judge in a process of its own; yields its port."""
    command = [
        sys.executable,
        "-m",
        "videochat_r1.cli",
        "judge",
        "serve-rules",
        "--port",
        "0",
        "--latency",
        str(LATENCY),
    ]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen([*command, *flags], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline()
        try:
            yield int(address.rstrip().rpartition(":")[2].partition("/")[0])
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
