"""Several judges on the same captions: how much they give, and how far they agree."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from videochat_r1.datasets.annotation_files import Row, read_json_lines
from videochat_r1.errors import DataError, JudgeError
from videochat_r1.evaluation.metrics.agreement import agreement
from videochat_r1.judge import Judge, JudgeConfig
from videochat_r1.progress import progress_bar
from videochat_r1.rewards import Unscored
from videochat_r1.rewards.recall import recall
from videochat_r1.sample import CaptionTarget
from videochat_r1.tasks.captioning import Captioning
from videochat_r1.text import read_text

_CHUNK = 256
_NO_FILE_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """A caption to judge: `group` is what it is compared within (a prompt's completions in one step)."""

    group: str
    caption: str
    target: CaptionTarget


def read_captions(path: Path) -> tuple[list[CaptionRow], int]:
    """The captions of a JSONL file, and how many rows have none.

    Rows are the groups of a run's `rollouts.jsonl` (other tasks' are passed over), or `{"id", "completion", "target"}` with
    an optional `group`; without it, rows of one `id` are a group. A completion without tags is taken as a whole.

    Raises:
        DataError: a malformed row, naming its line, or no caption at all.
    """
    task = Captioning()
    rows, without = [], 0
    for where, value in read_json_lines(read_text(path), path):
        row = Row.of(value, where)
        if row.values.get("task", "captioning") != "captioning":
            continue
        try:
            target = task.target_from_json(row.get("target"))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        for text in _completions(row):
            caption = task.parse(text, target, untagged=True)
            if caption is None:
                without += 1
            else:
                rows.append(CaptionRow(_group(row), caption, target))
    if not rows:
        raise DataError(f"{path} holds no caption to judge; expected rows of id, completion and target")
    return rows, without


def compare(
    configs: Sequence[JudgeConfig], rows: Sequence[CaptionRow], *, precision_weight: float = 0.0
) -> dict[str, Any]:
    """What every judge says of the captions, and the agreement of every two of them.

    Raises:
        ConfigError, JudgeError: a judge cannot be used, or stops answering.
    """
    values = [asyncio.run(_ask(config, rows, precision_weight)) for config in _apart(configs)]
    judges = []
    for config, given in zip(configs, values, strict=True):
        scored = [value for value in given if not isinstance(value, Unscored)]
        mean = sum(scored) / len(scored) if scored else None
        judges.append({"model": config.model, "base_url": config.base_url, "mean": mean,
                       "num_scored": len(scored), "num_unscored": len(given) - len(scored)})  # fmt: skip
    pairs = [
        {"judges": [first, second], **_agreement(values[first], values[second], rows)}
        for first, second in combinations(range(len(configs)), 2)
    ]
    return {"num_captions": len(rows), "judges": judges, "pairs": pairs}


def _apart(configs: Sequence[JudgeConfig]) -> list[JudgeConfig]:
    """The judges; those of one model name at several addresses with a cache folder for each address.

    A cache does not tell addresses apart, so the second would only repeat what the first has said.
    """
    addresses: dict[str, set[str]] = {}
    for config in configs:
        addresses.setdefault(config.model, set()).add(config.base_url)
    return [
        config
        if config.cache_dir is None or len(addresses[config.model]) == 1
        else replace(config, cache_dir=str(Path(config.cache_dir) / _NO_FILE_NAME.sub("_", config.base_url)))
        for config in configs
    ]


def _agreement(first: Sequence[float], second: Sequence[float], rows: Sequence[CaptionRow]) -> dict[str, Any]:
    both = [
        place
        for place, pair in enumerate(zip(first, second, strict=True))
        if not any(isinstance(value, Unscored) for value in pair)
    ]
    groups = [rows[place].group for place in both]
    return agreement([first[place] for place in both], [second[place] for place in both], groups)


async def _ask(config: JudgeConfig, rows: Sequence[CaptionRow], precision_weight: float) -> list[float]:
    task = Captioning()
    values: list[float] = []
    async with Judge(config) as judge:
        await judge.check()
        with progress_bar(total=len(rows), desc=config.model, unit="caption") as bar:
            for begin in range(0, len(rows), _CHUNK):
                part = rows[begin : begin + _CHUNK]
                given = await recall(
                    [task.write([row.caption], thought=None) for row in part],
                    task=[task.name] * len(part),
                    target=[task.target_to_json(row.target) for row in part],
                    judge=judge,
                    precision_weight=precision_weight,
                )
                values += [value for value in given if value is not None]
                for value in given:
                    if isinstance(value, Unscored) and value.stop:
                        raise JudgeError(
                            f"the judge {config.model} has stopped answering after {len(values) - len(part):,} of {len(rows):,} "
                            f"captions: {value.reason}. The same command goes on from its cache"
                        )
                bar.update(len(part))
    return values


def _completions(row: Row) -> list[str]:
    """Those of a group of rollouts, else the row's own."""
    if "rollouts" not in row.values:
        return [row.text("completion")]
    return [Row.of(one, f"{row.where}, 'rollouts'").text("completion") for one in row.items("rollouts")]


def _group(row: Row) -> str:
    """The `group`, else step and sample of a group of rollouts, else the id."""
    values = row.values
    if "group" in values:
        return str(values["group"])
    if "sample_id" in values:
        return f"{values.get('step', '')}/{values['sample_id']}"
    return str(row.get("id"))
