"""Annotation files as checked values: what is missing or of the wrong type is named with its file, row and key."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videochat_r1.errors import DataError, first_ten, keys_shown, shown
from videochat_r1.geometry import Span
from videochat_r1.sample import LETTERS, Pictures
from videochat_r1.text import as_number, parse_json, read_text


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises DataError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path), path)


def read_json_lines(text: str, where: str | Path) -> Iterator[tuple[str, Any]]:
    """What messages call each line that is not blank, and the JSON value on it.

    Raises:
        DataError: a line is no complete JSON.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            name = f"{where}, line {number}"
            yield name, parse_json(line, name)


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
            found = keys_shown(self.values)
            raise DataError(f"{self.where}: the key {shown(key)!r} is missing; found {found}{more}")
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

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        values = self.items(key)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise DataError(f"{self.where}, {key!r}[{index}] should be text, found {kind(value)}")
        return values

    def pictures(self, key: str) -> Pictures:
        """A list of paths of pictures, at least one."""
        paths = self.texts(key)
        if not paths:
            raise DataError(f"{self.where}: {key!r} lists no picture")
        return Pictures(tuple(paths))

    def options(self, key: str) -> list[str]:
        """A list of at least one text, no longer than there are letters to name its texts by."""
        return checked_options(self.texts(key), f"{self.where}, {key!r}")

    def index(self, key: str, count: int) -> int:
        """A whole number from 0 to `count` - 1."""
        value = self.number(key)
        if not (value.is_integer() and 0 <= value < count):
            raise DataError(f"{self.where}: {key} is {value:g}, expected 0 to {count - 1}")
        return int(value)

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
    """The value as a float, from a number or a text that is one; an integer too large for a float becomes infinite."""
    found = as_number(value)
    if found is None:
        raise DataError(f"{where} should be a number, found {kind(value)}")
    return found


def checked_options(options: list[str], where: str) -> list[str]:
    """The options of a question, once there are as many as letters can name: 1 to 26.

    Raises:
        DataError: there are none, or more.
    """
    if not 1 <= len(options) <= len(LETTERS):
        raise DataError(f"{where} has {len(options)} options, expected 1 to {len(LETTERS)}, which letters can name")
    return options


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
            raise DataError(f"{path}: the columns {missing} are missing; found {keys_shown(reader.fieldnames or ())}")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            absent = [column for column in columns if values[column] is None]
            if absent:
                raise DataError(f"{where}: the row ends before the columns {absent}. Was the file cut off?")
            yield Row(where, values)
    except csv.Error as error:
        raise DataError(f"{path} is not CSV after line {reader.line_num}: {error}") from error
