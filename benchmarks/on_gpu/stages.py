"""The stages in the order of their worth, each with its time box."""

from collections.abc import Callable
from dataclasses import dataclass

from on_gpu import decoding, kernels, layers, machine, runs, steps
from on_gpu.report import Record
from on_gpu.sizes import Sizes

__all__ = ["STAGES", "Sizes", "Stage"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Args:
        run: takes where figures go, and sizes.
        seconds: it may take at most.
    """

    run: Callable[[Record, Sizes], None]
    seconds: float


STAGES = {
    "machine": Stage(machine.run, 30),
    "decoding": Stage(decoding.run, 90),
    "shared": Stage(steps.shared, 90),
    "trl": Stage(steps.trl, 240),
    "quickstart": Stage(runs.quickstart, 120),
    "repeated": Stage(steps.repeated, 90),
    "kernels": Stage(kernels.run, 60),
    "layers": Stage(layers.run, 60),
    "zero3": Stage(runs.zero3, 120),
    "log_probabilities": Stage(steps.log_probabilities, 90),
    "tower": Stage(steps.tower, 60),
}
"""Name -> what it does; docs/performance.md shows what they found. First what changes with the code, and what has never been
measured."""
