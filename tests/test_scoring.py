import json
import subprocess
import sys
import time

import pytest

from videochat_r1.errors import ConfigError, DataError
from videochat_r1.scoring import score_rows

TARGETS = {
    "temporal_grounding": {"span": [5, 10], "duration": 30},
    "tracking": {"boxes": [[0, 0, 1, 1]] * 8},
    "multi_choice_qa": {"options": ["(A) cat", "(B) dog", "(C) cow"], "answer": "(C)"},
    "grounded_qa": {"options": ["cat", "dog", "cow"], "answer": "cow", "spans": [[5, 10]], "duration": 30},
    "quality_assessment": {"choices": ["low quality", "high quality"], "answer": "low quality"},
}


def line(name="temporal_grounding", completion="<answer>5 to 10</answer>", **changes):
    return json.dumps({"id": "a", "completion": completion, "thinking": False, "target": TARGETS[name], **changes})


def score_one(name, completion, **changes):
    (row,) = score_rows([line(name, completion, **changes)], name)
    assert row["id"] == "a"
    return row["rewards"], row["parsed"]


def test_rows_of_every_task_by_hand():
    assert score_one("temporal_grounding", "<answer>0 to 10</answer>") == ({"format": 1.0, "iou": 0.5}, [0.0, 10.0])
    assert score_one("tracking", f"<answer>{[[0, 0, 1, 0.5]] * 8}</answer>") == (
        {"format": 1.0, "iou": 0.5},
        [[0.0, 0.0, 1.0, 0.5]] * 8,
    )
    assert score_one("multi_choice_qa", "<answer>c</answer>") == ({"format": 1.0, "accuracy": 1.0}, "C")
    assert score_one("grounded_qa", "<answer>(A)</answer><glue>[(5, 10), (15, 20)]</glue>") == (
        {"format": 1.0, "iou": 0.5, "accuracy": 0.0},
        {"answer": "A", "spans": [[5.0, 10.0], [15.0, 20.0]]},
    )
    assert score_one("quality_assessment", "<answer>Low quality.</answer>") == (
        {"format": 1.0, "accuracy": 1.0},
        "low quality",
    )


@pytest.mark.parametrize("name", list(TARGETS))
def test_text_without_an_answer_scores_zero(name):
    rewards, parsed = score_one(name, "I do not know")
    assert set(rewards.values()) == {0.0}
    assert parsed is None


def test_thinking_changes_the_format_alone():
    completion = "<think>hm</think><answer>5 to 10</answer>"
    assert score_one("temporal_grounding", completion, thinking=True)[0] == {"format": 1.0, "iou": 1.0}
    assert score_one("temporal_grounding", completion, thinking=False)[0] == {"format": 0.0, "iou": 1.0}


def test_reward_options_reach_the_reward():
    boxes = [[0, 0, 1, 1], *[[0, 0, 0.5, 0.5]] * 7]
    row = line("tracking", f"<answer>{[[0, 0, 1, 1]] * 8}</answer>", target={"boxes": boxes})
    (scored,) = score_rows([row], "tracking", reward_options={"iou": {"score_given_box": False}})
    assert scored["rewards"]["iou"] == 0.25


def test_rows_come_one_by_one_in_order_and_blank_lines_do_not_count_as_rows():
    def lines():
        yield line(id=1)
        yield "\n"
        yield line(id=2)
        raise AssertionError("read further than asked")

    rows = score_rows(lines(), "temporal_grounding")
    assert [next(rows)["id"], next(rows)["id"]] == [1, 2]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "JSON"),
        ("[1]", "object"),
        ("[" * 100_000, "nested"),
        (b"\xff\xfe{\x00", "UTF-16.*iconv"),
        (b'{"id": "a\xe9"}', "byte 9.*iconv"),
        ("9" * 5000, "an object"),
        (json.dumps({"id": "a"}), "completion, thinking, target"),
        (line(id=None), "id"),
        (line(id=True), "id"),
        (line(completion=None), "completion"),
        (line(completion=["x"]), "completion"),
        (line(thinking="yes"), "thinking"),
        (line(thinking=1), "thinking"),
        (line(target=[]), "target"),
        (line(target={"span": [1, 2]}), "duration"),
        (line(target={"span": [1, None], "duration": 3}), "span"),
        ('{"id": 1, "completion": "", "thinking": true, "target": {"span": [1, NaN], "duration": 3}}', "span"),
        ('{"id": 1, "completion": "", "thinking": true, "target": {"span": [1, 1e999], "duration": 3}}', "span"),
        (
            '{"id": 1, "completion": "", "thinking": true, "target": {"span": [1, %s], "duration": 3}}' % ("9" * 400),
            "span",
        ),
    ],
)
def test_a_malformed_row_names_its_line(bad, message):
    rows = score_rows([line(), "", bad], "temporal_grounding")
    assert next(rows)["rewards"]["iou"] == 1.0
    with pytest.raises(DataError, match=rf"(?s)^line 3: .*{message}"):
        next(rows)


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tracking'"):
        next(score_rows([], "traking"))


def test_a_row_takes_well_under_a_millisecond():
    row = line(
        "grounded_qa",
        "<think>" + "because it is so " * 50 + "</think><answer>C</answer><glue>[(5, 10), (12, 13)]</glue>",
    )
    start = time.process_time()
    assert sum(1 for _ in score_rows((row for _ in range(4_000)), "grounded_qa")) == 4_000
    assert time.process_time() - start < 4.0


def run_command(arguments, lines):
    command = [sys.executable, "-m", "videochat_r1.cli", "score", *arguments]
    return subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, check=False)


def test_the_command_reads_and_writes_jsonl():
    done = run_command(["--task", "temporal_grounding"], [line(id="é"), "", line(id=7, completion="\ud800")])
    assert done.returncode == 0, done.stderr
    assert [json.loads(row) for row in done.stdout.splitlines()] == [
        {"id": "é", "rewards": {"format": 1.0, "iou": 1.0}, "parsed": [5.0, 10.0]},
        {"id": 7, "rewards": {"format": 0.0, "iou": 0.0}, "parsed": None},
    ]


def test_the_command_ends_with_2_at_a_malformed_row_after_writing_those_before():
    done = run_command(["--task", "temporal_grounding"], [line(), "{"])
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 1
    assert b"line 2" in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_command_takes_the_given_box_out_of_the_score():
    boxes = [[0, 0, 1, 1], *[[0, 0, 0.5, 0.5]] * 7]
    row = line("tracking", f"<answer>{[[0, 0, 1, 1]] * 8}</answer>", target={"boxes": boxes})
    done = run_command(["--task", "tracking", "--no-score-given-box"], [row])
    assert json.loads(done.stdout)["rewards"] == {"format": 1.0, "iou": 0.25}


def test_scoring_needs_no_torch():
    code = "import sys, videochat_r1.commands.score; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
