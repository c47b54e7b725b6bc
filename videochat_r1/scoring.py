"""Scores completions without a model: one JSON row in, one row of rewards out."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from videochat_r1.errors import DataError
from videochat_r1.rewards import make_reward
from videochat_r1.tasks import Task, get_task

_FIELDS: dict[str, tuple[type, ...]] = {
    "id": (str, int),
    "completion": (str,),
    "thinking": (bool,),
    "target": (dict,),
}


def score_rows(
    lines: Iterable[str | bytes], task_name: str, *, reward_options: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows `{"id", "rewards", "parsed"}` in the order of the lines, each as soon as its line is read.

    Args:
        lines: JSONL of `{"id", "completion", "thinking", "target"}`; blank lines are passed over, further keys ignored.
        task_name: in `videochat_r1.tasks.TASKS`; only its rewards are reported.
        reward_options: reward name -> options, as in a recipe.

    Raises:
        ConfigError: an unknown task or option.
        DataError: a malformed row, naming its line (from 1).
    """
    task = get_task(task_name)
    options = reward_options or {}
    rewards = {name: make_reward(name, **options.get(name, {})) for name in task.reward_names}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _read_row(line)
            yield _score(row, task, rewards)
        except DataError as error:
            raise DataError(f"line {number}: {error}") from error


def _score(row: Mapping[str, Any], task: Task[Any, Any], rewards: Mapping[str, Any]) -> dict[str, Any]:
    completion, target = row["completion"], row["target"]
    columns = {"task": [task.name], "target": [target], "thinking": [row["thinking"]], "sample_id": [row["id"]]}
    parsed = task.parse(completion, task.target_from_json(target))
    return {
        "id": row["id"],
        "rewards": {name: reward([completion], **columns)[0] for name, reward in rewards.items()},
        "parsed": task.parsed_to_json(parsed),
    }


def _read_row(line: str | bytes) -> dict[str, Any]:
    """The row on a line, with all fields of the right type."""
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise DataError(f"this is no JSON in UTF-8: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"a row is an object with {', '.join(_FIELDS)}, got a {type(row).__name__}")
    missing = [name for name in _FIELDS if name not in row]
    if missing:
        raise DataError(f"the row has no {', '.join(missing)}; it has {', '.join(map(repr, row))}")
    for name, types in _FIELDS.items():
        if not isinstance(row[name], types) or (isinstance(row[name], bool) and bool not in types):
            expected = " or ".join(each.__name__ for each in types)
            raise DataError(f"{name} must be {expected}, got {type(row[name]).__name__}")
    return row
