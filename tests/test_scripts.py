"""The bash scripts: what they would run, what they say when something is missing, and that CI and pre-commit agree."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
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
TOOLS = (*TOOLS, "rm", "mkdir", "flock", "sha256sum", "python3", "head", "ln")
# What a test of launch.sh must not inherit from the shell that runs it.
OURS = {"MODEL", "DATA", "OUTPUT", "NUM_GPUS", "NUM_PROCESSES", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}
OURS |= {"CUDA_VISIBLE_DEVICES", "PYTHONPATH", "OMP_NUM_THREADS", "TORCH_BACKEND"}


@pytest.fixture(scope="module", autouse=True)
def eight_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What these tests start sees a node of as many GPUs as the variable GPUS says (8), whatever machine this is."""
    folder = tmp_path_factory.mktemp("gpus")
    (folder / "nvidia-smi").write_text(
        "#!/bin/sh\nfor i in $(seq 0 $((${GPUS:-8} - 1))); do\n"
        'echo "GPU $i: NVIDIA A100 (UUID: GPU-$i)"\necho "  MIG 1g.10gb Device 0: (UUID: MIG-$i)"\ndone\n'
        "[ ${GPUS:-8} -gt 0 ] || { echo No devices found.; exit 6; }\n"
    )
    (folder / "nvidia-smi").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield


def run(command: list[str], *, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | variables
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def environment_and_command(
    script: str, *flags: str, cwd: Path = ROOT, folder: str = "training_scripts", **variables: str
) -> tuple[dict[str, str], list[str]]:
    """What a script would start: the variables that it sets, and the command."""
    result = run(["bash", str(ROOT / folder / script), *flags, "--dry-run"], cwd=cwd, **variables)
    assert result.returncode == 0, result.stderr
    env, *words = shlex.split(result.stdout)
    assert env == "env"
    start = next(position for position, word in enumerate(words) if word.startswith(".venv/"))
    return dict(word.split("=", 1) for word in words[:start]), words[start:]


def planned(script: str, *flags: str, cwd: Path = ROOT, **variables: str) -> list[str]:
    """The command that a script would start."""
    return environment_and_command(script, *flags, cwd=cwd, **variables)[1]


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


@pytest.mark.parametrize("folder", ["training_scripts", "eval_scripts"])
@pytest.mark.parametrize(
    ("variables", "taken"),
    [
        ({}, "0,1,2,3,4,5,6,7"),
        ({"GPUS": "2"}, "0,1"),
        ({"NUM_GPUS": "2"}, "0,1"),
        ({"NUM_GPUS": "1"}, "0"),
        ({"NUM_GPUS": "0"}, ""),
        ({"NUM_GPUS": "0", "GPUS": "0"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "4,2, 7"}, "4,2,7"),
        ({"CUDA_VISIBLE_DEVICES": "4,2,7", "NUM_GPUS": "2"}, "4,2"),
        ({"CUDA_VISIBLE_DEVICES": "3,-1,5"}, "3"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-5d,GPU-7e", "NUM_GPUS": "1"}, "GPU-5d"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-5d/1/0"}, "MIG-5d/1/0"),
        ({"CUDA_VISIBLE_DEVICES": "5,6", "GPUS": "0"}, "5,6"),
    ],
    ids=lambda value: str(value) or "none",
)
def test_a_run_takes_its_gpus_and_sees_no_other(folder: str, variables: dict[str, str], taken: str) -> None:
    script = "grpo_tracking.sh" if folder == "training_scripts" else "mvbench.sh"
    environment, command = environment_and_command(script, folder=folder, MODEL="m", **variables)
    assert environment["CUDA_VISIBLE_DEVICES"] == taken
    processes = int(value(command, "--nproc_per_node")) if "--nproc_per_node" in command else 1
    assert processes == len(taken.split(","))


def test_one_process_without_deepspeed_sees_one_gpu() -> None:
    environment, command = environment_and_command("grpo_tracking.sh", "--deepspeed", "none", NUM_GPUS="1")
    assert environment["CUDA_VISIBLE_DEVICES"] == "0" and command[0] == ".venv/bin/python"


@pytest.mark.parametrize("script", ["training_scripts/grpo_tracking.sh", "eval_scripts/mvbench.sh"])
@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"GPUS": "0"}, "no GPU was found"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "no GPU was found (CUDA_VISIBLE_DEVICES=''"),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, "no GPU was found"),
        ({"CUDA_VISIBLE_DEVICES": "", "NUM_GPUS": "1"}, "0 can be seen here (CUDA_VISIBLE_DEVICES='')"),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "NUM_GPUS": "4"}, "NUM_GPUS=4, but 2 can be seen"),
        ({"CUDA_VISIBLE_DEVICES": "0,8"}, "names GPU 8, but this node has 8: 0 to 7"),
        ({"CUDA_VISIBLE_DEVICES": "1,1"}, "names 1 twice"),
        ({"NUM_GPUS": "9"}, "NUM_GPUS=9, but 8 can be seen"),
        ({"NUM_GPUS": "-1"}, "NUM_GPUS must be a whole number"),
        ({"NUM_GPUS": "08"}, "NUM_GPUS must be a whole number"),
        ({"NUM_GPUS": "99999999999999999999"}, "NUM_GPUS must be a whole number"),
    ],
    ids=str,
)
def test_gpus_that_are_not_there_are_refused(script: str, variables: dict[str, str], reason: str) -> None:
    result = run(["bash", str(ROOT / script), "--dry-run"], MODEL="m", **variables)
    assert result.returncode == 2 and reason in result.stderr and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "written", ["none", "null", "~", "''", '""', "", '"none"', "'null' # a comment", "none  # one"]
)
def test_a_recipe_without_deepspeed_is_started_without_it(tmp_path: Path, written: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"learning_rate: 1e-6\ndeepspeed: {written}\n")
    environment, command = environment_and_command("launch.sh", "grpo", "mine.yaml", cwd=tmp_path, NUM_GPUS="1")
    assert value(command, "--deepspeed") == "" and "ACCELERATE_USE_DEEPSPEED" not in environment


def test_a_quoted_deepspeed_file_is_read_as_yaml_does(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text('deepspeed: "configs/deep speed/a#b.json" # a comment\n')
    assert (
        value(planned("launch.sh", "grpo", "mine.yaml", cwd=tmp_path), "--deepspeed") == "configs/deep speed/a#b.json"
    )


def test_a_reward_of_the_callers_own_is_found(tmp_path: Path) -> None:
    """In the folder that the script was started from, and beside the recipe."""
    here, beside = tmp_path / "here it is", tmp_path / "beside"
    for folder, name in ((here, "shorter"), (beside, "longer")):
        folder.mkdir()
        (folder / f"{name}.py").write_text("def reward(completions, **columns):\n    return [0.0] * len(completions)\n")
    (beside / "mine.yaml").write_text("deepspeed: null\n")
    environment, _ = environment_and_command("launch.sh", "grpo", "../beside/mine.yaml", cwd=here, PYTHONPATH="/before")
    assert environment["PYTHONPATH"] == f"{here}:{beside}:/before"
    program = "from videochat_r1.rewards import REWARDS; REWARDS['shorter:reward'], REWARDS['longer:reward']"
    found = run([str(ROOT / ".venv/bin/python"), "-c", program], PYTHONPATH=environment["PYTHONPATH"])
    assert found.returncode == 0, found.stderr
    ours, _ = environment_and_command("grpo_tracking.sh", cwd=ROOT)
    assert "PYTHONPATH" not in ours


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
        ([], {"NUM_GPUS": "2", "NUM_PROCESSES": "4"}, "one process for each"),
        ([], {"NNODES": "2", "MASTER_ADDR": "a"}, "set NODE_RANK"),
        ([], {"NNODES": "2", "NODE_RANK": "0"}, "set MASTER_ADDR"),
        ([], {"NNODES": "2", "NODE_RANK": "2", "MASTER_ADDR": "a"}, "NODE_RANK=2, but NNODES=2: 0 to 1"),
        ([], {"NNODES": "0"}, "NNODES must be at least 1"),
        (["--config", "no.yaml"], {"NUM_GPUS": "1"}, "no recipe no.yaml"),
        (["--config"], {"NUM_GPUS": "1"}, "--config needs a file"),
    ],
)
def test_launch_refuses(flags: list[str], variables: dict[str, str], reason: str) -> None:
    result = run(["bash", str(ROOT / "training_scripts/sft_videochat_r1.sh"), "--dry-run", *flags], **variables)
    assert result.returncode == 2 and reason in result.stderr


SLURM = ROOT / "training_scripts" / "slurm_grpo_videochat_r1.sh"


@pytest.fixture
def slurm(tmp_path: Path) -> Mapping[str, str]:
    """What a job of two nodes has: stand-ins for SLURM's programs, one of which starts the step on each node."""
    (tmp_path / "bin").mkdir()
    stubs = {
        "scontrol": '[ "$*" = "show hostnames node[3-4]" ] && printf "node3\\nnode4\\n"',
        "srun": 'while [ "${1#--}" != "$1" ]; do echo "srun $1"; shift; done\n'
        'for i in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do SLURM_NODEID=$i "$@" || exit; done',
    }
    for name, text in stubs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copy(SLURM, tmp_path / "slurm_script")
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NODELIST": "node[3-4]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "123456",
        "SLURM_CPUS_PER_TASK": "32",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }


def test_slurm_starts_one_torchrun_on_every_node(slurm: Mapping[str, str], tmp_path: Path) -> None:
    """From the copy that SLURM makes of the script, in a folder of its own."""
    result = run(["bash", "slurm_script", "--learning_rate", "1e-6", "--dry-run"], cwd=tmp_path, **slurm)
    assert result.returncode == 0, result.stderr
    *options, first, second = result.stdout.splitlines()
    for option in ("--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=32", "--kill-on-bad-exit=1"):
        assert f"srun {option}" in options
    for rank, line in enumerate((first, second)):
        command = shlex.split(line)
        assert (value(command, "--nnodes"), value(command, "--node_rank")) == ("2", str(rank))
        assert (value(command, "--master_addr"), value(command, "--master_port")) == ("node3", "23456")
        assert value(command, "--nproc_per_node") == "4" and command[-2:] == ["--learning_rate", "1e-6"]


def test_slurm_on_one_node_and_from_a_wrong_folder(slurm: Mapping[str, str], tmp_path: Path) -> None:
    one = run(["bash", str(SLURM), "--dry-run"], cwd=tmp_path, **{**slurm, "SLURM_JOB_NUM_NODES": "1"})
    assert value(shlex.split(one.stdout.splitlines()[-1]), "--nnodes") == "1"
    wrong = run(["bash", "slurm_script"], cwd=tmp_path, **{**slurm, "SLURM_SUBMIT_DIR": str(tmp_path)})
    assert wrong.returncode == 2 and "is not the project's folder" in wrong.stderr


@pytest.mark.parametrize("gpus", ["0", "2"])
@pytest.mark.parametrize("compiler", [True, False])
def test_without_a_compiler_nothing_is_started_on_gpus(tmp_path: Path, gpus: str, compiler: bool) -> None:
    """In a copy of the scripts whose programs only say that they were called."""
    shutil.copytree(ROOT / "training_scripts", tmp_path / "training_scripts")
    (tmp_path / "training_scripts" / "setup.sh").write_text("echo set up\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    check = f"case $2 in *compiler) echo $2; {str(compiler).lower()};; *) echo trains;; esac"
    for name, text in {"python": check, "torchrun": "echo trains"}.items():
        (tmp_path / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / ".venv" / "bin" / name).chmod(0o755)
    (tmp_path / "a.yaml").write_text("deepspeed: a.json\n")
    result = run(["bash", "training_scripts/launch.sh", "grpo", "a.yaml"], cwd=tmp_path, NUM_GPUS=gpus)
    looks, starts = gpus != "0", compiler or gpus == "0"
    assert result.returncode == (0 if starts else 2), result.stderr
    said = [line for line in result.stdout.splitlines() if not line.startswith("launch: ")]
    assert said == ["set up", *["videochat_r1.doctor.compiler"] * looks, *["trains"] * starts]


def test_slurm_example_keeps_the_recipes_eight_prompts() -> None:
    text = SLURM.read_text()
    assert "#SBATCH --requeue\n" in text
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
    mine = {"PYENV_ROOT": "/nonexistent", **variables}
    return run(["bash", "training_scripts/setup.sh", *arguments], cwd=project, **mine)


def finish(project: Path, extras: str, backend: str = "") -> None:
    """Leave the project as a setup with these extras and this build of torch would, with the Python of these tests."""
    (project / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (project / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (project / ".venv" / "bin" / "python").chmod(0o755)
    content = f"{project}\n".encode()
    content += b"".join(
        (project / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "overrides.txt")
    )
    (project / ".venv" / ".setup-stamp").write_text(f"{hashlib.sha256(content).hexdigest()}\n{extras}\n{backend}\n")


def chosen(project: Path) -> list[str]:
    """Extras and torch's build that a setup which did not come to its end leaves for the next one; none if it never began."""
    stamp = project / ".venv" / ".setup-stamp"
    if not stamp.exists():
        return []
    fingerprint, *choices = stamp.read_text().splitlines()
    assert fingerprint == "", "taken for done"
    return choices


def test_setup_has_nothing_to_do_a_second_time(project: Path, tmp_path: Path) -> None:
    finish(project, "dev vllm-cpu")
    bare = programs(tmp_path / "bin", "python3")
    started = time.perf_counter()
    version = ".".join(map(str, sys.version_info[:2]))
    for arguments in ([], ["dev"], ["vllm-cpu", "dev"], ["--python", version], ["--python", sys.executable]):
        result = setup(project, *arguments, **bare)
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
    assert chosen(project) == []


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on PATH")
def test_setup_without_a_network_can_be_repeated(project: Path, tmp_path: Path) -> None:
    """The real installer, offline with an empty cache: an error with its mend, and no stamp that hides it next time."""
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}
    for arguments in (["--torch-backend", "cpu"], []):
        result = setup(project, *arguments, **offline)
        assert result.returncode == 1
        if "about 8 GB" in result.stderr:
            pytest.skip("no disk")
        assert "to mend it: no network" in result.stderr, result.stderr
        assert "torch for cpu" in result.stdout and chosen(project) == ["", "cpu"], "the choice stays"


# Stands in for uv: knows two builds of torch, makes environments, finds these tests' Python, and writes down what it installs from.
UV = f"""case "$1 $2" in
"pip install") [ "$3" = --help ] && echo "[possible values: auto, cpu, cu126]" || echo "$@" >>"$LOG";;
"python find") case "$5" in 3.11|3.12) echo {sys.executable};; /*) [ -x "$5" ] && echo "$5";; *) exit 1;; esac;;
"venv --quiet") mkdir -p .venv/bin; rm -f .venv/.setup-stamp; ln -sf "$5" .venv/bin/python;;
"cache dir") echo /;;
*) echo uv 0.0;;
esac"""


@pytest.mark.parametrize(
    ("before", "arguments", "said", "installed"),
    [
        ("", ["--torch-backend", "cu126"], "built for the pinned CUDA, not cu126", "--torch-backend cu126"),
        ("cu126", ["--torch-backend=cpu"], "built for cu126, not cpu", "--torch-backend cpu"),
        (
            "cu126",
            ["--torch-backend", "default"],
            "built for cu126, not the pinned CUDA",
            "--constraint constraints.txt",
        ),
        ("cu126", ["dev"], None, "--torch-backend cu126"),
        ("cu126", [], None, None),
    ],
)
def test_another_build_of_torch(
    project: Path, tmp_path: Path, before: str, arguments: list[str], said: str | None, installed: str | None
) -> None:
    finish(project, "", before)
    log = tmp_path / "log"
    result = setup(project, *arguments, LOG=str(log), **programs(tmp_path / "bin", uv=UV, df=ROOMY))
    assert result.returncode == 0, result.stderr
    assert (f"made anew: its torch is {said}" if said else "anew") in result.stdout or said is None
    assert log.exists() == (installed is not None)
    if installed:
        assert installed in log.read_text()
        assert ("--torch-backend" in log.read_text()) == ("default" not in arguments)
    if installed and "--torch-backend" in installed:
        names = {line.split("==")[0] for line in (project / ".cache" / "constraints.txt").read_text().splitlines()}
        assert {"torch", "torchvision", "transformers"} <= names
        assert not [name for name in names if name.startswith(("nvidia-", "cuda-"))]
    assert setup(project, **programs(tmp_path / "bare", "python3")).stdout == "", "and then there is nothing to do"


ROOMY = "echo Size; echo disk 1 1 104857600 1"


@pytest.mark.parametrize("asked", ["3.99", "/no/such/python", "python3.99"])
def test_a_python_that_is_not_there_leaves_the_environment_alone(project: Path, tmp_path: Path, asked: str) -> None:
    finish(project, "dev")
    result = setup(project, "--python", asked, **programs(tmp_path / "bin", uv=UV, df=ROOMY))
    assert result.returncode == 1 and f"no Python 3.11 or 3.12 was found as '{asked}'" in result.stderr
    assert setup(project, "dev").stdout == "", "still complete"


def other_python(path: Path) -> Path:
    """A program that passes for Python 3.12.0 of another folder."""
    path.parent.mkdir(parents=True)
    path.write_text(
        '#!/bin/sh\ncase "$2" in *base_prefix*) echo 3.12.0 of /other;; *python_version*) echo 3.12.0;; esac\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("asked", ["path", "3.12", "3.12.0", "python3.12"])
def test_another_python_makes_the_environment_anew_once(project: Path, tmp_path: Path, asked: str) -> None:
    """By its path, or by a version that only pyenv's folder has."""
    finish(project, "dev", "cpu")
    python = project / ".venv" / "bin" / "python"
    python.write_text(python.read_text().replace("exec", 'case "$2" in *version*) echo 3.11.9; exit;; esac\nexec'))
    other = other_python(tmp_path / "pyenv" / "versions" / "3.12.0" / "bin" / "python")
    asked = str(other) if asked == "path" else asked
    bare = programs(tmp_path / "bin", uv=UV.replace("3.11|3.12)", "nothing)"), df=ROOMY)
    for expected in ("anew: its Python is 3.11.9", None):
        result = setup(
            project, "--python", asked, PYENV_ROOT=str(tmp_path / "pyenv"), LOG=str(tmp_path / "log"), **bare
        )
        assert result.returncode == 0, result.stderr
        assert expected in result.stdout if expected else result.stdout == ""
    assert python.resolve() == other


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["develop"], "unknown extra 'develop'"),
        (["vllm"], "cannot share one environment"),
        (["--torch-backend", "rocm6.4"], "unknown torch backend 'rocm6.4'"),
        (["--torch-backend", "../x"], "unknown torch backend"),
        (["--torch-backend", "cu999"], "knows no torch backend cu999"),
    ],
)
def test_setup_refuses_what_cannot_be_installed(
    project: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    finish(project, "vllm-cpu")
    result = setup(project, *arguments, LOG="/dev/null", **programs(tmp_path / "bin", uv=UV, df=ROOMY))
    assert result.returncode == 1 and reason in result.stderr and "to mend it" in result.stderr


def test_vllm_needs_the_pinned_torch(project: Path) -> None:
    finish(project, "vllm")
    result = setup(project, "--torch-backend", "cu126")
    assert result.returncode == 1 and "built for the pinned torch" in result.stderr


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
