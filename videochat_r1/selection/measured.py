"""How well a model answered each sample, read from logs of training and results of evaluation a line at a time. No torch."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from videochat_r1.errors import ConfigError, DataError, keys_shown
from videochat_r1.evaluation.scoring.predictions import PARSING_FAILURES
from videochat_r1.evaluation.scoring.results import SAMPLES
from videochat_r1.grpo.rollout_file import group_of
from videochat_r1.grpo.tally import is_number
from videochat_r1.options import nearest
from videochat_r1.progress import progress_bar
from videochat_r1.selection.conditions import STATISTICS, Condition, Spread
from videochat_r1.tasks import TASKS
from videochat_r1.text import decode, parse_json, refuse_no_file
from videochat_r1.window.runs import logs_of

logger = logging.getLogger(__name__)

REWARD = "reward"
"""The weighted sum of a rollout's rewards, beside these by their names."""
_OF_A_SAMPLE = ("id", "task", "query", "target")


class Place(NamedTuple):
    """Where a line stands: its file, number from 1, and first byte."""

    log: Path
    number: int
    start: int

    def __str__(self) -> str:
        return f"{self.log}, line {self.number}"


class Line(NamedTuple):
    """A line of a log.

    Args:
        place: where it stands.
        row: what it says of the sample, by the keys of a manifest where they are the same.
        answers: to it; of each `rewards` by name, and of a rollout its `reward` and `completion`.
    """

    place: Place
    row: Mapping[str, Any]
    answers: Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Measured:
    """What is known of a sample.

    Args:
        task: of the sample.
        shows: the video, or the pictures, by which samples belong together.
        place: of the line that tells of it first.
        answers: how many there are.
        values: metric -> its values over those that have it.
    """

    task: str
    shows: tuple[str, ...]
    place: Place
    answers: int = 0
    values: dict[str, Spread] = field(default_factory=dict)

    def value(self, condition: Condition) -> float | None:
        """What the condition looks at; None where the answers do not tell it."""
        spread = self.values.get(condition.metric)
        return None if spread is None else STATISTICS[condition.statistic](spread)


def measure(sources: Sequence[Path], conditions: Sequence[Condition], *, progress: bool = False) -> list[Measured]:
    """Every sample of the logs in the order of its first line; the answers to one in several lines or logs count together.

    Samples are the same where task, id and question are.

    Args:
        sources: each the folder of a run or of a scored benchmark, its log, or a folder of several of these.
        conditions: whose metrics are measured.
        progress: show a bar on stderr.

    Raises:
        ConfigError: a source holds no log; or a log lacks a metric, or all of them a task, naming the nearest.
        DataError: naming file and line, one that tells of no sample.
    """
    logs = list(dict.fromkeys(log for source in sources for log in logs_of(source)))
    for log in logs:
        refuse_no_file(log, "the answers of a GRPO run (log_rollouts) or of a scored benchmark")
    found: dict[tuple[str, str, str], Measured] = {}
    known: dict[Path, dict[str, set[str]]] = {log: {} for log in logs}
    size = sum(log.stat().st_size for log in logs)
    with progress_bar(total=size, unit="B", unit_scale=True, disable=not progress) as bar:
        for log in logs:
            read = bar.n
            for line in lines(log):
                bar.update(read + line.place.start - bar.n)
                _add(line, conditions, found, known[log])
            _refuse_unknown(conditions, log, known[log])
    tasks = {task for metrics in known.values() for task in metrics}
    for condition in conditions:
        if condition.task is not None and condition.task not in tasks:
            hint = nearest(condition.task, tasks)
            raise ConfigError(f"--keep {condition.label!r}: no sample is of the task {condition.task!r}{hint}")
    return list(found.values())


def lines(log: Path) -> Iterator[Line]:
    """The lines of a log.

    Raises:
        DataError: one tells of no sample, or one of a result is damaged. Damaged lines of `rollouts.jsonl`, which a kill leaves
            behind, are named in a warning and passed over.
    """
    start = 0
    with log.open("rb") as file:
        for number, content in enumerate(file, start=1):
            line = _line(content, Place(log, number, start))
            if line is not None:
                yield line
            start += len(content)


def line_at(place: Place) -> Line:
    """The line of a sample that was measured.

    Raises:
        DataError: the log has been written anew since.
    """
    with place.log.open("rb") as file:
        file.seek(place.start)
        line = _line(file.readline(), place)
    if line is None:
        raise DataError(f"{place} is no more what it was: the log was written anew meanwhile; select again")
    return line


def shown_in(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a line names, by which samples belong together: of a video its first, of pictures all."""
    if row.get("images"):
        return ("images", *(str(Path(path).absolute()) for path in row["images"]))
    frames = (row.get("video_parts") or {}).get("frames") or [row.get("video") or ""]
    return ("video", str(Path(frames[0]).absolute()))


def _line(content: bytes, place: Place) -> Line | None:
    """What a line says; None for a damaged one of `rollouts.jsonl`, and for a blank one."""
    if not content.strip():
        return None
    if place.log.name == SAMPLES:
        row, answers = _of_result(content, place)
    else:
        group = group_of(content)
        if group is None:
            logger.warning("%s is damaged (not one group of rollouts as JSON) and is left out", place)
            return None
        drawn = [one for one in group["rollouts"] if not (isinstance(one, dict) and one.get("truth"))]
        row, answers = group | {"id": group.get("sample_id")}, drawn
    missing = [key for key in _OF_A_SAMPLE if row.get(key) is None]
    if missing:
        raise DataError(
            f"{place} does not tell the {', '.join(missing)} of its sample; it has {keys_shown(row)}. Logs of earlier versions do "
            "not: measure these samples anew, by training on them or with `videochat-r1 eval`"
        )
    if not all(isinstance(answer, dict) and isinstance(answer.get("rewards"), dict) for answer in answers):
        raise DataError(f"{place} has an answer without rewards; remove the line, or leave the log out of --from")
    return Line(place, row, answers)


def _of_result(content: bytes, place: Place) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A row of `samples.jsonl` with its one answer; none where nothing was answered, or the judge could not tell."""
    row = parse_json(decode(content, str(place), piece=True), str(place))
    if not isinstance(row, dict):
        raise DataError(f"{place} is no row of a result; score the benchmark again with `videochat-r1 eval`")
    answered = row.get("failure") in (None, *PARSING_FAILURES) and row.get("scores") is not None
    return row, [{"rewards": row["scores"]}] if answered else []


def _add(
    line: Line,
    conditions: Sequence[Condition],
    found: dict[tuple[str, str, str], Measured],
    known: dict[str, set[str]],
) -> None:
    """Take in the answers of a line; `known` takes in the metrics that answers of its task have."""
    row, task = line.row, line.row["task"]
    key = (task, str(row["id"]), row["query"])
    if key not in found:
        found[key] = Measured(task, shown_in(row), line.place)
    found[key].answers += len(line.answers)
    wanted = {condition.metric for condition in conditions if condition.is_about(task)}
    for scores in _scores(line, wanted):
        known.setdefault(task, set()).update(scores)
        for metric in wanted & scores.keys():
            if is_number(value := scores[metric]):
                found[key].values.setdefault(metric, Spread()).add(float(value))


def _scores(line: Line, wanted: set[str]) -> list[dict[str, Any]]:
    """Of each answer what the log says, and of a rollout, where more is wanted than its rewards, the metrics of its task."""
    given = [{REWARD: one[REWARD], **one["rewards"]} if REWARD in one else one["rewards"] for one in line.answers]
    if line.place.log.name == SAMPLES or all(wanted <= scores.keys() for scores in given):
        return given
    task = TASKS[line.row["task"]]
    try:
        target = task.target_from_json(line.row["target"])
    except DataError as error:
        raise DataError(f"{line.place}, target: {error}") from error
    parsed = [task.parse(str(answer.get("completion")), target) for answer in line.answers]
    return [{**task.scores(one, target), **scores} for one, scores in zip(parsed, given, strict=True)]


def _refuse_unknown(conditions: Sequence[Condition], log: Path, known: Mapping[str, set[str]]) -> None:
    """Raises ConfigError for a metric that no answer of a log has, of the tasks that it is asked of."""
    if not known:
        raise ConfigError(f"{log} holds no answer; leave it out of --from")
    for condition in conditions:
        metrics = [names for task, names in known.items() if condition.is_about(task)]
        if metrics and not any(condition.metric in names for names in metrics):
            names = set().union(*metrics)
            hint = nearest(condition.metric, names, {name.lower(): name for name in names})
            raise ConfigError(f"--keep {condition.label!r}: the answers of {log} have no {condition.metric!r}{hint}")
