"""Prediction files: JSON lines of `{"id", "completion"}`, held against the ids of a benchmark."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videochat_r1.errors import DataError, first_ten
from videochat_r1.rollout.ended import Ended
from videochat_r1.text import decode, load_json, read_text

SCORED_KEYS = (
    "id",
    "task",
    "video",
    "video_parts",
    "images",
    "query",
    "target",
    "completion",
    "parsed",
    "scores",
    "failure",
    "by",
    "unscored",
    "unread",
    "verdicts",
)
"""Keys of a result's row that scoring computes: what a row to be scored says under them is no news."""
PARSING_FAILURES = ("no_completion", "empty_completion", "cut_off", "unparsable")
"""Kinds of failure that the text alone decides, so that they are decided anew."""
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was answered to one sample.

    Args:
        id: of the sample.
        completion: model text; None if there is none.
        failure: why the sample counts as failed, whatever the completion, as a short kind; or None.
        extra: further keys of its row, kept in result files; none of `SCORED_KEYS`.
    """

    id: str
    completion: str | None
    failure: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_predictions(path: Path) -> list[Prediction]:
    """The rows of a file in its order.

    Raises:
        DataError: the file is missing, or rows (all of them named, first ten and the count) are malformed.
    """
    rows: list[Prediction] = []
    malformed: list[str] = []
    for number, line in enumerate(read_text(path, "predictions").split("\n"), start=1):
        if not line.strip():
            continue
        row = read_row(line)
        if isinstance(row, str):
            malformed.append(f"line {number}: {row}")
        else:
            rows.append(row)
    if malformed:
        raise DataError(
            f'{path}: expected rows of {{"id", "completion"}}; these cannot be read: {first_ten(malformed)}'
        )
    return rows


def read_row(line: str | bytes) -> Prediction | str:
    """The prediction on a line, or what is wrong with it."""
    try:
        row = load_json(line if isinstance(line, str) else decode(line, "the line", piece=True), unique=True)
    except (json.JSONDecodeError, DataError):
        return "not one complete JSON object in UTF-8"
    except ValueError as error:
        return str(error)
    if not isinstance(row, dict):
        return "not an object"
    if _is_deeper(row, _MAX_DEPTH):
        return f"nested more than {_MAX_DEPTH} deep"
    if missing := [key for key in ("id", "completion") if key not in row]:
        return f"no {' and no '.join(missing)}"
    if isinstance(row["id"], bool) or not isinstance(row["id"], str | int):
        return "id is no text"
    if row["completion"] is not None and not isinstance(row["completion"], str):
        return "completion is no text"
    failure = row.get("failure")
    if failure is not None and not isinstance(failure, str):
        return "failure is no text"
    _name_the_end(row, failure)
    if "ended" in row and row["ended"] not in list(Ended):
        return f"ended is none of {', '.join(Ended)}"
    extra = {key: value for key, value in row.items() if key not in SCORED_KEYS}
    kept = None if not failure or failure in PARSING_FAILURES else failure
    return Prediction(str(row["id"]), row["completion"], kept, extra)


def match(
    predictions: Sequence[Prediction], wanted: Sequence[str], known: Sequence[str], where: str
) -> list[Prediction]:
    """One prediction per wanted id, in the order of `wanted`.

    Args:
        predictions: in any order.
        wanted: ids that have to be there.
        known: all ids of the benchmark; predictions for those that are not wanted are left out.
        where: what messages call the predictions.

    Raises:
        DataError: naming unknown, missing and repeated ids, of each the first ten and the count.
    """
    times = Counter(prediction.id for prediction in predictions)
    problems = list(_problems(times, wanted, known))
    if problems:
        raise DataError(f"{where} does not fit the benchmark's {len(wanted):,} samples: {'; '.join(problems)}")
    by_id = {prediction.id: prediction for prediction in predictions}
    return [by_id[name] for name in wanted]


def _name_the_end(row: dict[str, Any], failure: str | None) -> None:
    """Put the reason where rows of earlier versions have `finished` (False where the length limit cut it off) or a failure alone."""
    if isinstance(row.get("finished"), bool):
        row["ended"] = Ended.STOP if row.pop("finished") else Ended.LENGTH
    elif failure in (Ended.VIDEO_ERROR, Ended.PROMPT_ERROR):
        row.setdefault("ended", failure)


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects stand in each other more than `depth` deep."""
    level = [value]
    for _ in range(depth):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [item for items in inner for item in items]
    return any(isinstance(one, dict | list) for one in level)


def _problems(times: Counter[str], wanted: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    known_ids = set(known)
    found = {
        "ids that the benchmark does not have": [name for name in times if name not in known_ids],
        "ids without a prediction": [name for name in wanted if name not in times],
        "ids that occur more than once": [name for name, count in times.items() if count > 1],
    }
    yield from (f"{what}: {first_ten(names)}" for what, names in found.items() if names)
