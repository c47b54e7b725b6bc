"""Every benchmark has a script whose command line the program takes, and every evaluation recipe can be read."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from videochat_r1.commands.eval import parse
from videochat_r1.evaluation.benchmarks import BENCHMARKS

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "eval_scripts"


def dry_run(script: str, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    command = ["bash", str(SCRIPTS / script), "--dry-run", *flags]
    return subprocess.run(
        command, env={**environment, "NUM_GPUS": "2", **variables}, capture_output=True, text=True, check=False
    )


def arguments_of(line: str) -> list[str]:
    words = shlex.split(line)
    flags = words[words.index("eval") + 1 :]
    return [str(ROOT / word) if word.startswith("configs/") else word for word in flags]


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_every_benchmark_has_a_script(name: str, tmp_path: Path) -> None:
    done = dry_run(f"{name}.sh", "--limit", "3", MODEL="some/model", DATA=str(tmp_path), OUTPUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "torchrun" in done.stdout and "--nproc_per_node 2" in done.stdout
    arguments = parse(arguments_of(done.stdout))
    assert arguments.benchmark == name and arguments.model == "some/model" and arguments.limit == 3
    assert arguments.annotations.is_relative_to(tmp_path) and arguments.output.parent == tmp_path / "out"
    assert arguments.thinking is False and arguments.temperature == 0.0
    benchmark = BENCHMARKS[name]
    assert arguments.subset in benchmark.subsets and arguments.task in (None, *benchmark.tasks)


def test_variables_of_the_scripts(tmp_path: Path) -> None:
    done = dry_run("videomme.sh", MODEL="m", SUBSET="short", SUBTITLES="true", THINKING="true", NUM_GPUS="0")
    arguments = parse(arguments_of(done.stdout))
    assert arguments.subset == "short" and arguments.subtitles is not None and arguments.thinking is True
    assert arguments.output.name == "videomme_short_subtitles" and arguments.output.parent.name == "m-thinking"
    assert arguments.device == "cpu" and arguments.dtype == "float32"
    done = dry_run("nextgqa.sh", MODEL="m", TASK="multi_choice_qa")
    assert parse(arguments_of(done.stdout)).output.name == "nextgqa_multi_choice_qa"
    (tmp_path / "charades_sta").mkdir()
    (tmp_path / "charades_sta" / "train.json").write_text("{}")
    done = dry_run("charades_sta.sh", MODEL="m", DATA=str(tmp_path))
    assert parse(arguments_of(done.stdout)).train_annotations == tmp_path / "charades_sta" / "train.json"


def test_what_is_missing_is_named() -> None:
    assert "set MODEL" in dry_run("mvbench.sh").stderr
    assert "THINKING is 'maybe'" in dry_run("mvbench.sh", MODEL="m", THINKING="maybe").stderr
    assert "no nothing.sh" in dry_run("all.sh", MODEL="m", BENCHMARKS="nothing").stderr


def test_all_runs_the_benchmarks_of_table_1() -> None:
    done = dry_run("all.sh", MODEL="m")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "torchrun" in line]
    names = [parse(arguments_of(line)).output.name for line in lines]
    expected = "charades_sta activitynet nextgqa got10k videomme_short mvbench perception_test"
    assert names == expected.split()


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "eval").glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_sample_videos_as_training_does(path: Path) -> None:
    flags = ["--benchmark", "charades_sta", "--annotations", "a", "--model", "m", "--output", "o"]
    arguments = parse(["--config", str(path), *flags])
    assert arguments.thinking is (path.stem == "thinking")
    video = yaml.safe_load((ROOT / "configs" / "grpo" / "joint.yaml").read_text())["video"]
    for name in ("fps", "min_frames", "max_frames", "total_pixels", "min_pixels", "max_pixels"):
        assert getattr(arguments, name) == video[name], name
    stated = set(yaml.safe_load(path.read_text()))
    decoding = {"max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"}
    assert decoding <= stated
