"""LVBench: options below the question, questions of several categories, the authors' letter rule."""

import json
from pathlib import Path

import pytest

from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.sample import ChoiceTarget

LVBENCH = BENCHMARKS["lvbench"]
QUESTION = "What year is shown (at first)?\n(A) 1636\n(B) 1366 (the\nleap year)\n(C) 1363\n(D) 1633"


def write(folder: Path, question: str = QUESTION) -> Path:
    questions = [
        {"uid": "7", "question": question, "answer": "B", "question_type": ["reasoning", "summarization"]},
        {
            "uid": "9",
            "question": question,
            "answer": "D",
            "question_type": ["reasoning"],
            "time_reference": "00:01-00:05",
        },
    ]
    video = {"key": "Cm73ma6Ibcs", "type": "cartoon", "video_info": {"duration_minutes": 60}, "qa": questions}
    path = folder / "video_info.meta.jsonl"
    path.write_text(json.dumps(video) + "\n")
    return path


def test_options_are_the_lines_below_the_question(tmp_path: Path) -> None:
    first, second = LVBENCH.load(Source(write(tmp_path), videos=tmp_path))
    assert (first.id, second.id, first.media.path) == ("7", "9", str(tmp_path / "Cm73ma6Ibcs.mp4"))
    assert first.query == "What year is shown (at first)?"
    assert first.target == ChoiceTarget(("1636", "1366 (the\nleap year)", "1363", "1633"), "B")
    with pytest.raises(DataError, match="question 1: 'question' has no option"):
        LVBENCH.load(Source(write(tmp_path, "What?")))


def test_a_question_counts_in_each_of_its_categories(tmp_path: Path) -> None:
    samples = LVBENCH.load(Source(write(tmp_path)))
    rows = [Prediction("7", "B"), Prediction("9", "A")]
    results = score_answers(LVBENCH, samples, rows, ScoringOptions(untagged=True, bootstrap=0)).results
    by = results["by"]["question_type"]
    assert {name: (group["num_samples"], group["accuracy"]) for name, group in by.items()} == {
        "reasoning": (2, 0.5),
        "summarization": (1, 1.0),
    }
    assert results["by"]["type"]["cartoon"]["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        *[(text, True) for text in ("B", "(B) 1366", " B) x", "It is ( B )", "B.", "Bananas")],
        *[(text, False) for text in ("Answer: B", "b", "(A) or (B)", "", ")B", "(")],
    ],
)
def test_the_authors_letter_rule(text: str, is_right: bool) -> None:
    assert LVBENCH.is_officially_right(text, ChoiceTarget(("a", "b"), "B")) is is_right
