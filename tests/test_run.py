"""A run from a recipe file to a model folder, in one process."""

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock

import av
import pytest
import torch
import yaml
from huggingface_hub import ModelCard as HubCard
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import Qwen2_5_VLForConditionalGeneration, TrainingArguments

from tests.tiny_runs import make_corpus, write_train_manifest
from videochat_r1.commands.ask import parser as ask_parser
from videochat_r1.commands.grpo import main as grpo_command
from videochat_r1.commands.sft import main as sft_command
from videochat_r1.datasets.manifest import write_manifest
from videochat_r1.datasets.synthetic import write_corpus
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.grpo import config
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.run import check_rewards_cover, load_rewards
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.load import load_model
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.sample import ChoiceTarget, Pictures, Sample
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
    "picture": {"max_pixels": 3136},
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
    reports = {"report_to": ["tensorboard", "wandb"], "log_rollouts_to_trackers": 2}
    config = recipe(folder, "lora", **GRPO, **reports, lora={"r": 4, "lora_alpha": 8}, merge_lora=True)
    assert grpo_command(["--config", config, "--learning_rate", "1e-2"]) == 0
    output = folder / "lora"
    assert (output / "adapter_model.safetensors").is_file()
    Qwen2_5_VLForConditionalGeneration.from_pretrained(output / "merged")
    assert f"trained model: {output / 'merged'}" in capsys.readouterr().out
    assert yaml.safe_load((output / "resolved_config.yaml").read_text())["grpo"]["learning_rate"] == 1e-2
    check_record(output)
    check_card(output, "peft", base=folder / "model")
    check_card(output / "merged", "transformers", base=folder / "model")
    events = next(path for path in folder.rglob("events.out.tfevents*"))
    accumulator = EventAccumulator(str(events.parent))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    assert any(re.search(r"(tracking|grounded_qa|temporal_grounding)/rewards/format/mean", tag) for tag in tags)
    assert any((output / "wandb").rglob("run-*.wandb")), "offline, into the run's folder"
    sent = sorted((output / "wandb").rglob("files/media/videos/rollouts/*.mp4"))
    assert len(sent) == 2, "of one update"
    for file in sent:
        with av.open(str(file)) as video:
            frames = list(video.decode(video=0))
        assert frames[0].width == 480 and len(frames) >= 4


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != DEFAULT_FAMILY])
def test_merged_adapters_answer_as_adapters_do(folder, family):
    """Of the other families: the weights are those of the base with the adapter added, tower and tied head included."""
    base = folder / family
    build_tiny(base, hidden=64, layers=2, vision_hidden=32, family=family)
    options = {"per_device_train_batch_size": 2, "samples_per_step": 2, "learning_rate": 0.05}
    config = recipe(
        folder, f"lora_{family}", **options, model_name_or_path=str(base), lora={"r": 4}, merge_lora=True, max_steps=1
    )
    assert sft_command(["--config", config]) == 0
    adapted = PeftModel.from_pretrained(load_model(base, dtype=torch.float32), folder / f"lora_{family}")
    expected = adapted.merge_and_unload().state_dict()
    start, merged = (
        load_model(path, dtype=torch.float32).state_dict() for path in (base, folder / f"lora_{family}" / "merged")
    )
    moved = {name for name, value in start.items() if not torch.equal(value, expected[name])}
    assert len(moved) == 2 * 7 and not any("visual" in name for name in moved)
    for name, value in merged.items():
        assert (value - expected[name]).abs().max() <= 1e-2 * expected[name].abs().max(), "rounded to bf16"


def test_sft_from_a_recipe(folder):
    config = recipe(folder, "sft", per_device_train_batch_size=2, samples_per_step=4, learning_rate=1e-3)
    assert sft_command(["--config", config]) == 0
    Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "sft")
    check_record(folder / "sft")
    check_card(folder / "sft", "transformers", base=folder / "model")


def test_the_tiny_recipe_earns_rewards_and_learns(tmp_path, project_root):
    write_corpus(tmp_path, num_train=4, num_eval=1, num_eval_longer=0, seed=0, workers=1)
    output = tmp_path / "out"
    paths = ["--data_root", str(tmp_path), "--output_dir", str(output)]
    start = project_root / "data" / "quickstart" / "sft"
    flags = ["--model_name_or_path", str(start), "--deepspeed", "", "--use_cpu", "true", "--max_steps", "2"]
    assert grpo_command(["--config", str(project_root / "configs" / "grpo" / "tiny.yaml"), *paths, *flags]) == 0
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    logged = [entry for entry in history if "loss" in entry]
    assert len(logged) == 2 and all(entry["reward"] > 0.5 and entry["grad_norm"] > 0 for entry in logged)
    before, after = (load_file(path / "model.safetensors") for path in (start, output))
    assert any(not torch.equal(value.float(), after[name].float()) for name, value in before.items())


def test_pictures_are_trained_on_and_a_bad_one_is_left_out(folder):
    for name, size in (("a.png", (90, 40)), ("b.jpg", (30, 60))):
        Image.new("RGB", size).save(folder / name)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:50])
    target = ChoiceTarget(("cat", "dog"), "B")
    shown = [("a.png",), ("a.png", "b.jpg"), ("cut.png",), ("b.jpg", "cut.png")]
    write_manifest(
        folder / "pictures.jsonl",
        [Sample(f"p{i}", "multi_choice_qa", Pictures(paths), "Which?", target) for i, paths in enumerate(shown)],
    )
    config = recipe(
        folder, "pictures", **GRPO, mixture=[{"manifest": "pictures.jsonl", "videos": "."}], max_bad_video_share=0.6
    )
    assert grpo_command(["--config", config, "--rewards", "[{name: accuracy}, {name: format}]"]) == 0
    rollouts = [json.loads(line) for line in (folder / "pictures" / "rollouts.jsonl").read_text().splitlines()]
    assert {group["sample_id"]: [path.rpartition("/")[2] for path in group["images"]] for group in rollouts} == {
        "p0": ["a.png"],
        "p1": ["a.png", "b.jpg"],
    }
    history = json.loads((folder / "pictures" / "trainer_state.json").read_text())["log_history"]
    assert [entry["data/bad_samples"] for entry in history if "data/bad_samples" in entry][-1] == 2


def check_record(output):
    """What the run was made with is there, and nothing that only its owner may read, or that has to be unpickled."""
    record = json.loads((output / "environment.json").read_text())
    assert record["packages"]["trl"] and record["host"] and record["num_processes"] == 1
    assert abs(datetime.now(UTC) - datetime.fromisoformat(record["date"])) < timedelta(hours=1)
    assert isinstance(record["gpus"], list) and record["cpu_cores"] >= 1 and "driver" in record and "cuda" in record
    assert (record["uncommitted_changes"] or []) != [] or not str(record["git_commit"]).endswith("-dirty")
    modes = {path.name: path.stat().st_mode & 0o777 for path in output.rglob("*.safetensors")}
    assert modes and set(modes.values()) == {(output / "environment.json").stat().st_mode & 0o777}
    assert not list(output.rglob("training_args.bin"))


def check_card(output, library, base):
    """The card is this project's, its header can be read, and its command is one that the parser takes."""
    card = HubCard.load(output / "README.md")
    assert card.data.library_name == library and {"videochat-r1", "video"} <= set(card.data.tags)
    assert card.data.base_model is None, "a folder of this machine is no name on a hub"
    text = card.text
    assert f"`{base}` trained on video with" in text and "2 updates" in text
    assert "| train.jsonl | 12 | temporal_grounding 4, tracking 4, grounded_qa 4 |" in text
    assert "| loss |" in text and "| learning_rate | 0.0" in text and "| transformers |" in text and "licence" in text
    command = shlex.split(re.search(r"```bash\nvideochat-r1 ask (.*)\n```", text)[1])
    arguments = ask_parser().parse_args(command)
    where = arguments.adapter or arguments.model
    assert where == str(output) and (arguments.fps, arguments.max_frames, arguments.picture_max_pixels) == (
        3.0,
        16,
        3136,
    )
    code = re.search(r"```python\n(.*)```", text, re.DOTALL)[1]
    scope = {}
    exec(compile(code, "card", "exec"), scope)
    assert scope["model"].config.model_type == "qwen2_5_vl"


@pytest.fixture
def no_weights(folder):
    """A model folder that fails when it is loaded."""
    (folder / "no weights").mkdir(exist_ok=True)
    (folder / "no weights" / "config.json").write_text("{}")
    return str(folder / "no weights")


def test_missing_videos_are_found_before_the_model_is_loaded(folder, no_weights):
    config = recipe(folder, "missing", **GRPO, model_name_or_path=no_weights)
    with pytest.raises(DataError, match=r"12 of 12 samples have no video or pictures; 4 files are missing"):
        grpo_command(["--config", config, "--mixture.0.videos", "elsewhere"])


def test_rewards_of_a_recipe_are_checked(folder):
    with pytest.raises(ConfigError, match="unknown key 'wieght' in rewards; did you mean 'weight'"):
        load_rewards([{"name": "iou", "wieght": 2.0}])
    functions, weights = load_rewards(None)
    assert [f.__name__ for f in functions][:3] == ["format", "iou", "accuracy"] and set(weights) == {1.0}
    with pytest.raises(ConfigError, match=r"no reward in .*'accuracy'.* applies to .*'temporal_grounding'"):
        check_rewards_cover(make_corpus(folder, 3), ["accuracy"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--temporal_contrast", "release"], r"says of \['temporal_grounding', 'tracking'\]: list a reward of theirs"),
        (["--length_bonus", "{min_tokens: 2}"], r"length_bonus asks how right .* \['temporal_grounding', 'tracking'\]"),
        (["--temporal_contrast.accuracy", "[iou, recall]"], "names 'recall', which is not among the recipe's rewards"),
    ],
)
def test_a_bonus_for_tasks_without_accuracy_is_refused_before_the_model_is_loaded(folder, no_weights, flags, said):
    config = recipe(folder, "no_accuracy", **GRPO, model_name_or_path=no_weights)
    rewards = '[{"name": "format"}, {"name": "accuracy"}, {"name": "iou"}]'
    with pytest.raises(ConfigError, match=said):
        grpo_command(["--config", config, "--rewards", rewards, *flags])


@pytest.mark.parametrize("command, rows", [(grpo_command, 12), (sft_command, 3)])
def test_questions_that_micro_batches_tear_apart_are_refused_before_the_model_is_loaded(
    folder, no_weights, command, rows
):
    kind = GRPO if command is grpo_command else {"samples_per_step": 2, "per_device_train_batch_size": 2}
    config = recipe(folder, "torn", **kind, model_name_or_path=no_weights)
    flags = ["--mixture.0.questions_together", "3", "--mixture.0.queries_per_video", "all"]
    with pytest.raises(ConfigError, match=rf"questions_together=3.*per_device_train_batch_size={rows} \(3 prompts"):
        command(["--config", config, *flags])


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
