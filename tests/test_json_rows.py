"""Rows of a JSON file, read piece by piece: the same as from the whole, and the same complaints."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from videochat_r1 import json_rows
from videochat_r1.errors import DataError
from videochat_r1.json_rows import read_json_rows
from videochat_r1.text import parse_json, read_text

ROWS: list[Any] = [{"a": 'b "] 😀 é', "c": [1, {"d": None}]}, {}, 12, -3.5, "x", [], True, {"猫": "\\ud83d"}, 7]


@pytest.fixture(params=[1, 2, 3, 7, 50, 1 << 20])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_rows, "_PIECE_CHARS", request.param)
    return int(request.param)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"separators": (",", ":"), "ensure_ascii": False}])
def test_a_list_is_read_as_it_is(tmp_path: Path, piece: int, encoding: str, options: dict[str, Any]) -> None:
    for rows in (ROWS, []):
        path = tmp_path / "a.json"
        path.write_text(f"\n {json.dumps(rows, **options)} \r\n", encoding=encoding)
        assert [value for _, value in read_json_rows(path)] == rows
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\r\n\r\n", encoding=encoding)
    lines = [f"{path}, line {number}" for number in range(1, len(ROWS) + 1)]
    assert list(read_json_rows(path)) == list(zip(lines, ROWS, strict=True))


def test_halves_of_characters_are_joined_or_replaced(tmp_path: Path, piece: int) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(
        b'[{"a": "x"}, {"a": "\\ud83d\\ude00 \\ud83d"}, "' + "\ud83d\ude00".encode("utf-8", "surrogatepass") + b'"]'
    )
    assert [value for _, value in read_json_rows(path)] == [{"a": "x"}, {"a": "😀 �"}, "😀"]


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": 2}',
        '[{"a": 1}, {"a": ',
        '[{"a": 1}\n\n, {"a": 2} {"a": 3}]',
        '[{"a": 1}, ]',
        '[{"a": 1}] x',
        '[{"a": 1, "a": 2}]',
        "[" * 100_000,
        "[",
        " ",
        '[{"a": 1}, "\xff"]',
    ],
)
def test_a_mistake_is_named_as_in_the_whole(tmp_path: Path, piece: int, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as expected:
        parse_json(read_text(path), path)
    with pytest.raises(DataError) as found:
        list(read_json_rows(path))
    assert str(found.value) == str(expected.value)


def test_a_large_file_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + ",".join(json.dumps({"id": number, "text": "x" * 1000}) for number in range(20_000)) + "]")
    tracemalloc.start()
    assert sum(value["id"] for _, value in read_json_rows(path)) == sum(range(20_000))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < path.stat().st_size / 3
