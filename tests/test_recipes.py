"""Every recipe in configs/ resolves to its paper's values, transcribed here and nowhere else in the tests."""

import argparse
import functools
import inspect
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from qwen_vl_utils.vision_process import smart_resize
from transformers import get_scheduler

from videochat_r1.cli import main as cli
from videochat_r1.commands.model_arguments import add_prompting
from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.mixture import MixtureEntry
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.bonuses import length_bonus, temporal_contrast
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.run import load_rewards
from videochat_r1.grpo.second_look import SecondLook
from videochat_r1.modeling.families import family_of, published_config
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.recipe_file import read_recipe
from videochat_r1.rewards import REWARDS
from videochat_r1.sample import Video
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.sft import VideoSFTConfig, why_unfit
from videochat_r1.tasks import TASKS
from videochat_r1.video.backends import DEFAULT_BACKEND
from videochat_r1.video.decode import SamplingRequest
from videochat_r1.video.frames import VideoBudget, frame_size
from videochat_r1.video.probe import probe
from videochat_r1.video.sampling import time_grid

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
# The tiny recipe is for machines without a GPU and follows no table.
GRPO = sorted(path for path in (CONFIGS / "grpo").rglob("*.yaml") if not path.stem.startswith("tiny"))
SFT = sorted(path for path in (CONFIGS / "sft").rglob("*.yaml") if not path.stem.startswith("tiny"))

# Paper 3 and 4 and its released training setup: model, batch, sampling, loss, optimiser.
BOTH = {
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "max_grad_norm": 1.0,
    "bf16": True,
    "gradient_checkpointing": True,
    "max_steps": -1,
    "max_completion_length": 1024,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "seed": 42,
    "eval_strategy": "no",
    "logging_steps": 1,
    "report_to": ["tensorboard", "wandb"],
}
OF_GRPO = BOTH | {
    "learning_rate": 1e-6,
    "num_generations": 8,
    "prompts_per_step": 8,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "generation_kwargs": None,
    "loss_type": "grpo",
    "scale_rewards": "group",
    "multi_objective_aggregation": "sum_then_normalize",
    "importance_sampling_level": "token",
    "beta": 0.04,
    "use_bias_correction_kl": False,
    "sync_ref_model": False,
    "epsilon": 0.2,
    "epsilon_high": None,  # TRL then takes epsilon
    "delta": None,
    "num_iterations": 1,
    "mask_truncated_completions": False,
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "off_policy_mask_threshold": None,
    "use_vllm": False,
    "share_prompt": True,
    "dynamic_sampling_draws": 0,
    "skip_uninformative_groups": False,
}
OF_SFT = BOTH | {"learning_rate": 2e-5, "samples_per_step": 8}
# Video-R1's paper and its release's training scripts, where they say otherwise.
VIDEO_R1_GRPO = {
    "prompts_per_step": 4,
    "max_steps": 1000,
    "max_completion_length": 768,
    "top_p": 0.95,
    "top_k": 50,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.01,
    "max_grad_norm": 5.0,
    "save_strategy": "steps",
    "save_steps": 100,
    "per_device_train_batch_size": 8,  # one group
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}
VIDEO_R1_SFT = {
    "learning_rate": 1e-6,
    "max_grad_norm": 5.0,
    "save_strategy": "steps",
    "save_steps": 1000,
    "per_device_train_batch_size": 1,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
}
BUDGET = VideoBudget(fps=2.0, min_frames=4, max_frames=768, backend="pyav", timeout_seconds=60.0)
TOKENS = {"total_pixels": 3584, "min_pixels": 16, "max_pixels": 768}

GROUNDING = ("charades_sta", "temporal_grounding", 1)
TRACKING = ("got10k", "tracking", "all")
GROUNDED_QA = ("nextgqa", "grounded_qa", "all")
QA = ("nextgqa", "multi_choice_qa", "all")
QUALITY = ("vidtab_quality", "quality_assessment", "all")
CAPTIONS = ("carebench", "captioning", "all")
VIDEO_R1 = ("video_r1", None, "all")
# Recipe -> what the paper's row changes: mixture, epochs, thinking.
ROWS: dict[str, tuple[list[tuple[str, str | None, int | str]], float, bool]] = {
    "grpo/joint": ([GROUNDING, TRACKING, GROUNDED_QA], 1.0, False),
    "grpo/joint_thinking": ([GROUNDING, TRACKING, GROUNDED_QA], 1.0, True),
    "grpo/joint_qwen3_vl": ([GROUNDING, TRACKING, GROUNDED_QA], 1.0, False),
    "grpo/temporal_grounding": ([GROUNDING], 1.0, False),
    "grpo/tracking": ([TRACKING], 1.0, False),
    "grpo/grounded_qa": ([GROUNDED_QA], 1.0, False),
    "grpo/second_look": ([GROUNDED_QA], 1.0, False),
    "grpo/multi_choice_qa": ([QA], 1.0, False),
    "grpo/quality_assessment": ([QUALITY], 1.0, False),
    "grpo/captioning": ([CAPTIONS], 1.0, False),
    "grpo/ablations/table2_grounding_and_grounded_qa": ([GROUNDING, GROUNDED_QA], 1.0, False),
    "grpo/ablations/table3_three_epochs": ([GROUNDING], 3.0, False),
    "grpo/ablations/table3_thinking": ([GROUNDING], 1.0, True),
    "grpo/ablations/table5_clues_thinking": ([GROUNDED_QA], 1.0, True),
    "sft/joint": ([GROUNDING, TRACKING, GROUNDED_QA], 1.0, False),
    "sft/joint_qwen3_vl": ([GROUNDING, TRACKING, GROUNDED_QA], 1.0, False),
    "sft/temporal_grounding": ([GROUNDING], 1.0, False),
    "sft/tracking": ([TRACKING], 1.0, False),
    "sft/grounded_qa": ([GROUNDED_QA], 1.0, False),
    "sft/multi_choice_qa": ([QA], 1.0, False),
    "sft/quality_assessment": ([QUALITY], 1.0, False),
    "sft/captioning": ([CAPTIONS], 1.0, False),
    "sft/ablations/table3_three_epochs": ([GROUNDING], 3.0, False),
    "grpo/video_r1": ([VIDEO_R1], 1.0, True),
    "grpo/ablations/video_r1_without_temporal": ([VIDEO_R1], 1.0, True),
    "grpo/ablations/video_r1_without_images": ([VIDEO_R1], 1.0, True),
    "grpo/ablations/video_r1_without_cold_start": ([VIDEO_R1], 1.0, True),
    "sft/video_r1_cot": ([VIDEO_R1], 1.0, True),
}
MODELS = {
    "captioning": "Qwen/Qwen2-VL-7B-Instruct",
    "joint_qwen3_vl": "Qwen/Qwen3-VL-8B-Instruct",
    **dict.fromkeys(
        ["video_r1", "video_r1_without_temporal", "video_r1_without_images"], "Video-R1/Qwen2.5-VL-7B-COT-SFT"
    ),
}


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIGS).with_suffix(""))


def of_video_r1(path: Path) -> bool:
    return path.stem.startswith("video_r1")


def tasks_of(path: Path) -> set[str]:
    """All that a recipe's corpora have."""
    return {one for name, task, _ in ROWS[name_of(path)][0] for one in ([task] if task else CORPORA[name].tasks)}


@functools.cache
def resolve(path: Path, *flags: str) -> tuple[ModelArguments, DataArguments, Any]:
    """The recipe as a run gets it, on a machine without a GPU and without DeepSpeed, which would outlive the test."""
    config = VideoGRPOConfig if "grpo" in path.relative_to(CONFIGS).parts else VideoSFTConfig
    arguments = ["--config", str(path), "--use_cpu", "true", "--deepspeed", "", *flags]
    model, data, args = parse_recipe([ModelArguments, DataArguments, config], arguments)
    return model, data, args


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def test_every_recipe_has_its_row() -> None:
    assert sorted(map(name_of, GRPO + SFT)) == sorted(ROWS)


@pytest.mark.parametrize("path", GRPO + SFT, ids=name_of)
def test_recipe_pins_the_papers_values(path: Path) -> None:
    expected = OF_GRPO if path in GRPO else OF_SFT
    if of_video_r1(path):
        expected = expected | (VIDEO_R1_GRPO if path in GRPO else VIDEO_R1_SFT)
    model, data, args = resolve(path)
    found = {name: getattr(args, name) for name in expected}
    assert found == expected
    assert str(args.optim) in {"adamw_torch_fused", "OptimizerNames.ADAMW_TORCH_FUSED"}
    assert model.model_name_or_path == MODELS.get(path.stem, "Qwen/Qwen2.5-VL-7B-Instruct")
    assert (model.freeze_vision_tower, model.lora) == (False, None), "full fine-tuning"
    side = 32 if "Qwen3" in model.model_name_or_path else 28
    budget = replace(BUDGET, **{name: number * side**2 for name, number in TOKENS.items()})
    if of_video_r1(path):
        limits = {"total_pixels": int(128000 * 28 * 28 * 0.9), "min_pixels": 128 * 28 * 28, "max_pixels": 128 * 28 * 28}
        budget = replace(BUDGET, max_frames=16, **limits)
    config = published_config(model.model_name_or_path)
    assert config is not None and family_of(config).token_side(config) == side
    assert vars(data.budget().sized(side)) == vars(replace(budget, num_threads=data.budget().num_threads))
    assert (data.prompt_layout, data.prompts) == ("video_first", None)
    assert data.max_prompt_length == (16384 if of_video_r1(path) else 8192)
    pictures = {"min_pixels": 4 * 28 * 28, "max_pixels": 256 * 28 * 28}
    assert data.picture_budget().stated() == (pictures if of_video_r1(path) else None)
    zero = "zero2" if path.stem == "video_r1_cot" else "zero3"
    assert read_recipe(path, "grpo").values["deepspeed"] == f"configs/deepspeed/{zero}.json"


@pytest.mark.parametrize("path", GRPO, ids=name_of)
def test_bonuses_are_those_of_video_r1(path: Path) -> None:
    _, _, args = resolve(path)
    temporal = temporal_contrast(args.temporal_contrast, args.num_generations)
    length = length_bonus(args.length_bonus, args.num_generations, args.max_completion_length)
    if not of_video_r1(path):
        assert (temporal, length) == (None, None)
        return
    assert length is not None
    assert (length.bonus, length.min_tokens, length.max_tokens, length.min_correct) == (0.2, 320, 512, 2)
    assert length.correct_above == 0.1
    if path.stem.endswith("without_temporal"):
        assert temporal is None
        return
    assert temporal is not None
    found = (temporal.bonus, temporal.factor, temporal.correct_above, temporal.compare, temporal.shuffled_generations)
    assert found == (0.3, 0.8, 0.1, "mean", 4), "the release's, whose numbers are published"


@pytest.mark.parametrize(
    ("path", "samples"), [(path, 116248 if "images" in path.stem else 263071) for path in GRPO if of_video_r1(path)]
)
def test_the_learning_rate_of_video_r1_is_the_begin_of_an_epochs_cosine(path: Path, samples: int) -> None:
    _, data, args = resolve(path)
    (entry,) = [MixtureEntry.from_dict(entry) for entry in data.mixture]  # type: ignore[arg-type]
    assert entry.shows == ("video" if "images" in path.stem else None)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=args.learning_rate)
    scheduler = get_scheduler(
        args.lr_scheduler_type, optimizer, args.warmup_steps, args.max_steps, args.lr_scheduler_kwargs
    )
    rate = scheduler.lr_lambdas[0](1000)
    assert rate == pytest.approx(0.5 * (1 + math.cos(math.pi * 1000 / math.ceil(samples / 4))), abs=1e-8)
    assert samples != 263071 or rate == pytest.approx(0.9994, abs=5e-5)


def test_four_processes_make_video_r1s_updates_as_its_release_does() -> None:
    assert resolve(CONFIGS / "sft" / "video_r1_cot.yaml")[2].accumulation(4) == 2
    assert resolve(CONFIGS / "grpo" / "video_r1.yaml")[2].accumulation(4) == 1


@pytest.mark.parametrize("path", [path for path in GRPO + SFT if of_video_r1(path)], ids=name_of)
def test_a_recipe_of_video_r1_can_be_estimated_and_read(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["estimate", "--config", str(path), "--json"]) == 0
    update = json.loads(capsys.readouterr().out)["update"]
    assert (update["prompts"], update["video_tokens"]) == (8 if path in SFT else 4, 1040)
    shown = {"video": "./STAR/1.mp4", "image": "./Math/GEOS/1.png"}
    rows = [
        {"problem_id": number, "data_type": kind, "problem_type": "numerical", "problem": "How many?", "options": []}
        | {"solution": "<answer>2</answer>", "path": file, "data_source": "", "process": "<think>Two.</think>"}
        for number, (kind, file) in enumerate(shown.items())
    ]
    _, data, args = resolve(path, "--data_root", str(tmp_path))
    (tmp_path / "video_r1").mkdir()
    (tmp_path / str(data.mixture[0]["annotations"])).write_text(json.dumps(rows))  # type: ignore[index]
    samples = data.load_mixture(args.seed).samples(0)
    assert {sample.source for sample in samples} == ({"STAR"} if "images" in path.stem else {"STAR", "GEOS"})
    assert str(tmp_path / "video_r1" / "STAR" / "1.mp4") in {file for sample in samples for file in sample.media.files}
    assert {why_unfit(sample, thinking=data.thinking) for sample in samples} == {None}


def test_a_frame_of_video_r1_has_the_pixels_of_its_release() -> None:
    budget = resolve(CONFIGS / "grpo" / "video_r1.yaml")[1].budget()
    for width, height in ((1920, 1080), (640, 480), (320, 240), (100, 400)):
        for num_frames in (4, 10, 16):
            limits = {"min_pixels": 128 * 28 * 28, "max_pixels": int(1.05 * 128 * 28 * 28)}
            assert frame_size(width, height, num_frames, budget, 28)[::-1] == smart_resize(height, width, 28, **limits)
    assert frame_size(640, 480, 16, budget, 28) == (364, 280), "130 tokens of a pair of frames"
    assert frame_size(320, 240, 16, budget, 28) == (392, 280), "enlarged"
    assert len(time_grid(5.0, budget.fps, budget.min_frames, budget.max_frames).times) == 10
    assert len(time_grid(600.0, budget.fps, budget.min_frames, budget.max_frames).times) == 16


def test_the_video_reader_is_chosen_in_one_place() -> None:
    asked = argparse.ArgumentParser()
    add_prompting(asked)
    defaults = {
        DEFAULT_BACKEND,
        VideoBudget().backend,
        SamplingRequest(Video(path="a.mp4")).backend,
        inspect.signature(probe).parameters["backend"].default,
        asked.parse_args([]).video_backend,
    }
    assert defaults == {"pyav"}
    named = re.compile(r"^\W*(video_)?backend\s*:", re.MULTILINE)
    assert [path for path in CONFIGS.rglob("*.yaml") if named.search(path.read_text())] == []


@pytest.mark.parametrize("path", GRPO, ids=name_of)
def test_recipe_states_what_trl_could_change(path: Path) -> None:
    """A value that equals TRL's default today still has to stand in a file, so that an upgrade cannot move it."""
    not_pinned = (OF_GRPO.keys() - {"generation_kwargs"}) - read_recipe(path, "grpo").values.keys()
    assert not not_pinned


@pytest.mark.parametrize("path", GRPO + SFT, ids=name_of)
def test_recipe_changes_only_what_its_row_says(path: Path) -> None:
    corpora, epochs, thinking = ROWS[name_of(path)]
    _, data, args = resolve(path)
    entries = [MixtureEntry.from_dict(entry) for entry in data.mixture]  # type: ignore[arg-type]
    assert [(entry.dataset, entry.task, entry.queries_per_video) for entry in entries] == corpora
    assert all(entry.weight == 1.0 and entry.max_samples is None for entry in entries)
    assert tasks_of(path) <= {task for entry in entries for task in CORPORA[str(entry.dataset)].tasks}
    assert (args.num_train_epochs, data.thinking) == (epochs, thinking)
    assert args.output_dir == f"outputs/{path.relative_to(CONFIGS).parts[0]}/{path.stem}"


@pytest.mark.parametrize("path", GRPO, ids=name_of)
def test_rewards_are_those_of_the_tasks_with_weight_one(path: Path) -> None:
    _, _, args = resolve(path)
    rewards, weights = load_rewards(args.rewards)
    used = {name for task in tasks_of(path) for name in TASKS[task].reward_names}
    assert [entry["name"] for entry in args.rewards] == [name for name in REWARDS if name in used]
    assert weights == [1.0] * len(rewards)


@pytest.mark.parametrize("path", GRPO, ids=name_of)
def test_one_recipe_looks_again_as_clue_perception_does(path: Path) -> None:
    _, _, args = resolve(path)
    looks = args.several_looks()
    assert (looks is None) == (path.stem != "second_look")
    assert looks is None or (looks == SecondLook() and looks.clues == ClueOptions())


@pytest.mark.parametrize("path", GRPO, ids=name_of)
def test_a_judge_is_named_where_captions_are_rewarded(path: Path) -> None:
    _, _, args = resolve(path)
    config = args.judge_config()
    assert (config is not None) == (path.stem == "captioning")
    assert config is None or config.model == "Qwen/Qwen2.5-72B-Instruct", "the paper's"


@pytest.mark.parametrize("path", GRPO, ids=name_of)
def test_as_many_prompts_an_update_on_any_number_of_gpus(path: Path) -> None:
    _, _, args = resolve(path)
    prompts = 4 if of_video_r1(path) else 8
    counts = [processes for processes in (1, 2, 4, 8) if processes <= prompts]
    assert [args.accumulation(processes) for processes in counts] == [prompts // processes for processes in counts]
    with pytest.raises(ConfigError, match=rf"prompts_per_step={prompts}\. nearest that can: 4 processes"):
        args.accumulation(3)


def test_mixture_of_videochat_r1_is_the_papers_18k(shared_dir: Path) -> None:
    """Where the real files are: 5,338 videos of Charades-STA and 3,358 questions of NExT-GQA, as published."""
    _, data, args = resolve(CONFIGS / "grpo" / "joint.yaml", "--data_root", str(shared_dir / "annotations"))
    data.mixture = [{**entry, "videos": None} for entry in data.mixture if entry["dataset"] != "got10k"]  # type: ignore[union-attr]
    counts = [summary.chosen for summary in data.load_mixture(args.seed).summaries]
    assert counts == [5338, 3358]
    assert sum(counts) + 9335 == 18031


@pytest.mark.parametrize("name", ["zero3", "zero3_offload", "zero2"])
def test_deepspeed_files_leave_the_batch_to_the_recipe(name: str) -> None:
    config = json.loads((CONFIGS / "deepspeed" / f"{name}.json").read_text())
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        assert config[key] == "auto"
    assert config["gradient_clipping"] == "auto" and config["bf16"]["enabled"] == "auto"
    # An optimizer or scheduler here would silently replace the recipe's; DeepSpeed's own would also need a compiler.
    assert "optimizer" not in config and "scheduler" not in config
    stage = config["zero_optimization"]
    assert stage["stage"] == (2 if name == "zero2" else 3)
    assert ("offload_optimizer" in stage) == ("offload_param" in stage) == (name == "zero3_offload")
    if stage["stage"] == 3:
        assert stage["stage3_gather_16bit_weights_on_model_save"] is True


def test_every_recipe_is_used_by_a_script_or_named_in_one() -> None:
    scripts = "\n".join(path.read_text() for path in sorted((ROOT / "training_scripts").glob("*.sh")))
    named = set(re.findall(r"configs/((?:grpo|sft)/[\w/]+)\.yaml", scripts))
    assert named >= set(ROWS)
    assert all((CONFIGS / f"{name}.yaml").is_file() for name in named)
