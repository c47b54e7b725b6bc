"""Dream-1k from annotations to F1: both published forms, AutoDQ by hand, a judge over real HTTP, unscored captions."""

import json
from pathlib import Path

import pytest

from videochat_r1.cli import main
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.reports.summary import result_table
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.judged import NO_JUDGE, check_judge
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.judge import JudgeConfig
from videochat_r1.judge.prompts import PROMPT_VERSION
from videochat_r1.judge.rule_server import RuleJudgeServer

DOOR, DOG = "A man opens a door.", "A dog barks."


def row(number, subset, events, **extra):
    """A row in the form of the authors' first release."""
    return {
        "idx": number,
        "dataset": f"DREAM/{subset}",
        "text": {"prompt": "<video>\nDescribe the video in detail.", "response": " ".join(events)},
        "video_file": "<placeholder>",
        "extra_info": {
            "duration": 5.0,
            "n_subjects": 1,
            "n_shots": 2,
            "events": events,
            "n_events": len(events),
            **extra,
        },
        "vid": number,
    }


def as_chat(values):
    """The same row in the form of the second release."""
    parts = [
        {"type": "video", "video": {"video_file": "elsewhere/1.mp4"}, "text": None, "reference": None},
        {"type": "text", "text": "Describe the video in detail.", "video": None, "reference": None},
    ]
    answer = [{"type": "text", "text": "", "reference": values["text"]["response"], "video": None}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    subset = {"DREAM/shorts": "DREAM/vertical_video", "DREAM/stock": "DREAM/videvo"}
    kept = {key: value for key, value in values.items() if key not in ("text", "video_file")}
    return {**kept, "messages": messages, "dataset": subset.get(values["dataset"], values["dataset"])}


ROWS = [
    row(1, "youtube", [DOOR, DOG]),
    row(2, "youtube", [DOOR, DOG]),
    row(3, "youtube", [DOOR, DOG], n_shots=7),
    row(4, "stock", [DOOR]),
    row(5, "stock", [DOG]),
]
ANSWERS = {
    "1": "A man opens a door. A cat sleeps. A bird sings. A bus stops.",  # recall 1/2, precision 1/4
    "2": "A man opens a door. A dog barks.",  # 1, 1
    "3": None,  # failed: 0, 0
    "4": "A man opens a door.",  # 1, 1
    "5": "A cat sleeps.",  # 0, 0
}


@pytest.fixture
def server():
    with RuleJudgeServer() as running:
        yield running


@pytest.fixture
def world(tmp_path, server):
    """Annotations, predictions and a judge."""
    (tmp_path / "dream.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    answers = [{"id": name, "completion": text and f"<answer>{text}</answer>"} for name, text in ANSWERS.items()]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    lines = [f"base_url: {server.base_url}", "model: rules", f"cache_dir: {tmp_path / 'cache'}", "max_attempts: 2"]
    (tmp_path / "judge.yaml").write_text("\n".join([*lines, "backoff_seconds: 0.01"]))
    return tmp_path


def score(world, *flags, judge=True):
    named = ["--judge", str(world / "judge.yaml")] if judge else []
    return main(
        ["eval", "--benchmark", "dream1k", "--annotations", str(world / "dream.jsonl"), "--output", str(world / "out"),
         "--predictions", str(world / "answers.jsonl"), "--bootstrap", "50", *named, *flags]
    )  # fmt: skip


def results(world):
    return json.loads((world / "out" / "results.json").read_text())


def rows_of(world):
    return [json.loads(line) for line in (world / "out" / "samples.jsonl").read_text().splitlines()]


def test_both_published_forms_are_read_alike(tmp_path: Path) -> None:
    loaded = []
    for name, rows in (("first", ROWS), ("second", list(map(as_chat, ROWS)))):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        loaded.append(BENCHMARKS["dream1k"].load(Source(tmp_path / f"{name}.jsonl")))
        stock = BENCHMARKS["dream1k"].load(Source(tmp_path / f"{name}.jsonl", subset="stock"))
        assert [sample.id for sample in stock] == ["4", "5"]
    assert loaded[0] == loaded[1]
    first = loaded[0][0]
    assert (first.id, first.media.path, first.query, first.duration) == (
        "1",
        "1.mp4",
        "Describe the video in detail.",
        5.0,
    )
    assert first.target.caption == f"{DOOR} {DOG}" and first.target.events == (DOOR, DOG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "DREAM/news"}, "row 1.*'DREAM/news'; expected"),
        ({"extra_info": None}, "row 1, 'extra_info'"),
        ({"text": {"prompt": "x"}}, "row 1, 'text'.*'response'"),
        ({"extra_info": {"events": [1]}}, r"'events'\[0\] should be text"),
        ({"extra_info": {"events": [DOOR], "n_shots": "four"}}, "'n_shots' should be a number"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "dream.jsonl").write_text(json.dumps({**ROWS[0], **change}))
    with pytest.raises(DataError, match=message):
        BENCHMARKS["dream1k"].load(Source(tmp_path / "dream.jsonl"))


def test_ids_stand_in_file_order(world, capsys):
    assert main(["data", "ids", "--benchmark", "dream1k", "--annotations", str(world / "dream.jsonl")]) == 0
    assert capsys.readouterr().out.split() == ["1", "2", "3", "4", "5"]


def test_autodq_by_hand(world, capsys):
    assert score(world) == 0
    found = results(world)
    youtube, stock = ((0.5 + 1 + 0) / 3, (0.25 + 1 + 0) / 3), (0.5, 0.5)
    recall, precision = (youtube[0] + stock[0]) / 2, (youtube[1] + stock[1]) / 2
    f1 = 2 * precision * recall / (precision + recall)
    metrics = found["metrics"]
    assert (metrics["recall"], metrics["precision"]) == (pytest.approx(recall), pytest.approx(precision))
    assert metrics["F1"] == pytest.approx(f1), "of the means, not the mean of the samples'"
    assert metrics["F1_official"] == metrics["F1"], "where both sides have events"
    subsets = found["by"]["subset"]
    assert (subsets["youtube"]["recall"], subsets["youtube"]["precision"]) == pytest.approx(youtube)
    assert subsets["youtube"]["F1"] == pytest.approx(2 * youtube[0] * youtube[1] / sum(youtube))
    assert (subsets["stock"]["num_samples"], subsets["stock"]["F1"]) == (2, pytest.approx(0.5))
    assert found["by"]["shots"]["4 or more"]["num_samples"] == 1
    low, high = found["ci95"]["F1"]
    assert low <= f1 <= high
    assert found["judge"]["model"] == "rules" and found["judge"]["prompt_version"] == PROMPT_VERSION
    assert (found["num_unscored"], found["num_failed"]) == (0, 1)
    assert rows_of(world)[0]["verdicts"]["precision"][:2] == [
        ["A man opens a door", "entailment"],
        ["A cat sleeps", "neutral"],
    ]
    printed = capsys.readouterr().out
    assert "judge: rules, prompts 1; 0 unscored" in printed and "F1 by subset: stock 50.00 (2)" in printed
    assert "AutoDQ" in (world / "out" / "report.html").read_text()


def test_a_side_without_events_has_one_by_the_official_rule(world):
    (world / "dream.jsonl").write_text(json.dumps({**row(1, "youtube", []), "text": {"prompt": "x", "response": DOOR}}))
    (world / "answers.jsonl").write_text(json.dumps({"id": 1, "completion": "<answer>...</answer>"}))
    assert score(world) == 0
    found = results(world)["metrics"]
    assert [found[name] for name in ("precision", "recall", "F1")] == [0.0, 0.0, 0.0]
    assert [found[f"{name}_official"] for name in ("precision", "recall", "F1")] == [1.0, 1.0, 1.0]
    (world / "answers.jsonl").write_text(json.dumps({"id": 1, "completion": None}))
    assert score(world) == 0 and results(world)["metrics"]["F1_official"] == 0.0, "a failure is 0 by either rule"


def test_what_cannot_be_judged_is_counted_and_left_out_of_the_means(world, server, capsys):
    server.poison = "bird"
    assert score(world) == 0
    found = results(world)
    assert found["num_unscored"] == 1 and found["num_samples"] == 5
    ((reason, kind),) = found["unscored"].items()
    assert "HTTP 500" in reason and kind == {"count": 1, "first": ["1"]}
    assert found["by"]["subset"]["youtube"]["recall"] == pytest.approx(0.5), "of two, one of which failed"
    assert rows_of(world)[0]["scores"] is None
    assert "1 unscored" in capsys.readouterr().out
    server.poison = None
    asked = server.counts["requests"]
    assert main(["eval", "--rescore", str(world / "out")]) == 0, "by the recorded judge, the rest from its cache"
    assert results(world)["num_unscored"] == 0
    assert server.counts["requests"] - asked <= 1 + 1 + 3


def test_a_judge_is_required_checked_and_refused_where_nobody_asks_it(world, server, capsys):
    assert score(world, judge=False) == 2
    assert "--judge YAML" in capsys.readouterr().err
    server.stop()
    assert score(world) == 2
    assert f"{server.base_url} cannot be asked" in capsys.readouterr().err
    assert not (world / "out").exists()
    with pytest.raises(ConfigError, match="mvbench is scored without a judge"):
        check_judge(BENCHMARKS["mvbench"], JudgeConfig(base_url=server.base_url, model="rules"), required=False)


def test_without_a_judge_a_model_run_leaves_every_caption_unscored(world):
    benchmark = BENCHMARKS["dream1k"]
    check_judge(benchmark, None, required=False)
    samples = benchmark.load(Source(world / "dream.jsonl"))
    answers = [Prediction(sample.id, "<answer>A dog barks.</answer>") for sample in samples]
    found = score_answers(benchmark, samples, answers, ScoringOptions()).results
    assert found["unscored"] == {NO_JUDGE: {"count": 5, "first": ["1", "2", "3", "4", "5"]}}
    assert found["metrics"] == {} and found["judge"] is None, "nothing is made up"
    found["settings"] = {}
    assert "5 unscored" in result_table(found)
