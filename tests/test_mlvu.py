"""MLVU: seven tasks that weigh the same, and the authors' check beside ours."""

import json
from pathlib import Path

import pytest

from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.files import rescore, score_predictions
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.judge import JudgeConfig
from videochat_r1.judge.rule_server import RuleJudgeServer
from videochat_r1.sample import Sample

MLVU = BENCHMARKS["mlvu"]
ROW = {"video": "v_1.mp4", "duration": 246, "question": "What colour?", "candidates": ["Red", "Blue"], "answer": "Blue"}


def write(folder: Path, name: str, count: int, **values: object) -> Path:
    path = folder / f"{name}.json"
    rows = [ROW | {"question_type": name.partition("_")[2]} | values for _ in range(count)]
    path.write_text(json.dumps(rows))
    return path


def test_every_task_weighs_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "1_plotQA", 3)
    write(tmp_path, "3_ego", 1)
    samples = MLVU.load(Source(tmp_path))
    assert [sample.id for sample in samples] == ["plotQA/v_1_0", "plotQA/v_1_1", "plotQA/v_1_2", "ego/v_1_0"]
    assert "M-Avg is the mean of 2 of MLVU's 7 tasks" in caplog.text
    answers = ["B) Blue", "(B)", "Blue", "A"]
    rows = [Prediction(sample.id, answer) for sample, answer in zip(samples, answers, strict=True)]
    results = score_answers(MLVU, samples, rows, ScoringOptions(untagged=True, bootstrap=0)).results
    metrics = results["metrics"]
    assert results["headline"] == "M-Avg" and (metrics["M-Avg"], metrics["accuracy"]) == (0.5, 0.75)
    assert metrics["M-Avg_official"] == pytest.approx(1 / 6) and metrics["accuracy_official"] == 0.25
    assert results["by"]["task"]["plotQA"]["M-Avg"] == 1.0


def test_videos_lie_by_task_or_together(tmp_path: Path) -> None:
    path = write(tmp_path, "2_needle", 1)
    (tmp_path / "video" / "2_needle").mkdir(parents=True)
    (sample,) = MLVU.load(Source(path, videos=tmp_path / "video"))
    assert sample.media.path == str(tmp_path / "video" / "2_needle" / "v_1.mp4")
    (sample,) = MLVU.load(Source(path, videos=tmp_path))
    assert sample.media.path == str(tmp_path / "v_1.mp4")


OPEN = {
    "8_sub_scene": {"question": "Describe the door.", "answer": "A man opens a door.", "scoring_points": ["A man opens a door.", "A dog barks."]},
    "9_summary": {"question": "Summarize the video.", "answer": "A man opens a door. A dog barks."},
}  # fmt: skip


def open_questions(folder: Path) -> list[Sample]:
    write(folder, "1_plotQA", 1)
    for name, values in OPEN.items():
        write(folder, name, 2, **values)
    return MLVU.load(Source(folder))


def test_open_questions_are_rated_by_a_judge(tmp_path: Path) -> None:
    samples = open_questions(tmp_path)
    answers = ["B", "A man opens a door.", None, "A dog barks.", "A man opens a door. A dog barks."]
    rows = [Prediction(sample.id, answer) for sample, answer in zip(samples, answers, strict=True)]
    without = score_answers(MLVU, samples, rows, ScoringOptions(untagged=True, bootstrap=0)).results
    assert without["num_unscored"] == 4 and without["metrics"]["M-Avg"] == 1.0 and "G-Avg" not in without["metrics"]
    with RuleJudgeServer() as server:
        judge = JudgeConfig(base_url=server.base_url, model="rules", cache_dir=None)
        results = score_answers(MLVU, samples, rows, ScoringOptions(untagged=True, bootstrap=0, judge=judge)).results
    # Points 5 and 1, relevance 5; nothing; completeness 3, reliability 5; 5 and 5.
    expected = {"sub_scene_accuracy": 0.3, "sub_scene_relevance": 0.5, "summary_completeness": 0.8, "summary_reliability": 1.0,
                "G-Avg": (0.4 + 0.9) / 2, "M-Avg": 1.0, "accuracy": 1.0, "M-Avg_official": 1.0, "parse_rate": 0.8}  # fmt: skip
    assert {name: results["metrics"][name] for name in expected} == pytest.approx(expected)
    assert results["num_unscored"] == 0 and results["by"]["task"]["summary"]["M-Avg"] is None


def test_open_questions_may_have_no_answer_where_there_is_no_judge(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_questions(tmp_path)
    (tmp_path / "answers.jsonl").write_text('{"id": "plotQA/v_1_0", "completion": "B"}\n')
    out, options = tmp_path / "out", ScoringOptions(untagged=True, bootstrap=0)
    results = score_predictions("mlvu", Source(tmp_path), tmp_path / "answers.jsonl", out, options)
    assert (results["num_samples"], results["num_failed"], results["metrics"]["M-Avg"]) == (1, 0, 1.0)
    assert "4 questions that only a judge can score and that have no answer are left out" in caplog.text
    assert rescore(out, out, None)["metrics"] == results["metrics"]
    judge = JudgeConfig(base_url="http://127.0.0.1:9/v1", model="rules")
    with pytest.raises(DataError, match="ids without a prediction: sub_scene/v_1_0"):
        rescore(out, out, ScoringOptions(judge=judge))


def test_a_part_of_open_questions_has_a_headline_of_its_own(tmp_path: Path) -> None:
    open_questions(tmp_path)
    samples = MLVU.load(Source(tmp_path / "9_summary.json"))
    assert samples == MLVU.load(Source(tmp_path, subset="summary")) and MLVU.headline(samples[0].task) == "G-Avg"


def test_the_test_set_has_ids(tmp_path: Path) -> None:
    path = write(tmp_path, "test_mcq_gt", 1, question_id="AR_0", question_type="anomaly_reco")
    (sample,) = MLVU.load(Source(path, subset="test"))
    assert (sample.id, sample.target.answer) == ("AR_0", "B")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none of MLVU's files"):
        MLVU.load(Source(tmp_path / "empty"))


def test_the_real_files(shared_dir: Path) -> None:
    folder = shared_dir / "annotations" / "mlvu"
    for subset in ("all", "multiple-choice", "sub_scene", "summary"):
        assert len(MLVU.load(Source(folder, subset=subset))) == MLVU.num_samples[subset]
    samples = MLVU.load(Source(folder))
    assert (samples[2174].id, samples[2175].id) == ("topic_reasoning/game_23_263", "subPlot/subPlot_new_all_126_0")
    truths = [Prediction(sample.id, sample.target.answer) for sample in samples]
    results = score_answers(MLVU, samples, truths, ScoringOptions(untagged=True, bootstrap=0)).results
    metrics = results["metrics"]
    # No answer is right to two of the 355 questions of needle.
    expected = (6 + 353 / 355) / 7
    assert metrics["M-Avg"] == pytest.approx(expected) and metrics["M-Avg_official"] == pytest.approx(expected)
    assert metrics["accuracy"] == pytest.approx(2173 / 2175)
    assert results["num_unscored"] == 201 + 217
