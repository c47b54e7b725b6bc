"""Scores completions without a model of one's own: one JSON row in, one row of rewards out."""

import asyncio
import inspect
import math
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from videochat_r1.errors import ConfigError, DataError, keys_shown
from videochat_r1.judge import Judge
from videochat_r1.rewards import Unscored, make_reward, option_names
from videochat_r1.tasks import TASKS, Task
from videochat_r1.text import decode, load_json

T = TypeVar("T")

_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "id": ((str, int), "text or an integer"),
    "completion": ((str,), "text"),
    "thinking": ((bool,), "true or false"),
    "target": ((dict,), "an object"),
}
# Rows that a judge is asked about at once; without one every row is scored as soon as it is read.
_JUDGED_TOGETHER = 256


def score_rows(
    lines: Iterable[str | bytes],
    task_name: str,
    *,
    reward_options: Mapping[str, Mapping[str, Any]] | None = None,
    judge: Judge | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows `{"id", "rewards", "parsed"}` in the order of the lines, each as soon as its line is read (with a judge: some together).

    A reward that the judge could not tell is None, with the reason under `unscored`.

    Args:
        lines: JSONL of `{"id", "completion", "thinking", "target"}`; blank lines are passed over, further keys ignored.
        task_name: in `videochat_r1.tasks.TASKS`; only its rewards are reported.
        reward_options: reward name -> options, as in a recipe.
        judge: for tasks that have a judged reward.

    Raises:
        ConfigError: an unknown task or option, a judge that is missing or that nobody asks.
        JudgeError: the judge cannot be used.
        DataError: a malformed row, naming its line (from 1).
    """
    task = TASKS[task_name]
    options = reward_options or {}
    rewards = {name: make_reward(name, **options.get(name, {})) for name in task.reward_names}
    judged = [name for name, reward in rewards.items() if "judge" in option_names(reward)]
    if judge is None and judged:
        raise ConfigError(f"task {task_name} needs a judge for the reward {judged[0]}: --judge YAML (docs/judge.md)")
    if judge is not None and not judged:
        raise ConfigError(f"task {task_name} is scored without a judge; leave --judge out")
    if judge is not None:
        asyncio.run(_with_judge(judge, judge.check()))
        rewards |= {name: make_reward(name, **options.get(name, {}), judge=judge) for name in judged}
    rows = _read_rows(lines, task)
    for first in rows:
        together = [first, *islice(rows, _JUDGED_TOGETHER - 1)] if judge is not None else [first]
        problem = together.pop() if isinstance(together[-1], DataError) else None
        yield from _score([row for row in together if isinstance(row, dict)], task_name, rewards, judge)
        if isinstance(problem, DataError):
            raise problem


def _read_rows(lines: Iterable[str | bytes], task: Task[Any, Any]) -> Iterator[dict[str, Any] | DataError]:
    """The rows, up to the first that is malformed; in its place the error, so that those before it are scored first."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _read_row(line)
            yield {**row, "typed_target": task.target_from_json(row["target"])}
        except DataError as error:
            problem = DataError(f"line {number}: {error}")
            problem.__cause__ = error
            yield problem
            return


def _score(
    rows: Sequence[Mapping[str, Any]], task_name: str, rewards: Mapping[str, Any], judge: Judge | None
) -> Iterator[dict[str, Any]]:
    task = TASKS[task_name]
    completions = [row["completion"] for row in rows]
    columns = {
        "task": [task_name] * len(rows),
        "target": [row["target"] for row in rows],
        "thinking": [row["thinking"] for row in rows],
        "sample_id": [row["id"] for row in rows],
    }
    values = {}
    for name, reward in rewards.items():
        given = reward(completions, **columns)
        values[name] = (
            given if judge is None or not inspect.iscoroutine(given) else asyncio.run(_with_judge(judge, given))
        )
    for place, row in enumerate(rows):
        parsed = task.parse(row["completion"], row["typed_target"])
        found = {name: column[place] for name, column in values.items()}
        reasons = [value.reason for value in found.values() if isinstance(value, Unscored)]
        yield {
            "id": row["id"],
            "rewards": {name: None if value is None or math.isnan(value) else value for name, value in found.items()},
            "parsed": task.parsed_to_json(parsed),
            **({"unscored": reasons[0]} if reasons else {}),
        }


async def _with_judge(judge: Judge, work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns; the judge is closed after it, as the next one has an event loop of its own."""
    async with judge:
        return await work


def _kind(value: Any) -> str:
    """What a message calls a JSON value."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "an integer", float: "a number"}
    return names.get(type(value), "null")


def _read_row(line: str | bytes) -> dict[str, Any]:
    """The row on a line, with all fields of the right type."""
    try:
        text = line if isinstance(line, str) else decode(line, "the row", piece=True)
        row = load_json(text.strip())
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the row is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"a row is an object with {', '.join(_FIELDS)}, got {_kind(row)}")
    missing = [name for name in _FIELDS if name not in row]
    if missing:
        raise DataError(f"the row has no {', '.join(missing)}; it has {keys_shown(row)}")
    for name, (types, expected) in _FIELDS.items():
        # Not isinstance: true is no integer.
        if type(row[name]) not in types:
            raise DataError(f"{name} must be {expected}, got {_kind(row[name])}")
    return row
