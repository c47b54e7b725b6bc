"""Families: one from outside as docs/adding_a_family.md shows it, and folders of none."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_runs import logged_rollouts, write_train_manifest
from videochat_r1.commands.ask import main as ask_command
from videochat_r1.commands.doctor import main as doctor_command
from videochat_r1.commands.estimate import main as estimate_command
from videochat_r1.commands.grpo import main as grpo_command
from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.recipe import ModelArguments
from videochat_r1.sample import Video
from videochat_r1.video.frames import VideoBudget

NAME = "stamped:Stamped"
BLOCK = re.compile(r"`(stamped\.(?:py|yaml))`[^\n]*(?:\n[^\n`]+)*\n\n```\w+\n(.*?)```", re.DOTALL)
VIDEO = ["--video.max_frames", "8", "--video.max_pixels", "3136"]
# Of an untrained model, whose completions earn nothing.
REWARDS = ["--rewards", '[{"name": "tests.tiny_runs:chatty_parse_reward"}]']
OPTIONS = [*REWARDS, "--use_cpu", "true", "--max_completion_length", "6", "--dataloader_num_workers", "1"]


@pytest.fixture(scope="module")
def own(project_root, tmp_path_factory):
    """The page's files as somebody would write them down, with a tiny model and a corpus."""
    folder = tmp_path_factory.mktemp("own_family")
    page = (project_root / "docs" / "adding_a_family.md").read_text(encoding="utf-8")
    for name, text in BLOCK.findall(page):
        (folder / name).write_text(text, encoding="utf-8")
    write_train_manifest(folder, count=4)
    return folder


@pytest.fixture
def here(own, monkeypatch):
    """In its folder, in a process that has not heard of the family."""
    monkeypatch.syspath_prepend(own)
    monkeypatch.chdir(own)
    monkeypatch.setattr(FAMILIES, "_outside", {})
    return own


@pytest.fixture
def model(here, monkeypatch):
    if not (here / "model").exists():
        build_tiny("model", hidden=64, layers=2, vision_hidden=32, family=NAME)
        monkeypatch.setattr(FAMILIES, "_outside", {})
    return here / "model"


@pytest.fixture
def trained(here, model):
    if not (here / "run").exists():
        assert grpo_command(["--config", "stamped.yaml", *VIDEO, *OPTIONS]) == 0
    return here / "run"


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_family_from_outside_says_what_prompts_are(model):
    config, budget = load_config(model, NAME), VideoBudget(fps=2.0, min_pixels=56 * 56, max_pixels=56 * 56)
    builder = PromptBuilder(load_processor(model), config, budget)
    inputs = builder.from_frames(
        builder.frames(Video(path=str(model.parent / "0.mp4"))), builder.render_text("What happens?")
    )
    step = "<|video_pad|>" * 4
    expected = f"<|vision_start|>[0 s]{step}[1 s]{step}<|vision_end|>What happens?"
    assert expected in builder.processor.tokenizer.decode(inputs.input_ids)
    # Both steps fill two rows and two columns of one position in time.
    is_video = inputs.input_ids == builder.processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert [len(set(axis.tolist())) for axis in inputs.position_ids[:, is_video]] == [2, 4, 4]


def test_it_trains_with_a_reference_model(trained, model):
    assert {rollout["step"] for rollout in logged_rollouts(trained)} == {1, 2}
    before, after = weights(model), weights(trained)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    saved = json.loads((trained / "config.json").read_text())
    assert (saved["model_type"], saved["architectures"]) == ("stamped_vl", ["StampedForConditionalGeneration"])


def test_a_run_of_it_resumes_where_it_stopped(trained, here):
    (here / "again").mkdir()
    (trained / "checkpoint-1").rename(here / "again" / "checkpoint-1")
    assert grpo_command(["--config", "stamped.yaml", "--output_dir", "again", *VIDEO, *OPTIONS]) == 0
    whole, resumed = weights(trained), weights(here / "again")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_it_is_asked_and_examined(trained, capsys):
    command = re.search(r"```bash\nvideochat-r1 ask (.*) \"What", (trained / "README.md").read_text())[1].split()
    video = ["--video", str(trained.parent / "0.mp4"), "--max-new-tokens", "4", "--json", "What happens?"]
    assert ask_command([*(word for word in command if word not in ("--video", "clip.mp4")), *video]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["model_family"] == NAME
    doctor_command(["--model", "run", "--model-family", NAME, "--json"])
    examined = json.loads(capsys.readouterr().out)
    assert examined["sections"]["model"]["facts"]["type"] == "stamped_vl"
    assert not any("stamped" in problem["what"] for problem in examined["problems"])
    assert estimate_command(["--config", "stamped.yaml", "--gpu", "H100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_a_run_records_its_settings_before_it_loads_anything(model):
    options = RunOptions(str(model), model_family=NAME)
    assert (
        options.settings(torch.device("cpu"))["video"]["max_pixels"]
        == 768 * FAMILIES[NAME].token_side(options.config()) ** 2
    )


@pytest.mark.parametrize("type_of_folder", ["qwen3_5", "internvl", "internvl_chat", "qwen3_vl_moe", "bert", None, 3])
def test_a_folder_of_no_family_is_refused_before_its_weights_are_read(tmp_path, type_of_folder):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": type_of_folder, "auto_map": {"AutoConfig": "a.B"}}))
    with pytest.raises(ConfigError, match=r"known are qwen2_5_vl, qwen2_vl, qwen3_vl.*adding_a_family.md") as refusal:
        load_model(tmp_path)
    assert str(tmp_path) in str(refusal.value) and repr(str(type_of_folder)) in str(refusal.value)
    assert ("stacked parameter" in str(refusal.value)) == (type_of_folder == "qwen3_vl_moe")


def test_a_family_that_does_not_fit_is_refused(here, tmp_path):
    build_tiny(tmp_path / "model", hidden=64, layers=1, vision_hidden=32, vision_layers=1, family="qwen3_vl")
    assert load_config(tmp_path / "model", "qwen3_vl").model_type == "qwen3_vl"
    with pytest.raises(
        ConfigError, match="is of model_type 'qwen3_vl', the model family stamped:Stamped of 'stamped_vl'"
    ):
        load_config(tmp_path / "model", NAME)
    (here / "wrong.py").write_text("from stamped import *\nclass Wrong(Stamped):\n    model_type = 'other'\n")
    for name, message in (
        ("wrong:Wrong", "its model_type is 'other', but that of StampedConfig is 'stamped_vl'"),
        ("wrong:StampedConfig", "which is no model family"),
        ("qwen3-vl", "unknown model family 'qwen3-vl'; did you mean 'qwen3_vl'"),
    ):
        with pytest.raises(ConfigError, match=message):
            ModelArguments(model_name_or_path="model", model_family=name)
