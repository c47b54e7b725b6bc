"""What is computed together: as many as fit, and where it can be, whole families of those that share something."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def runs(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of runs whose sizes sum up to at most `limit`, or that hold a single larger one."""
    begin, total = 0, 0
    for index, size in enumerate(sizes):
        if index > begin and total + size > limit:
            yield begin, index
            begin, total = index, 0
        total += size
    if begin < len(sizes):
        yield begin, len(sizes)


def batches(families: Sequence[Sequence[_T]], limit: int) -> list[list[Sequence[_T]]]:
    """Batches of at most `limit` members, each as the families that it holds; a family is cut only if it is larger than that."""
    parts = [family[begin : begin + limit] for family in families for begin in range(0, len(family), limit)]
    return [list(parts[begin:end]) for begin, end in runs([len(part) for part in parts], limit)]
