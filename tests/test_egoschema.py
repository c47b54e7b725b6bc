"""EgoSchema: questions joined with the answers that are public, which can be scored alone."""

import json
from pathlib import Path

import pytest

from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction

EGOSCHEMA = BENCHMARKS["egoschema"]


def write(folder: Path, *, questions: bool = True) -> None:
    (folder / "subset_answers.json").write_text(json.dumps({"u2": 4, "u1": 0}))
    rows = [
        {"q_uid": uid, "google_drive_id": "x", "question": "Why?", **{f"option {n}": f"text {n}" for n in range(5)}}
        for uid in ("u0", "u1", "u2")
    ]
    if questions:
        (folder / "questions.json").write_text(json.dumps(rows))


def test_questions_without_a_public_answer_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    samples = EGOSCHEMA.load(Source(tmp_path, videos=tmp_path))
    assert [(sample.id, sample.target.answer) for sample in samples] == [("u1", "A"), ("u2", "E")]
    assert samples[0].target.options[1] == "text 1" and samples[0].media.path == str(tmp_path / "u1.mp4")
    for name in ("questions.json", "subset_answers.json"):
        assert EGOSCHEMA.load(Source(tmp_path / name, videos=tmp_path)) == samples
        assert len(EGOSCHEMA.files(tmp_path / name)) == 2


def test_answers_alone_can_be_scored_but_not_asked(tmp_path: Path) -> None:
    write(tmp_path, questions=False)
    samples = EGOSCHEMA.load(Source(tmp_path / "subset_answers.json"))
    assert [sample.id for sample in samples] == ["u2", "u1"]
    with pytest.raises(DataError, match="a model cannot be asked without"):
        EGOSCHEMA.load(Source(tmp_path, videos=tmp_path))


@pytest.mark.parametrize(
    ("completion", "ours", "official"),
    [("4", 0.0, 1.0), ("E", 1.0, 1.0), ("<answer>(e)</answer>", 1.0, 0.0), ("5", 0.0, 0.0), ("", 0.0, 0.0)],
)
def test_numbers_of_options_are_answers_as_submitted(
    tmp_path: Path, completion: str, ours: float, official: float
) -> None:
    write(tmp_path, questions=False)
    rows = [Prediction("u2", completion), Prediction("u1", completion)]
    results = score_answers(EGOSCHEMA, EGOSCHEMA.load(Source(tmp_path)), rows, ScoringOptions(True, bootstrap=0))
    scores = results.rows[0]["scores"]
    assert (scores["accuracy"], scores["accuracy_official"]) == (ours, official)


def test_the_real_file(shared_dir: Path) -> None:
    path = shared_dir / "annotations" / "egoschema" / "subset_answers.json"
    samples = EGOSCHEMA.load(Source(path))
    truths = json.loads(path.read_text())
    assert [sample.id for sample in samples] == list(truths) and len(samples) == EGOSCHEMA.num_samples["all"]
    rows = [Prediction(uid, str(number)) for uid, number in truths.items()]
    metrics = score_answers(EGOSCHEMA, samples, rows, ScoringOptions(bootstrap=0)).results["metrics"]
    assert metrics["accuracy_official"] == 1.0
