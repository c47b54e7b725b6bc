"""What loading a video costs: PyAV, decord and torchcodec as they are, qwen-vl-utils, and this project's loader.

All are measured in one run, in turns, on the same file; the ratios are what counts. `--json` prints the figures last.
Frames: as many as qwen-vl-utils takes at 2 frames per second (60 of the 900 of the default clip).

    python benchmarks/decode.py [--video FILE ...] [--repeats 5] [--threads 1] [--json]
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import torch
from qwen_vl_utils import vision_process
from tqdm import tqdm

from videochat_r1.errors import ConfigError
from videochat_r1.sample import Video
from videochat_r1.video.decode import SamplingRequest
from videochat_r1.video.frames import VideoBudget, load_frames
from videochat_r1.video.process import decode_in_process
from videochat_r1.video.timeline import read_timeline

OURS = "videochat_r1"
THEIRS = "qwen-vl-utils (decord), resized"


def write_clip(path: Path, *, seconds: int, fps: int, width: int, height: int) -> Path:
    """A clip with moving texture, of the bit rate of an ordinary web video."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (height // 8 + 40, width // 8 + 40, 3), dtype=np.uint8)
    canvas = np.kron(canvas, np.ones((8, 8, 1), dtype=np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "26", "preset": "veryfast"}
        for number in range(seconds * fps):
            dx, dy = (int(abs(np.sin(number / 97)) * 300), int(abs(np.cos(number / 61)) * 300))
            image = np.ascontiguousarray(canvas[dy : dy + height, dx : dx + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def decode_with_decord(path: str, wanted: Sequence[int], threads: int) -> None:
    """decord's own way: one batch."""
    decord.VideoReader(path, num_threads=threads).get_batch(list(wanted)).asnumpy()


def decode_with_pyav(path: str, wanted: Sequence[int], threads: int) -> None:
    """The usual loop: decode everything, convert what is wanted."""
    chosen = set(wanted)
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = threads
        for number, frame in enumerate(container.decode(video=0)):
            if number in chosen:
                frame.to_ndarray(format="rgb24")


def decode_with_torchcodec(path: str, wanted: Sequence[int], threads: int) -> None:
    """torchcodec's own way: one batch."""
    from torchcodec.decoders import VideoDecoder

    VideoDecoder(path, num_ffmpeg_threads=threads).get_frames_at(list(wanted))


def torchcodec_problem(path: str) -> str | None:
    """Why torchcodec cannot be measured here; None if it can."""
    try:
        decode_with_torchcodec(path, [0], 1)
    except (ImportError, RuntimeError, OSError) as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


def fetch_with_qwen(path: str) -> tuple[int, int, int]:
    """Frames, height and width of qwen-vl-utils, which otherwise picks torchcodec wherever it is installed."""
    vision_process.FORCE_QWENVL_VIDEO_READER = "decord"
    vision_process.get_video_reader_backend.cache_clear()
    budget = VideoBudget().sized(28)
    pixels = vision_process.fetch_video(
        {
            "video": path,
            "fps": budget.fps,
            "min_pixels": budget.min_pixels,
            "max_pixels": budget.max_pixels,
            "total_pixels": budget.total_pixels,
        }
    )
    return pixels.shape[0], pixels.shape[2], pixels.shape[3]


def contenders(path: str, threads: int, wanted: Sequence[int]) -> dict[str, Callable[[], Any]]:
    """Name and call of everything that is measured."""
    calls: dict[str, Callable[[], Any]] = {
        THEIRS: lambda: fetch_with_qwen(path),
        "decord": lambda: decode_with_decord(path, wanted, threads),
        "PyAV": lambda: decode_with_pyav(path, wanted, threads),
    }
    backends = ["pyav", "decord"]
    if torchcodec_problem(path) is None:
        calls["torchcodec"] = lambda: decode_with_torchcodec(path, wanted, threads)
        backends.append("torchcodec")
    for backend in backends:
        for isolation in ("process", "none"):
            budget = VideoBudget(backend=backend, isolation=isolation, num_threads=threads)
            calls[f"{OURS} {backend}, {isolation}, resized"] = lambda budget=budget: load_frames(
                Video(path=path), budget, factor=28
            )
    return calls


def measure(calls: dict[str, Callable[[], Any]], repeats: int, label: str) -> dict[str, float]:
    """Median seconds of each call; every round runs all of them, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in tqdm(range(repeats + 1), desc=label):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def process_overhead_ms(path: str, repeats: int) -> float:
    """Milliseconds that the decoder process adds to a video so small that nothing else counts: between the fastest
    reads of each kind, as on a busy machine a second process also gains a second share of it."""
    fastest = {"process": float("inf"), "none": float("inf")}
    for _ in tqdm(range(repeats * 20), desc="process overhead"):
        for name in fastest:
            began = time.perf_counter()
            load_frames(Video(path=path), VideoBudget(isolation=name), factor=28)
            fastest[name] = min(fastest[name], time.perf_counter() - began)
    return 1000.0 * (fastest["process"] - fastest["none"])


def start_seconds(path: str) -> float:
    """Seconds until a fresh decoder process has answered its first request."""
    from videochat_r1.video.process import close_process

    close_process()
    began = time.perf_counter()
    _, images = decode_in_process(SamplingRequest(Video(path=path)), 60.0)
    sum(1 for _ in images)
    return time.perf_counter() - began


def compare(path: str, repeats: int, threads: int) -> dict[str, Any]:
    """All figures of one file."""
    num_frames, height, width = fetch_with_qwen(path)
    total = read_timeline(path).num_frames
    wanted = np.linspace(0, total - 1, num_frames).round().astype(int).tolist()
    seconds = measure(contenders(path, threads, wanted), repeats, Path(path).name)
    return {
        "source_frames": total,
        "frames": num_frames,
        "size": [width, height],
        "seconds": seconds,
        "ratios": {name: seconds[THEIRS] / value for name, value in seconds.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", action="append", help="a file to read; default: a generated clip of 30 s, 480x360")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="decoding threads, and torch's")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, got {arguments.repeats}")
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        videos = arguments.video
        if not videos:
            clip = write_clip(Path(folder) / "generated_30s_480x360.mp4", seconds=30, fps=30, width=480, height=360)
            videos = [str(clip)]
        tiny = str(write_clip(Path(folder) / "tiny.mp4", seconds=4, fps=4, width=64, height=64))
        problem = torchcodec_problem(tiny)
        results = {Path(path).name: compare(path, arguments.repeats, arguments.threads) for path in videos}
        start, overhead = start_seconds(tiny), process_overhead_ms(tiny, arguments.repeats)
    for name, result in results.items():
        print(f"\n{name}: {result['frames']} of {result['source_frames']} frames, resized to {result['size']}")
        for call, value in sorted(result["seconds"].items(), key=lambda item: item[1]):
            print(f"  {value * 1000:9.1f} ms   x{result['ratios'][call]:5.2f}   {call}")
    print(f"\ndecoder process: {start:.2f} s to start, {overhead:.2f} ms per video")
    if problem is not None:
        print(f"torchcodec: not measured ({problem})")
    if arguments.json:
        print(
            json.dumps(
                {
                    "threads": arguments.threads,
                    "videos": results,
                    "process_start_seconds": start,
                    "process_overhead_ms": overhead,
                    "torchcodec_problem": problem,
                }
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
