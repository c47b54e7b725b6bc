"""What the machine is and how fast it can be: the ceilings that all other figures are measured against."""

import platform
import subprocess
from importlib.metadata import version

import torch
from on_gpu.report import Record
from on_gpu.sizes import Sizes
from one_step.meters import seconds_of

_PACKAGES = ("torch", "transformers", "trl", "accelerate", "deepspeed", "triton", "av")


def product_rate(sizes: Sizes) -> float:
    """Operations a second of a product of large matrices of random numbers."""
    left, right = (torch.randn(sizes.product, sizes.product, device=sizes.device).to(sizes.dtype) for _ in range(2))
    return float(2 * sizes.product**3 / seconds_of(lambda: left @ right))


def copy_rate(sizes: Sizes) -> float:
    """Bytes a second, read and written, of a large copy on the device."""
    source = torch.randn(sizes.copied // 4, device=sizes.device)
    target = torch.empty_like(source)
    return 2 * sizes.copied / seconds_of(lambda: target.copy_(source))


def run(record: Record, sizes: Sizes) -> None:
    """See the module."""
    record("python", platform.python_version())
    for package in _PACKAGES:
        record(package, version(package))
    if sizes.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        record("GPU", properties.name)
        record("GiB", properties.total_memory / 2**30)
        query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,power.limit", "--format=csv,noheader"]
        record(
            "driver, clock, power", subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
        )
        record("CUDA of torch", str(torch.version.cuda))
    record("bf16 product, TFLOP/s", product_rate(sizes) / 1e12)
    record("copy, TB/s read and written", copy_rate(sizes) / 1e12)
    small = torch.zeros(1, device=sizes.device)

    def thousand() -> None:
        for _ in range(1000):
            small.add_(1.0)

    record("start of a small kernel, us", seconds_of(thousand, 5) * 1e3)
