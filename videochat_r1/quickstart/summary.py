"""What a quickstart run found, as `summary.json` and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videochat_r1.evaluation.baselines.blind import BlindResult, best_blind
from videochat_r1.evaluation.metrics.bootstrap import by_sample, mean_scores, paired_interval
from videochat_r1.evaluation.reports.summary import aligned
from videochat_r1.sample import Sample
from videochat_r1.tasks import TASKS

Rows = Sequence[Mapping[str, Any]]

COLUMNS = {"blind": "blind", "sft": "SFT", "grpo": "GRPO", "sft_continued": "SFT continued"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Three or four ways to answer the same samples.

    Args:
        blind: task -> the best answer that ignores the video.
        rows: model -> its scored answers; `sft`, `grpo` and perhaps `sft_continued`.
    """

    blind: Mapping[str, BlindResult]
    rows: Mapping[str, Rows]

    def tasks(self) -> dict[str, Any]:
        """The `tasks` of summary.json: task -> headline and, per metric, every value and the interval of grpo - sft."""
        means = {model: mean_scores(rows) for model, rows in self.rows.items()}
        return {task: self._task(task, means) for task in self.blind}

    def _task(self, task: str, means: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
        entry: dict[str, Any] = {"headline": TASKS[task].headline}
        for metric, blind in self.blind[task].metrics.items():
            values = {model: means[model][task][metric] for model in self.rows}
            after, before = (by_sample(self.rows[model], task, metric) for model in ("grpo", "sft"))
            entry[metric] = {"blind": blind, **values, "ci95": list(paired_interval(after, before))}
        return entry


def blind_answers(train: Sequence[Sample], evaluated: Sequence[Sample]) -> dict[str, BlindResult]:
    """Task -> the best blind answer, in the order in which tasks appear among the evaluated samples."""
    tasks = dict.fromkeys(sample.task for sample in evaluated)
    return {task: best_blind(_of(train, task), _of(evaluated, task)) for task in tasks}


def table(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """The values as text, one line per metric; `*` marks the headline metrics."""
    models = [key for key in COLUMNS if any(key in values for _, _, values in flat_metrics(tasks))]
    header = ["task", "metric", *(COLUMNS[model] for model in models), "GRPO - SFT", "95 % interval"]
    lines = [header]
    for task, metric, values in flat_metrics(tasks):
        name = f"{metric} *" if metric == tasks[task]["headline"] else metric
        low, high = values["ci95"]
        numbers = [f"{values[model]:.3f}" for model in models]
        lines.append([task, name, *numbers, f"{values['grpo'] - values['sft']:+.3f}", f"[{low:+.3f}, {high:+.3f}]"])
    rule = ["-" * max(map(len, column)) for column in zip(*lines, strict=True)]
    return aligned([header, rule, *lines[1:]], left=2)


def flat_metrics(tasks: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(task, metric, values) of every metric, in order."""
    return [
        (task, metric, values)
        for task, entry in tasks.items()
        for metric, values in entry.items()
        if isinstance(values, Mapping)
    ]


def _of(samples: Sequence[Sample], task: str) -> list[Sample]:
    return [sample for sample in samples if sample.task == task]
