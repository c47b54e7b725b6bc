"""MLVU: seven tasks that weigh the same, and the authors' check beside ours."""

import json
from pathlib import Path

import pytest

from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction

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
    write(tmp_path, "8_sub_scene", 1)
    samples = MLVU.load(Source(tmp_path))
    assert [sample.id for sample in samples] == ["plotQA/v_1_0", "plotQA/v_1_1", "plotQA/v_1_2", "ego/v_1_0"]
    assert "mean of 2 of MLVU's 7 tasks" in caplog.text and "open questions of sub_scene are left out" in caplog.text
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


def test_the_test_set_has_ids(tmp_path: Path) -> None:
    path = write(tmp_path, "test_mcq_gt", 1, question_id="AR_0", question_type="anomaly_reco")
    (sample,) = MLVU.load(Source(path, subset="test"))
    assert (sample.id, sample.target.answer) == ("AR_0", "B")
    with pytest.raises(DataError, match="has open questions"):
        MLVU.load(Source(write(tmp_path, "9_summary", 1)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none of MLVU's files"):
        MLVU.load(Source(tmp_path / "empty"))


def test_the_real_files(shared_dir: Path) -> None:
    folder = shared_dir / "annotations" / "mlvu"
    samples = MLVU.load(Source(folder))
    assert len(samples) == MLVU.num_samples["all"] and len({sample.extra["task"] for sample in samples}) == 7
    truths = [Prediction(sample.id, sample.target.answer) for sample in samples]
    metrics = score_answers(MLVU, samples, truths, ScoringOptions(untagged=True, bootstrap=0)).results["metrics"]
    # No answer is right to two of the 355 questions of needle.
    expected = (6 + 353 / 355) / 7
    assert metrics["M-Avg"] == pytest.approx(expected) and metrics["M-Avg_official"] == pytest.approx(expected)
    assert metrics["accuracy"] == pytest.approx(2173 / 2175)
