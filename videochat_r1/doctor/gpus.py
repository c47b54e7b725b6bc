"""Kinds of GPU as their data sheets describe them, and the names by which people and drivers know them."""

import re
from dataclasses import dataclass

from videochat_r1.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU as its data sheet describes it.

    Args:
        gigabytes: memory.
        teraflops: dense bf16 operations per second.
        terabytes: memory bandwidth per second.
    """

    gigabytes: float
    teraflops: float
    terabytes: float


GPUS = {
    "A100-40GB": Gpu(40, 312, 1.555),
    "A100-80GB": Gpu(80, 312, 2.039),
    "A800-80GB": Gpu(80, 312, 2.039),
    "H20": Gpu(96, 148, 4.0),
    "H100": Gpu(80, 989, 3.35),
    "H800": Gpu(80, 989, 3.35),
    "H200": Gpu(141, 989, 4.8),
    "B200": Gpu(180, 2250, 7.7),
    "L40S": Gpu(48, 362, 0.864),
    "RTX-4090": Gpu(24, 165, 1.008),
}
"""Name -> data sheet (SXM boards where there are several)."""

# In the names that drivers give, beside what tells the kinds apart.
_NAME_FILLERS = re.compile(r"nvidia|geforce|sxm\d?|hbm\d\w?")


def gpu_named(name: str) -> str:
    """The key of `GPUS` that a name as people or drivers write it means: "h100", "4090", "NVIDIA A100-SXM4-80GB".

    Raises:
        ConfigError: it means none, or several.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and not _NAME_FILLERS.fullmatch(word)]
    meant = [
        key
        for key, gpu in GPUS.items()
        if words and set(words) <= {*key.lower().split("-"), f"{gpu.gigabytes:g}gb", key.lower().replace("-", "")}
    ]
    if len(meant) == 1:
        return meant[0]
    problem = f"may be {' or '.join(meant)}" if meant else "is none of the GPUs whose data sheet is known"
    raise ConfigError(f"--gpu {name!r} {problem}; known are {', '.join(GPUS)}")
