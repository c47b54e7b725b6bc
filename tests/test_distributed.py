"""DeepSpeed ZeRO-3 for real: two CPU processes through the launch script against one plain process."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
import yaml

from tests.tiny_runs import logged_rollouts, write_train_manifest
from videochat_r1.commands.grpo import main as grpo_command
from videochat_r1.grpo import looks
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.load import load_model
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.tasks import TASKS

STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("distributed")
    for family in FAMILIES:
        build_tiny(path / family, hidden=64, layers=2, vision_hidden=32, family=family)
    write_train_manifest(path, pictures=12)
    (path / "noisy_reward.py").write_text(
        "import os\n"
        "def vary(completions, **columns):\n"
        "    return [(sum(map(ord, text)) % 97) / 97 for text in completions]\n"
        "def fail_on_rank_1(completions, **columns):\n"
        "    if os.environ['RANK'] == '1':\n"
        "        raise RuntimeError('the second rank has had enough')\n"
        "    return [0.0] * len(completions)\n"
    )
    # Imported as a reward module, so that in every process an untrained model's letters name clues.
    (path / "letters.py").write_text(
        "from noisy_reward import vary\n"
        "from videochat_r1.geometry import Span\n"
        "from videochat_r1.grpo import looks\n"
        "from videochat_r1.second_look.question import Reading\n"
        "def read(completion, sample, look):\n"
        "    number = sum(map(ord, completion))\n"
        "    return Reading(None, () if number % 3 == 0 else (Span(0.2 + 0.5 * (number % 2), 1.1),))\n"
        "looks.read = read\n"
    )
    kept = [
        line for line in (path / "train.jsonl").read_text().splitlines() if json.loads(line)["task"] == "grounded_qa"
    ]
    others = [line for line in (path / "train.jsonl").read_text().splitlines() if "images" in json.loads(line)]
    (path / "questions.jsonl").write_text("\n".join([*kept, *others[: len(kept)]]) + "\n")
    return path


def recipe(folder, name, **changes):
    """A recipe file whose learning rate is large enough to move the weights by far more than rounding."""
    options = {
        "model_name_or_path": str(folder / DEFAULT_FAMILY),
        "data_root": str(folder),
        "mixture": [{"manifest": "train.jsonl", "videos": "."}],
        "video": {"fps": 3.0, "max_frames": 16, "min_pixels": 784, "max_pixels": 3136},
        "rewards": [{"name": "format"}, {"name": "iou"}, {"name": "accuracy"}, {"name": "noisy_reward:vary"}],
        "temporal_contrast": {"accuracy": ["vary"], "shuffled_generations": 3, "correct_above": 0.4},
        "length_bonus": {"accuracy": ["vary"], "min_tokens": 1, "max_tokens": 6, "correct_above": 0.4},
        "output_dir": str(folder / name),
        "prompts_per_step": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": STEPS,
        "learning_rate": 1.0e-2,
        "optim": "sgd",  # Adam would amplify rounding where gradients are nearly zero
        "beta": 0.04,
        "loss_type": "grpo",
        "use_bias_correction_kl": False,
        "scale_rewards": "task_ema",
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 2,
        "report_to": [],
        "disable_tqdm": True,
        "seed": 4,
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(options))
    return path


def launch(folder, project_root, config, processes, deepspeed, *, flags=(), wait=True):
    """The ended process; with `wait` false the running one, in a process group of its own."""
    command = ["bash", "training_scripts/launch.sh", "grpo", str(config), "--deepspeed", deepspeed, *flags]
    environment = {
        **os.environ,
        "NUM_GPUS": "0",
        "NUM_PROCESSES": str(processes),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(folder),
    }
    options = {"cwd": project_root, "env": environment, "text": True}
    if wait:
        return subprocess.run(command, **options, capture_output=True, timeout=240, check=False)
    return subprocess.Popen(command, **options, stderr=subprocess.PIPE, process_group=0)


@pytest.fixture(scope="module")
def zero3_run(folder, project_root):
    result = launch(folder, project_root, recipe(folder, "zero3"), 2, "configs/deepspeed/zero3.json")
    assert result.returncode == 0, result.stderr[-4000:]
    return folder / "zero3"


@pytest.fixture(scope="module")
def plain_run(folder):
    return in_this_process(folder, recipe(folder, "plain"))


def in_this_process(folder, config):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(looks, "read", looks.read)
        assert grpo_command(["--config", str(config), "--deepspeed", "none", "--use_cpu", "true"]) == 0
    return config.with_suffix("")


def weights(path):
    return load_model(path, dtype=torch.float32).state_dict()


def relative_difference(a, b, start):
    """Norm of the difference relative to how far training moved the weights."""
    apart = sum((a[name] - b[name]).double().pow(2).sum() for name in a).sqrt()
    moved = sum((a[name] - start[name]).double().pow(2).sum() for name in a).sqrt()
    assert moved > 1e-3
    return float(apart / moved)


def history(path, key):
    state = json.loads((path / "trainer_state.json").read_text())
    return [float(entry[key]) for entry in state["log_history"] if key in entry]


def completions(path):
    """By place in the run, each with how right its group is with the frames shuffled."""
    rows = logged_rollouts(path)
    return {
        (row["step"], row["sample_id"], row["generation"]): (row["completion"], row.get("shuffled_accuracy"))
        for row in rows
    }


def assert_same_updates(run, other, start):
    for name in ("rewards/temporal/mean", "rewards/length_bonus/mean", "temporal_contrast/fired"):
        assert history(run, name) == pytest.approx(history(other, name)), name
    deviations = [{task: history(folder, f"task_ema/{task}") for task in TASKS} for folder in (run, other)]
    assert deviations[0] == deviations[1], "to the last bit"
    assert sum(map(bool, deviations[0].values())) > 1
    assert history(run, "grad_norm") == pytest.approx(history(other, "grad_norm"), rel=1e-4)
    assert relative_difference(weights(other), weights(run), weights(start)) < 1e-4


def test_the_ranks_are_shown_a_video_and_pictures_in_both_orders(zero3_run):
    shown = {}
    for row in logged_rollouts(zero3_run):
        shown.setdefault(row["step"], []).append("images" in row)
    assert [True] * 4 + [False] * 4 in shown.values() and [False] * 4 + [True] * 4 in shown.values()


def test_two_processes_draw_the_same_completions_as_one(zero3_run, plain_run):
    assert completions(zero3_run) == completions(plain_run)
    assert len(completions(plain_run)) == STEPS * 2 * 4
    assert {shuffled is None for _, shuffled in completions(plain_run).values()} == {True, False}


def test_two_processes_make_the_same_updates_as_one(zero3_run, plain_run, folder):
    assert_same_updates(zero3_run, plain_run, folder / DEFAULT_FAMILY)


@pytest.mark.parametrize("family", ["qwen3_vl"])
def test_two_processes_with_another_family_a_frozen_tower_and_several_looks(family, folder, project_root):
    """Every prompt's features are computed once, gathered over the ranks' shards of the tower, and the ranks have different
    numbers of second looks."""
    changes = {"model_name_or_path": str(folder / family), "freeze_vision_tower": True, "save_strategy": "no"}
    changes |= {"gradient_checkpointing": True, "max_steps": 3, "temporal_contrast": None}
    changes |= {"mixture": [{"manifest": "questions.jsonl", "videos": "."}]}
    changes |= {"rewards": [*({"name": name} for name in ("format", "iou", "accuracy")), {"name": "letters:vary"}]}
    changes |= {"second_look": {"padding": 0.1, "credit": {"answer": ["vary"], "share": 0.5}}}
    config = recipe(folder, f"zero3_{family}", **changes)
    result = launch(folder, project_root, config, 2, "configs/deepspeed/zero3.json")
    assert result.returncode == 0, result.stderr[-4000:]
    plain = in_this_process(folder, recipe(folder, f"plain_{family}", **changes))
    assert completions(folder / f"zero3_{family}") == completions(plain)
    looks_of = {}
    for row in logged_rollouts(plain):
        looks_of.setdefault((row["step"], row["sample_id"]), []).append(len(row.get("looks", ())))
    assert {step for step, _ in looks_of} == {1, 2, 3} and len({sum(counts) for counts in looks_of.values()}) > 2
    assert_same_updates(folder / f"zero3_{family}", plain, folder / family)


def test_a_zero3_run_resumes_from_its_checkpoint(zero3_run, folder, project_root):
    resumed = folder / "resumed"
    shutil.copytree(zero3_run / "checkpoint-2", resumed / "checkpoint-2")
    result = launch(folder, project_root, recipe(folder, "resumed"), 2, "configs/deepspeed/zero3.json")
    assert result.returncode == 0, result.stderr[-4000:]
    assert relative_difference(weights(zero3_run), weights(resumed), weights(folder / DEFAULT_FAMILY)) < 1e-6


@pytest.mark.parametrize(
    ("processes", "deepspeed", "said"),
    [
        (2, "configs/deepspeed/zero3.json", None),
        (1, "none", "num_processes was 2, is 1; zero_stage was 3, is None"),
    ],
)
def test_a_finished_zero3_run_is_left_alone_in_any_layout(zero3_run, folder, project_root, processes, deepspeed, said):
    before = {path: path.stat().st_mtime_ns for path in zero3_run.rglob("*") if path.name != "run.lock"}
    flags = () if said is None else ("--resume_changed", "true")
    result = launch(folder, project_root, folder / "zero3.yaml", processes, deepspeed, flags=flags)
    if said is None:
        assert result.returncode == 0 and "finished run of 3 updates; nothing to do" in result.stderr
    else:
        assert result.returncode == 2, result.stderr[-4000:]
        told = [line for line in result.stderr.splitlines() if line.startswith("videochat-r1 grpo: ")]
        assert len(told) == 1 and said in told[0] and "cannot go on with another" in told[0]
        assert "Traceback" not in result.stderr
    assert {path: path.stat().st_mtime_ns for path in zero3_run.rglob("*") if path.name != "run.lock"} == before


def test_ctrl_c_ends_all_ranks_without_a_traceback_and_says_how_to_go_on(folder, project_root):
    config = recipe(folder, "stopped", max_steps=500, save_steps=1)
    run = launch(folder, project_root, config, 2, "none", wait=False)
    deadline = time.monotonic() + 200
    while not (folder / "stopped" / "checkpoint-1" / "complete.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)  # as the terminal does
    said = run.communicate(timeout=100)[1]
    assert run.returncode == 130, said[-4000:]
    assert "Traceback" not in said
    told = [line for line in said.splitlines() if "interrupted" in line]
    assert len(told) == 1 and "; the same command goes on from checkpoint-" in told[0]


def test_a_rank_that_raises_stops_all_with_its_reason(folder, project_root):
    config = recipe(folder, "failing", rewards=[{"name": "noisy_reward:vary"}, {"name": "noisy_reward:fail_on_rank_1"}])
    begin = time.monotonic()
    result = launch(folder, project_root, config, 2, "configs/deepspeed/zero3.json")
    assert result.returncode != 0
    reason = "rank 1 stops the run: RuntimeError: the second rank has had enough"
    assert reason in result.stderr, result.stderr[-6000:]
    assert time.monotonic() - begin < 120  # most of it start-up; 60 s are allowed from the exception on
