"""Seconds and memory of a device."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from one_step.workload import Preset


def synchronize() -> None:
    """Wait until the GPU, if there is one, has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def peak_memory(preset: Preset) -> Iterator[dict[str, float]]:
    """MiB that what happens inside needs at most beyond what is in use before, under `mib` afterwards."""
    result: dict[str, float] = {}
    if preset.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield result
        result["mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        result["whole_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return
    # getrusage's peak would be the parent process's at first, and never falls.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident_mib("VmRSS")
    yield result
    result["mib"] = _resident_mib("VmHWM") - before


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024
