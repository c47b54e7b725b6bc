"""An order of samples from easy to hard, by a column of their manifests."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from videochat_r1.errors import ConfigError, DataError, first_ten
from videochat_r1.options import fields_of
from videochat_r1.sample import Sample


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a mixture's samples follow each other within an epoch.

    Args:
        curriculum: `none` shuffles; `easy_to_hard` begins with the samples that a model did best at.
        by: a number in the `extra` of every sample, such as a reward that `data select` has measured: the larger, the easier.

    Raises:
        ConfigError: an unknown curriculum, or one of the two without the other.
    """

    curriculum: Literal["none", "easy_to_hard"] = "none"
    by: str | None = None

    def __post_init__(self) -> None:
        if self.curriculum == "none" and self.by is not None:
            raise ConfigError(f"sampling.by {self.by!r} orders nothing; add curriculum: easy_to_hard, or leave it out")
        if self.curriculum != "none" and self.by is None:
            raise ConfigError(
                f"sampling.curriculum {self.curriculum} needs by: a column of the manifests, such as reward"
            )

    @classmethod
    def of(cls, values: Any) -> "Sampling":
        """The options in a recipe; None for shuffling.

        Raises:
            ConfigError: no mapping, an unknown key, or a value that cannot be.
        """
        given = {} if values is None else values
        return cls(**fields_of(given, cls, "sampling", "a mapping of curriculum and by, or null"))

    def check(self, samples: Sequence[Sample], where: str) -> None:
        """See that all samples can be ordered.

        Raises:
            DataError: naming those without the column, or without a number in it.
        """
        if self.by is None:
            return
        without = [sample.id for sample in samples if _number(sample.extra.get(self.by)) is None]
        if without:
            columns = sorted({name for sample in samples for name in sample.extra})
            raise DataError(
                f"{where}: sampling.by {self.by!r} is no number in the `extra` of {first_ten(without)}; columns there: "
                f"{', '.join(columns) or 'none'}. `videochat-r1 data select` writes them; or set sampling to null"
            )

    def order(self, samples: Sequence[Sample], order: Sequence[int], size: int) -> list[int]:
        """`order` as the curriculum has it.

        Each task goes from easy to hard by itself, at its own pace, so that every part of an epoch has as much of it; equal samples
        stay as they came. Slices of `size`, which belong together, move as one, by the mean of their places.

        Args:
            samples: drawn for an epoch.
            order: indices of them, shuffled.
            size: of a slice; what is left behind the last whole one stays there.
        """
        by = self.by
        if by is None:
            return list(order)
        ranked: dict[str, list[int]] = defaultdict(list)
        for index in order:
            ranked[samples[index].task].append(index)
        places: dict[int, float] = {}
        for indices in ranked.values():
            indices.sort(key=lambda index: -float(samples[index].extra[by]))
            places |= {index: (rank + 0.5) / len(indices) for rank, index in enumerate(indices)}
        whole = len(order) // size * size
        slices = [order[begin : begin + size] for begin in range(0, whole, size)]
        slices.sort(key=lambda part: statistics.fmean(places[index] for index in part))
        return [*(index for part in slices for index in part), *order[whole:]]


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
