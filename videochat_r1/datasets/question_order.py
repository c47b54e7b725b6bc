"""An order of samples in which questions about one video come together, for trainers that then compute the video once."""

import random
from collections.abc import Hashable, Sequence


def questions_together(
    shown: Sequence[Hashable], samples: Sequence[Hashable], limits: Sequence[int], size: int, key: str
) -> list[int]:
    """Indices of samples in an order whose slices [K i, K (i + 1)) show as little as possible.

    A function of the arguments alone. What shows the same is cut into pieces of at most its limit; pieces fill bins of exactly
    K, the largest first, each with the largest that still fits; bins are shuffled. Where pieces do not add up, they are torn.
    A sample that is drawn twice has its second question in another piece.

    Args:
        shown: what each sample shows.
        samples: which of the same pool it is: twice the same if it is drawn twice.
        limits: of each sample, how many that show the same may be one piece; at most K.
        size: K.
        key: decides the order.
    """
    generator = random.Random(key)
    order = list(range(len(shown)))
    generator.shuffle(order)
    pieces: dict[int, list[list[int]]] = {length: [] for length in range(1, size + 1)}
    cut = _pieces(order, shown, samples, limits)
    # Else pieces of one video would follow each other, single questions that nobody asked to bring together among them.
    generator.shuffle(cut)
    for piece in cut:
        pieces[len(piece)].append(piece)
    full, rest = [], []
    while any(pieces.values()):
        current: list[int] = []
        while room := next((length for length in range(size - len(current), 0, -1) if pieces[length]), 0):
            current += pieces[room].pop()
        if len(current) == size:
            full.append(current)
        else:
            rest += current
    whole = len(rest) // size * size
    full += [rest[begin : begin + size] for begin in range(0, whole, size)]
    generator.shuffle(full)
    return [index for part in full for index in part] + rest[whole:]


def _pieces(
    order: Sequence[int], shown: Sequence[Hashable], samples: Sequence[Hashable], limits: Sequence[int]
) -> list[list[int]]:
    """Indices that show the same, at most so many, and no sample twice."""
    drawn: dict[Hashable, int] = {}
    alike: dict[Hashable, list[int]] = {}
    for index in order:
        times = drawn[samples[index]] = drawn.get(samples[index], 0) + 1
        alike.setdefault((shown[index], limits[index], times), []).append(index)
    return [
        indices[begin : begin + limits[indices[0]]]
        for indices in alike.values()
        for begin in range(0, len(indices), limits[indices[0]])
    ]
