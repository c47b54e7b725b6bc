"""Agreement of judges: the measures by hand and against slow versions, and the commands over real HTTP."""

import json
import math
import random
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from videochat_r1.cli import main
from videochat_r1.errors import DataError
from videochat_r1.evaluation.metrics.agreement import (
    advantages,
    agreement,
    kendall_tau_b,
    pairwise_agreement,
    pearson,
    ranks,
    same_best,
    spearman,
)
from videochat_r1.evaluation.scoring.compare_judges import read_captions
from videochat_r1.judge.rule_server import RuleJudgeServer

ROOT = Path(__file__).resolve().parent.parent
TARGET = {"caption": "A man opens a door. A dog barks.", "events": ["A man opens a door.", "A dog barks."]}
TEXTS = ["A man opens a door. A dog barks.", "A dog barks.", "A cat sleeps.", "A man opens a door."]


# --- measures -----------------------------------------------------------------------------------------------------------


def test_correlations_by_hand() -> None:
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert pearson([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0.0)
    assert pearson([1, 1, 1], [1, 2, 3]) is None and pearson([1], [1]) is None
    assert ranks([0.5, 0.1, 0.5, 0.9]) == [2.5, 1.0, 2.5, 4.0]
    assert spearman([1, 2, 3], [1, 10, 1000]) == pytest.approx(1.0)


def test_rank_agreement_by_hand() -> None:
    # Of six pairs the first judge ties one, the second none; five are ranked by both, four of them alike.
    first, second = [0.0, 0.5, 0.5, 1.0], [0.1, 0.2, 0.9, 0.8]
    assert pairwise_agreement(first, second) == pytest.approx(4 / 5)
    assert kendall_tau_b(first, second) == pytest.approx((4 - 1) / math.sqrt(5 * 6))
    assert same_best(first, second) == 0.0
    assert same_best([1.0, 0.5, 1.0], [0.2, 0.1, 0.9]) == 1.0, "one of the first's two best"
    assert pairwise_agreement([1, 1], [0, 1]) is kendall_tau_b([1, 1], [0, 1]) is same_best([1, 1], [0, 1]) is None


def test_tau_is_the_correlation_of_the_signs_of_all_pairs() -> None:
    draw = random.Random(0)
    for _ in range(20):
        first, second = ([draw.randrange(4) / 3 for _ in range(8)] for _ in range(2))
        signs = [
            [math.copysign(1, b - a) if b != a else 0 for a, b in combinations(values, 2)] for values in (first, second)
        ]
        norm = math.sqrt(sum(s * s for s in signs[0]) * sum(s * s for s in signs[1]))
        expected = sum(a * b for a, b in zip(*signs, strict=True)) / norm if norm else None
        assert kendall_tau_b(first, second) == (None if expected is None else pytest.approx(expected))


def test_groups_are_compared_within_and_not_across() -> None:
    """The second judge gives every caption of one group more: advantages, all that GRPO sees, are the same."""
    first, second = [0.0, 0.5, 1.0, 0.0, 0.5, 1.0], [0.0, 0.1, 0.2, 0.8, 0.9, 1.0]
    found = agreement(first, second, ["a"] * 3 + ["b"] * 3)
    assert found["kendall_tau_b"] == found["pairwise_agreement"] == found["same_best"] == 1.0
    assert found["pearson"] < 0.5 and found["advantage_pearson"] == pytest.approx(1.0, abs=1e-4)
    assert (found["num_groups"], found["num_groups_compared"]) == (2, 2)
    level = agreement([0.5, 0.5], [0.0, 1.0], ["a", "a"])
    assert level["num_groups_compared"] == 0 and level["kendall_tau_b"] is None
    assert advantages([0.0, 1.0]) == pytest.approx([-0.7070, 0.7070], abs=1e-4) and advantages([0.3]) == [0.0]


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path):
    """Two servers, their YAML files and captions of two groups."""
    with RuleJudgeServer() as one, RuleJudgeServer() as other:
        for name, server in (("a", one), ("b", other)):
            lines = [f"base_url: {server.base_url}", "model: rules", "cache_dir: null", "max_attempts: 2"]
            (tmp_path / f"{name}.yaml").write_text("\n".join([*lines, "backoff_seconds: 0.01"]))
        rows = [
            {"id": group, "completion": f"<answer>{text} Room {group}.</answer>", "target": TARGET}
            for group in (1, 2)
            for text in TEXTS
        ]
        rows += [{"id": 3, "completion": "<answer> </answer>", "target": TARGET}]
        rows += [{"id": 4, "task": "tracking", "completion": "x", "target": {}}]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        yield tmp_path, one, other


def compare(folder, *flags):
    judges = [str(folder / "a.yaml"), str(folder / "b.yaml")]
    return main(["judge", "compare", "--judges", *judges, *flags, str(folder / "rows.jsonl")])


def test_two_judges_that_agree(world, capsys):
    folder, _, _ = world
    assert compare(folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_captions"], found["num_without_caption"]) == (8, 1)
    assert [judge["mean"] for judge in found["judges"]] == [pytest.approx((1 + 0.5 + 0 + 0.5) / 4)] * 2
    (pair,) = found["pairs"]
    measures = ("pearson", "spearman", "kendall_tau_b", "pairwise_agreement", "same_best", "advantage_pearson")
    assert [pair[name] for name in measures] == [pytest.approx(1.0)] * 6
    assert pair["num_groups"] == pair["num_groups_compared"] == 2
    assert compare(folder) == 0
    printed = capsys.readouterr().out
    assert "within groups: rank correlation (Kendall's tau-b)" in printed and "2 groups" in printed


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ("aabb", "-: one of the two judges gives"),
        ("abcd", "-: no two captions answer the same prompt"),
        ("a", "-: nothing can be compared in fewer than two captions"),
    ],
)
def test_measures_that_are_missing_are_explained(world, capsys, ids, reason):
    folder, _, _ = world
    target = {"caption": "A man opens a door."}
    rows = [{"id": name, "completion": "A dog sleeps on a bed.", "target": target} for name in ids]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert compare(folder) == 0
    assert f"\n  {reason}" in capsys.readouterr().out


def test_one_model_name_at_two_addresses_is_asked_twice(world, capsys):
    folder, one, other = world
    for name in ("a", "b"):
        text = (folder / f"{name}.yaml").read_text()
        (folder / f"{name}.yaml").write_text(text.replace("cache_dir: null", f"cache_dir: {folder / 'cache'}"))
    for _ in range(2):
        assert compare(folder, "--json") == 0
        requests = (one.counts["answered"], other.counts["answered"])
    assert requests == (8 + 2, 8 + 2), (
        "each once for every caption, from its own cache later, and one check before each run"
    )


def test_what_one_cannot_judge_is_left_out_of_the_comparison_and_counted(world, capsys):
    folder, _, other = world
    other.poison = "cat"
    assert compare(folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [judge["num_unscored"] for judge in found["judges"]] == [0, 2]
    assert found["pairs"][0]["num_captions"] == 6


def test_mistakes_are_named(world, capsys):
    folder, one, _ = world
    assert main(["judge", "compare", "--judges", str(folder / "a.yaml"), str(folder / "rows.jsonl")]) == 2
    assert "compare at least two judges" in capsys.readouterr().err
    one.stop()
    assert compare(folder) == 2
    assert f"{one.base_url} cannot be asked" in capsys.readouterr().err
    (folder / "rows.jsonl").write_text('{"id": 1, "completion": "x"}')
    with pytest.raises(DataError, match=r"line 1.*'target'"):
        read_captions(folder / "rows.jsonl")
    (folder / "rows.jsonl").write_text('{"task": "tracking"}')
    with pytest.raises(DataError, match="no caption to judge"):
        read_captions(folder / "rows.jsonl")


def test_rollouts_of_a_run_are_grouped_by_step_and_sample(tmp_path) -> None:
    said = {"completion": "<answer>A dog barks.</answer>"}
    shared = {"sample_id": "s", "task": "captioning", "target": TARGET}
    rows = [{**shared, "step": 1, "rollouts": [said, said]}, {**shared, "step": 2, "rollouts": [said]}]
    (tmp_path / "rollouts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read, without = read_captions(tmp_path / "rollouts.jsonl")
    assert [row.group for row in read] == ["1/s", "1/s", "2/s"] and without == 0


def test_a_served_judge_takes_its_flags_and_passes_the_check(tmp_path, capsys, monkeypatch) -> None:
    flags = [
        "--port",
        "0",
        "--model",
        "mine",
        "--api-key",
        "secret",
        "--fault-rate",
        "0.5",
        "--faults",
        "500,bad_reply",
    ]
    command = [sys.executable, "-m", "videochat_r1.cli", "judge", "serve-rules", *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        address = process.stdout.readline().strip()
        lines = [f"base_url: {address}", "model: mine", "api_key_env: TEST_KEY", "backoff_seconds: 0.01"]
        (tmp_path / "judge.yaml").write_text("\n".join([*lines, "cache_dir: null", "max_attempts: 20"]))
        monkeypatch.setenv("TEST_KEY", "secret")
        assert main(["judge", "check", str(tmp_path / "judge.yaml")]) == 0
        process.terminate()
    assert process.returncode == 0, "ends cleanly"
    assert "the judge mine at" in capsys.readouterr().out
    assert main(["judge", "serve-rules", "--port", "0", "--faults", "fire"]) == 2
    assert "unknown faults ['fire']" in capsys.readouterr().err
