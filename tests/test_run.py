"""A run from a recipe file to a model folder, in one process."""

import json
import re
from unittest.mock import MagicMock

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import Qwen2_5_VLForConditionalGeneration, TrainingArguments

from tests.tiny_runs import make_corpus, write_train_manifest
from videochat_r1.commands.grpo import main as grpo_command
from videochat_r1.commands.sft import main as sft_command
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.grpo import config
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.run import check_rewards_cover, load_rewards
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.sft import VideoSFTConfig
from videochat_r1.training.console import use_console_log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    build_tiny(path / "model", hidden=64, layers=2, vision_hidden=32)
    write_train_manifest(path)
    return path


COMMON = {
    "mixture": [{"manifest": "train.jsonl", "videos": "."}],
    "video": {"fps": 3.0, "max_frames": 16, "min_pixels": 784, "max_pixels": 3136},
    "use_cpu": True,
    "bf16": False,
    "max_steps": 2,
    "logging_steps": 1,
    "report_to": [],
    "disable_tqdm": True,
    "save_strategy": "no",
}
GRPO = {"prompts_per_step": 2, "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 5}


def recipe(folder, name, **options):
    values = {
        "model_name_or_path": str(folder / "model"),
        "data_root": str(folder),
        "output_dir": str(folder / name),
        **COMMON,
        **options,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_a_lora_run_saves_adapter_and_merged_model_and_logs_to_both_trackers(folder, monkeypatch, capsys):
    for name in ("WANDB_MODE", "WANDB_DIR"):
        monkeypatch.setenv(name, "")  # so that what the run sets is undone
        monkeypatch.delenv(name)
    config = recipe(
        folder, "lora", **GRPO, lora={"r": 4, "lora_alpha": 8}, merge_lora=True, report_to=["tensorboard", "wandb"]
    )
    assert grpo_command(["--config", config, "--learning_rate", "1e-2"]) == 0
    output = folder / "lora"
    assert (output / "adapter_model.safetensors").is_file()
    Qwen2_5_VLForConditionalGeneration.from_pretrained(output / "merged")
    assert f"trained model: {output / 'merged'}" in capsys.readouterr().out
    assert yaml.safe_load((output / "resolved_config.yaml").read_text())["grpo"]["learning_rate"] == 1e-2
    assert json.loads((output / "environment.json").read_text())["packages"]["trl"]
    events = next(path for path in folder.rglob("events.out.tfevents*"))
    accumulator = EventAccumulator(str(events.parent))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    assert any(re.search(r"(tracking|grounded_qa|temporal_grounding)/rewards/format/mean", tag) for tag in tags)
    assert any((output / "wandb").rglob("run-*.wandb")), "offline, into the run's folder"


def test_sft_from_a_recipe(folder):
    config = recipe(folder, "sft", per_device_train_batch_size=2, samples_per_step=4, learning_rate=1e-3)
    assert sft_command(["--config", config]) == 0
    Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "sft")


def test_missing_videos_are_found_before_the_model_is_loaded(folder):
    config = recipe(folder, "missing", **GRPO, model_name_or_path=str(folder / "no model"))
    with pytest.raises(DataError, match=r"12 of 12 samples have no video; 4 files are missing"):
        grpo_command(["--config", config, "--mixture.0.videos", "elsewhere"])


def test_rewards_of_a_recipe_are_checked(folder):
    with pytest.raises(ConfigError, match="unknown key 'wieght' in rewards; did you mean 'weight'"):
        load_rewards([{"name": "iou", "wieght": 2.0}])
    functions, weights = load_rewards(None)
    assert [f.__name__ for f in functions][:3] == ["format", "iou", "accuracy"] and set(weights) == {1.0}
    with pytest.raises(ConfigError, match=r"no reward in .*'accuracy'.* applies to .*'temporal_grounding'"):
        check_rewards_cover(make_corpus(folder, 3), ["accuracy"])


@pytest.mark.parametrize("deepspeed", [True, False])
def test_deepspeeds_accumulation_is_no_mismatch(deepspeed):
    trainer = MagicMock(is_deepspeed_enabled=deepspeed)
    trainer.args.gradient_accumulation_steps = 4
    trainer.accelerator.gradient_accumulation_steps = 1
    use_console_log(trainer)
    assert trainer.accelerator.gradient_accumulation_steps == (4 if deepspeed else 1)


@pytest.mark.parametrize("arguments", [VideoGRPOConfig, VideoSFTConfig])
def test_one_process_does_not_spread_a_batch_over_several_gpus(tmp_path, monkeypatch, arguments):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 4)
    with pytest.raises(ConfigError, match=r"one process sees 4 GPUs.*NUM_GPUS=4 .*CUDA_VISIBLE_DEVICES=0"):
        arguments(output_dir=str(tmp_path), use_cpu=True, bf16=False)


def test_rollouts_on_partitioned_weights_are_refused(tmp_path, monkeypatch):
    options = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "ds3_gather_for_generation": False}
    VideoGRPOConfig(**options)
    monkeypatch.setattr(config, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(ConfigError, match="ds3_gather_for_generation=false cannot be used under ZeRO-3"):
        VideoGRPOConfig(**options)
