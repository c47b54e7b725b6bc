"""What a person should look at in a run's rollouts, in words: the same for the console and for whoever reads the log. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.errors import counted, shown
from videochat_r1.grpo.tally import ALL_EQUAL, CUT_OFF, READ, WHOLE_VIDEO, Sum

UPDATES = 20
"""How many of a task's latest updates are looked at."""
_LARGEST_SHARES = {
    ALL_EQUAL: (0.75, "{total} of {of} all equal over {updates}: they teach nothing", "group"),
    WHOLE_VIDEO: (0.5, "{share:.0%} of {of} cover the whole video over {updates}", "answer"),
    CUT_OFF: (0.5, "{share:.0%} of {of} are cut off at the length limit over {updates}", "answer"),
}
_FEWEST_UNREAD = 8
_TEXT_CHARS = 160


def alarms(task: str, updates: Sequence[Mapping[str, Sum]]) -> dict[str, str]:
    """Kind -> a sentence; none for a task that goes as it should.

    `read` is told of the latest update alone, the others of the last `UPDATES` together, once there are so many.

    Args:
        task: the name that the sentences begin with.
        updates: the sums of the task's updates, oldest first; see `tally`.
    """
    told = {}
    latest = list(updates)[-UPDATES:]
    for kind, (most, words, what) in _LARGEST_SHARES.items():
        sums = [update[kind] for update in latest if kind in update]
        total, count = sum(one.total for one in sums), sum(one.count for one in sums)
        if len(latest) == UPDATES and count and total / count >= most:
            filled = words.format(
                total=f"{total:,.0f}", of=counted(count, what), share=total / count, updates=counted(UPDATES, "update")
            )
            told[kind] = f"{task}: {filled}"
    read = latest[-1].get(READ) if latest else None
    if read is not None and read.total == 0 and read.count >= _FEWEST_UNREAD:
        told[READ] = f"{task}: 0 of {counted(read.count, 'answer')} could be read"
    return told


def with_example(sentence: str, group: Mapping[str, Any]) -> str:
    """The alarm of answers that cannot be read, with the first such answer of a group."""
    unread = [str(one.get("completion")) for one in group["rollouts"] if one.get("parsed") is None]
    return f"{sentence}; the first one: {shown(unread[0], _TEXT_CHARS)!r}" if unread else sentence
