"""What is written for the user, and that nothing of anybody else's is replaced or removed."""

import json
from pathlib import Path

import pytest

from videochat_r1.errors import ConfigError, DataError
from videochat_r1.outputs import OwnedFolder, refuse_to_replace

NAMES = ("data", "models", "summary.json")


def run(folder: Path, *, killed: bool = False) -> bool:
    """A run that writes all of its entries; returns whether it found an earlier one."""
    owned = OwnedFolder(folder, "trial", NAMES)
    again = owned.claim()
    owned.remove(NAMES)
    for name in ("data/a/b.txt", "models/m.bin", "summary.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("made")
    if not killed:
        owned.release()
    return again


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_run_replaces_what_an_earlier_one_has_made_and_leaves_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert run(folder) is False
    (folder / "notes.txt").write_text("mine")
    (folder / "models-old").mkdir()
    (folder / "models-old" / "m.bin").write_text("mine")
    assert run(folder) is True
    assert run(folder, killed=True) is True
    assert run(folder) is True
    assert (folder / "notes.txt").read_text() == (folder / "models-old" / "m.bin").read_text() == "mine"


@pytest.mark.parametrize("name", ["data/mine.txt", "models/a/mine.bin", "summary.json", "trial.json"])
def test_files_of_somebody_elses_are_refused_by_name_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('{"names": ["data", "models", "summary.json"], "files": null}')
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=rf"{name.partition('/')[0]} \(1\)\. Move them away, or name another"):
        run(tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["data/a/mine.txt", "models/mine.bin"])
def test_files_that_came_after_a_run_are_refused_and_kept(tmp_path: Path, name: str) -> None:
    run(tmp_path)
    (tmp_path / name).write_text("mine")
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=name):
        run(tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize("killed", [False, True])
def test_links_are_not_followed(tmp_path: Path, killed: bool) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    (elsewhere / "m.bin").write_text("mine")
    run(folder, killed=killed)
    (folder / "models" / "m.bin").unlink()
    (folder / "models").rmdir()
    (folder / "models").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="models"):
        run(folder)
    assert content(elsewhere) == {"m.bin": "mine"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        run(tmp_path / "file")


def test_a_stamp_lists_what_was_made(tmp_path: Path) -> None:
    run(tmp_path)
    stamp = json.loads((tmp_path / "trial.json").read_text())
    assert stamp["files"] == ["data/a/b.txt", "models/m.bin", "summary.json"]


def test_files_that_are_there_are_named_before_any_work(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(3)]
    refuse_to_replace(paths, "mend")
    paths[0].touch()
    paths[1].symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"0\.txt, .*1\.txt \(2\); mend"):
        refuse_to_replace(paths, "mend")
