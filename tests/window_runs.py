"""A small run's folder as a window is opened for, written by hand, with synthetic videos; and a window on it in a browser."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.video_files import write_pictures, write_video
from videochat_r1.geometry import Span
from videochat_r1.sample import SpanTarget
from videochat_r1.tasks import TASKS
from videochat_r1.window.playable import Copies
from videochat_r1.window.runs import open_runs
from videochat_r1.window.server import window_app
from videochat_r1.window.serving import WindowServer, listen
from videochat_r1.window.watcher import Watcher

NASTY = "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
BOXES = [[0.1, 0.2, 0.3, 0.6], [0.5, 0.2, 0.7, 0.6]]
SECONDS = 4.0
"""Of every video."""
SECONDS_TO_WAIT = 120.0
"""For what comes at once on an idle machine: one that is loaded takes thirty times as long."""


def rollout(place: int, completion: str, parsed: Any, reward: float, **others: Any) -> dict[str, Any]:
    """One of a line of `rollouts.jsonl`."""
    return {
        "generation": place,
        "completion": completion,
        "parsed": parsed,
        "rewards": {"format": 1.0, "iou": reward - 1.0, "accuracy": None},
        "reward": reward,
        "advantage": reward - 1.5,
        "num_tokens": 7,
        "ended": "stop",
        "whole_video": False,
        "past_end": False,
        "problem": None,
        **others,
    }


def group(step: int, sample: str, task: str, target: Any, rollouts: Sequence[Any], **others: Any) -> dict[str, Any]:
    """A line of `rollouts.jsonl`."""
    about = {
        "step": step,
        "sample_id": sample,
        "task": task,
        "source": "toy",
        "video": None,
        "query": f"Question of {sample}",
        "prompt": f"<|im_start|>user\nQuestion of {sample}<|im_end|>",
    }
    return {**about, "target": target, "rollouts": list(rollouts), **others}


def grounding(step: int, sample: str, video: str, rewards: Sequence[float] = (1.9, 1.2, 1.5)) -> dict[str, Any]:
    """A group that looks for 1 to 3 s; the first answer is right, the last thinks before it answers."""
    answers = [
        rollout(place, f"<think>from {place}</think><answer>{place} to 3</answer>", [float(place), 3.0], reward)
        for place, reward in enumerate(rewards)
    ]
    return group(step, sample, "temporal_grounding", {"span": [1.0, 3.0], "duration": SECONDS}, answers, video=video)


def write_run(folder: Path) -> Path:
    """A run of all kinds of groups in two updates; returns its folder, with the videos beside it."""
    videos, run = folder / "videos", folder / "run"
    videos.mkdir(parents=True)
    run.mkdir()
    clip = str(write_video(videos / "clip.mp4", 40, fps=10))
    foreign = str(write_video(videos / "foreign.avi", 40, fps=10, codec="mpeg4", options={}))
    outside = str(write_video(folder / "outside.mp4", 10, fps=10))
    write_pictures(videos / "photo.png", [np.full((40, 60, 3), 90, np.uint8)])
    boxes = {"boxes": BOXES}
    moved = [[left + 0.1, top, right + 0.1, bottom] for left, top, right, bottom in BOXES]
    for place in range(2):
        write_pictures(videos / f"{place}.png", [np.full((40, 80, 3), 60 + 120 * place, np.uint8)])
    listed = {"frames": [str(videos / f"{place}.png") for place in range(2)], "frame_times": [0.0, 2.0]}
    verdicts = {"recall": [["a cat jumps", "entailment"], [NASTY, "neutral"]], "precision": [[NASTY, "contradiction"]]}
    shaded = grounding(1, "when", clip)
    for one in shaded["rollouts"]:
        lengths = [7, 4, 2, len(one["completion"]) - 13, 0]
        one["tokens"] = {"lengths": lengths, "logps": [0, -0.05, -3, -0.5, -0.3], "differences": [0, 0, 0.2, -2, 0]}
    lines = [
        shaded,
        group(1, "where", "tracking", boxes, [rollout(0, f"<answer>{moved}</answer>", moved, 1.4), rollout(1, "no idea", None, 0.0, ended="length")], video=clip),
        group(1, "which", "multi_choice_qa", {"options": ["a cat", NASTY], "answer": "B"}, [rollout(0, "<answer>B</answer>", "B", 2.0), rollout(1, "<answer>A</answer>", "A", 1.0)], video=foreign),
        group(2, "how many", "numerical_qa", {"answer": "12"}, [rollout(0, "<answer>10</answer>", 10.0, 1.0), rollout(1, "<answer>12</answer>", 12.0, 2.0)], video=None, images=[str(videos / "photo.png")] * 2),
        group(2, "tell", "captioning", {"caption": "A cat jumps.", "events": ["a cat jumps", NASTY]}, [rollout(0, NASTY, NASTY, 1.0, verdicts=verdicts)] * 2, video=str(videos / f"{NASTY.replace('/', '')}.mp4"), prompt=NASTY),
        grounding(2, "stolen", outside, (1.0, 1.0, 1.0)),
        group(3, "clip", "temporal_grounding", {"span": [0.5, 1.0], "duration": 2.0}, [rollout(0, "<answer>0 to 1</answer>", [0.0, 1.0], 1.5)], video=clip, video_parts={"start": 1.0, "end": 3.0}),
        group(3, "listed", "tracking", boxes, [rollout(0, f"<answer>{moved}</answer>", moved, 1.4, whole_video=True)], video="0.png (+1 frames)", video_parts=listed, source="other"),
    ]  # fmt: skip
    (run / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def write_evaluation(folder: Path, clip: Path, answers: Sequence[Any]) -> None:
    """A scored benchmark that asks for 1 to 3 s of one video, with these parsed answers."""
    folder.mkdir()
    if not clip.exists():
        write_video(clip, 40, fps=10)
    target = {"span": [1.0, 3.0], "duration": SECONDS}
    rows = []
    for place, span in enumerate(answers):
        iou = 0.0 if span is None else TASKS["temporal_grounding"].iou(Span(*span), SpanTarget(Span(1.0, 3.0), SECONDS))
        row = {"id": f"s{place}", "task": "temporal_grounding", "video": str(clip), "query": "q", "target": target}
        rows.append(
            {**row, "completion": f"<answer>{span}</answer>", "parsed": span, "scores": {"mIoU": iou}, "failure": None}
        )
    settings = {
        name: "x" for name in ("benchmark", "task", "subset", "annotations", "annotations_sha256", "box_format")
    }
    settings |= {
        "bootstrap": 0,
        "bootstrap_seed": 0,
        "limit": None,
        "videos": str(clip.parent),
        "train_annotations": None,
    }
    mean = sum(row["scores"]["mIoU"] for row in rows) / len(rows)
    results = {"benchmark": "charades_sta", "task": "temporal_grounding", "headline": "mIoU", "num_samples": len(rows)}
    results |= {"num_failed": 0, "failures": {}, "metrics": {"mIoU": mean}, "ci95": {"mIoU": [0.25, 0.75]}}
    results |= {
        "by": {"length": {"short": {"num_samples": 3, "mIoU": mean}}},
        "baselines": {"whole_video": {"mIoU": 0.5}},
    }
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "results.json").write_text(json.dumps({**results, "settings": {**settings, "untagged": False}}))


@contextmanager
def window(outputs: Sequence[Path], videos: Sequence[Path] = (), token: str | None = None) -> Iterator[str]:
    """Serves a window in a thread of this process, once its logs are read; gives its address."""
    with ExitStack() as held:
        runs = open_runs(outputs, videos)
        for run in runs:
            held.callback(run.index.close)
        watcher = held.enter_context(Watcher(runs))
        copies = held.enter_context(closing(Copies()))
        listening = held.enter_context(closing(listen("127.0.0.1", 0)))
        server = WindowServer(window_app(runs, watcher, copies, token), watcher.end)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: server.started and all(run.index.known == run.index.size for run in runs))
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def wait_for(done: Any) -> None:
    until = time.monotonic() + SECONDS_TO_WAIT
    while not done():
        assert time.monotonic() < until, "nothing came of it"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def written_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `write_run`."""
    return write_run(tmp_path_factory.mktemp("window"))


@pytest.fixture(scope="module")
def run_address(run: Path) -> Iterator[str]:
    """Of a window on it."""
    with window([run], [run.parent / "videos"]) as where:
        yield where
