"""Which of the measured samples are kept, and why the others are not."""

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from videochat_r1.selection.conditions import Condition
from videochat_r1.selection.measured import Measured

NOT_ANSWERED = "not answered"
NOT_SCORED = "not scored"
NO_CONDITION = "no --keep applies"
ONE_ANSWER = "one answer has no spread"

Reasons = Mapping[int, str]
"""Place of a sample -> why it is left out."""


def reasons_against(measured: Sequence[Measured], conditions: Sequence[Condition], *, by_video: bool) -> dict[int, str]:
    """Why samples are left out; those that are kept are not in it.

    All conditions that apply to a sample have to hold, and at least one has to apply: a condition does not to another task than
    its own, nor where no answer to any sample of the task has the metric. By video, what has to hold is the mean over the
    questions about it that have the value, and they are kept or left out together.
    """
    tasks_with = {
        condition: {one.task for one in measured if condition.is_about(one.task) and condition.metric in one.values}
        for condition in conditions
    }
    applying = [[each for each in conditions if one.task in tasks_with[each]] for one in measured]
    against: dict[int, str] = {}
    for place, (one, own) in enumerate(zip(measured, applying, strict=True)):
        if one.answers == 0:
            against[place] = NOT_ANSWERED
        elif any(each.metric not in one.values for each in own):
            against[place] = NOT_SCORED
        elif any(one.value(each) is None for each in own):
            against[place] = ONE_ANSWER
    together: dict[object, list[int]] = defaultdict(list)
    for place, one in enumerate(measured):
        if place not in against:
            together[one.shows if by_video else place].append(place)
    for places in together.values():
        values: dict[Condition, list[float]] = defaultdict(list)
        for place in places:
            for condition in applying[place]:
                value = measured[place].value(condition)
                assert value is not None
                values[condition].append(value)
        whys = (each.why_not(statistics.fmean(own)) for each, own in values.items())
        why = next(filter(None, whys), None) if values else NO_CONDITION
        if why is not None:
            against |= dict.fromkeys(places, why)
    return against


def at_most(units: Iterable[Sequence[tuple[int, str, str]]], limit: int, seed: int) -> set[int]:
    """The places of at most `limit` samples, of each task equally many as far as they go.

    The seed draws: of the task that has the fewest so far, the next unit that still fits. A unit's draw depends on its ids alone, so
    that a larger limit keeps what a smaller one did, as far as units are single samples.

    Args:
        units: what is kept together; of each sample its place, task and id.
        limit: at least 1.
        seed: decides the order.
    """
    queues: dict[str, list[Sequence[tuple[int, str, str]]]] = defaultdict(list)
    for unit in units:
        task = Counter(task for _, task, _ in unit).most_common(1)[0][0]
        queues[task].append(unit)
    for queue in queues.values():
        queue.sort(key=lambda unit: _draw(seed, unit), reverse=True)
    kept: set[int] = set()
    counts = dict.fromkeys(sorted(queues), 0)
    while counts and len(kept) < limit:
        task = min(counts, key=lambda name: counts[name])
        if not queues[task]:
            del counts[task]
            continue
        unit = queues[task].pop()
        if len(kept) + len(unit) <= limit:
            kept.update(place for place, _, _ in unit)
            counts[task] += len(unit)
    return kept


def _draw(seed: int, unit: Sequence[tuple[int, str, str]]) -> bytes:
    return min(hashlib.blake2b(f"{seed}/{task}/{name}".encode("utf-8", "replace")).digest() for _, task, name in unit)
