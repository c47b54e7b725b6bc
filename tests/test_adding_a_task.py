"""The code in docs/adding_a_task.md works as it stands there."""

import ast
import importlib
import json
import math
import re

import pytest
import yaml

from tests.task_targets import TARGETS
from videochat_r1.errors import DataError
from videochat_r1.rewards import make_reward
from videochat_r1.sample import Sample, Video
from videochat_r1.scoring import score_rows
from videochat_r1.tasks import TASKS


@pytest.fixture
def page(project_root):
    return (project_root / "docs" / "adding_a_task.md").read_text(encoding="utf-8")


def code_block(page, language, start):
    blocks = [block for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if block.startswith(start)]
    assert len(blocks) == 1, start
    return blocks[0]


@pytest.fixture
def import_block(page, tmp_path, monkeypatch):
    def load(start, name):
        (tmp_path / f"{name}.py").write_text(code_block(page, "python", start), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        return importlib.import_module(name)

    return load


@pytest.fixture
def counting(import_block, monkeypatch):
    task = import_block('"""Counting', "documented_counting_task").Counting()
    monkeypatch.setitem(TASKS, task.name, task)
    return task


@pytest.mark.parametrize("thinking", [True, False])
def test_the_documented_task_keeps_the_rules_of_all_tasks(counting, thinking):
    target = counting.target_from_json({"count": 3})
    gold = counting.gold(target, thinking=thinking)
    assert counting.is_well_formed(gold, target, thinking=thinking)
    assert counting.scores(counting.parse(gold, target), target) == {
        "accuracy": 1.0,
        "off_by_one": 1.0,
        "parse_rate": 1.0,
    }
    assert counting.target_from_json(counting.target_to_json(target)) == target
    prompt = counting.instruction(Sample("id", "counting", Video(path="v"), "a jump", target), thinking=thinking)
    assert "a jump" in prompt
    assert counting.write(("2",), thought="your reasoning" if thinking else None) in prompt
    with pytest.raises(DataError, match="count"):
        counting.target_from_json({"count": "3"})


def test_the_documented_targets_are_two_answers_to_one_question(counting, page):
    (line,) = re.findall(r'^    ("counting": \(.*\)),$', page, re.MULTILINE)
    first, second = (counting.target_from_json(value) for value in ast.literal_eval(f"{{{line}}}")["counting"])
    assert first != second
    texts = {
        counting.instruction(Sample("id", "counting", Video(path="v"), "q", target), thinking=True)
        for target in (first, second)
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("answer", "parsed", "well_formed"),
    [
        ("3", 3, True),
        (" 3 ", 3, True),
        ("3 times", 3, False),
        *[(text, None, False) for text in ("3 or 4", "-3", "3.5", "9" * 400, "", "nan")],
    ],
)
def test_the_documented_task_reads_answers(counting, answer, parsed, well_formed):
    target = counting.target_from_json({"count": 3})
    assert counting.parse(f"<answer>{answer}</answer>", target) == parsed
    assert counting.is_well_formed(f"<answer>{answer}</answer>", target, thinking=False) == well_formed


def test_one_line_in_the_table_is_enough_to_score_it(counting):
    row = {"id": 1, "completion": "<answer>3</answer>", "thinking": False, "target": {"count": 3}}
    (scored,) = score_rows([json.dumps(row)], "counting")
    assert scored == {"id": 1, "rewards": {"format": 1.0, "accuracy": 1.0}, "parsed": 3}


def test_the_documented_reward_works_from_the_documented_recipe(import_block, page):
    recipe = yaml.safe_load(code_block(page, "yaml", "rewards:"))["rewards"]
    import_block('"""Rewards a thought', "concise_thought")
    rewards = {entry["name"]: make_reward(entry["name"], **entry.get("options", {})) for entry in recipe}
    concise = rewards["concise_thought:concise_thought"]
    thoughts = [" ".join(["word"] * count) for count in (80, 120, 200)]
    completions = [f"{thought} </think><answer>C</answer>" for thought in thoughts] + ["<answer>C</answer>"]
    values = concise(completions, task=["multi_choice_qa"] * 4, thinking=[True, True, True, False], prompts=[None] * 4)
    assert values == [1.0, pytest.approx(0.5), 0.0, None]
    assert all(value is None or math.isfinite(value) for value in values)


def test_the_documented_fields_are_those_of_the_tasks(page):
    rows = re.findall(r"^\| (`\{.*?) \| (.*?) \|", page, re.MULTILINE)
    documented = {name: set() for name in TASKS}
    for fields, tasks in rows:
        for name in TASKS if tasks == "all" else tasks.split(", "):
            documented[name] |= set(re.findall(r"\{(\w+)\}", fields))
    for name, task in TASKS.items():
        sample = Sample("id", name, Video(path="v"), "q", task.target_from_json(TARGETS[name][0]))
        assert documented[name] == set(task.fields(sample, thinking=True))
