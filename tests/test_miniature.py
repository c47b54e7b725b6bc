"""`benchmarks/paper_in_miniature.py`: what a difference says to a claim, its parts, and a run of the smallest sizes."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(FOLDER))

from intervals import interval  # noqa: E402
from miniature import arms, claims, corpora, judges, page  # noqa: E402

HOLDS, FAILS, OPEN = "holds here", "does not hold here", "cannot be told at this size"
SIZES = ["--start-videos", "6", "--train-videos", "16", "--eval-videos", "5", "--start-updates", "1", "--seeds", "1"]


@pytest.mark.parametrize(
    ("expects", "low", "high", "says"),
    [
        ("more", 0.001, 0.1, HOLDS),
        ("more", -0.1, 0.019, FAILS),
        ("more", -0.01, 0.05, OPEN),
        ("less", -0.1, -0.001, HOLDS),
        ("less", -0.019, 0.1, FAILS),
        ("less", -0.05, 0.01, OPEN),
        ("same", -0.019, 0.019, HOLDS),
        ("same", 0.001, 0.03, FAILS),
        ("same", -0.03, -0.001, FAILS),
        ("same", -0.03, 0.01, OPEN),
        ("no less", -0.019, 0.1, HOLDS),
        ("no less", -0.1, -0.001, FAILS),
        ("no less", -0.03, 0.01, OPEN),
        ("no more", -0.1, 0.019, HOLDS),
        ("no more", 0.001, 0.1, FAILS),
        ("no more", -0.01, 0.03, OPEN),
    ],
)
def test_what_an_interval_says_to_a_claim(expects: Any, low: float, high: float, says: str) -> None:
    assert claims.verdict(expects, low, high) == says


def test_an_interval_is_of_questions_and_of_seeds() -> None:
    questions = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    alike = np.tile(questions, (3, 1))
    mean, low, high = interval(alike)
    assert low < mean < high and mean == pytest.approx(questions.mean())
    assert high - low == pytest.approx(4 * questions.std() / 200**0.5, rel=0.15)
    _, wider_low, wider_high = interval(alike + np.array([[-0.2], [0.0], [0.2]]))
    assert wider_high - wider_low > 2 * (high - low)
    assert interval(np.full((1, 4), 0.5)) == (0.5, 0.5, 0.5)


def test_a_difference_is_of_the_seeds_that_both_have() -> None:
    assert claims.difference([[1, 2], [3, 4]], [[1, 1], [1, 1], [9, 9]]).tolist() == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="broadcast"):
        claims.difference([[1, 2]], [[1, 2, 3]])


def test_claims_name_what_there_is() -> None:
    for name, part in claims.PARTS.items():
        for number in claims.numbers(name):
            assert number.arm in arms.ARMS or number.arm == arms.START
            assert number.asked in arms.ASKED
        for claim in part.claims:
            assert claim.expects in ("more", "less", "same", "no less", "no more")
    assert {sort for arm in arms.ARMS.values() for sort in arm.sorts} <= set(corpora.SORTS)


def test_judges_differ_in_what_is_enough() -> None:
    event = "A red square appears."
    for caption, careful, hasty in [
        ("A red square appears.", True, True),
        ("A red circle appears. A blue square appears.", False, True),
        ("A red circle appears.", False, True),
        ("A blue circle appears.", False, False),
        ("", False, False),
    ]:
        assert (judges.is_told(event, caption), judges.is_hinted(event, caption)) == (careful, hasty)
        target = {"caption": event, "events": [event]}
        assert judges.careful([f"<answer>{caption}</answer>"], target=[target]) == [float(careful)]
        assert judges.hasty([f"<answer>{caption}</answer>"], target=[target]) == [float(hasty)]
    scores = judges.caption_scores("A red square appears. A blue circle appears.", [event])
    assert scores == {"recall": 1.0, "precision": 0.5, "F1": pytest.approx(2 / 3)}


def test_a_shift_changes_one_thing() -> None:
    usual, *shifted = (
        draw(np.random.default_rng(5), 4.0, 8.0) for draw in (corpora.events_scene, *corpora.SHIFTS.values())
    )
    scenes = dict(zip(corpora.SHIFTS, shifted, strict=True))
    at = np.array([0.0])
    assert usual.draw(at, 28)[0, 0, 0].tolist() == list(corpora.BACKGROUND)
    assert scenes["pale"].draw(at, 28)[0, 0, 0].tolist() == list(corpora.GROUND)
    assert scenes["pale"].actors == usual.actors == scenes["worded"].actors
    sizes = [actor.size for actor in scenes["small"].actors]
    assert sizes == pytest.approx([corpora.SMALLER * actor.size for actor in usual.actors])
    assert scenes["crowded"].actors[:-1] == usual.actors
    assert corpora.LONGER[0] <= scenes["longer"].duration <= corpora.LONGER[1]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    program = FOLDER / "paper_in_miniature.py"
    monkeypatch.setattr(sys, "argv", [str(program), *SIZES, *arguments, "--json"])
    capsys.readouterr()
    runpy.run_path(str(program), run_name="__main__")
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_what_is_made_is_kept_and_summed_up(tmp_path, monkeypatch, capsys) -> None:
    """Of the whole run one part; the next finds all that was done, and makes what was lost."""
    usual = ("--output", str(tmp_path), "--parts", "g")
    first = run(monkeypatch, capsys, *usual)
    kept = tmp_path / "parts"
    made = {path.relative_to(kept).as_posix() for path in kept.rglob("*.json")}
    looks = {*(f"{asked}.json" for asked in arms.LOOKS), "training.json"}
    assert made == {f"{arm}/{name}" for arm in ("start-0", "grpo-clues-0") for name in looks}
    for finding in first["g"]["claims"].values():
        mean, low, high = finding["gain"]
        assert low <= mean <= high and finding["verdict"] in page.VERDICT_COLOURS
    assert first["g"]["cost"]["grpo-clues"]["updates"] == [1]
    assert "<svg" in (tmp_path / "miniature_g.svg").read_text()
    times = {path: path.stat().st_mtime_ns for path in kept.rglob("*.json")}
    (kept / "grpo-clues-0" / "long.json").unlink()
    shown = run(monkeypatch, capsys, *usual, "--show")
    assert None in shown["g"]["claims"].values() and not (kept / "grpo-clues-0" / "long.json").is_file()
    assert run(monkeypatch, capsys, *usual) == first
    again = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert again == {kept / "grpo-clues-0" / "long.json"}
