"""MathVista: the authors' reading of plain answers beside ours."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_judge import ScriptedJudge
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.benchmarks.mathvista import is_direct, normalised
from videochat_r1.evaluation.reports.summary import result_table
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.judge import JudgeConfig
from videochat_r1.judge.rule_server import MODEL, RuleJudgeServer
from videochat_r1.sample import Pictures

MATHVISTA = BENCHMARKS["mathvista"]


def problem(answer_type: str, answer: str, choices: list[str] | None = None, **values: object) -> dict[str, Any]:
    metadata = {
        "language": "english",
        "source": "X",
        "task": "figure QA",
        "skills": ["logical reasoning", "arithmetic"],
    }
    kind = "multi_choice" if choices else "free_form"
    row = {"question": "How much?", "image": "images/1.jpg", "choices": choices, "unit": None, "precision": None}
    return row | {"answer": answer, "question_type": kind, "answer_type": answer_type, "metadata": metadata} | values


def write(folder: Path) -> Path:
    path = folder / "testmini.json"
    problems = {
        "12": problem("text", "145°", ["135°", "145°"]),
        "3": problem("integer", "5"),
        "4": problem("float", "1.2", precision=1, unit="m"),
        "225": problem("list", "[0, 2]"),
    }
    path.write_text(json.dumps(problems))
    return path


def test_ids_are_pids_in_file_order(tmp_path: Path) -> None:
    samples = MATHVISTA.load(Source(write(tmp_path), videos=tmp_path))
    assert [sample.id for sample in samples] == ["12", "3", "4", "225"]
    assert samples == MATHVISTA.load(Source(tmp_path, videos=tmp_path))
    assert samples[0].media == Pictures((str(tmp_path / "images" / "1.jpg"),))
    assert samples[2].query.startswith("How much? (Unit: m)\n") and "1 decimal place." in samples[2].query
    assert MATHVISTA.groups(samples[0])["skills"] == ("logical reasoning", "arithmetic")
    (tmp_path / "testmini.json").write_text(json.dumps({"1": problem("colour", "red")}))
    with pytest.raises(DataError, match="pid '1': 'answer_type' is 'colour'"):
        MATHVISTA.load(Source(tmp_path))


CHOICES = {"answer_type": "text", "precision": 0, "choices": ("five", "(B) x", "Beta")}


@pytest.mark.parametrize(
    ("text", "problem", "prediction", "direct"),
    [
        ("five", CHOICES, "five", True),
        ("A", CHOICES, "five", True),
        ("(a)", CHOICES, "five", True),
        ("(B)", CHOICES, "(B) x", True),
        ("(B) x", CHOICES, "(B) x", True),
        ("(E)", CHOICES, "five", True),
        ("", CHOICES, "five", True),
        ("AB", CHOICES, "five", False),
        ("The answer is (C).", CHOICES, "Beta", False),
        ("Betas", CHOICES, "Beta", False),
        ("5", {"answer_type": "integer"}, "5", True),
        ("5.9", {"answer_type": "integer"}, "5", True),
        ("five", {"answer_type": "integer"}, None, False),
        ("inf", {"answer_type": "integer"}, None, True),
        ("", {"answer_type": "integer"}, None, True),
        ("1.25", {"answer_type": "float", "precision": 1}, "1.2", True),
        ("1", {"answer_type": "float", "precision": 2}, "1.0", True),
        ("1.2 m", {"answer_type": "float", "precision": 1}, None, False),
        ("[0, 2]", {"answer_type": "list"}, "[0, 2]", True),
        ("0, 2", {"answer_type": "list"}, "0, 2", False),
    ],
)
def test_the_authors_normalisation(text: str, problem: dict[str, Any], prediction: str | None, direct: bool) -> None:
    problem = {"choices": (), **problem}
    assert (normalised(text, problem), is_direct(text, problem)) == (prediction, direct)


def test_answers_that_take_a_language_model_are_left_out_of_the_official_accuracy(tmp_path: Path) -> None:
    samples = MATHVISTA.load(Source(write(tmp_path)))
    answers = ["The answer is B", "5 apples", "1.25", None]
    rows = [Prediction(sample.id, answer) for sample, answer in zip(samples, answers, strict=True)]
    results = score_answers(MATHVISTA, samples, rows, ScoringOptions(untagged=True, bootstrap=10)).results
    metrics = results["metrics"]
    assert (metrics["accuracy"], metrics["accuracy_official"], metrics["direct_official"]) == (0.5, 0.5, 0.5)
    assert metrics["accuracy_as_written"] == 0.25
    assert results["unread"]["no judge was named"] == {"count": 2, "first": ["12", "3"]}
    assert "2 that only a judge can read" in result_table(results | {"settings": {}})
    assert results["by"]["answer_type"]["integer"]["accuracy_official"] is None
    assert results["by"]["skills"]["arithmetic"]["num_samples"] == 4


@pytest.mark.parametrize(
    ("answer", "reply", "right"),
    [
        ("The answer is B, since", {"option": "B"}, 1.0),
        ("The answer is B, since", {"option": "none"}, 0.0),
        ("There are five, or 5.", {"answer": "5"}, 1.0),
        ("There are five, or 5.", {"answer": "five"}, 0.0),
    ],
)
def test_a_judge_extracts_what_is_not_direct(tmp_path: Path, answer: str, reply: dict[str, str], right: float) -> None:
    sample = MATHVISTA.load(Source(write(tmp_path)))["answer" in reply]
    assert MATHVISTA.is_left_to_judge(answer, sample)
    judgement = asyncio.run(MATHVISTA.read_with_judge(ScriptedJudge(**reply), answer, sample))
    assert judgement.scores == {"accuracy_official": right, "direct_official": 1.0}
    direct = f"Well. <answer>{'5' if 'answer' in reply else 'b'}</answer>"
    assert not MATHVISTA.is_left_to_judge(direct.replace("b", "(b)"), sample)


def test_what_a_judge_extracts_counts_beside_what_is_direct(tmp_path: Path) -> None:
    samples = MATHVISTA.load(Source(write(tmp_path)))
    answers = ["It has to be (B)", "5 apples", "1.25", "Nothing at all"]
    rows = [Prediction(sample.id, answer) for sample, answer in zip(samples, answers, strict=True)]
    with RuleJudgeServer() as server:
        judge = JudgeConfig(base_url=server.base_url, model=MODEL, cache_dir=None)
        evaluation = score_answers(MATHVISTA, samples, rows, ScoringOptions(untagged=True, bootstrap=0, judge=judge))
    results = evaluation.results
    assert (results["metrics"]["accuracy_official"], results["metrics"]["direct_official"]) == (0.75, 1.0)
    assert results["num_unscored"] == 0 and results["unread"] == {} and results["judge"]["model"] == MODEL
    assert evaluation.rows[0]["verdicts"] == {"extracted": "B"} and "verdicts" not in evaluation.rows[2]


def test_the_real_file(shared_dir: Path) -> None:
    samples = MATHVISTA.load(Source(shared_dir / "annotations" / "mathvista" / "testmini.json"))
    assert len(samples) == MATHVISTA.num_samples["all"] and samples[0].id == "1"
    rows = [Prediction(sample.id, sample.extra["answer"]) for sample in samples]
    metrics = score_answers(MATHVISTA, samples, rows, ScoringOptions(untagged=True, bootstrap=0)).results["metrics"]
    # The options of two questions are letters in brackets, in another order, which the authors take for places.
    assert (metrics["accuracy_official"], metrics["direct_official"]) == (0.998, 1.0)
    assert metrics["accuracy"] > 0.99
