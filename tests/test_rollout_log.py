"""The log of rollouts: one line per group, counted as updates are, and what is left of it after a crash."""

import json
import logging

import pytest

from videochat_r1.grpo.reward_calls import Outcome
from videochat_r1.grpo.rollout_file import drop_rollouts_after, groups_of_update, read_rollouts
from videochat_r1.grpo.rollout_log import Drawn, RolloutLog
from videochat_r1.grpo.rows import Turn
from videochat_r1.grpo.tracked_rollouts import most_telling
from videochat_r1.rollout.base import Rollout
from videochat_r1.rollout.ended import Ended

COLUMNS = {
    "query": "it rains",
    "prompt": "When? \ud83d",
    "sample_id": "é",
    "task": "temporal_grounding",
    "source": "toy",
    "target": {"span": [0.0, 2.0], "duration": 4.0},
    "video": "a.mp4",
    "video_parts": None,
    "pictures": None,
    "duration": 4.0,
    "response": None,
    "truth": False,
}


def drawn(sample_id, *ended, reason=None):
    """Rollouts that ended so before they were scored; the last one's reward failed for the reason, if there is one."""
    reasons = [None] * (len(ended) - 1) + [reason]
    return [
        Drawn.of(turn(sample_id, g, Ended(how)), Outcome(judged=True, reason=why, stop=False))
        for g, (how, why) in enumerate(zip(ended, reasons, strict=True))
    ]


def turn(sample_id, generation, ended):
    rollout = Rollout([1] * 5, [0.0] * 5, ended)
    columns = {**COLUMNS, "sample_id": sample_id, "generation": generation}
    return Turn(columns, None, 0, rollout=rollout, completion="<answer>0 to 2</answer>")


@pytest.fixture
def path(tmp_path):
    """Three updates of a group of two each, and a group that was left out."""
    log = RolloutLog(tmp_path / "rollouts.jsonl", ["iou", "style", "style"], [1.0, 2.0, 3.0], 2)
    for step in (1, 2, 3):
        rows = [
            *drawn("left out", "video_error", "video_error"),
            *drawn(f"é{step}", "length", "stop", reason="judge is late"),
        ]
        nan = float("nan")
        log.score(step, rows, [[nan] * 3, [nan] * 3, [1.0, nan, 1.0], [nan] * 3])
        log.write([0.0, 0.0, 0.5, -0.5])
    return tmp_path / "rollouts.jsonl"


def test_a_line_holds_a_group_and_says_once_what_its_completions_share(path):
    groups = [json.loads(line) for line in path.read_text().splitlines()]
    assert groups == list(read_rollouts(path))
    assert [group["step"] for group in groups] == [1, 2, 3], "the updates that they lead to"
    first = groups[0]
    assert (first["sample_id"], first["prompt"], first["target"]) == ("é1", "When? \ud83d", COLUMNS["target"])
    seen = ("generation", "reward", "advantage", "ended", "problem")
    assert [tuple(one[name] for name in seen) for one in first["rollouts"]] == [
        (0, 4.0, 0.5, "length", None),
        (1, None, -0.5, "unscored", "judge is late"),
    ]
    assert not first.keys() & first["rollouts"][0].keys()


def test_a_group_names_its_video_or_its_pictures(path):
    [first, *_] = read_rollouts(path)
    assert first["video"] == "a.mp4" and "images" not in first
    log = RolloutLog(path, ["iou"], [1.0], 1)
    shown = {"video": None, "pictures": ["a.jpg", "b.jpg"]}
    log.score(4, [one._replace(columns={**one.columns, **shown}) for one in drawn("é", "stop")], [[0.0]])
    log.write([0.0])
    *_, last = read_rollouts(path)
    assert last["images"] == ["a.jpg", "b.jpg"] and "video" not in last


DAMAGE = {
    "torn in a character": lambda lines: [*lines[:2], lines[2][: lines[2].index("é".encode()) + 1]],
    "garbage": lambda lines: [lines[0], b"garbage\n", *lines[1:]],
    "not UTF-8": lambda lines: [lines[0], b'{"step": 1, "x": "\xff\xfe"}\n', *lines[1:]],
    "zeros as a line": lambda lines: [lines[0], b"\0" * 500 + b"\n", *lines[1:]],
    "zeros before a line": lambda lines: [lines[0], b"\0" * 500 + lines[1], lines[2]],
    "zeros at the end": lambda lines: [*lines, b"\0" * 500],
    "half a line before a line": lambda lines: [lines[0], lines[1][:40] + b"\n", *lines[1:]],
    "another object": lambda lines: [
        lines[0],
        b'{"step": 1}\n',
        b"[]\n",
        b'{"step": "1", "rollouts": []}\n',
        *lines[1:],
    ],
    "a tower of brackets": lambda lines: [lines[0], b"[" * 100_000 + b"\n", *lines[1:]],
    "a blank line": lambda lines: [lines[0], b"\n", *lines[1:]],
    "a last line without its end": lambda lines: [*lines[:2], lines[2].rstrip(b"\n")],
    "nothing": lambda lines: [],
}


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_a_damaged_log_is_gone_on_with_and_the_line_is_named(path, damage, caplog):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(DAMAGE[damage](lines)))
    with caplog.at_level(logging.WARNING):
        drop_rollouts_after(path, 2)
    kept = [] if damage == "nothing" else lines[:2]
    assert path.read_bytes() == b"".join(kept)
    harmless = {"zeros before a line", "a blank line", "a last line without its end", "nothing"}
    named = {"torn in a character": "line 3", "zeros at the end": "line 4"}.get(damage, "line 2")
    assert [f"{path}, {named}" in message for message in caplog.messages[:1]] == [True] * (damage not in harmless)


def test_the_groups_of_an_update_are_found_without_reading_all(path):
    groups, end = groups_of_update(path, 2, 0)
    assert [group["sample_id"] for group in groups] == ["é2"] and end == path.stat().st_size
    assert groups_of_update(path, 2, end) == ([], end)
    assert groups_of_update(path, 2, end + 9)[0] == groups, "a file that is shorter than it was"


def test_the_groups_that_tell_most_are_of_different_tasks():
    def group(task, *rewards):
        return {"task": task, "rollouts": [{"reward": reward} for reward in rewards]}

    far, near, other, none = group("a", 0.0, 2.0), group("a", 0.0, 1.0), group("b", 0.5, 0.6), group("a", None)
    assert most_telling([none, near, other, far]) == [far, other]
    assert most_telling([none, near, far]) == [far, near] and most_telling([]) == []


def test_metrics_of_rollouts_that_nothing_scored_are_left_out():
    log = RolloutLog(None, ["iou"], [1.0], 2)
    metrics = log.score(1, drawn("a", "stop", reason="late") * 2, [[float("nan")]] * 2)
    log.write([0.0, 0.0])
    assert "temporal_grounding/reward" not in metrics and metrics["temporal_grounding/frac_reward_zero_std"] == 1.0


@pytest.mark.parametrize("reason", [None, "late"])
@pytest.mark.parametrize("how", ["stop", "length", "video_error", "prompt_error"])
def test_each_rollout_counts_once_in_the_shares_of_why_it_ended(how, reason):
    log = RolloutLog(None, ["iou"], [1.0], 4)
    rows = drawn("a", "stop", "stop", "stop", how, reason=reason)
    metrics = log.score(1, rows, [[1.0]] * 4)
    expected = dict.fromkeys(Ended, 0.0) | {"stop": 0.75}
    expected["unscored" if reason and Ended(how).drawn else how] += 0.25
    shares = {name: value for name, value in metrics.items() if "/ended/" in name}
    assert shares == {f"temporal_grounding/ended/{name}": share for name, share in expected.items()}
    assert rows[-1].ended.scored == (how in ("stop", "length") and reason is None)


def test_a_step_of_which_nothing_was_drawn_has_nothing_but_shares():
    log = RolloutLog(None, ["iou"], [1.0], 2)
    metrics = log.score(1, drawn("a", "prompt_error", "prompt_error"), [[float("nan")]] * 2)
    assert {name for name, value in metrics.items() if value} == {"temporal_grounding/ended/prompt_error"}
    assert len(metrics) == len(Ended)
