"""Recipes that extend others: what wins, where each value comes from, and what is refused."""

import dataclasses
import shlex
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from videochat_r1 import cli
from videochat_r1.commands.print_config import printed_config
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.options import parse_yaml, untyped
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.recipe_file import RecipeValues, find_recipe, read_recipe, shipped_recipes

SECTIONS = [ModelArguments, DataArguments, VideoGRPOConfig]


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
        "mixture.0.manifest": "mine.yaml",
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


BASE = """extends: joint
video: {fps: 1}
learning_rate: 5e-7
second_look: {rounds: 2}
lora: null
temporal_contrast: null
deepspeed: none
bf16: false
use_cpu: true
"""


def marks(text: str) -> dict[str, str]:
    """Dotted name -> what stands behind the value, of a printed recipe; a list is one value."""
    found, above = {}, []
    for line in text.splitlines():
        key, colon, rest = line.partition(":")
        depth = (len(key) - len(key.lstrip())) // 2
        if colon and not key.lstrip().startswith(("- ", "#")):
            above = [*above[:depth], key.strip()]
            if "# " in rest:
                found[".".join(above)] = rest.rpartition("# ")[2]
    return found


@pytest.mark.parametrize(
    ("lines", "flags", "expected"),
    [
        ("", "", {"video.fps": "base.yaml", "video.min_frames": "joint.yaml", "second_look.padding": "default"}),
        ("", "", {"mixture": "joint.yaml", "gradient_accumulation_steps": "computed", "ddp_timeout": "default"}),
        ("video: {fps: 2}", "", {"video.fps": "mine.yaml", "learning_rate": "base.yaml"}),
        ("", "--video.max_frames=16", {"video.max_frames": "flag", "video.fps": "base.yaml"}),
        ("", "--video={fps:\u00a03}", {"video.fps": "flag"}),
        ("", "--second_look.padding 2", {"second_look.padding": "flag", "second_look.rounds": "base.yaml"}),
        (
            "",
            "--second-look.credit.share 0.5",
            {"second_look.credit.share": "flag", "second_look.credit.clue": "default"},
        ),
        ("second_look: {credit: {share: 0.5}}", "", {"second_look.credit.share": "mine.yaml"}),
        ("", "--mixture.0.weight 2", {"mixture": "joint.yaml, flag"}),
        ("rewards: [{name: iou}]", "", {"rewards": "mine.yaml"}),
        ("rewards: [{name: iou}]", "--rewards.1.name format", {"rewards": "mine.yaml, flag"}),
        ("rewards: [{name: iou}]", "--rewards.0.name format", {"rewards": "flag"}),
        ("", "--lora.r 8", {"lora.r": "flag"}),
        ("lr_scheduler_kwargs: '{\"a\": 1}'", "", {"lr_scheduler_kwargs.a": "mine.yaml"}),
        ("lr_scheduler_kwargs: '{\"a\": 1}'", "--lr_scheduler_kwargs.b 2", {"lr_scheduler_kwargs.b": "flag"}),
        ("", "--no_share_prompt --report_to wandb tensorboard", {"share_prompt": "flag", "report_to": "flag"}),
        (
            "second_look: null\ntemporal_contrast: paper",
            "--temporal_contrast.factor 0.5",
            {"preset": "mine.yaml", "factor": "flag", "bonus": "default"},
        ),
    ],
)
def test_each_printed_value_has_its_origin(tmp_path, lines, flags, expected):
    path = write(tmp_path, mine=f"extends: base.yaml\n{lines}\n", base=BASE)
    arguments = ["--config", str(path), "--output_dir", str(tmp_path / "out"), *flags.split(" ")]
    text = printed_config(SECTIONS, [each.replace("\u00a0", " ") for each in arguments if each])
    found = marks(text)
    if "preset" in expected:
        expected = {f"temporal_contrast.{key}": mark for key, mark in expected.items()}
    assert {name: found.get(name) for name in expected} == expected
    assert found["output_dir"] == "flag"


def test_a_printed_recipe_is_a_recipe(tmp_path, capsys):
    path = write(tmp_path, mine="extends: base.yaml\nvideo: {fps: 1}\n", base=BASE)
    flags = ["--seed", "7", "--video.max_frames=16", "--output_dir", str(tmp_path / "out")]
    assert cli.main(["grpo", "--config", str(path), "--print-config", *flags]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["learning_rate"] == 5e-7 and printed["video"]["max_frames"] == 16 and printed["seed"] == 7
    assert not (tmp_path / "out").exists()


NAMES_OR_MAPPINGS = [
    each.name
    for cls in SECTIONS
    for each in dataclasses.fields(cls)
    if each.init and {str, dict} <= set(get_args(get_type_hints(cls)[each.name])) and each.name != "temporal_contrast"
]


@pytest.mark.parametrize("option", NAMES_OR_MAPPINGS)
def test_a_key_of_a_word_is_refused_with_the_mapping_to_give(tmp_path, option):
    path = write(tmp_path, mine=f"{option}: word\n")
    with pytest.raises(ConfigError, match="has no keys here; give it as a mapping of all its keys") as error:
        parse_recipe(SECTIONS, ["--config", str(path), f"--{option}.inner.key", "3"])
    told = str(error.value).rpartition("keys, ")[2]
    assert told == f'--{option} \'{{"inner": {{"key": 3}}}}\''
    # What it says is read as that, and a further key is set in it.
    values = RecipeValues({option: "word"})
    values.put([option], parse_yaml(shlex.split(told)[1], ""), f"--{option}")
    values.put([option, "inner", "other"], 4, f"--{option}.inner.other")
    assert untyped(values.values) == {option: {"inner": {"key": 3, "other": 4}}}


def test_a_key_is_set_in_the_mapping_that_a_name_is_for(tmp_path):
    """By a flag as by a recipe that extends the one with the name."""
    path = write(tmp_path, mine="extends: base.yaml\nbonus: {least: 2}\n", base="bonus: paper\nother: paper\n")
    recipe = read_recipe(path, "grpo", {"bonus": "preset"})
    assert untyped(recipe.values) == {"bonus": {"preset": "paper", "least": 2}, "other": "paper"}
    recipe.put(["bonus", "most"], 3, "--bonus.most")
    assert recipe.origins == {
        "bonus.preset": "base.yaml",
        "bonus.least": "mine.yaml",
        "bonus.most": "flag",
        "other": "base.yaml",
    }
    recipe.put(["bonus"], "release", "--bonus")
    assert recipe.values["bonus"] == {"preset": "release"} and recipe.origin("bonus") == "flag"


@pytest.mark.parametrize("word", ["none", "Null", None])
def test_a_key_is_set_where_a_recipe_says_none(word):
    values = RecipeValues({"lora": word, "rewards": word}, {"lora": "a.yaml"})
    values.put(["lora", "r"], 8, "--lora.r")
    values.put(["rewards", "0", "name"], "iou", "--rewards.0.name")
    assert values.values == {"lora": {"r": 8}, "rewards": [{"name": "iou"}]}
    assert values.origins == {"lora.r": "flag", "rewards.0.name": "flag"}
