"""The files of a scored benchmark: `results.json`, `samples.jsonl`, `report.html`, each whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmark_report import REPORT, write_report
from videochat_r1.evaluation.predictions import Prediction
from videochat_r1.evaluation.score_answers import Evaluation
from videochat_r1.outputs import refuse_to_replace, write_lines
from videochat_r1.sample import Sample
from videochat_r1.text import parse_json, read_text

RESULTS = "results.json"
SAMPLES = "samples.jsonl"
RUN_SETTINGS = "settings.json"
"""Written when a model run begins."""

_RECORDS = {RESULTS: {"benchmark", "metrics", "settings"}, RUN_SETTINGS: {"settings", "environments"}}
"""Files that tell a folder of this project's, and what they hold at least."""

_SCORED_KEYS = (
    "id",
    "task",
    "video",
    "query",
    "target",
    "completion",
    "parsed",
    "scores",
    "failure",
    "by",
    "unscored",
    "verdicts",
)
_PARSING_FAILURES = ("no_completion", "empty_completion", "cut_off", "unparsable")


def write_results(
    folder: Path, evaluation: Evaluation, settings: Mapping[str, Any], samples: Sequence[Sample]
) -> dict[str, Any]:
    """Write all files; returns what `results.json` holds. It comes last: whoever finds it finds the others.

    Args:
        folder: made if missing.
        evaluation: of the samples.
        settings: what it depends on.
        samples: in the order of the rows.
    """
    results = {**evaluation.results, "settings": dict(settings)}
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    write_lines(folder / SAMPLES, (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in evaluation.rows))
    write_report(folder, results, evaluation.rows, samples)
    write_lines(folder / RESULTS, [text])
    return results


def refuse_foreign(folder: Path) -> None:
    """See that a folder without a record of this project's has no files under the names of a result.

    Raises:
        ConfigError: naming them.
    """
    if not any(_is_record(folder / name, keys) for name, keys in _RECORDS.items()):
        names = (*_RECORDS, SAMPLES, REPORT)
        refuse_to_replace([folder / name for name in names], "no `videochat-r1 eval` made them; name another --output")


def _is_record(path: Path, keys: set[str]) -> bool:
    try:
        value = parse_json(read_text(path), path)
    except DataError:
        return False
    return isinstance(value, dict) and keys <= value.keys()


def read_results(folder: Path) -> dict[str, Any]:
    """What a folder's `results.json` holds.

    Raises:
        DataError: there is none, or it is no result of this project.
    """
    path = folder / RESULTS
    value = parse_json(read_text(path), path)
    if not isinstance(value, dict) or not _RECORDS[RESULTS] <= value.keys():
        raise DataError(f"{path} is no result of `videochat-r1 eval`")
    return value


def read_scored(folder: Path) -> list[Prediction]:
    """The answers in a folder's `samples.jsonl`, to score them again.

    Raises:
        DataError: there is none, or a row is malformed.
    """
    path = folder / SAMPLES
    rows: list[Prediction] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        row = parse_json(line, path)
        if not isinstance(row, dict) or "id" not in row or "completion" not in row:
            raise DataError(f"{path}, line {number}: no row of a scored benchmark")
        # What only the text decides is decided anew.
        failure = None if row.get("failure") in _PARSING_FAILURES else row.get("failure")
        extra = {key: value for key, value in row.items() if key not in _SCORED_KEYS}
        rows.append(Prediction(row["id"], row["completion"], failure, extra))
    return rows
