"""The files of a scored benchmark: `results.json`, `samples.jsonl`, `report.html`, each whole or not at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

from videochat_r1.errors import DataError
from videochat_r1.evaluation.reports.benchmark import REPORT, write_report
from videochat_r1.evaluation.scoring.answers import Evaluation
from videochat_r1.evaluation.scoring.strict_json import strict_json
from videochat_r1.outputs import refuse_to_replace, write_lines
from videochat_r1.sample import Sample
from videochat_r1.text import parse_json, read_text

RESULTS = "results.json"
SAMPLES = "samples.jsonl"
RUN_SETTINGS = "settings.json"
"""Written when a model run begins."""

_RECORDS = {RESULTS: {"benchmark", "metrics", "settings"}, RUN_SETTINGS: {"settings", "environments"}}
"""Files that tell a folder of this project's, and what they hold at least."""
_RESULT = {"benchmark": str, "task": str, "metrics": dict, "by": dict, "settings": dict}
_SETTINGS: Mapping[str, type | UnionType] = {
    **dict.fromkeys(("benchmark", "task", "subset", "annotations", "annotations_sha256", "box_format"), str),
    **dict.fromkeys(("bootstrap", "bootstrap_seed"), int),
    "limit": int | None,
    **dict.fromkeys(("videos", "train_annotations"), str | None),
    "untagged": bool,
}
"""What scoring again and the paper's table read."""


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
    text = strict_json(results, indent=2)
    write_lines(folder / SAMPLES, map(strict_json, evaluation.rows))
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
    odd = (
        _odd(value, _RESULT)
        or _odd(value["settings"], _SETTINGS)
        or _odd(value["metrics"], dict.fromkeys(value["metrics"], float | None))
    )
    if odd:
        raise DataError(f"{path} is no result of `videochat-r1 eval`: {odd} is missing or of another type")
    return dict(value)


def _odd(value: Any, fields: Mapping[str, type | UnionType]) -> str | None:
    """The first field that is not as it should be; None if all are."""
    if not isinstance(value, dict):
        return "an object"
    return next((name for name, kind in fields.items() if not isinstance(value.get(name, ...), kind)), None)
