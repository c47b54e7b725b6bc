"""How far two judges agree, over all captions and within groups (the argument of the paper's Table 7: GRPO uses rewards only
relative to those of the same group, so judges that rank alike train alike).

Pure functions of two lists of equal length; None where a value is not defined, because one side does not vary.
"""

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import combinations


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Linear correlation in [-1, 1]."""
    if len(first) < 2:
        return None
    mean_a, mean_b = statistics.fmean(first), statistics.fmean(second)
    above = math.fsum((a - mean_a) * (b - mean_b) for a, b in zip(first, second, strict=True))
    spread = math.sqrt(math.fsum((a - mean_a) ** 2 for a in first) * math.fsum((b - mean_b) ** 2 for b in second))
    return above / spread if spread > 1e-12 else None


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Correlation of the ranks, equal values sharing the mean of theirs."""
    return pearson(ranks(first), ranks(second))


def kendall_tau_b(first: Sequence[float], second: Sequence[float]) -> float | None:
    """(concordant - discordant) / sqrt(pairs untied in the first x pairs untied in the second), in [-1, 1]."""
    score, untied_a, untied_b = 0, 0, 0
    for sign_a, sign_b in _pair_signs(first, second):
        score += sign_a * sign_b
        untied_a += sign_a != 0
        untied_b += sign_b != 0
    return score / math.sqrt(untied_a * untied_b) if untied_a and untied_b else None


def pairwise_agreement(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Share of the pairs that both rank, neither calling them equal, which they rank alike."""
    products = [sign_a * sign_b for sign_a, sign_b in _pair_signs(first, second) if sign_a and sign_b]
    return sum(product > 0 for product in products) / len(products) if products else None


def same_best(first: Sequence[float], second: Sequence[float]) -> float | None:
    """1.0 if one of the first's best is one of the second's best, else 0.0; None where either finds all equal."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    best_a = {place for place, value in enumerate(first) if value == max(first)}
    best_b = {place for place, value in enumerate(second) if value == max(second)}
    return float(bool(best_a & best_b))


def advantages(values: Sequence[float]) -> list[float]:
    """(r - mean) / (std + 1e-4), as GRPO has it; zeros for a single value."""
    if len(values) < 2:
        return [0.0] * len(values)
    mean, std = statistics.fmean(values), statistics.stdev(values)
    return [(value - mean) / (std + 1e-4) for value in values]


def ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value from 1, equal ones sharing the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    begin = 0
    while begin < len(order):
        end = begin
        while end < len(order) and values[order[end]] == values[order[begin]]:
            end += 1
        for place in order[begin:end]:
            result[place] = (begin + 1 + end) / 2
        begin = end
    return result


def agreement(
    first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable]
) -> dict[str, float | int | None]:
    """All measures of two judges' values, one of each per caption.

    `pearson` and `spearman` are over all captions; `kendall_tau_b`, `pairwise_agreement` and `same_best` are means over the
    groups in which both judges find a difference (`num_groups_compared`); `advantage_pearson` is over the captions of all
    groups.
    """
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    parts = [([first[i] for i in places], [second[i] for i in places]) for places in members.values()]
    compared = [(a, b) for a, b in parts if len(set(a)) > 1 and len(set(b)) > 1]
    relative_a = [value for a, _ in parts for value in advantages(a)]
    relative_b = [value for _, b in parts for value in advantages(b)]
    return {
        "num_captions": len(first),
        "pearson": pearson(first, second),
        "spearman": spearman(first, second),
        "num_groups": len(parts),
        "num_groups_compared": len(compared),
        "kendall_tau_b": _mean_of(kendall_tau_b, compared),
        "pairwise_agreement": _mean_of(pairwise_agreement, compared),
        "same_best": _mean_of(same_best, compared),
        "advantage_pearson": pearson(relative_a, relative_b),
    }


def _mean_of(
    measure: Callable[[Sequence[float], Sequence[float]], float | None],
    parts: Iterable[tuple[Sequence[float], Sequence[float]]],
) -> float | None:
    values = [value for a, b in parts if (value := measure(a, b)) is not None]
    return statistics.fmean(values) if values else None


def _pair_signs(first: Sequence[float], second: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Of every pair, whether its second member is above (1), below (-1) or level with (0) its first."""
    for (a, b), (c, d) in combinations(zip(first, second, strict=True), 2):
        yield (c > a) - (c < a), (d > b) - (d < b)
