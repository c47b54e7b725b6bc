"""`benchmarks/temporal_contrast.py` on the smallest sizes: every part is made once, and what is made is summed up."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parent.parent / "benchmarks" / "temporal_contrast.py"
SIZES = ["--num-train", "12", "--num-eval", "2", "--sft-updates", "1", "--updates", "1", "--seeds", "1"]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *SIZES, *arguments])
    capsys.readouterr()
    runpy.run_path(str(PROGRAM), run_name="__main__")
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_parts_are_made_once_and_summed_up(tmp_path, monkeypatch, capsys) -> None:
    usual = ("--output", str(tmp_path), "--scales", "group", "--json")
    first = run(monkeypatch, capsys, *usual, "--parts", "grpo-group-0")
    parts = tmp_path / "parts"
    assert {path.stem for path in parts.iterdir()} == {"start", "grpo-group-0"}
    assert set(first) == {"start", "GRPO, scale_rewards group"}
    times = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
    done = run(monkeypatch, capsys, *usual)
    assert {path.stem for path in parts.iterdir()} == {"start", "grpo-group-0", "t-grpo-group-0"}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert done["GRPO, scale_rewards group"] == first["GRPO, scale_rewards group"]
    gain = done["T-GRPO - GRPO, scale_rewards group"]
    for condition in ("ordered", "shuffled"):
        mean, low, high = gain[condition]
        assert low <= mean <= high and gain[f"{condition}, by seed"] == [pytest.approx(mean)]
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, *usual, "--parts", "grpo-none-0")
