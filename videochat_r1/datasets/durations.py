"""Durations of videos from a table with the columns `id` and `length`, such as Charades' own CSV files."""

import csv
from pathlib import Path

from videochat_r1.datasets.annotation_files import read_table
from videochat_r1.errors import DataError
from videochat_r1.text import read_text


def read_durations(path: Path) -> dict[str, float]:
    """Video id -> seconds, from one CSV file or from all CSV files with these columns in a folder.

    Raises:
        DataError: no such table, or a length that is no number.
    """
    if not path.is_dir():
        return _read_one(path)
    found = durations_in(path)
    if not found:
        raise DataError(f"{path}: no CSV file in this folder has the columns 'id' and 'length'")
    return found


def durations_in(folder: Path) -> dict[str, float]:
    """The durations of all tables in a folder; empty when there is none."""
    durations: dict[str, float] = {}
    for path in sorted(folder.glob("*.csv")):
        if {"id", "length"} <= _header(path):
            durations.update(_read_one(path))
    return durations


def _header(path: Path) -> set[str]:
    """The columns of a table; none of a file that is no text, as any CSV file may lie beside the annotations."""
    try:
        return set(next(csv.reader([read_text(path).partition("\n")[0]]), []))
    except (DataError, csv.Error):
        return set()


def _read_one(path: Path) -> dict[str, float]:
    durations: dict[str, float] = {}
    for row in read_table(path, ("id", "length")):
        durations[row.text("id")] = row.number("length")
    return durations
