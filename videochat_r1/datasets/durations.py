"""Durations of videos from a table with the columns `id` and `length`, such as Charades' own CSV files."""

import csv
from pathlib import Path

from videochat_r1.datasets.annotation_files import read_table
from videochat_r1.errors import DataError


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
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return set(next(csv.reader([file.readline()]), []))


def _read_one(path: Path) -> dict[str, float]:
    durations: dict[str, float] = {}
    for row in read_table(path, ("id", "length")):
        text = row.text("length")
        try:
            durations[row.text("id")] = float(text)
        except ValueError as error:
            raise DataError(f"{row.where}: 'length' should be seconds, found {text!r}") from error
    return durations
