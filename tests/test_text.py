"""Text from outside: encodings, half characters, JSON, YAML and numbers, whatever file they come in."""

import gzip
import io
import json
import math
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from videochat_r1.cli import main
from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.errors import ConfigError, DataError, counted, first_ten, shown, without_folders
from videochat_r1.evaluation.scoring.predictions import read_predictions
from videochat_r1.judge import read_judge_config
from videochat_r1.options import read_yaml
from videochat_r1.recipe import ModelArguments, parse_recipe
from videochat_r1.text import as_number, from_command_line, load_json, parse_json, read_text, whole

HALF = "\\ud83d"
MOMENTS = '{"V": {"duration": 9, "timestamps": [[1, 2]], "sentences": ["a café %s"]}}'
SAMPLE = {"id": "V_0", "task": "captioning", "video": {"path": "V.mp4"}, "query": "?", "target": {"caption": "x"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("猫 \U0001f600", "猫 \U0001f600"),
        ("a\ud83d", "a\ufffd"),
        ("\ude00b", "\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
    ],
)
def test_half_characters_are_joined_or_replaced(text: str, expected: str) -> None:
    assert whole(text) == expected
    assert load_json(json.dumps({text: [text, {"a": text}]})) == {expected: [expected, {"a": expected}]}


def test_what_is_written_by_halves_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("a 😀 b".encode().replace("😀".encode(), "\ud83d\ude00".encode("utf-8", "surrogatepass")))
    assert read_text(path) == "a 😀 b"
    path.write_bytes(b"a \xed\xa0\xbd b")
    assert read_text(path) == "a \ufffd b"


def test_an_escaped_backslash_is_no_half_character() -> None:
    assert load_json(r'"\\ud83d"') == r"\ud83d"
    with pytest.raises(ValueError, match="half a character"):
        load_json(r'{"\ud83d": 1, "\ud83e": 2}')


def recipe(path: Path) -> Any:
    return parse_recipe([ModelArguments], ["--config", str(path)])[0].model_name_or_path


READERS: dict[str, tuple[str, Any, type[Exception]]] = {
    "moments.json": (MOMENTS, lambda path: CORPORA["charades_sta"].read(path)[0].query, DataError),
    "charades.txt": ("V 1 2##a café %s", lambda path: read_charades(path), DataError),
    "manifest.jsonl": (
        json.dumps(SAMPLE).replace('"?"', '"a café %s"'),
        lambda path: read_manifest(path)[0].query,
        DataError,
    ),
    "captions.jsonl": (
        '{"video": "v", "caption": "a café %s"}',
        lambda path: CORPORA["captions"].read(path)[0].target.caption,  # type: ignore[union-attr]
        DataError,
    ),
    "predictions.jsonl": (
        '{"id": "a", "completion": "a café %s"}',
        lambda path: read_predictions(path)[0].completion,
        DataError,
    ),
    "recipe.yaml": ('model_name_or_path: "a café %s"', recipe, ConfigError),
    "judge.yaml": (
        'base_url: "http://127.0.0.1:1/v1"\nmodel: "a café %s"',
        lambda path: read_judge_config(path).model,
        ConfigError,
    ),
}


def read_charades(path: Path) -> str:
    return CORPORA["charades_sta"].read(path, allow_unknown_durations=True)[0].query


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_reader_takes_the_usual_encodings(tmp_path: Path, name: str, encoding: str, ends: str) -> None:
    text, read, _ = READERS[name]
    (tmp_path / name).write_bytes(f"\n{text % 'x'}\n".replace("\n", ends).encode(encoding))
    assert read(tmp_path / name) == "a café x"


@pytest.mark.parametrize("name", [name for name in READERS if name != "charades.txt"])
def test_every_reader_replaces_half_characters(tmp_path: Path, name: str) -> None:
    text, read, _ = READERS[name]
    (tmp_path / name).write_text(text % HALF, encoding="utf-8")
    assert read(tmp_path / name) == "a café \ufffd"


def packed(kind: str, text: bytes) -> bytes:
    buffer = io.BytesIO()
    if kind == "gzip":
        return gzip.compress(text)
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.json", text)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("a.json")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


@pytest.mark.parametrize("name", READERS)
def test_every_reader_names_what_it_cannot_read_and_the_mend(tmp_path: Path, name: str) -> None:
    text, read, error = READERS[name]
    path = tmp_path / name
    content = {
        "latin-1": ((text % "x").encode("latin-1"), "byte .*iconv -f LATIN1"),
        "utf-16 without a mark": ((text % "x").encode("utf-16-le"), "UTF-16 without a byte order mark.*iconv"),
        **{kind: (packed(kind, text.encode()), f"packed .{kind}.; unpack it") for kind in ("gzip", "zip", "tar")},
    }
    for _, (written, message) in content.items():
        path.write_bytes(written)
        with pytest.raises(error, match=rf"(?s){name}.*{message}"):
            read(path)
    path.unlink()
    others = {"does not exist": lambda: None, "a pipe or a device": lambda: os.mkfifo(path)}
    others |= {"is a folder": path.mkdir, "a link that leads to no file": lambda: path.symlink_to(path)}
    for message, make in others.items():
        make()
        with pytest.raises(error, match=rf"{name} .*{message}"):
            read(path)
        if os.path.lexists(path):
            path.rmdir() if path.is_dir() else path.unlink()


def test_half_characters_in_annotations_and_answers_end_no_command(tmp_path: Path, capsys) -> None:
    annotations, predictions = tmp_path / "V.json", tmp_path / "p.jsonl"
    annotations.write_text((MOMENTS % HALF).replace('"V"', f'"V{HALF}"'), encoding="utf-8")
    predictions.write_text('{"id": "V_H_0", "completion": "<answer>1 to 2</answer> _H"}'.replace("_H", HALF))
    source = ["--annotations", str(annotations)]
    assert main(["data", "check", "--dataset", "charades_sta", *source]) == 0
    assert "1  broken_character" in capsys.readouterr().out
    assert main(["data", "prepare", "--dataset", "charades_sta", *source, "--output", str(tmp_path / "m.jsonl")]) == 0
    (sample,) = read_manifest(tmp_path / "m.jsonl")
    assert sample.id == "V\ufffd_0" and sample.query == "a café \ufffd"
    assert main(["data", "ids", "--benchmark", "charades_sta", *source]) == 0
    evaluate = ["eval", "--benchmark", "charades_sta", *source, "--predictions", str(predictions)]
    assert main([*evaluate, "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]["mIoU"] == 1.0


def test_json_mistakes_are_named_by_place(tmp_path: Path) -> None:
    for text, message in {
        '{"a": "b': "x is not complete JSON: Unterminated string starting at column 7",
        '{\n"a": 3': "line 2, column 7 of 2 lines",
        "[" * 100_000: "x: it is nested too deeply",
        '{"a": 1, "b": 2, "a": 3}': r"x: the keys \['a'\] occur twice",
        "{" + ",".join(f'"{name}": 1, "{name}": 2' for name in range(9)) + "}": "and 4 more occur twice",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            parse_json(text, "x")
        assert " at at " not in str(error.value) and len(str(error.value)) < 300
    assert parse_json(f"[{'9' * 5000}, -{'9' * 5000}, {'9' * 300}]", "x") == [math.inf, -math.inf, int("9" * 300)]


def test_a_repeated_key_among_very_many_is_found() -> None:
    # A quarter of an hour where every key is counted among all keys.
    text = "{" + ",".join(f'"v{key}": 1' for key in range(300_000)) + ', "v0": 1}'
    with pytest.raises(DataError, match="'v0'"):
        parse_json(text, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("a: 1\na: 2", "not valid YAML"),
        ("a: \x01", "not valid YAML"),
        ("!!int a", "not valid YAML"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "not valid YAML"),
    ],
)
def test_bad_yaml_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"r\.yaml.*{message}"):
        read_yaml(tmp_path / "r.yaml", "a recipe")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        (2.5, 2.5),
        ("12.5", 12.5),
        (" 7 ", 7.0),
        ("-1e3", -1000.0),
        ("inf", math.inf),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        ("", None),
        ("1_000", None),
        ("12.5 s", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_numbers_may_be_written_as_text(value: Any, number: float | None) -> None:
    assert as_number(value) == number


def test_numbers_as_text_are_read_in_every_corpus(tmp_path: Path) -> None:
    rows: dict[str, tuple[Any, Any]] = {
        "activitynet": (
            {"V": {"duration": "9.5", "timestamps": [["1", "2.5"]], "sentences": ["a"]}},
            {"V": {"duration": 9.5, "timestamps": [[1, 2.5]], "sentences": ["a"]}},
        ),
        "got10k": (
            [{"path": "a", "object": "b", "gt": [["0.1", "0.2", "0.3", "0.4"]] * 8}],
            [{"path": "a", "object": "b", "gt": [[0.1, 0.2, 0.3, 0.4]] * 8}],
        ),
        "captions": (
            [{"video": "a", "caption": "b", "duration": "3"}],
            [{"video": "a", "caption": "b", "duration": 3}],
        ),
    }
    for name, pair in rows.items():
        read = []
        for value in pair:
            (tmp_path / "a.json").write_text(json.dumps(value))
            read.append(CORPORA[name].read(tmp_path / "a.json"))
        assert read[0] == read[1], name


def test_arguments_that_the_locale_could_not_read_are_taken_for_utf8() -> None:
    escaped = "猫 café".encode().decode("ascii", "surrogateescape")
    assert from_command_line(escaped) == "猫 café"
    assert from_command_line("plain é") == "plain é"
    assert from_command_line("\udcff \ud83d 猫") == "\ufffd \ufffd 猫"


def test_long_names_are_cut_in_messages() -> None:
    assert shown("a" * 80) == "a" * 80
    assert shown("a" * 5000) == "a" * 60 + "... (5,000 characters)"
    assert len(first_ten(["a" * 5000] * 12)) < 2200
    assert [counted(number, "sample") for number in (0, 1, 2000)] == ["0 samples", "1 sample", "2,000 samples"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("{root}/videos/a.mp4: the file is empty", "my cat.mp4: the file is empty"),
        ("{root}/link/a.mp4: the file is empty", "my cat.mp4: the file is empty"),
        ("{root}/videos/a.mp4.part beside {root}/videos/b.mp4", "my cat.mp4.part beside b.mp4"),
        ("{root}/videos does not exist", "videos does not exist"),
        ("shown by models/tiny: out of memory", "shown by tiny: out of memory"),
        ("nothing of them", "nothing of them"),
    ],
)
def test_messages_for_a_page_tell_nobody_where_files_lie(message: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "videos")
    names = {str(tmp_path / "link" / "a.mp4"): "my cat.mp4", "models/tiny": "tiny"}
    assert without_folders(message.format(root=tmp_path), names) == expected
    assert without_folders(message, {}) == message
