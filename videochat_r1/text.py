"""Text from outside: files in any usual encoding, JSON and YAML, without characters that nothing could write again.

Half a character (an unpaired surrogate, as the JSON escape `"\\ud83d"` makes it) becomes U+FFFD wherever text is read.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from videochat_r1.errors import DataError, VideoChatR1Error, shown

REPLACEMENT = "\ufffd"
"""Stands for what could not be read."""

_SURROGATE = re.compile("[\ud800-\udfff]")
# Python takes a byte that it cannot read in an argument for a surrogate of U+DC80 to U+DCFF.
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
# Of both orders; those of UTF-32 begin like those of UTF-16 and are looked for first.
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
_TAR_MARK = slice(257, 262)
# No number of an annotation is so long, and Python refuses to read much longer ones.
_MOST_DIGITS = 400


def whole(text: str) -> str:
    """The text with pairs of surrogates joined and U+FFFD for each that has no partner."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def whole_value(value: Any) -> Any:
    """A value of JSON or YAML with `whole` applied to all of its texts, keys included.

    Raises:
        ValueError: two keys of an object become the same.
        RecursionError: it is nested too deeply.
    """
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [whole_value(item) for item in value]
    if isinstance(value, dict):
        result = {whole_value(key): whole_value(item) for key, item in value.items()}
        if len(result) < len(value):
            raise ValueError("two keys of one object differ in half a character only")
        return result
    return value


def from_command_line(text: str) -> str:
    """A text given as an argument; bytes that the locale could not read are taken for UTF-8."""
    return _NO_BYTE.sub(REPLACEMENT, text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def decode(content: bytes, where: str | Path, error: type[VideoChatR1Error] = DataError, *, piece: bool = False) -> str:
    """The text of bytes in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; line ends become `\\n`.

    Args:
        content: of a file.
        where: what messages call it.
        error: the kind of error to raise.
        piece: whether the content is one line of a file, which text in UTF-16 cannot be cut into.

    Raises:
        error: another encoding, naming the byte and the mend, or packed data.
    """
    encoding = encoding_of(content, where, error)
    if encoding is not None and piece:
        name = encoding.upper()
        raise error(f"{where} is text in {name}, not in UTF-8; `iconv -f {name} -t UTF-8 OLD > NEW` turns it into that")
    text = _utf8(content, where, error) if encoding is None else content.decode(encoding, "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def encoding_of(head: bytes, where: str | Path, error: type[VideoChatR1Error]) -> str | None:
    """The encoding that a file's byte order mark names; None for UTF-8.

    Args:
        head: its beginning, 512 bytes if it has them.
        where: what messages call it.
        error: the kind of error to raise.

    Raises:
        error: it is packed or begins with zero bytes.
    """
    packed = next((kind for mark, kind in _PACKED.items() if head.startswith(mark)), None)
    if packed is not None or head[_TAR_MARK] == b"ustar":
        raise error(f"{where} is not a text file but packed ({packed or 'tar'}); unpack it first")
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if encoding is None and b"\0" in head[:4]:
        raise error(
            f"{where} is not a text file: it begins with zero bytes. UTF-16 without a byte order mark has them, which "
            f"`iconv -f UTF-16LE -t UTF-8` (or UTF-16BE) turns into UTF-8; else it is damaged"
        )
    return encoding


def read_text(
    path: Path, what: str = "an annotation file", error: type[VideoChatR1Error] = DataError, *, empty: bool = False
) -> str:
    """The text of a file, see `decode`.

    Args:
        path: of the file.
        what: was expected, for messages.
        error: the kind of error to raise.
        empty: whether a file without text is allowed.

    Raises:
        error: the file is missing, a folder, no regular file, empty or not text.
    """
    refuse_no_file(path, what, error)
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}") from problem
    text = decode(content, path, error)
    if not empty and not text.strip():
        raise error(f"{path} is empty; expected {what}. Was its download or copy cut off?")
    return text


def refuse_no_file(path: Path, what: str, error: type[VideoChatR1Error] = DataError) -> None:
    """Raises `error`, saying why, unless the path is a regular file; `what` was expected."""
    try:
        if path.is_file():
            return
        if path.is_dir():
            raise error(f"{path} is a folder; expected {what}. It holds: {listing(path)}")
        # Not `exists`, which is False for a chain of links without an end.
        if os.path.lexists(path):
            if path.is_symlink() and not path.exists():
                raise error(f"{path} is a link that leads to no file; expected {what}")
            raise error(
                f"{path} is no regular file but a pipe or a device, which cannot be read twice; expected {what}: "
                "write it into a file first"
            )
        raise error(f"{path} does not exist; expected {what}. Its folder holds: {listing(path.parent)}")
    except (OSError, ValueError, RuntimeError) as problem:
        if isinstance(problem, VideoChatR1Error):
            raise
        raise error(f"{shown(str(path))} cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem


def listing(folder: Path, limit: int = 8) -> str:
    """The first names in a folder, for messages."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"nothing ({'no such folder' if isinstance(error, FileNotFoundError) else error.strerror})"
    return ", ".join(names[:limit] + ([f"... ({len(names)} in all)"] if len(names) > limit else [])) or "nothing"


def load_json(text: str, *, unique: bool = False) -> Any:
    """The value of a JSON text, its texts made `whole`; an integer of more than 400 digits becomes infinite.

    Args:
        text: of one value.
        unique: refuse an object that names a key twice, because one of the two would be lost.

    Raises:
        json.JSONDecodeError: it is no JSON.
        ValueError: a key occurs twice, or it is nested too deeply.
    """
    try:
        value = json.loads(text, parse_int=_integer, object_pairs_hook=_unique if unique else None)
        return whole_json(value, text, 0, len(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def strict_decoder() -> json.JSONDecoder:
    """Reads as `load_json` does with `unique`, but leaves texts to `whole_json`."""
    return json.JSONDecoder(parse_int=_integer, object_pairs_hook=_unique)


def whole_json(value: Any, text: str, begin: int, end: int) -> Any:
    """`whole_value` of a value that was read from this part of a text, which is looked at where it has halves of characters."""
    halves = _SURROGATE_ESCAPE.search(text, begin, end) or _SURROGATE.search(text, begin, end)
    return whole_value(value) if halves else value


def parse_json(text: str, where: str | Path) -> Any:
    """The value of a JSON text; an object that names a key twice is refused. For the rest see `load_json`.

    Raises:
        DataError: naming `where` and the place.
    """
    try:
        return load_json(text, unique=True)
    except json.JSONDecodeError as error:
        num_lines = text.count("\n") + 1
        place = (
            f"line {error.lineno}, column {error.colno} of {num_lines} lines"
            if num_lines > 1
            else f"column {error.colno}"
        )
        raise DataError(
            f"{where} is not complete JSON: {error.msg.removesuffix(' at')} at {place}. Was its download or copy cut off?"
        ) from error
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def as_number(value: Any) -> float | None:
    """A number, also one that is written as text (`"12.5"`), as a float; None for anything else.

    An integer too large for a float becomes infinite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return None if isinstance(value, str) and "_" in value else float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf if cast(int, value) > 0 else -math.inf


def _utf8(content: bytes, where: str | Path, error: type[VideoChatR1Error]) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        try:
            # Some programs write the halves of a pair one by one, or one half alone.
            return whole(content.decode("utf-8-sig", "surrogatepass"))
        except UnicodeDecodeError:
            line = content.count(b"\n", 0, problem.start) + 1
            raise error(
                f"{where} is not text in UTF-8: byte {problem.start} ({content[problem.start]:#04x}, line {line}) "
                "is none of it. Text in Latin-1 is turned into it by `iconv -f LATIN1 -t UTF-8 OLD > NEW`"
            ) from problem


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeated = [shown(key) for key, count in counts.items() if count > 1]
        more = f" and {len(repeated) - 5:,} more" if len(repeated) > 5 else ""
        raise ValueError(f"the keys {sorted(repeated[:5])}{more} occur twice in one object; keep one of each")
    return values
