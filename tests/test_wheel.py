"""The built wheel works by itself: in an environment of its own, without a checkout."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.tiny_runs import write_train_manifest


@pytest.fixture(scope="module")
def installed(project_root, tmp_path_factory):
    """A folder with the command in `bin`, whose environment has this one's libraries but not its editable install."""
    folder = tmp_path_factory.mktemp("installed")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=project_root, capture_output=True, text=True, check=False)
    if not listing.stdout:
        pytest.skip("not a git checkout")
    source = folder / "source"
    for name in filter(None, listing.stdout.split("\0")):
        if (project_root / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((project_root / name).read_bytes())
    build = "import setuptools.build_meta as build; print(build.build_wheel('dist'))"
    built = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    venv.create(folder / "env", with_pip=False)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    wheel = next((source / "dist").glob("*.whl"))
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    (folder / "empty").mkdir()
    return folder / "env" / "bin" / "python", folder / "empty"


def run(installed, *words, **options):
    python, folder = installed
    code = "import sys; from videochat_r1.cli import main; sys.exit(main())"
    return subprocess.run(
        [str(python), "-c", code, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        **options,
    )


def test_it_runs_from_its_own_files(installed):
    python, folder = installed
    where = subprocess.run(
        [str(python), "-c", "import videochat_r1.shipped as s; print(s.__file__, s.ROOT)"],
        cwd=folder, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert all("env/lib" in path for path in where)


def test_the_pages_come_with_it(installed):
    python, folder = installed
    code = "from videochat_r1.window.page_text import VIEW; from videochat_r1.chat.page_text import CHAT; "
    code += "print(min(len(page.exported('title', {})) for page in (VIEW, CHAT)))"
    done = subprocess.run([str(python), "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and int(done.stdout) > 20_000, done.stderr


def test_a_shipped_recipe_by_name_and_ones_own_that_extends_it(installed):
    _, folder = installed
    (folder / "mine.yaml").write_text(
        "extends: joint\nlearning_rate: 5e-7\nbf16: false\nuse_cpu: true\ndeepspeed: none\n"
    )
    printed = run(installed, "grpo", "--config", "mine.yaml", "--print-config")
    assert "5.0e-07" in printed.stdout and "# joint.yaml" in printed.stdout, printed.stderr[-1500:]
    checked = run(installed, "doctor", "--config", "joint")
    assert checked.returncode in (0, 1) and "Traceback" not in checked.stderr, checked.stderr[-1500:]
    refused = run(installed, "grpo", "--config", "joint", "--use_cpu", "true", "--bf16", "false", "--deepspeed", "none")
    assert refused.returncode == 2 and "charades_sta" in refused.stderr, "it is the data that is missing"


def test_quickstart_grpo_and_eval(installed):
    _, folder = installed
    write_train_manifest(folder, 6)
    few = "--max_steps 1 --logging_steps 1 --max_completion_length 8 --prompts_per_step 16 --per_device_train_batch_size 128"
    demo = run(installed, "quickstart", "--output", "demo", "--num-train", "32", "--num-eval", "2", f"--grpo={few}")
    assert demo.returncode == 0, demo.stderr[-1500:]
    assert json.loads((folder / "demo" / "summary.json").read_text())["tasks"]
    words = (
        "--config tiny --use_cpu true --deepspeed none --data_root . --output_dir run --max_steps 1 --save_strategy no"
    )
    trained = run(installed, "grpo", *words.split())
    assert trained.returncode == 0 and Path(folder / "run" / "model.safetensors").is_file(), trained.stderr[-1500:]
    truth = {"eval_events_00000": {"duration": 8.0, "timestamps": [[1.0, 3.0]], "sentences": ["red"]}}
    (folder / "test.json").write_text(json.dumps(truth))
    words = "--benchmark charades_sta --annotations test.json --videos demo/data/videos --model demo/checkpoints/grpo"
    scored = run(installed, "eval", *words.split(), "--max-new-tokens", "4", "--output", "scored")
    assert scored.returncode == 0, scored.stderr[-1500:]
    assert json.loads((folder / "scored" / "results.json").read_text())["metrics"]["mIoU"] >= 0.0
