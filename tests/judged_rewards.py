"""A reward of a user's own that asks the judge, for tests whose tiny model does not write captions yet.

Each completion is judged as if it had answered `Rollout <generation> <its text>. A man opens a door.`
"""

import os

from videochat_r1.judge import Judge, JudgeConfig
from videochat_r1.rewards.recall import recall

TARGET = {"caption": "unread", "events": ["A man opens a door.", "A dog barks."]}


def captions(completions, generation):
    """Texts whose recall is 0.5 or 1.0, and differs within a group."""
    noise = [sum(map(ord, text)) % 2 for text in completions]
    letters = ["".join(each for each in text if each.isascii() and each.isalnum()) for text in completions]
    return [
        f"<answer>Rollout {place} {text}. A man opens a door. {'A dog barks.' if odd else ''}</answer>"
        for place, text, odd in zip(generation, letters, noise, strict=True)
    ]


async def answered(completions, *, generation, judge=None, **columns):
    """Recall of `captions`."""
    rows = {"task": ["captioning"] * len(completions), "target": [TARGET] * len(completions)}
    log = {"log_metric": columns.get("log_metric")}
    return await recall(captions(completions, generation), judge=judge, **rows, **log)


def of_rank(name):
    """`answered` by a judge of this rank's own: its port is in `JUDGE_PORTS`."""
    port = os.environ["JUDGE_PORTS"].split(",")[int(os.environ.get("RANK", "0"))]
    return Judge(
        JudgeConfig(
            base_url=f"http://127.0.0.1:{port}/v1",
            model="rules",
            cache_dir=None,
            max_attempts=2,
            backoff_seconds=0.01,
            max_wait_seconds=float(name),
        )
    )


_judges = {}


async def answered_by_ranks_own(completions, *, max_wait_seconds=60.0, **columns):
    """`answered`, with a judge per rank."""
    judge = _judges.setdefault(max_wait_seconds, of_rank(max_wait_seconds))
    return await answered(completions, judge=judge, **columns)
