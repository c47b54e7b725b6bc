"""Recipes that extend others: what wins, where each value comes from, and what is refused."""

from pathlib import Path

import pytest
import yaml

from videochat_r1 import cli
from videochat_r1.errors import ConfigError
from videochat_r1.options import untyped
from videochat_r1.recipe_file import find_recipe, read_recipe, shipped_recipes


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_own_values_win_key_by_key_and_lists_as_a_whole(tmp_path):
    path = write(
        tmp_path,
        mine="extends: middle.yaml\nvideo: {fps: 1}\nmixture: [{manifest: b}]\nlora: null\n",
        middle="extends: base.yaml\nseed: 2\n",
        base="seed: 1\nvideo: {fps: 2, max_frames: 8}\nmixture: [{manifest: a, weight: 2}]\nlora: {r: 8}\nbeta: 0.1\n",
    )
    recipe = read_recipe(path, "grpo")
    assert untyped(recipe.values) == {
        "seed": 2,
        "video": {"fps": 1, "max_frames": 8},
        "mixture": [{"manifest": "b"}],
        "lora": None,
        "beta": 0.1,
    }
    assert recipe.origins == {
        "seed": "middle.yaml",
        "video.fps": "mine.yaml",
        "video.max_frames": "base.yaml",
        "mixture": "mine.yaml",
        "lora": "mine.yaml",
        "beta": "base.yaml",
    }


def test_a_path_starts_at_the_recipe_and_a_bare_name_is_a_shipped_one(tmp_path):
    (tmp_path / "inner").mkdir()
    path = write(tmp_path / "inner", mine="extends: ../other.yaml\nseed: 3\n")
    write(tmp_path, other="extends: joint\nseed: 4\n")
    assert untyped(read_recipe(path, "grpo").values)["seed"] == 3
    assert read_recipe(path, "grpo").origins["beta"] == "joint.yaml"
    assert "beta" not in read_recipe(path, "sft").values, "the shipped recipe of the same kind"
    assert find_recipe("table3_thinking", "grpo").parent.name == "ablations"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "extends: a.yaml\n"}, r"in a circle: .*a\.yaml -> .*a\.yaml"),
        ({"a": "extends: b.yaml\n", "b": "extends: a.yaml\n"}, "in a circle"),
        ({"a": "extends: gone.yaml\n"}, r"gone\.yaml does not exist"),
        ({"a": "extends: jont\n"}, "no recipe 'jont'.*did you mean 'joint'"),
        ({"a": "extends: [joint]\n"}, "extends names one recipe"),
        ({"a": "extends: b.yaml\n", "b": "- 1\n"}, r"b\.yaml must hold a mapping"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path, files, message):
    with pytest.raises(ConfigError, match=message):
        read_recipe(write(tmp_path, **files), "grpo")


def test_every_kind_ships_recipes_of_different_names():
    for kind in ("grpo", "sft"):
        assert "joint" in shipped_recipes(kind)


def test_the_resolved_recipe_is_printed_with_the_origin_of_each_value(tmp_path, capsys):
    path = write(tmp_path, mine="extends: joint\nvideo: {fps: 1}\nlearning_rate: 5e-7\ndeepspeed: none\nbf16: false\n")
    flags = ["--seed", "7", "--video.max_frames=16", "--use_cpu", "true", "--output_dir", str(tmp_path / "out")]
    assert cli.main(["grpo", "--config", str(path), "--print-config", *flags]) == 0
    text = capsys.readouterr().out
    origin = {line.split(":")[0].strip(): line.partition("# ")[2] for line in text.splitlines() if ":" in line}
    assert origin["learning_rate"] == origin["fps"] == "mine.yaml"
    assert origin["beta"] == origin["min_frames"] == origin["mixture"] == "joint.yaml"
    assert origin["seed"] == origin["max_frames"] == "flag"
    assert origin["gradient_accumulation_steps"] == "computed" and origin["ddp_timeout"] == "default"
    printed = yaml.safe_load(text)
    assert printed["learning_rate"] == 5e-7 and printed["video"]["max_frames"] == 16 and printed["seed"] == 7
    assert not (tmp_path / "out").exists()
