"""Every benchmark has a script whose command line the program takes, and every evaluation recipe can be read."""

import argparse
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from videochat_r1.commands.eval import parse
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.evaluation.reports.paper_tables import TABLES
from videochat_r1.recipe_file import read_recipe

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


def all_of(*flags: str, **variables: str) -> list[argparse.Namespace]:
    """What all.sh would run."""
    done = dry_run("all.sh", *flags, MODEL="m", **variables)
    assert done.returncode == 0, done.stderr
    return [parse(arguments_of(line)) for line in done.stdout.splitlines() if "torchrun" in line]


def test_all_runs_the_benchmarks_of_a_table(tmp_path: Path) -> None:
    names = (
        "charades_sta activitynet nextgqa got10k videomme_short mvbench perception_test lvbench mlvu_multiple-choice"
    )
    assert [one.output.name for one in all_of()] == names.split()
    found = all_of("--table", "video_r1", "--limit", "2", DATA=str(tmp_path), OUTPUT=str(tmp_path / "out"))
    columns = [column.benchmark for column in TABLES["video_r1"].columns]
    places = [str(one.output.relative_to(tmp_path / "out")) for one in found]
    assert places == [f"{frames}_frames/{name}" for name in columns for frames in (16, 32, 64)]
    assert {one.annotations for one in found} == {one.videos for one in found} == {tmp_path / "video_r1_eval"}
    assert [one.max_frames for one in found[:3]] == [16, 32, 64] and {one.max_pixels for one in found} == {
        256 * 28 * 28
    }
    assert {(one.thinking, one.limit, one.subset) for one in found} == {(True, 2, "all")}
    (one,) = all_of("--table", "video_r1", BENCHMARKS="mmvu", FRAMES="8")
    assert one.max_frames == 8 and one.output.parts[-3:] == ("m-video_r1", "8_frames", "mmvu")
    assert "--table is 'x'" in dry_run("all.sh", "--table", "x", MODEL="m").stderr
    assert "FRAMES is 'x'" in dry_run("mmvu.sh", MODEL="m", FRAMES="x").stderr


def test_what_did_not_run_is_named_and_stands_in_the_table(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    given = {"MODEL": str(tmp_path), "DATA": str(tmp_path), "OUTPUT": str(tmp_path / "out"), "NUM_GPUS": "none"}
    command = ["bash", str(SCRIPTS / "all.sh"), "--table", "video_r1"]
    done = subprocess.run(command, env=environment | given, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not finished: vsi_bench (16 frames) vsi_bench (32 frames)" in done.stderr
    ours = [line for line in done.stdout.splitlines() if line.startswith(tmp_path.name)]
    assert [line.split()[1:] for line in ours] == [[frames, *["not", "run"] * 6] for frames in ("16", "32", "64")]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "eval").glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_sample_videos_as_training_does(path: Path) -> None:
    flags = ["--benchmark", "charades_sta", "--annotations", "a", "--model", "m", "--output", "o"]
    arguments = parse(["--config", str(path), *flags])
    assert arguments.thinking is (path.stem != "direct")
    video = yaml.safe_load((ROOT / "configs" / "grpo" / "joint.yaml").read_text())["video"]
    if path.stem == "video_r1":
        tokens = {"min_pixels": 128, "max_pixels": 256, "total_pixels": 115_200}
        video |= {name: count * 28 * 28 for name, count in tokens.items()} | {"max_frames": 16}
    for name in ("fps", "min_frames", "max_frames", "total_pixels", "min_pixels", "max_pixels"):
        assert getattr(arguments, name) == video[name], name
    stated = set(read_recipe(path, "eval").values)
    decoding = {"max_new_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"}
    assert decoding <= stated
