"""Every scored completion as one JSON line, and what the completions of each task say about the run."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videochat_r1.sample import Target
from videochat_r1.tasks import TASKS


@dataclass(frozen=True, slots=True)
class ScoredCompletion:
    """One rollout with what was made of it.

    `rewards` holds None where a reward does not apply, and everywhere in an `unscored` rollout, which says there why it is.
    """

    step: int
    sample_id: str
    task: str
    source: str
    generation: int
    video: str
    prompt: str
    completion: str
    parsed: Any
    target: Mapping[str, Any]
    rewards: Mapping[str, float | None]
    reward: float | None
    advantage: float
    num_tokens: int
    finished: bool
    whole_video: bool | None
    past_end: bool | None
    unscored: str | None = None


def task_metrics(completions: Sequence[ScoredCompletion], num_generations: int) -> dict[str, float]:
    """Per-task values in TRL's naming: `{task}/rewards/{name}/mean`, `{task}/frac_reward_zero_std`, ...

    Rewards are unweighted. `whole_video_ratio` is the share of rollouts that answer more than 90 % of the video, the
    trivial answer a policy can collapse to, `past_end_ratio` of those that end after the video does; both are left out for
    tasks that ask for no time.
    """
    by_task: dict[str, list[ScoredCompletion]] = defaultdict(list)
    for completion in completions:
        by_task[completion.task].append(completion)
    metrics: dict[str, float] = {}
    for task, rows in sorted(by_task.items()):
        for name in rows[0].rewards:
            values = [value for row in rows if (value := row.rewards[name]) is not None]
            if values:
                metrics[f"{task}/rewards/{name}/mean"] = statistics.fmean(values)
                metrics[f"{task}/rewards/{name}/std"] = statistics.stdev(values) if len(values) > 1 else 0.0
        if sums := [row.reward for row in rows if row.reward is not None]:
            metrics[f"{task}/reward"] = statistics.fmean(sums)
        metrics[f"{task}/frac_reward_zero_std"] = _zero_variance_share(rows, num_generations)
        metrics[f"{task}/completions/mean_length"] = statistics.fmean(row.num_tokens for row in rows)
        metrics[f"{task}/completions/clipped_ratio"] = statistics.fmean(not row.finished for row in rows)
        metrics[f"{task}/parse_rate"] = statistics.fmean(row.parsed is not None for row in rows)
        for name, seen in (
            ("whole_video_ratio", [row.whole_video for row in rows if row.whole_video is not None]),
            ("past_end_ratio", [row.past_end for row in rows if row.past_end is not None]),
        ):
            if seen:
                metrics[f"{task}/{name}"] = statistics.fmean(seen)
    return metrics


def parse_completion(task: str, completion: str, target: Target) -> dict[str, Any]:
    """What `ScoredCompletion` holds of the parsed answer: its JSON form, `whole_video` and `past_end`."""
    parsed = TASKS[task].parse(completion, target)
    return {
        "parsed": TASKS[task].parsed_to_json(parsed),
        "whole_video": TASKS[task].whole_video(parsed, target),
        "past_end": TASKS[task].past_end(parsed, target),
    }


def append_rollouts(path: Path, completions: Iterable[ScoredCompletion]) -> None:
    """Add one line per completion."""
    with path.open("a", encoding="utf-8") as file:
        for completion in completions:
            row = {key: _finite(value) for key, value in asdict(completion).items()}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def drop_rollouts_from(path: Path, step: int) -> None:
    """Forget the lines of `step` and later (and a last line cut off by a kill): a resumed run writes them again."""
    if not path.exists():
        return
    rewritten = path.with_suffix(".tmp")
    # Bytes: a kill can cut a line within a character.
    with path.open("rb") as file, rewritten.open("wb") as kept:
        for line in file:
            if line.endswith(b"\n") and json.loads(line)["step"] < step:
                kept.write(line)
    rewritten.replace(path)


def _zero_variance_share(rows: Sequence[ScoredCompletion], num_generations: int) -> float:
    groups = [rows[i : i + num_generations] for i in range(0, len(rows), num_generations)]
    distinct = [{round(row.reward, 6) for row in group if row.reward is not None} for group in groups]
    return statistics.fmean(len(values) <= 1 for values in distinct)


def _finite(value: Any) -> Any:
    """NaN is no JSON."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
