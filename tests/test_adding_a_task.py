"""The code in docs/adding_a_task.md works as it stands there: in an empty folder, with the package and nothing else of the tree."""

import json
import math
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from tests.task_targets import TARGETS
from tests.tiny_runs import write_video
from videochat_r1.datasets import CORPORA
from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.rewards import make_reward
from videochat_r1.sample import Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.testing import check_corpus, check_reward, check_task

BLOCK = re.compile(r"`(\w+\.(?:py|yaml))`[^\n]*(?:\n[^\n`]+)*\n\n```(python|yaml)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def page(project_root):
    return (project_root / "docs" / "adding_a_task.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def own(page, tmp_path_factory):
    """The page's files as somebody would write them down, with three counted videos."""
    folder = tmp_path_factory.mktemp("own")
    for name, _, text in BLOCK.findall(page):
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "videos").mkdir()
    rows = []
    for index in range(3):
        write_video(folder / "videos" / f"{index}.mp4", seconds=2.0, fps=8, seed=index)
        rows.append({"video": f"{index}.mp4", "question": "a jump", "count": index})
    (folder / "counts.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def here(own, monkeypatch):
    monkeypatch.syspath_prepend(own)
    monkeypatch.chdir(own)
    return own


def command(folder, *words):
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=280)


def test_the_page_holds_every_file_that_it_speaks_of(own):
    written = {path.name for path in own.iterdir()}
    assert {"counting.py", "test_counting.py", "counts.py", "concise_thought.py", "mine.yaml"} <= written


def test_the_documented_test_passes(own):
    result = command(own, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_counting.py")
    assert result.returncode == 0 and "1 passed" in result.stdout, result.stdout + result.stderr


def test_names_from_outside_stand_wherever_names_may(here):
    task, corpus, benchmark = TASKS["counting:Counting"], CORPORA["counts:Counts"], BENCHMARKS["counts:CountsBenchmark"]
    assert TASKS["counting:Counting"] is task and "counting:Counting" in TASKS and task.name not in TASKS
    samples = check_corpus(corpus, here / "counts.json", here / "videos")
    assert [sample.target.count for sample in samples] == [0, 1, 2]
    assert benchmark.headline("counting:Counting") == "accuracy"
    for name, message in (("counting:Countin", "has no 'Countin'"), ("counting:CountTarget", "missing|no task")):
        with pytest.raises((ConfigError, TypeError), match=message):
            TASKS[name]


@pytest.mark.parametrize(
    ("answer", "expected", "well_formed"),
    [
        ("3", 3, True),
        (" 3 ", 3, True),
        ("3 times", 3, False),
        ("3 or 4", None, False),
        ("-3", None, False),
        ("3.5", None, False),
        ("9" * 400, None, False),
        ("", None, False),
        ("nan", None, False),
    ],
)
def test_the_documented_task_reads_answers(here, answer, expected, well_formed):
    counting = TASKS["counting:Counting"]
    target = counting.target_from_json({"count": 3})
    assert counting.parse(f"<answer>{answer}</answer>", target) == expected
    assert counting.is_well_formed(f"<answer>{answer}</answer>", target, thinking=False) == well_formed


def test_it_trains_and_is_evaluated(own, page):
    """Two updates, a benchmark and rewards, by the page's own commands."""
    row = {"id": 1, "completion": "<answer>3</answer>", "thinking": False, "target": {"count": 3}}
    (own / "completions.jsonl").write_text(json.dumps(row))
    (block,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    cli = f"{shlex.quote(sys.executable)} -m videochat_r1.cli"
    trained, evaluated, scored = (
        command(own, "bash", "-c", line.replace("videochat-r1", cli, 1)) for line in block.splitlines()
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    groups = [json.loads(line) for line in (own / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert {group["task"] for group in groups} == {"counting:Counting"}
    assert {group["step"] for group in groups} == {1, 2}
    assert set(groups[0]["rollouts"][0]["rewards"]) == {"format", "accuracy", "concise_thought"}
    assert evaluated.returncode == 0 and "accuracy" in evaluated.stdout, evaluated.stdout + evaluated.stderr[-2000:]
    assert json.loads(scored.stdout) == {"id": 1, "rewards": {"format": 1.0, "accuracy": 1.0}, "parsed": 3}


def test_the_documented_reward_works_from_the_documented_recipe(here, page):
    (recipe,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if text.startswith("rewards:")]
    rewards = {
        entry["name"]: make_reward(entry["name"], **entry.get("options", {}))
        for entry in yaml.safe_load(recipe)["rewards"]
    }
    concise = rewards["concise_thought:concise_thought"]
    thoughts = [" ".join(["word"] * count) for count in (80, 120, 200)]
    completions = [f"{thought} </think><answer>C</answer>" for thought in thoughts] + ["<answer>C</answer>"]
    values = concise(completions, task=["multi_choice_qa"] * 4, thinking=[True, True, True, False], prompts=[None] * 4)
    assert values == [1.0, pytest.approx(0.5), 0.0, None]
    assert all(value is None or math.isfinite(value) for value in values)
    check_reward(concise, "tracking", TARGETS["tracking"][0], thinking=True)


@pytest.mark.parametrize("broken", ["reward", "prompt", "total", "json"])
def test_the_contracts_notice_a_broken_task(here, broken):
    class Broken(type(TASKS["counting:Counting"])):
        pass

    if broken == "reward":
        Broken.accuracy = lambda self, parsed, target: 0.5
    elif broken == "prompt":
        Broken.examples = lambda self, target: [(str(target.count),)]
    elif broken == "total":
        Broken.parse = lambda self, completion, target, untagged=False: int(completion.split("<answer>")[1][0])
    else:
        Broken.target_to_json = lambda self, target: {"count": target.count + 1}
    with pytest.raises((AssertionError, ValueError, IndexError)):
        check_task(Broken(), {"count": 3}, {"count": 5})


def test_the_documented_fields_are_those_of_the_tasks(page):
    rows = re.findall(r"^\| (`\{.*?) \| (.*?) \|", page, re.MULTILINE)
    documented = {name: set() for name in TASKS}
    for fields, tasks in rows:
        for name in TASKS if tasks == "all" else tasks.split(", "):
            documented[name] |= set(re.findall(r"\{(\w+)\}", fields))
    for name, task in TASKS.items():
        sample = Sample("id", name, Video(path="v"), "q", task.target_from_json(TARGETS[name][0]))
        assert documented[name] == set(task.fields(sample, thinking=False))
