"""What loading a video costs with each decoder: codecs, lengths, sizes, few and many frames, one and two threads.

    python benchmarks/decode.py [--minutes 8] [--only h264 ...] [--json]

Every cell is this project's whole loader, frames found, decoded in a process of its own, sent and resized to the paper's
budget, on files that are made first. Rounds over all cells are made until the minutes are over, and the fastest counts, as
other work on the machine only adds. Beside it qwen-vl-utils (decord) on the shortest file. torchcodec takes FFmpeg's libraries
of the system, or where there are none those that PyAV brings.
"""

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from qwen_vl_utils import vision_process
from tqdm import tqdm

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video.backends import BACKENDS, DEFAULT_BACKEND
from videochat_r1.video.frames import VideoBudget, load_frames
from videochat_r1.video.process import close_process

THREADS = (1, 2)
SAMPLINGS = {"dense": VideoBudget(fps=2.0), "sparse": VideoBudget(fps=2.0, max_frames=16)}
QWEN = "qwen-vl-utils"
FACTOR = 28
_FPS = 25
_VP9 = {"deadline": "realtime", "cpu-used": "8", "b": "1M"}


@dataclass(frozen=True, slots=True)
class Clip:
    """A file to be made.

    Args:
        size: width and height.
        seconds: that are encoded.
        repeats: how often they are written one after the other.
        codec: encoder's name in FFmpeg.
        options: its options.
        suffix: of the file.
        parts: name -> (start, end) in seconds of what is loaded; none for the whole file.
    """

    size: tuple[int, int]
    seconds: int
    repeats: int = 1
    codec: str = "libx264"
    options: Mapping[str, str] = field(default_factory=lambda: {"crf": "26", "preset": "veryfast"})
    suffix: str = "mp4"
    parts: Mapping[str, tuple[float, float]] = field(default_factory=dict)


CLIPS: dict[str, Clip] = {
    "h264": Clip((480, 360), 30),
    "h264, 10 minutes": Clip((480, 360), 30, repeats=20),
    "h264, 2 hours": Clip((160, 120), 30, repeats=240, parts={"first 4 s": (0.0, 4.0), "last 4 s": (7196.0, 7200.0)}),
    "h264, 4K": Clip((3840, 2160), 8, options={"crf": "30", "preset": "ultrafast", "g": "50"}),
    "hevc": Clip((480, 360), 30, codec="libx265", options={"crf": "30", "preset": "ultrafast", "x265-params": "log-level=0"}),
    "av1": Clip((480, 360), 30, codec="libsvtav1", options={"crf": "40", "preset": "11"}),
    "vp9": Clip((480, 360), 30, codec="libvpx-vp9", options=_VP9, suffix="webm"),
}  # fmt: skip


def write_clip(path: Path, clip: Clip) -> Path:
    """A clip with moving texture, of the bit rate of an ordinary web video."""
    width, height = clip.size
    # One encoded stretch is copied, so that long files are made in seconds.
    stretch = path if clip.repeats == 1 else path.with_name(f"stretch_{path.name}")
    with av.open(str(stretch), "w") as container:
        stream = container.add_stream(clip.codec, rate=_FPS, options=dict(clip.options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in _pictures(width, height, clip.seconds * _FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    if stretch != path:
        _repeat(stretch, path, clip.repeats)
        stretch.unlink()
    return path


def _pictures(width: int, height: int, count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (height // 8 + 40, width // 8 + 40, 3), dtype=np.uint8)
    canvas = np.kron(canvas, np.ones((8, 8, 1), dtype=np.uint8))
    for number in range(count):
        dx, dy = (int(abs(np.sin(number / 97)) * 300), int(abs(np.cos(number / 61)) * 300))
        yield np.ascontiguousarray(canvas[dy : dy + height, dx : dx + width])


def _repeat(source: Path, target: Path, repeats: int) -> None:
    """Write the packets of a file so many times one after the other."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        tick = stream.time_base or Fraction(1, _FPS)
        packets = [packet for packet in read.demux(stream) if packet.size]
        contents = [(bytes(p), p.pts or 0, p.dts or 0, p.is_keyframe) for p in packets]
        frame = round(Fraction(1, _FPS) / tick)
        for turn in range(repeats):
            begin = turn * len(contents) * frame
            for content, pts, dts, is_key in contents:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.duration = copy, tick, frame
                packet.pts, packet.dts, packet.is_keyframe = pts + begin, dts + begin, is_key
                written.mux(packet)


# --- contenders -----------------------------------------------------------------------------------------------------


def give_torchcodec_libraries(folder: Path) -> str | None:
    """Let processes started from here find FFmpeg for torchcodec; None if they do, else why not."""
    tried = write_clip(folder / "tried.mp4", Clip((64, 64), 1))
    problem = _torchcodec_problem(tried)
    libraries = list((Path(av.__file__).parent.parent / "av.libs").glob("*.so.*"))
    if problem is None or not libraries:
        return problem
    for library in libraries:
        plain = re.sub(r"-[0-9a-f]{8}(?=\.so)", "", library.name)
        (folder / re.sub(r"(\.so\.\d+)\..*", r"\1", plain)).symlink_to(library)
    # Read when a process starts, so this one never sees them.
    places = [str(folder), str(libraries[0].parent), os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, places))
    return _torchcodec_problem(tried)


def _torchcodec_problem(path: Path) -> str | None:
    program = "import sys; from torchcodec.decoders import VideoDecoder; VideoDecoder(sys.argv[1]).get_frame_at(0)"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if "Error" in line]
    return None if done.returncode == 0 else "".join(lines[-1:])


def fetch_with_qwen(path: str) -> None:
    """qwen-vl-utils's frames, through decord: it otherwise picks torchcodec wherever it is installed."""
    vision_process.FORCE_QWENVL_VIDEO_READER = "decord"
    vision_process.get_video_reader_backend.cache_clear()
    budget = SAMPLINGS["dense"].sized(FACTOR)
    limits = {name: getattr(budget, name) for name in ("fps", "min_pixels", "max_pixels", "total_pixels")}
    vision_process.fetch_video({"video": path, **limits})


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure: a row (what is loaded) and a column (how)."""

    row: str
    column: str
    load: Callable[[], object]


def cells(paths: Mapping[str, Path], backends: Sequence[str]) -> list[Cell]:
    """Everything that is measured, row by row."""
    found = []
    for name, path in paths.items():
        for part, (start, end) in CLIPS[name].parts.items() or {"": (None, None)}.items():
            video = Video(path=str(path), start=start, end=end)
            for sampling, usual in SAMPLINGS.items() if not part else [(part, SAMPLINGS["dense"])]:
                for backend in backends:
                    for threads in THREADS:
                        budget = VideoBudget(**{**vars(usual), "backend": backend, "num_threads": threads})
                        found.append(Cell(f"{name}, {sampling}", _column(backend, threads), _loader(video, budget)))
    if "h264" in paths:
        path = str(paths["h264"])
        found.append(Cell("h264, dense", QWEN, lambda: fetch_with_qwen(path)))
    return found


def _loader(video: Video, budget: VideoBudget) -> Callable[[], object]:
    def load() -> object:
        # A file just written is gone through anew, as in training, where each comes once.
        Path(video.name).touch()
        return load_frames(video, budget, factor=FACTOR)

    return load


def _column(backend: str, threads: int) -> str:
    return f"{backend}, {threads}"


def measure(todo: Sequence[Cell], seconds: float) -> dict[str, dict[str, float | str]]:
    """Row -> column -> the fewest seconds, or why it cannot be read. Rounds begin while time is left; the first always ends."""
    best: dict[str, dict[str, float | str]] = {}
    begin, last_round, number = time.perf_counter(), 0.0, 0
    while number == 0 or time.perf_counter() - begin + last_round < seconds:
        round_begin, number = time.perf_counter(), number + 1
        for cell in tqdm(todo, desc=f"round {number}", unit="cell"):
            row = best.setdefault(cell.row, {})
            if isinstance(row.get(cell.column), str):
                continue
            try:
                # Once more at first, for a decoder process that has to start.
                took = min(_timed(cell.load) for _ in range(2 if number == 1 else 1))
                row[cell.column] = min(took, float(row.get(cell.column, took)))
            except (VideoError, ConfigError) as error:
                row[cell.column] = str(error).partition(": ")[2] or str(error)
        last_round = time.perf_counter() - round_begin
    close_process()
    return best


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def as_table(found: Mapping[str, Mapping[str, float | str]], backends: Sequence[str]) -> str:
    """Milliseconds as Markdown; a file that a decoder does not read is a dash."""
    columns = [_column(backend, threads) for backend in backends for threads in THREADS] + [QWEN]
    lines = ["| milliseconds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in found.items():
        entries = [values.get(column, "") for column in columns]
        texts = [("-" if entry else "") if isinstance(entry, str) else f"{1000 * entry:,.0f}" for entry in entries]
        lines.append(f"| {row} | {' | '.join(texts)} |")
    reasons = {
        f"* {column}: {row}: {why}"
        for row, values in found.items()
        for column, why in values.items()
        if isinstance(why, str)
    }
    return "\n".join([*lines, *([""] if reasons else []), *sorted(reasons)])


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the files, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="the making of the files included (default 8)")
    parser.add_argument("--only", nargs="+", choices=CLIPS, default=list(CLIPS), metavar="CLIP", help=", ".join(CLIPS))
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    arguments = parser.parse_args(argv)
    begin = time.perf_counter()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        libraries = Path(folder) / "ffmpeg"
        libraries.mkdir()
        problem = give_torchcodec_libraries(libraries)
        backends = [DEFAULT_BACKEND, *(name for name in BACKENDS if name != DEFAULT_BACKEND)]
        if problem is not None:
            backends.remove("torchcodec")
        paths = {
            name: write_clip(Path(folder) / f"{number}.{CLIPS[name].suffix}", CLIPS[name])
            for number, name in enumerate(tqdm(arguments.only, desc="files", unit="file"))
        }
        found = measure(cells(paths, backends), 60.0 * arguments.minutes - (time.perf_counter() - begin))
    print(as_table(found, backends))
    if problem is not None:
        print(f"\ntorchcodec: not measured ({problem})")
    if arguments.json:
        print(json.dumps({"seconds": found, "torchcodec_problem": problem}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
