"""POPE: the authors' word rule and numbers beside ours."""

import json
from pathlib import Path

import pytest

from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.benchmarks.pope import official_label
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.sample import Pictures

POPE = BENCHMARKS["pope"]


def write(folder: Path, subset: str, labels: str) -> Path:
    path = folder / f"coco_pope_{subset}.json"
    names = {"y": "yes", "n": "no"}
    rows = [
        {"question_id": n, "image": f"{n}.jpg", "text": "Is there a cat in the image?", "label": names[label]}
        for n, label in enumerate(labels, start=1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def metrics(path: Path, answers: list[str | None], *, untagged: bool = True) -> dict[str, float | None]:
    samples = POPE.load(Source(path))
    rows = [Prediction(sample.id, answer) for sample, answer in zip(samples, answers, strict=True)]
    return score_answers(POPE, samples, rows, ScoringOptions(untagged=untagged, bootstrap=5)).results["metrics"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("yes", "yes"),
        ("No, there is none", "no"),
        ("There is not. Yes", "no"),
        ("I see one. There is no second", "yes"),
        ("NO", "yes"),
        ("no\nyes", "yes"),
        ("It's not,", "no"),
        ("Nothing", "yes"),
        ("", "yes"),
    ],
)
def test_the_authors_word_rule(text: str, label: str) -> None:
    assert official_label(text) == label


def test_the_numbers_are_those_of_the_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "random", "yyyynnnn")
    found = metrics(path, ["yes", "Yes.", "no", "Maybe", "no", "No", "yes", None])
    # As we read: TP 2, FP 1, TN 2; by the authors' rule "Maybe" is a yes, and what was not answered is neither.
    ours = {"TP": 2 / 8, "accuracy": 4 / 8, "precision": 2 / 3, "recall": 2 / 4, "yes_ratio": 3 / 8, "F1": 4 / 7}
    official = {"TP": 3 / 8, "accuracy": 5 / 8, "precision": 3 / 4, "recall": 3 / 4, "yes_ratio": 4 / 8, "F1": 3 / 4}
    expected = ours | {f"{name}_official": value for name, value in official.items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert set(found) - set(expected) == {"parse_rate"}


def test_nothing_but_no_has_no_precision(tmp_path: Path) -> None:
    found = metrics(write(tmp_path, "random", "yn"), ["<answer>no</answer>"] * 2, untagged=False)
    assert (found["precision"], found["recall"], found["F1"], found["accuracy"]) == (0.0, 0.0, 0.0, 0.5)


def test_a_file_a_folder_and_its_subsets(tmp_path: Path) -> None:
    path = write(tmp_path, "popular", "yn")
    write(tmp_path, "adversarial", "n")
    assert [sample.id for sample in POPE.load(Source(tmp_path))] == ["popular/1", "popular/2", "adversarial/1"]
    assert [sample.id for sample in POPE.load(Source(path))] == ["popular/1", "popular/2"]
    (sample,) = POPE.load(Source(tmp_path, videos=tmp_path, subset="adversarial"))
    assert sample.media == Pictures((str(tmp_path / "1.jpg"),)) and POPE.groups(sample) == {"subset": "adversarial"}
    with pytest.raises(DataError, match=r"expected coco_pope_random\.json"):
        POPE.load(Source(tmp_path / "answers.json"))


def test_the_real_files(shared_dir: Path) -> None:
    folder = shared_dir / "annotations" / "pope"
    samples = POPE.load(Source(folder))
    assert len(samples) == 6000 and samples[0].id == "random/1" and samples[3000].id == "popular/1"
    assert {len(POPE.load(Source(folder, subset=name))) for name in ("random", "popular")} == {3000}
    always = score_answers(
        POPE, samples, [Prediction(sample.id, "Yes, it is.") for sample in samples], ScoringOptions(bootstrap=0)
    )
    found = always.results["metrics"]
    assert (found["accuracy_official"], found["recall_official"], found["yes_ratio_official"]) == (0.5, 1.0, 1.0)
    assert found["F1_official"] == pytest.approx(2 / 3)
    assert always.results["baselines"]["random_choice"] == {"accuracy": 0.5}
    majority = always.results["baselines"]["majority_answer"]
    assert (majority["accuracy"], majority["F1"], majority["yes_ratio"]) == (0.5, 0.0, 0.0), (
        "no, the first of two as frequent"
    )
