"""Annotation files as checked values: what is missing or of the wrong type is named with its file, row and key."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videochat_r1.errors import DataError, first_ten
from videochat_r1.geometry import Span


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        DataError: the file is missing, a folder, empty or not text.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected an annotation file. It holds: {listing(path)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected an annotation file. Its folder holds: {listing(path.parent)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a text file (byte {error.start} is not UTF-8); expected an annotation file"
        ) from error
    if not text.strip():
        raise DataError(f"{path} is empty; expected an annotation file. Was its download or copy cut off?")
    return text


def listing(folder: Path, limit: int = 8) -> str:
    """The first names in a folder, for messages."""
    if not folder.is_dir():
        return "nothing (no such folder)"
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:limit] + ([f"... ({len(names)} in all)"] if len(names) > limit else [])) or "nothing"


def parse_json(text: str, path: Path) -> Any:
    """The value of a JSON text; an object that names a key twice is refused, because one of the two would be lost."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated = sorted({key for key in keys if keys.count(key) > 1})[:5]
            raise DataError(f"{path}: the keys {repeated} occur twice in one object; keep one of each")
        return values

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not complete JSON: {error.msg} at line {error.lineno}, column {error.colno} of "
            f"{text.count(chr(10)) + 1} lines. Was its download or copy cut off?"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path} is nested too deeply to be an annotation file") from error
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path} holds a number that cannot be read: {error}") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises DataError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path), path)


@dataclass(frozen=True, slots=True)
class Row:
    """One object of an annotation file; `where` is what messages call it.

    `rows` are all rows of the file, where they are at hand: a key that several lack is then named for all of them.
    """

    where: str
    values: Mapping[str, Any]
    rows: Sequence["Row"] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, value: Any, where: str, rows: Sequence["Row"] = ()) -> "Row":
        """The row, once it is known to be an object."""
        if not isinstance(value, Mapping):
            raise DataError(f"{where}: expected an object with named fields, found {kind(value)}")
        return cls(where, value, rows)

    @classmethod
    def all_of(cls, values: Iterable[tuple[str, Any]]) -> list["Row"]:
        """The rows of a file, given as pairs of what messages call a row and its value."""
        rows: list[Row] = []
        rows.extend(cls.of(value, where, rows) for where, value in values)
        return rows

    def get(self, key: str) -> Any:
        """The value of a key that must be there."""
        if key not in self.values:
            lacking = [row.where.rpartition(", ")[2] for row in self.rows if key not in row.values]
            more = f". It is missing in {first_ten(lacking)}" if len(lacking) > 1 else ""
            found = sorted(map(str, self.values))[:12]
            raise DataError(f"{self.where}: the key {key!r} is missing; found {found}{more}")
        return self.values[key]

    def text(self, key: str) -> str:
        """A string, as written."""
        value = self.get(key)
        if not isinstance(value, str):
            raise DataError(f"{self.where}: {key!r} should be text, found {kind(value)}")
        return value

    def number(self, key: str) -> float:
        """A number; infinite or NaN where the file says so."""
        return number(self.get(key), f"{self.where}, {key!r}")

    def items(self, key: str) -> list[Any]:
        """A list."""
        value = self.get(key)
        if not isinstance(value, list):
            raise DataError(f"{self.where}: {key!r} should be a list, found {kind(value)}")
        return value

    def spans(self, key: str) -> list[Span]:
        """A list of [start, end] pairs, in seconds."""
        return [span(value, f"{self.where}, {key!r}[{index}]") for index, value in enumerate(self.items(key))]


def kind(value: Any) -> str:
    """What a message calls a JSON value of the wrong type."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    name = names.get(type(value), "null" if value is None else type(value).__name__)
    shown = repr(value)
    return f"{name} ({shown[:60]}{'...' if len(shown) > 60 else ''})"


def number(value: Any, where: str) -> float:
    """The value as a float; an integer too large for one becomes infinite, which the checks report."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where} should be a number, found {kind(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def numbers(value: Any, count: int, where: str) -> list[float]:
    """A list of exactly `count` numbers."""
    if not isinstance(value, list) or len(value) != count:
        raise DataError(f"{where} should be a list of {count} numbers, found {kind(value)}")
    return [number(item, where) for item in value]


def span(value: Any, where: str) -> Span:
    """A [start, end] pair, as published: reversed and empty ones are for the checks to report."""
    return Span(*numbers(value, 2, where))


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a CSV file with a header.

    Raises:
        DataError: a column is missing, a row is shorter than the header, or a quote never ends.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path}: the columns {missing} are missing; found {list(reader.fieldnames or ())}")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            absent = [column for column in columns if values[column] is None]
            if absent:
                raise DataError(f"{where}: the row ends before the columns {absent}. Was the file cut off?")
            yield Row(where, values)
    except csv.Error as error:
        raise DataError(f"{path} is not CSV after line {reader.line_num}: {error}") from error
