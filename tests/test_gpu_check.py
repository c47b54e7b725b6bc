"""`benchmarks/gpu_check.py`: a stage that is cut off, fails or finds something wrong takes no figure with it."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import gpu_check

    return gpu_check


def cut_off(record: Callable[..., None], sizes: object) -> None:
    record("first", 1.5)
    time.sleep(60)
    record("last", 2.5)


def failing(record: Callable[..., None], sizes: object) -> None:
    record("before", [{"shape": "2 x 3", "right": True}])
    raise ValueError("no such kernel")


def wrong(record: Callable[..., None], sizes: object) -> None:
    record("wrong", ["8 x 64"])


def sound(record: Callable[..., None], sizes: object) -> None:
    record("milliseconds", 7.0)


def test_a_cut_off_run_keeps_what_it_found(
    gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from on_gpu.stages import Stage

    runs = {"sound": sound, "cut_off": cut_off, "failing": failing, "wrong": wrong}
    monkeypatch.setattr(gpu_check, "STAGES", {name: Stage(run, 1.0) for name, run in runs.items()})
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--small", "--output", str(tmp_path)])
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)  # pytest's would not end up in the stage's log
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code == 1
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found["sound"] == {"milliseconds": 7.0, "stage": "done"} | {
        "seconds of the stage": found["sound"]["seconds of the stage"]
    }
    assert (found["cut_off"]["first"], found["cut_off"]["stage"]) == (1.5, "cut off after 1 s")
    assert found["failing"]["stage"] == "failed, see failing.log"
    assert "no such kernel" in found["failing"]["the end of its output"]
    assert gpu_check.Report(tmp_path).failed == ["cut_off", "failing", "wrong"]
    tables = (tmp_path / "gpu_check.md").read_text()
    assert tables in capsys.readouterr().out
    for line in ("## sound", "| milliseconds | 7 |", "| first | 1.5 |", "| 2 x 3 | True |", "* 8 x 64"):
        assert line in tables
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["cut_off.log", "failing.log"]


def test_what_has_no_time_left_is_left_out_and_one_stage_is_taken_again_alone(
    gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpu_check.json").write_text(json.dumps({"tower": {"ms": 3.0, "stage": "done"}}))
    monkeypatch.setattr(
        sys, "argv", ["gpu_check.py", "--minutes", "0.1", "--stages", "zero3", "--output", str(tmp_path)]
    )
    with pytest.raises(SystemExit):
        gpu_check.main()
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found["tower"] == {"ms": 3.0, "stage": "done"}
    assert found["zero3"]["stage"] == "left out: no time"
