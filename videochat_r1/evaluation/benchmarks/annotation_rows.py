"""Rows of benchmark annotations from JSON, JSON lines or Parquet, whichever their authors or mirrors ship."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videochat_r1.datasets.annotation_files import Row, kind, read_json_lines
from videochat_r1.errors import DataError
from videochat_r1.text import listing, load_json, parse_json, read_text, refuse_no_file


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a list of objects, in file order.

    Args:
        path: `.parquet`, `.jsonl`, or JSON with a list; a folder with exactly one such file stands for that file.

    Raises:
        DataError: the file is missing or in another form.
    """
    file = _only_file(path) if path.is_dir() else path
    values = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_json_rows(file)
    yield from Row.all_of((f"{file}, row {number}", value) for number, value in enumerate(values, start=1))


def text_or_none(row: Row, key: str) -> str | None:
    """The value of a key that may be missing, as text; None where it is missing, null or empty."""
    value = row.values.get(key)
    return None if value is None or str(value).strip() == "" else str(value)


def columns(row: Row, *keys: str) -> dict[str, str]:
    """The keys that the row has, as text, for breakdowns."""
    found = {key: text_or_none(row, key) for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def _only_file(folder: Path) -> Path:
    files = [file for pattern in ("*.parquet", "*.jsonl", "*.json") for file in sorted(folder.glob(pattern))]
    if len(files) != 1:
        raise DataError(f"{folder} should hold one .json, .jsonl or .parquet file; it holds {listing(folder)}")
    return files[0]


def _read_json_rows(file: Path) -> list[Any]:
    text = read_text(file)
    if file.suffix.lower() == ".jsonl" or _has_several_values(text):
        return [value for _, value in read_json_lines(text, file)]
    value = parse_json(text, file)
    if not isinstance(value, list):
        raise DataError(f"{file}: expected a list of rows, found {kind(value)}")
    return value


def _has_several_values(text: str) -> bool:
    """Whether a file that begins with an object is JSON lines, whatever it is called."""
    if not text.lstrip().startswith("{"):
        return False
    first_line = text.lstrip().split("\n", 1)[0]
    try:
        load_json(first_line)
    except ValueError:
        return False
    return True


def _read_parquet(file: Path) -> list[Any]:
    # Imported where it is needed: scoring JSON must not wait for it.
    import pyarrow
    import pyarrow.parquet

    refuse_no_file(file, "a Parquet file")
    try:
        rows: list[Any] = pyarrow.parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file} is no readable Parquet file: {error}") from error
    return rows
