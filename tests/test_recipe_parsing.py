"""Recipes: file, flags, nested flags, and the mistakes people make."""

from types import SimpleNamespace

import pytest
import yaml
from torch import distributed

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.sft import VideoSFTConfig
from videochat_r1.training import start

BASE = {
    "model_name_or_path": "models/tiny",
    "output_dir": "out",
    "use_cpu": True,
    "bf16": False,
    "per_device_train_batch_size": 8,
    "num_generations": 8,
    "video": {"fps": 2.0, "max_frames": 64},
    "mixture": [{"dataset": "charades_sta", "annotations": "a.json", "weight": 1.0}],
}


def parse(tmp_path, *flags, **changes):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**BASE, "output_dir": str(tmp_path / "out"), **changes}))
    return parse_recipe([ModelArguments, DataArguments, VideoGRPOConfig], ["--config", str(path), *flags])


def test_flags_win_over_the_file_and_dots_reach_inside(tmp_path):
    model, data, args = parse(
        tmp_path, "--learning_rate", "5e-7", "--video.fps", "1", "--mixture.0.weight=0.5", "--thinking", "true"
    )
    assert args.learning_rate == 5e-7
    assert data.video == {"fps": 1, "max_frames": 64}
    assert data.mixture[0]["weight"] == 0.5
    assert data.thinking is True
    assert model.model_name_or_path == "models/tiny"
    assert data.budget().fps == 1


def parse_text(tmp_path, text, *flags):
    """Lines of YAML as a person writes them, in place of those of `BASE` with the same key."""
    keys = {line.partition(":")[0] for line in text.splitlines()}
    base = yaml.safe_dump({key: value for key, value in BASE.items() if key not in keys})
    path = tmp_path / "recipe.yaml"
    path.write_text(base + text + "\n")
    return parse_recipe([ModelArguments, DataArguments, VideoGRPOConfig], ["--config", str(path), *flags])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rate: 1e-6", 1e-6),
        ("learning_rate: 1.E-6", 1e-6),
        ("learning_rate: '5e-7'", 5e-7),
        ("max_steps: 1e3", 1000),
        ("max_steps: 1_000", 1000),
        ("max_steps: 0042", 42),
        ("num_generations: '8'", 8),
        ("run_name: '2025'", "2025"),
        ("run_name: 001", "001"),
        ("run_name: 1e5", "1e5"),
        ("run_name: 2025-11-26", "2025-11-26"),
        ("run_name: 12:30", "12:30"),
        ("output_dir: 0042", "0042"),
        ("model_name_or_path: 7", "7"),
        ("data_root: infinity", "infinity"),
        ("thinking: yes", True),
        ("thinking: 'no'", False),
        ("share_prompt: 0", False),
        ("eval_strategy: no", "no"),
        ("deepspeed: none", None),
        ("min_p: none", None),
        ("max_prompt_length: null", None),
        ("lr_scheduler_kwargs: {min_lr: 1e-7, name: 007}", {"min_lr": 1e-7, "name": 7}),
        ("video: {fps: 1e0, max_frames: '64', backend: 7}", {"fps": 1.0, "max_frames": 64, "backend": "7"}),
        ("lora: {r: 8.0, lora_dropout: 5e-2, bias: none}", {"r": 8, "lora_dropout": 0.05, "bias": "none"}),
        ("rewards: [{name: iou, weight: 5e-1}]", [{"name": "iou", "weight": 0.5}]),
        ("rewards: [{name: 7, options: {least: 1e-1}}]", [{"name": "7", "options": {"least": 0.1}}]),
        ("judge: {model: 7, timeout_seconds: 6e1, decoy: off}", {"model": "7", "timeout_seconds": 60.0, "decoy": False}),
        ("mixture: [{manifest: 1, weight: 5e-1, queries_per_video: all}]",
         [{"manifest": "1", "weight": 0.5, "queries_per_video": "all"}]),
        ("mixture: [{manifest: 1, queries_per_video: '2'}]", [{"manifest": "1", "queries_per_video": 2}]),
        ("prompts: {tracking: 5}", {"tracking": "5"}),
    ],
)  # fmt: skip
def test_a_value_is_what_its_option_takes(tmp_path, line, expected):
    name = line.partition(":")[0]
    value = next(getattr(each, name) for each in parse_text(tmp_path, line) if hasattr(each, name))
    value = getattr(value, "value", value)
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("flags", "name", "expected"),
    [
        (["--video.fps=1e0"], "video", {"fps": 1.0, "max_frames": 64}),
        (["--picture.max_pixels", "2e5"], "picture", {"max_pixels": 200_000}),
        (["--judge.model", "7"], "judge", {"model": "7"}),
        (["--rewards.0.name", "iou", "--rewards.0.weight", "2"], "rewards", [{"name": "iou", "weight": 2.0}]),
        (["--mixture.1.manifest", "b"], "mixture", [*BASE["mixture"], {"manifest": "b"}]),
        (["--deepspeed", "none"], "deepspeed", None),
        (["--min_p=none"], "min_p", None),
        (["--lora", "none"], "lora", None),
    ],
)
def test_a_flag_is_what_its_option_takes(tmp_path, flags, name, expected):
    value = next(getattr(each, name) for each in parse(tmp_path, *flags) if hasattr(each, name))
    assert value == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: 1\na: 2\n", "not valid YAML: the key 'a' stands twice .line 2"),
        (b"video:\n\tfps: 1\n", "line 2, column 1"),
        (b"- a\n", "must hold a mapping"),
        (b"", "must hold a mapping"),
        (b"a: some\x00\n", "not valid YAML"),
        ("run_name: caf\u00e9\n".encode("latin-1"), "is not text in UTF-8"),
        (b"? [a]\n: 1\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(tmp_path, raw, message):
    (tmp_path / "recipe.yaml").write_bytes(raw)
    with pytest.raises(ConfigError, match=message) as error:
        parse_recipe([ModelArguments], ["--config", str(tmp_path / "recipe.yaml")])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "changes", "message"),
    [
        ([], {"lerning_rate": 1e-6}, "unknown key 'lerning_rate' in .*did you mean 'learning_rate'"),
        (["--lerning_rate", "1"], {}, "unknown flag '--lerning_rate'; did you mean 'learning_rate'"),
        (["--vidio.fps", "1"], {}, "unknown flag '--vidio.fps'; did you mean 'video'"),
        (["--mixture.3.weight", "1"], {}, "'3' is not a position in a list of 1; 1 would add one"),
        ([], {"video": "2 fps"}, "video is '2 fps'; expected a mapping or null"),
        (["--rewards", "[iou"], {}, "the value of --rewards is not valid YAML: .*line 1"),
        (["--video.", "3"], {}, "--video.: a key is missing after a dot"),
        (["--video.fps"], {}, "--video.fps needs a value"),
        (["--config", "other.yaml"], {}, "--config is given 2 times"),
        ([], {"max_steps": 8.5}, "max_steps is 8.5; expected a whole number"),
        ([], {"thinking": "perhaps"}, "thinking is 'perhaps'; expected true or false"),
        ([], {"output_dir": ["a"]}, "output_dir is .*; expected text"),
        ([], {"learning_rate": None}, "learning_rate is null; expected a number"),
        ([], {"video": {"max_frames": "many"}}, "video.max_frames is 'many'; expected a whole number"),
        ([], {"picture": {"max_pixels": "many"}}, "picture.max_pixels is 'many'; expected a whole number or null"),
        ([], {"mixture": [{"manifest": "a", "weight": [1]}]}, r"mixture.0.weight is \[1\]; expected a number"),
        (["--max_steps", "many"], {}, "argument --max_steps.*: invalid int value: 'many'"),
    ],
)
def test_mistakes_name_the_nearest_valid_key(tmp_path, flags, changes, message):
    with pytest.raises(ConfigError, match=message):
        parse(tmp_path, *flags, **changes)


def test_an_unknown_video_option_is_refused_when_the_budget_is_made(tmp_path):
    _, data, _ = parse(tmp_path, "--video.fsp", "1")
    with pytest.raises(ConfigError, match="unknown key 'fsp' in video; did you mean 'fps'"):
        data.budget()


def test_a_missing_recipe_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist; expected a recipe"):
        parse_recipe([ModelArguments], ["--config", "nowhere.yaml"])


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_prompts_per_update_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch, processes, accumulation):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    args = VideoGRPOConfig.__new__(VideoGRPOConfig)
    args.prompts_per_step, args.per_device_train_batch_size, args.num_generations = 8, 8, 8
    assert args.accumulation(processes) == accumulation


def test_a_layout_that_cannot_give_the_batch_names_the_nearest_that_can():
    args = VideoGRPOConfig.__new__(VideoGRPOConfig)
    args.prompts_per_step, args.per_device_train_batch_size, args.num_generations = 8, 8, 8
    with pytest.raises(ConfigError, match=r"nearest that can: 4 processes; or prompts_per_step=9 on 3"):
        args.accumulation(3)


def test_sft_names_the_nearest_layout_too(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    options = {"output_dir": str(tmp_path), "use_cpu": True, "samples_per_step": 8}
    with pytest.raises(ConfigError, match=r"samples_per_step=8\. nearest that can: 4 processes; or samples_per_step=9"):
        VideoSFTConfig(**options, per_device_train_batch_size=1)
    with pytest.raises(ConfigError, match="both must be at least 1"):
        VideoSFTConfig(**options, per_device_train_batch_size=0)


def test_every_update_is_logged_unless_the_recipe_says_otherwise(tmp_path):
    grpo = VideoGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    sft = VideoSFTConfig(output_dir=str(tmp_path), use_cpu=True)
    assert (grpo.logging_steps, sft.logging_steps) == (1, 1)


def test_a_micro_batch_that_splits_a_group_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must hold whole groups: 12 is not a multiple of num_generations=8"):
        parse(tmp_path, per_device_train_batch_size=12, generation_batch_size=24)


def test_several_trackers_on_the_command_line(tmp_path):
    _, _, args = parse(tmp_path, "--report_to", "wandb", "tensorboard", "--learning_rate", "1e-5")
    assert args.report_to == ["wandb", "tensorboard"]
    assert args.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"skip_uninformative_groups": True, "beta": 0.04},
            "skip_uninformative_groups would change the loss with beta",
        ),
        ({"dynamic_sampling_draws": 2, "scale_rewards": "batch"}, "advantages depend on the whole batch"),
        ({"dynamic_sampling_draws": -1}, "expected 0"),
        ({"rollout_batch_rows": 0}, "expected at least 1"),
        ({"log_rollouts_to_trackers": -1}, "expected 0"),
        (
            {"log_rollouts_to_trackers": 9, "report_to": ["tensorboard"]},
            "only wandb takes, and report_to is tensorboard",
        ),
        ({"log_rollouts_to_trackers": 9, "report_to": ["wandb"], "log_rollouts": False}, "set log_rollouts to true"),
    ],
)
def test_options_that_cannot_work_or_would_change_the_loss_silently_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        parse(tmp_path, **changes)


def test_rewards_on_the_command_line(tmp_path):
    _, _, args = parse(tmp_path, "--rewards", '[{"name": "iou", "weight": 2}]')
    assert args.rewards == [{"name": "iou", "weight": 2}]


def test_a_rank_that_meets_a_mistake_alone_cannot_hold_up_the_others(monkeypatch):
    """It may still write its last values; then the kernel ends it, whatever its destructors wait for."""
    alarms = []
    monkeypatch.setattr(
        start, "signal", SimpleNamespace(SIGALRM=0, SIG_DFL=0, signal=lambda *_: 0, alarm=alarms.append)
    )
    for processes in ("1", "2"):
        monkeypatch.setenv("WORLD_SIZE", processes)
        with pytest.raises(ConfigError), start.stopping_all_ranks():
            raise ConfigError("of this rank alone")
    assert len(alarms) == 1 and 0 < alarms[0] < 60


def test_a_whole_mixture_on_the_command_line(tmp_path):
    _, data, _ = parse(tmp_path, "--mixture", '[{"manifest": "a.jsonl", "task": "tracking"}]')
    assert data.mixture == [{"manifest": "a.jsonl", "task": "tracking"}]


def test_a_run_that_went_well_ends_its_process_group() -> None:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    with start.stopping_all_ranks():
        assert distributed.is_initialized()
    assert not distributed.is_initialized()
