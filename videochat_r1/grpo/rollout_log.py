"""Every group of scored completions as one JSON line, and what the completions of each task say about the run."""

import json
import logging
import math
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from videochat_r1.grpo.alarms import UPDATES, alarms, with_example
from videochat_r1.grpo.reward_calls import Outcome
from videochat_r1.grpo.rows import Turn
from videochat_r1.grpo.tally import READ, Sum, added_up, tally
from videochat_r1.grpo.token_log import TokenLog, with_differences
from videochat_r1.rollout.ended import Ended, ended_shares
from videochat_r1.sample import Target
from videochat_r1.tasks import TASKS

logger = logging.getLogger(__name__)

# What the completions of a group have in common; the rest is each one's own.
_OF_GROUP = (
    *("step", "sample_id", "task", "source", "video", "video_parts", "images", "query", "prompt", "target", "duration"),
    *("response", "shuffled_accuracy"),
)
# These are left out where a group, or a completion, has none.
_IF_ANY = (
    *("video", "video_parts", "images", "duration", "response", "shuffled_accuracy", "verdicts", "tokens", "looks"),
    "truth",
)
# What each look of a rollout has of its own.
_OF_LOOK = ("completion", "parsed", "rewards", "num_tokens", "ended")


@dataclass(frozen=True, slots=True)
class ScoredCompletion:
    """One rollout with what was made of it. `step` counts from 1, as console and checkpoints do: the update it leads to.

    `rewards` holds None where a reward does not apply, and everywhere in a rollout that `ended` unscored; `problem` says why.
    `truth` is True of one that is the true answer, put among the rollouts. `shuffled_accuracy` is that of the rollouts drawn for
    its group with the video's frames shuffled, `verdicts` what a judge's rewards rest on: (event, label) pairs by name. `tokens`
    are those of `grpo.token_log`.
    Of a rollout that may look again, this is its last look, and `looks` holds all: what each `saw`, and as above `completion`,
    `parsed`, `rewards`, `num_tokens` and `ended`, of earlier ones `tokens`, with the `reward` that it was paid and its `advantage`.
    """

    step: int
    sample_id: str
    task: str
    source: str
    generation: int
    video: str | None
    video_parts: Mapping[str, Any] | None
    images: Sequence[str] | None
    query: str
    prompt: str
    completion: str
    parsed: Any
    target: Mapping[str, Any]
    rewards: Mapping[str, float | None]
    reward: float | None
    advantage: float
    num_tokens: int
    ended: Ended
    whole_video: bool | None
    past_end: bool | None
    problem: str | None = None
    duration: float | None = None
    response: str | None = None
    shuffled_accuracy: Sequence[float | None] | None = None
    verdicts: Mapping[str, Any] | None = None
    tokens: Mapping[str, Any] | None = None
    looks: Sequence[Mapping[str, Any]] | None = None
    truth: bool | None = None


def task_metrics(completions: Sequence[ScoredCompletion]) -> dict[str, float]:
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
        metrics[f"{task}/frac_reward_zero_std"] = _zero_variance_share(rows)
        metrics[f"{task}/completions/mean_length"] = statistics.fmean(row.num_tokens for row in rows)
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


class Drawn(NamedTuple):
    """A completion that scoring has yet to look at.

    Args:
        columns: what reward functions see of its row.
        completion: the text.
        num_tokens: of the completion.
        ended: why it did; the row of a sample that was left out is not `drawn`. None where there is no such look.
        outcome: what became of its rewards.
        tokens: for the log, see `grpo.token_log`; None logs none.
        saw: what it was given to, of a sample that may be looked at again.
        look_problem: see `Turn`.
    """

    columns: Mapping[str, Any]
    completion: str
    num_tokens: int
    ended: Ended | None
    outcome: Outcome
    tokens: Mapping[str, Any] | None = None
    saw: Mapping[str, Any] | None = None
    look_problem: str | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether there is a completion."""
        return self.ended is not None and self.ended.drawn

    @property
    def is_scored(self) -> bool:
        """Whether it has rewards."""
        return self.ended is not None and self.ended.scored

    @classmethod
    def of(cls, turn: Turn, outcome: Outcome, token_log: TokenLog | None = None) -> "Drawn":
        """A rollout whose rewards could not be found out ended unscored, however its text did."""
        drawn = turn.ended is not None and turn.ended.drawn
        ended = Ended.UNSCORED if drawn and outcome.reason is not None else turn.ended
        ids: Sequence[int] = () if turn.rollout is None else turn.rollout.completion_ids
        tokens = None
        if token_log is not None and turn.rollout is not None and turn.prompt is not None:
            tokens = token_log.of(ids, turn.rollout.logps, turn.prompt.completion, turn.completion)
        saw = None if turn.look is None else turn.look.to_json()
        return cls(turn.columns, turn.completion, len(ids), ended, outcome, tokens, saw, turn.look_problem)


def ended_metrics(drawn: Sequence[Drawn]) -> dict[str, float]:
    """`{task}/ended/{reason}`: shares of all rollouts of a task, each by its last look, those that never began included."""
    by_task: dict[str, list[str]] = defaultdict(list)
    for one in drawn:
        if one.ended is not None and not one.columns["truth"]:
            by_task[one.columns["task"]].append(one.ended)
    return {
        f"{task}/ended/{reason}": share
        for task, reasons in sorted(by_task.items())
        for reason, share in ended_shares(reasons).items()
    }


class RolloutLog:
    """Keeps a generation's rollouts from their scoring until their advantages are known.

    Args:
        path: the file; None writes nothing.
        reward_names: in the order of the rewards.
        reward_weights: of each.
        num_generations: rollouts per group.
        looks: most of a rollout; the rows of a group come look by look.
    """

    def __init__(
        self,
        path: Path | None,
        reward_names: Sequence[str],
        reward_weights: Sequence[float],
        num_generations: int,
        looks: int = 1,
    ) -> None:
        self._path = path
        self._names = reward_names
        self._weights = reward_weights
        self._num_generations = num_generations
        self._looks = looks
        self._rows_of: list[list[int]] = []
        self._scored: list[ScoredCompletion] = []
        self._updates: dict[str, deque[dict[str, Sum]]] = defaultdict(lambda: deque(maxlen=UPDATES))
        self._told: dict[str, set[str]] = defaultdict(set)

    def score(
        self,
        step: int,
        drawn: Sequence[Drawn],
        rewards: Sequence[Sequence[float]],
        paid: Sequence[Sequence[float]] | None = None,
    ) -> dict[str, float]:
        """Take the rollouts of all ranks; returns `ended_metrics` of all and `task_metrics` of those that were drawn.

        Args:
            step: the update that they lead to.
            drawn: all of them, in whole groups.
            rewards: of each, as measured, NaN for none.
            paid: of each, where looks share them.
        """
        size = self._num_generations
        whole = size * self._looks
        first_looks = [begin + place for begin in range(0, len(drawn), whole) for place in range(size)]
        looks = [[row for row in range(first, first + whole, size) if drawn[row].is_drawn] for first in first_looks]
        self._rows_of = [rows for rows in looks if rows]
        last_looks = [drawn[(rows or [first])[-1]] for first, rows in zip(first_looks, looks, strict=True)]
        given = paid or rewards
        self._scored = [
            self._rollout(step, [(drawn[row], rewards[row], given[row]) for row in rows]) for rows in self._rows_of
        ]
        self._warn()
        return {**task_metrics(self._by_policy), **ended_metrics(last_looks), **self._of_truths()}

    def totals(self) -> dict[str, float]:
        """TRL's `reward` and `rewards/{name}/mean` with their deviations, of the policy's rollouts scored last: their last looks."""
        values = {f"rewards/{name}": [row.rewards[name] for row in self._by_policy] for name in self._names}
        known = {name: [value for value in each if value is not None] for name, each in values.items()}
        sums = [row.reward for row in self._by_policy if row.reward is not None]
        metrics = {"reward": _mean(sums), "reward_std": _deviation(sums)}
        for name, each in known.items():
            metrics |= {f"{name}/mean": _mean(each), f"{name}/std": _deviation(each)}
        return metrics

    def write(self, advantages: Sequence[float], apart: Sequence[Sequence[float]] | None = None) -> None:
        """Add a line per group.

        Args:
            advantages: of the rows that were scored last.
            apart: of each of these, the sampler's log-probability of every token less the trainer's; None where it is not known.
        """
        if self._path is None:
            return
        rows = [
            replace(
                row,
                advantage=advantages[of_row[-1]],
                looks=_with_advantages(row.looks, [advantages[index] for index in of_row]),
            )
            for row, of_row in zip(self._scored, self._rows_of, strict=True)
        ]
        if apart is not None:
            rows = [
                row if row.tokens is None else replace(row, tokens=with_differences(row.tokens, apart[of_row[-1]]))
                for row, of_row in zip(rows, self._rows_of, strict=True)
            ]
        append_rollouts(self._path, rows, self._num_generations)

    @property
    def _by_policy(self) -> list[ScoredCompletion]:
        """Those that were drawn."""
        return [row for row in self._scored if not row.truth]

    def _of_truths(self) -> dict[str, float]:
        """`truth/reward` of the true answers among the rollouts, and `truth/share` of the groups that have one."""
        rewards = [row.reward for row in self._scored if row.truth and row.reward is not None]
        groups = len(self._scored) // self._num_generations
        return {"truth/reward": statistics.fmean(rewards), "truth/share": len(rewards) / groups} if rewards else {}

    def _warn(self) -> None:
        """Say what a person should look at; what holds on is said once."""
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for first in range(0, len(self._scored), self._num_generations):
            rollouts = [_fields(row) for row in self._scored[first : first + self._num_generations]]
            groups[rollouts[0]["task"]].append({"rollouts": rollouts})
        for task, own in groups.items():
            updates = self._updates[task]
            updates.append(added_up([tally(group) for group in own]))
            told = alarms(task, updates)
            for kind in told.keys() - self._told[task]:
                unread = [group for group in own if any(one["parsed"] is None for one in group["rollouts"])]
                logger.warning("%s", with_example(told[kind], unread[0]) if kind == READ else told[kind])
            self._told[task] = set(told)

    def _rollout(self, step: int, looks: Sequence[tuple[Drawn, Sequence[float], Sequence[float]]]) -> ScoredCompletion:
        """From each of its looks, with its rewards as measured and as paid."""
        made = [self._of(step, one, values) for one, values, _ in looks]
        if looks[0][0].saw is None:
            return made[-1]
        told = [
            {
                "saw": one.saw,
                **{name: getattr(row, name) for name in _OF_LOOK},
                "reward": self._weighted(paid),
                **({} if one.look_problem is None else {"problem": one.look_problem}),
                **({} if row is made[-1] or row.tokens is None else {"tokens": row.tokens}),
            }
            for row, (one, _, paid) in zip(made, looks, strict=True)
        ]
        return replace(made[-1], looks=told)

    def _weighted(self, values: Sequence[float]) -> float | None:
        weighted = [v * w for v, w in zip(values, self._weights, strict=True) if not math.isnan(v)]
        return sum(weighted) if weighted else None

    def _of(self, step: int, one: Drawn, values: Sequence[float]) -> ScoredCompletion:
        assert one.ended is not None
        columns = one.columns
        target = TASKS[columns["task"]].target_from_json(columns["target"])
        return ScoredCompletion(
            step=step,
            sample_id=columns["sample_id"],
            task=columns["task"],
            source=columns["source"],
            generation=columns["generation"],
            video=columns["video"],
            video_parts=columns["video_parts"],
            images=columns["pictures"],
            query=columns["query"],
            prompt=columns["prompt"],
            completion=one.completion,
            target=columns["target"],
            rewards={name: _finite(value) for name, value in zip(self._names, values, strict=True)},
            reward=self._weighted(values),
            advantage=0.0,
            num_tokens=one.num_tokens,
            ended=one.ended,
            problem=one.outcome.reason,
            verdicts=one.outcome.verdicts,
            tokens=one.tokens,
            duration=columns["duration"],
            response=columns["response"],
            truth=columns["truth"] or None,
            shuffled_accuracy=columns.get("shuffled_accuracy"),
            **parse_completion(columns["task"], one.completion, target),
        )


def append_rollouts(path: Path, completions: Sequence[ScoredCompletion], num_generations: int) -> None:
    """Add one line per group: what its completions share, and under `rollouts` what is each one's own."""
    rest = iter(completions)
    # Half an emoji in a question cannot be encoded; the replacement is JSON's own way to write it.
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        while rows := [_fields(row) for row in islice(rest, num_generations)]:
            kept = [{name: row[name] for name in row if row[name] is not None or name not in _IF_ANY} for row in rows]
            group = {name: value for name, value in kept[0].items() if name in _OF_GROUP}
            group["rollouts"] = [
                {name: _finite(value) for name, value in row.items() if name not in _OF_GROUP} for row in kept
            ]
            file.write(json.dumps(group, ensure_ascii=False, separators=(",", ":")) + "\n")


def _fields(row: ScoredCompletion) -> dict[str, Any]:
    """Its values by name, not copied: with their tokens they are large."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _zero_variance_share(rows: Sequence[ScoredCompletion]) -> float:
    begins = [index for index, row in enumerate(rows) if row.generation == 0]
    groups = [rows[begin:end] for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True)]
    distinct = [{round(row.reward, 6) for row in group if row.reward is not None} for group in groups]
    return statistics.fmean(len(values) <= 1 for values in distinct)


def _with_advantages(
    looks: Sequence[Mapping[str, Any]] | None, advantages: Sequence[float]
) -> list[dict[str, Any]] | None:
    if looks is None:
        return None
    return [{**look, "advantage": each} for look, each in zip(looks, advantages, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _finite(value: Any) -> Any:
    """NaN is no JSON."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
