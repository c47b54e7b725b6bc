"""Seconds, rates and memory of a device."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from one_step.workload import Preset

from videochat_r1.modeling.load import load_config
from videochat_r1.modeling.products import product
from videochat_r1.modeling.sizes import decoder_sizes


def synchronize() -> None:
    """Wait until the GPU, if there is one, has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], times: int = 10) -> float:
    """Median seconds of a piece of work, after one that does not count."""
    work()
    taken = []
    for _ in range(times):
        synchronize()
        begin = time.perf_counter()
        work()
        synchronize()
        taken.append(time.perf_counter() - begin)
    return median(taken)


def product_rates(folder: Path, preset: Preset) -> dict[str, float]:
    """Operations a second of the product that a step has most of: the tokens of a packed row through the decoder's MLP.

    `matmul` by torch's own product, `layer` as the linear layers of this project compute it, which on a CPU may be another library.
    """
    sizes = decoder_sizes(load_config(folder / "model"))
    tokens = preset.grid.tokens + preset.rows * preset.new_tokens
    shapes = (tokens, sizes.hidden), (sizes.intermediate, sizes.hidden)
    left, right = (torch.randn(shape, device=preset.device).to(preset.dtype) for shape in shapes)
    ways = {"matmul": lambda: left @ right.t(), "layer": lambda: product(left, right, None)}
    with torch.no_grad():
        operations = 2.0 * tokens * sizes.hidden * sizes.intermediate
        return {way: operations / seconds_of(call, times=50) for way, call in ways.items()}


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
