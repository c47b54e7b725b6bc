"""What the rollouts of one group add to the numbers of its update: sums and counts, from a line of `rollouts.jsonl`. No torch."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from videochat_r1.rollout.ended import Ended

ALL_EQUAL = "all_equal"
READ = "read"
WHOLE_VIDEO = "whole_video"
PAST_END = "past_end"
REWARD = "reward"
TOKENS = "tokens"
CUT_OFF = f"ended/{Ended.LENGTH}"
UNSCORED = f"ended/{Ended.UNSCORED}"


@dataclass(frozen=True, slots=True)
class Sum:
    """Of `count` values; their mean is what curves show."""

    total: float
    count: int


def tally(group: Mapping[str, Any]) -> dict[str, Sum]:
    """Name -> its sum over the group: `rewards/{name}` and the constants above. A true answer put among the rollouts does not count.

    `all_equal` is of the group itself: 1 where no two of its rewards differ, so that it teaches nothing. What no rollout has
    (a reward of another task, the share of the video of an answer without time) is left out.
    """
    rollouts = [one for one in group["rollouts"] if not one.get("truth")]
    sums = {
        READ: Sum(sum(one.get("parsed") is not None for one in rollouts), len(rollouts)),
        **{
            f"ended/{reason}": Sum(sum(one.get("ended") == reason for one in rollouts), len(rollouts))
            for reason in Ended
        },
    }
    for name in (WHOLE_VIDEO, PAST_END):
        sums[name] = _sum([float(one[name]) for one in rollouts if isinstance(one.get(name), bool)])
    sums[TOKENS] = _sum([one.get("num_tokens") for one in rollouts])
    rewards = [one["reward"] for one in rollouts if is_number(one.get("reward"))]
    sums[REWARD] = _sum(rewards)
    if rewards:
        sums[ALL_EQUAL] = Sum(float(len({round(reward, 6) for reward in rewards}) == 1), 1)
    for name in {name: None for one in rollouts for name in one.get("rewards") or ()}:
        sums[f"rewards/{name}"] = _sum([one["rewards"].get(name) for one in rollouts])
    return {name: value for name, value in sums.items() if value.count}


def spread(group: Mapping[str, Any]) -> float:
    """How far the rewards of a group are apart, best less worst. A true answer put among the rollouts does not count."""
    rollouts = [one for one in group["rollouts"] if not one.get("truth")]
    rewards = [one["reward"] for one in rollouts if is_number(one.get("reward"))]
    return max(rewards, default=0.0) - min(rewards, default=0.0)


def added_up(groups: Sequence[Mapping[str, Sum]]) -> dict[str, Sum]:
    """The sums of several groups of a task as those of its update."""
    names = {name: None for group in groups for name in group}
    return {
        name: Sum(
            sum(group[name].total for group in groups if name in group),
            sum(group[name].count for group in groups if name in group),
        )
        for name in names
    }


def length_metrics(drawn: Sequence[tuple[int, bool]]) -> dict[str, float]:
    """TRL's `completions/...` of completions, each its tokens and whether the limit cut it off; none without completions."""
    lengths = [length for length, _ in drawn]
    terminated = [length for length, cut_off in drawn if not cut_off] or [0]
    if not lengths:
        return {}
    metrics = {"completions/clipped_ratio": statistics.fmean(cut_off for _, cut_off in drawn)}
    for name, values in (("", lengths), ("terminated_", terminated)):
        metrics[f"completions/mean_{name}length"] = statistics.fmean(values)
        metrics[f"completions/min_{name}length"] = float(min(values))
        metrics[f"completions/max_{name}length"] = float(max(values))
    return metrics


def _sum(values: list[Any]) -> Sum:
    numbers = [float(value) for value in values if is_number(value)]
    return Sum(sum(numbers), len(numbers))


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of JSON is a number that can be added up: no boolean, NaN, infinity or integer past the range of floats."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15
