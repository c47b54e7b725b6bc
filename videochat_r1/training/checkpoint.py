"""Checkpoint folders: marked when begun, complete with a list of what they hold; only marked ones are ever removed."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from videochat_r1.errors import ConfigError

logger = logging.getLogger(__name__)

COMPLETE = "complete.json"
BEGUN = "incomplete.json"


def checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoint folders by step, whoever wrote them, complete or not."""
    found = [
        path
        for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and path.name.rpartition("-")[2].isdigit()
    ]
    return sorted(found, key=step)


def step(folder: Path) -> int:
    """Updates made before this checkpoint, by its name."""
    return int(folder.name.rpartition("-")[2])


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """Those that are marked complete, by step."""
    return [path for path in checkpoints(output_dir) if (path / COMPLETE).exists()]


def earlier_than(folder: Path) -> list[Path]:
    """The complete checkpoints of the same run before this one, by step; none if it is no folder of a run."""
    known = complete_checkpoints(folder.parent)
    return known[: known.index(folder)] if folder in known else []


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint; None when there is none."""
    complete = complete_checkpoints(output_dir)
    return complete[-1] if complete else None


def foreign_checkpoints(output_dir: Path) -> list[Path]:
    """Those that this project has not begun: they hold something, but no mark."""
    return [path for path in checkpoints(output_dir) if not _is_ours(path)]


def begin(folder: Path) -> None:
    """Make the folder with its mark. One of this project's that is in its place, from a run that went on from an earlier
    checkpoint, is removed.

    Raises:
        ConfigError: somebody else's folder is in its place.
    """
    if folder.exists():
        if not _is_ours(folder):
            raise ConfigError(f"{folder} was not written by this project and is in the way: move it elsewhere")
        _remove(folder)
    folder.mkdir(parents=True)
    (folder / BEGUN).touch()


def mark_complete(folder: Path, updates: int, state: Mapping[str, Any]) -> None:
    """State that everything of this checkpoint is on disk, with all files and their sizes; the last write of all. `state` is
    kept with it."""
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != BEGUN
    }
    temporary = folder / f"{COMPLETE}.tmp"
    temporary.write_text(json.dumps({"step": updates, "files": files, **state}) + "\n")
    temporary.replace(folder / COMPLETE)
    (folder / BEGUN).unlink(missing_ok=True)


def read_mark(folder: Path) -> dict[str, Any]:
    """What `mark_complete` kept: `step`, `files` and the state.

    Raises:
        ConfigError: the checkpoint is not complete, or its mark is damaged.
    """
    path = folder / COMPLETE
    if not path.is_file():
        raise ConfigError(f"{folder} is not a complete checkpoint: it has no {COMPLETE}; use another one")
    try:
        mark = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise ConfigError(f"{folder} is damaged ({COMPLETE}: {error})") from error
    known = isinstance(mark, dict) and isinstance(mark.get("step"), int) and isinstance(mark.get("settings"), dict)
    if not known or not isinstance(mark.get("files"), dict) or not mark["files"]:
        raise ConfigError(f"{folder} is damaged ({COMPLETE} does not list the files)")
    return dict(mark)


def remove_incomplete(output_dir: Path) -> list[Path]:
    """Delete the folders that a killed run of this project left half-written, and return them."""
    broken = [path for path in checkpoints(output_dir) if _is_ours(path) and not (path / COMPLETE).exists()]
    for path in broken:
        logger.warning("%s was not completely written and is removed", path)
        _remove(path)
    return broken


def rotate(output_dir: Path, limit: int | None) -> None:
    """Keep the newest `limit` complete checkpoints; run only after the newest is marked."""
    if limit is not None and limit > 0:
        for path in complete_checkpoints(output_dir)[:-limit]:
            _remove(path)


def _is_ours(path: Path) -> bool:
    """An empty folder is one that a kill has kept from its mark."""
    return (path / COMPLETE).exists() or (path / BEGUN).exists() or not any(path.iterdir())


def _remove(folder: Path) -> None:
    """At every moment the folder is marked or empty, and never looks complete."""
    if (folder / COMPLETE).exists():
        (folder / COMPLETE).replace(folder / BEGUN)
    for path in folder.iterdir():
        if path.name == BEGUN:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / BEGUN).unlink(missing_ok=True)
    if folder.is_symlink():
        folder.unlink()
    else:
        folder.rmdir()
