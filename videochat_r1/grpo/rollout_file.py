"""Reads a run's `rollouts.jsonl`, a group of scored completions a line; what a kill or a power cut has damaged is left out. No torch."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

ROLLOUTS = "rollouts.jsonl"
# After a power cut there may be zeros in place of text.
_AROUND = b"\0\r\n "


def read_rollouts(path: Path) -> Iterator[dict[str, Any]]:
    """The groups of a file, one at a time; lines that are none are named in a warning and left out."""
    return (group for _, group in _lines(path))


def drop_rollouts_after(path: Path, step: int) -> None:
    """Forget the groups of later updates, and damaged lines: a resumed run writes again what belongs there."""
    if not path.exists():
        return
    rewritten = path.with_suffix(".tmp")
    with rewritten.open("wb") as kept:
        kept.writelines(line.strip(_AROUND) + b"\n" for line, group in _lines(path) if group["step"] <= step)
    rewritten.replace(path)


def groups_of_update(path: Path, step: int, start: int) -> tuple[list[dict[str, Any]], int]:
    """The groups of an update that stand at or after a byte of the file, and where the file ends; of a file that has become
    shorter, as a resumed run makes it, all of it is looked at."""
    with path.open("rb") as file:
        file.seek(start if start <= path.stat().st_size else 0)
        lines = [line for line in file if line.lstrip(_AROUND).startswith(b'{"step":%d,' % step)]
        end = file.tell()
    return [group for line in lines if (group := group_of(line)) is not None], end


def group_of(line: bytes) -> dict[str, Any] | None:
    """The group on a line; None for what is none."""
    try:
        group = json.loads(line.strip(_AROUND).decode())
    except (ValueError, RecursionError):
        return None
    whole = isinstance(group, dict) and isinstance(group.get("step"), int) and isinstance(group.get("rollouts"), list)
    return group if whole else None


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each line that holds a group, as it is in the file and as what it says."""
    # Bytes: a kill can cut a line within a character.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            group = group_of(line)
            if group is not None:
                yield line, group
            elif line.strip():
                logger.warning(
                    "%s, line %d is damaged (not one group of rollouts as JSON) and is left out", path, number
                )
