"""How large everything is: as on a GPU, or as small as can be, to try the stages."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from one_step.workload import PRESETS, Preset, prepare


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of all stages.

    Args:
        device: where everything is computed.
        preset: of `grpo_step.py`, whose model, video and group are taken.
        product: side of the matrices whose product gives the machine's rate.
        copied: bytes of the copy that gives its bandwidth.
        prompt: tokens of prompts in the kernels' shapes.
        own: tokens of completions in them.
        layers: of the language model and of the tower where two precisions are compared.
    """

    device: str
    preset: Preset
    product: int
    copied: int
    prompt: int
    own: int
    layers: int

    @classmethod
    def full(cls) -> "Sizes":
        """Of the 7B."""
        if not torch.cuda.is_available():
            raise SystemExit("torch sees no GPU here: --small tries everything without one")
        return cls("cuda", replace(PRESETS["gpu_7b"], steps=2, repeated_steps=1), 8192, 2**32, 3601, 200, 2)

    @classmethod
    def small(cls) -> "Sizes":
        """That a CPU computes in seconds."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(device, PRESETS["debug"], 128, 2**20, 37, 9, 2)

    @property
    def dtype(self) -> torch.dtype:
        """In which the stages compute: bf16, which the CPU's kernels have as well."""
        return torch.bfloat16


@contextmanager
def prepared(preset: Preset) -> Iterator[Path]:
    """A folder with the preset's model, without weights where they are made on the device, and its video."""
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), preset)
        yield Path(name)
