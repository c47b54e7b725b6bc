"""Large JSON files, a row at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from videochat_r1.errors import DataError
from videochat_r1.text import encoding_of, parse_json, read_text, refuse_no_file, strict_decoder, whole_json

_HEAD_BYTES = 512
_PIECE_CHARS = 1 << 20
_SPACES = tuple(" \t\r\n")


def read_json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """What messages call each entry of a JSON list, or each line of JSON lines, and its value.

    The file is read piece by piece and one value is held at a time, so it may be large.

    Raises:
        DataError: as `read_text` and `parse_json` do, once the place is reached.
    """
    refuse_no_file(path, "an annotation file")
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(_HEAD_BYTES), path, DataError)
        errors = "surrogatepass" if encoding is None else "replace"
        with path.open(encoding=encoding or "utf-8-sig", errors=errors) as stream:
            while (begin := stream.read(_HEAD_BYTES)).isspace():
                pass
            stream.seek(0)
            yield from _entries(stream, path) if begin.lstrip().startswith("[") else _lines(stream, path)
    except DataError:
        raise
    except (ValueError, RecursionError):
        # Read as a whole, the file is refused with the place of the mistake.
        parse_json(read_text(path), path)
        raise
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from problem


def _lines(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    empty = True
    for number, line in enumerate(stream, start=1):
        if line.strip():
            empty = False
            yield (where := f"{path}, line {number}"), parse_json(line, where)
    if empty:
        raise ValueError


def _entries(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    window = _JsonWindow(stream)
    number, mark = 0, window.take()
    if window.look() == "]":
        mark = window.take()
    while mark != "]":
        number += 1
        yield f"{path}, row {number}", window.value()
        mark = window.take()
        if mark not in ("]", ","):
            raise ValueError(mark)
    if mark := window.look():
        raise ValueError(mark)


class _JsonWindow:
    """The part of a JSON text that is looked at. Its errors are ValueErrors that do not know the place in the file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text, self._at = "", 0
        self._decoder = strict_decoder()

    def look(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._text[self._at : self._at + 1] in _SPACES:
                self._at += 1
            if self._at < len(self._text) or not self._read():
                return self._text[self._at : self._at + 1]

    def take(self) -> str:
        """The same, passed over."""
        mark = self.look()
        self._at += len(mark)
        return mark

    def value(self) -> Any:
        """The next value, passed over."""
        self.look()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._read():
                    raise
                continue
            # A number may go on with further digits.
            if end < len(self._text) or not self._read():
                break
        begin, self._at = self._at, end
        return whole_json(found, self._text, begin, end)

    def _read(self) -> bool:
        """Whether there was more. What is passed over is let go; a long value doubles what is held, so that it is tried few times."""
        more = self._stream.read(max(_PIECE_CHARS, len(self._text) - self._at))
        if more:
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)
