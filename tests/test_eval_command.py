"""`videochat-r1 eval`: prediction files and their mistakes, scoring again, running a tiny model in shards and after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.video_files import write_video
from videochat_r1.cli import main
from videochat_r1.commands.eval import parse
from videochat_r1.errors import ConfigError, DataError, DivergedError
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.evaluation.reports.paper_tables import TABLES, PaperTable, paper_table
from videochat_r1.evaluation.running.folder import RunFolder
from videochat_r1.evaluation.scoring.predictions import SCORED_KEYS
from videochat_r1.tasks import TASKS

SPANS = {"V0": [[0.0, 1.0]], "V1": [[0.5, 1.5], [1.0, 2.0]], "V2": [[0.0, 2.0], [0.5, 1.0], [1.0, 3.0]], "V3": [[0, 1]]}
IDS = [f"{video}_{index}" for video, spans in SPANS.items() for index in range(len(spans))]


def write_annotations(path: Path, spans: dict[str, Any] = SPANS) -> Path:
    videos = {
        video: {"duration": 3.0, "timestamps": spans[video], "sentences": [f"event {i} of {video}" for i in range(len(spans[video]))]}
        for video in spans
    }  # fmt: skip
    path.write_text(json.dumps(videos))
    return path


def write_predictions(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def gold() -> list[dict[str, Any]]:
    return [
        {"id": f"{video}_{index}", "completion": f"<answer>{span[0]} to {span[1]}</answer>"}
        for video, spans in SPANS.items()
        for index, span in enumerate(spans)
    ]


def score(folder: Path, *more: str, predictions: Path | None = None) -> int:
    asked = f"eval --benchmark charades_sta --annotations {folder / 'test.json'} --output {folder / 'out'}"
    return main([*asked.split(), "--predictions", str(predictions or folder / "answers.jsonl"), *more])


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_annotations(tmp_path / "test.json")
    write_predictions(tmp_path / "answers.jsonl", gold())
    return tmp_path


# --- prediction files -----------------------------------------------------------------------------------------------


def test_a_prediction_file_is_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = gold()
    rows[0]["completion"] = "<answer>0 to 2</answer>"
    rows[1]["completion"] = "I do not know"
    write_predictions(folder / "answers.jsonl", rows[::-1])
    assert score(folder) == 0
    found = results(folder / "out")
    assert set(found) >= {"benchmark", "num_samples", "num_failed", "metrics", "ci95", "by", "baselines", "settings"}
    assert found["num_samples"] == 7 and found["num_failed"] == 1
    assert found["failures"] == {"unparsable": {"count": 1, "first": ["V1_0"]}}
    assert found["metrics"]["mIoU"] == pytest.approx(5.5 / 7)
    low, high = found["ci95"]["mIoU"]
    assert 0 <= low < found["metrics"]["mIoU"] < high <= 1
    assert found["baselines"]["best_constant_interval"] is None
    assert "--train-annotations" in found["baseline_notes"]["best_constant_interval"]
    samples = [json.loads(line) for line in (folder / "out" / "samples.jsonl").read_text().splitlines()]
    assert [sample["id"] for sample in samples] == IDS
    assert samples[0]["parsed"] == [0.0, 2.0] and samples[0]["scores"]["mIoU"] == pytest.approx(0.5)
    assert samples[0]["target"] == {"span": [0.0, 1.0], "duration": 3.0}
    shown = capsys.readouterr().out
    assert "1 failed (unparsable 1)" in shown and "whole_video" in shown


def test_train_annotations_give_the_constant_interval(folder: Path) -> None:
    assert score(folder, "--train-annotations", str(folder / "test.json")) == 0
    assert results(folder / "out")["baselines"]["best_constant_interval"]["mIoU"] > 0


def test_limit_scores_the_first_samples_and_leaves_other_predictions_alone(folder: Path) -> None:
    assert score(folder, "--limit", "2") == 0
    assert results(folder / "out")["num_samples"] == 2


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([*gold(), {"id": "zz", "completion": ""}], ["ids that the benchmark does not have: zz (1)"]),
        (gold()[2:], ["ids without a prediction: V0_0, V1_0 (2)"]),
        ([*gold(), gold()[3]], ["ids that occur more than once: V2_0 (1)"]),
        (
            [{"id": f"x{i}", "completion": ""} for i in range(12)] + gold()[:6] + gold()[:1],
            ["x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, ... (12 in all)", "without a prediction: V3_0", "once: V0_0"],
        ),
        ([*gold()[1:], '{"id": "V0_0", "completion"'], ["line 7: not one complete JSON object"]),
        ([*gold()[1:], {"id": "V0_0"}], ["line 7: no completion"]),
        ([*gold()[1:], {"id": "V0_0", "completion": 3}], ["line 7: completion is no text"]),
        ([*gold()[1:], ["V0_0", "x"]], ["line 7: not an object"]),
        ([*gold()[1:], {"id": "V0_0", "completion": "", "failure": 3}], ["line 7: failure is no text"]),
        ([*gold()[1:], {"id": "V0_0", "completion": "", "ended": [3]}], ["line 7: ended is none of stop, length, "]),
        (
            [*gold()[1:], '{"id": "V0_0", "completion": "", "x": ' + "[" * 60 + "]" * 60 + "}"],
            ["nested more than 50 deep"],
        ),
        ([*gold()[1:], '{"id": "V0_0", "completion": "a", "completion": "b"}'], ["line 7: ", "occur twice"]),
    ],
)
def test_mistakes_in_predictions_are_named_and_nothing_is_overwritten(
    folder: Path, rows: list[Any], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(folder) == 0
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    bad = write_predictions(folder / "bad.jsonl", rows)
    assert score(folder, predictions=bad) == 2
    message = capsys.readouterr().err
    assert all(words in message for words in expected), message
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before
    assert score(folder, predictions=folder / "nowhere.jsonl") == 2


def samples_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of `samples.jsonl`, which has to be strict JSON."""
    lines = (folder / "samples.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines]


WRONG: dict[str, Any] = {name: "mine" for name in SCORED_KEYS if name not in ("id", "completion")} | {
    "failure": "unparsable",
    "scores": {"mIoU": 1.0, "mine": 1.0},
    "clue_perception": {"passes": [1]},
    "logprobs": [float("nan"), {"top": [float("inf"), -1.0]}],
    "frame_size": [float("nan"), 0],
    "note": "half of \ud83d a pair",
}


@pytest.mark.parametrize("key", WRONG)
def test_further_keys_of_a_prediction_never_stand_for_computed_ones(folder: Path, key: str) -> None:
    rows = [row | {"completion": "<answer>2.5 to 3</answer>"} for row in gold()]
    assert score(folder, predictions=write_predictions(folder / "plain.jsonl", rows)) == 0
    plain, samples = results(folder / "out"), samples_of(folder / "out")
    marked = write_predictions(folder / "marked.jsonl", [row | {key: WRONG[key]} for row in rows])
    assert score(folder, predictions=marked) == 0
    found = results(folder / "out")
    assert all(found[name] == plain[name] for name in ("failures", "by", "num_samples"))
    assert {name: found["metrics"][name] for name in plain["metrics"]} == plain["metrics"]
    for row, before in zip(samples_of(folder / "out"), samples, strict=True):
        assert all(row[name] == before[name] for name in before if name != "scores")


def test_what_is_kept_of_a_row_is_strict_json(folder: Path) -> None:
    kept = {"logprobs": WRONG["logprobs"], "note": WRONG["note"]}
    assert score(folder, predictions=write_predictions(folder / "p.jsonl", [row | kept for row in gold()])) == 0
    row = samples_of(folder / "out")[0]
    assert row["logprobs"] == [None, {"top": [None, -1.0]}] and row["note"] == "half of \ufffd a pair"


def test_the_rows_of_a_result_are_predictions_and_scored_anew(folder: Path) -> None:
    rows = gold()
    rows[1]["completion"], rows[2]["completion"] = "I do not know", None
    rows[3]["failure"] = "video_error"
    assert score(folder, predictions=write_predictions(folder / "p.jsonl", rows)) == 0
    first, scored = results(folder / "out"), samples_of(folder / "out")
    assert first["failures"].keys() == {"no_completion", "unparsable", "video_error"}
    assert scored[3]["completion"] is not None and scored[3]["scores"]["mIoU"] == 0.0, "failed, whatever was written"
    for row in scored:
        row["scores"] = dict.fromkeys(row["scores"], 1.0)
    assert score(folder, predictions=write_predictions(folder / "again.jsonl", scored)) == 0
    again = results(folder / "out")
    assert again["metrics"] == first["metrics"] and again["failures"] == first["failures"]


@pytest.mark.parametrize("name", ["samples.jsonl", "report.html", "results.json", "settings.json"])
def test_files_of_somebody_elses_are_refused_and_kept(folder: Path, name: str, capsys) -> None:
    assert score(folder) == 0
    (folder / "out").rename(folder / "scored")
    mine = folder / "out" / name
    mine.parent.mkdir()
    mine.write_text("[]")
    rescored = ["eval", "--rescore", str(folder / "scored"), "--output", str(folder / "out")]
    for command in (lambda: score(folder), lambda: main(rescored)):
        assert command() == 2 and f"{mine} (1); no `videochat-r1 eval` made them" in capsys.readouterr().err
    assert mine.read_text() == "[]" and list(mine.parent.iterdir()) == [mine]


def test_other_questions_in_the_same_folder_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(folder) == 0
    assert score(folder, "--limit", "3") == 2
    assert "limit was None, is 3" in capsys.readouterr().err
    assert score(folder) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "charades", "--predictions", "x"], "also needs --annotations, --output"),
        (["--benchmark", "charadess_sta", "--annotations", "a", "--predictions", "x", "--output", "o"], "charades_sta"),
        (["--benchmark", "mvbench"], "give one of --model"),
        (["--rescore", "a", "--table", "b"], "given: --rescore, --table"),
    ],
)
def test_arguments_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_options_come_from_a_file_and_flags_win(tmp_path: Path) -> None:
    config = tmp_path / "eval.yaml"
    config.write_text("benchmark: charades_sta\nannotations: a.json\nmodel: m\noutput: o\nfps: 1\nthinking: true\n")
    arguments = parse(["--config", str(config), "--fps", "0.5"])
    assert (arguments.fps, arguments.thinking, arguments.annotations) == (0.5, True, Path("a.json"))
    (tmp_path / "more.yaml").write_text("extends: eval.yaml\nfps: 3\n")
    assert (parse(["--config", str(tmp_path / "more.yaml")]).fps, arguments.thinking) == (3.0, True)
    config.write_text("benchmarck: charades_sta\n")
    with pytest.raises(ConfigError, match="did you mean 'benchmark'"):
        parse(["--config", str(config)])


def test_scoring_does_not_import_torch(folder: Path) -> None:
    arguments = ["eval", "--benchmark", "charades_sta", "--annotations", "test.json", "--predictions", "answers.jsonl"]
    code = f"import sys; from videochat_r1.cli import main; main({[*arguments, '--output', 'o']!r})\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- scoring again --------------------------------------------------------------------------------------------------


def test_rescoring_reads_the_recorded_answers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = gold()
    rows[0]["completion"] = "0 to 1"
    write_predictions(folder / "answers.jsonl", rows)
    assert score(folder) == 0
    first = results(folder / "out")
    (folder / "answers.jsonl").unlink()
    assert main(["eval", "--rescore", str(folder / "out")]) == 0
    again = results(folder / "out")
    assert again["metrics"] == first["metrics"] and again["failures"] == first["failures"]
    assert main(["eval", "--rescore", str(folder / "out"), "--untagged", "true", "--output", str(folder / "b")]) == 0
    assert results(folder / "b")["metrics"]["mIoU"] == 1.0 and results(folder / "out")["num_failed"] == 1
    write_annotations(folder / "test.json", SPANS | {"V3": [[1.0, 2.0]]})
    assert main(["eval", "--rescore", str(folder / "out")]) == 2
    assert "--annotations" in capsys.readouterr().err
    assert main(["eval", "--rescore", str(folder / "out"), "--annotations", str(folder / "test.json")]) == 0
    assert main(["eval", "--rescore", str(folder / "nothing")]) == 2


@pytest.mark.parametrize(
    ("place", "value"),
    [(("task",), None), (("metrics", "mIoU"), "x"), (("settings", "limit"), "x"), (("settings", "annotations"), 3)],
)
def test_a_damaged_result_is_named(
    folder: Path, place: tuple[str, ...], value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(folder) == 0
    found = results(folder / "out")
    (found if len(place) == 1 else found[place[0]])[place[-1]] = value
    (folder / "out" / "results.json").write_text(json.dumps(found))
    for mode in ("--rescore", "--table"):
        assert main(["eval", mode, str(folder / "out")]) == 2
        assert f"results.json is no result of `videochat-r1 eval`: {place[-1]} is missing" in capsys.readouterr().err


# --- the paper's table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_papers_table_has_a_number_per_column(table: PaperTable) -> None:
    assert all(len(values) == len(table.columns) for values in table.published.values())
    assert len(paper_table(table, {}).splitlines()) == len(table.published) + 2
    for column in table.columns:
        assert column.task in (None, *BENCHMARKS[column.benchmark].tasks)


def of_videomme(accuracy: float, frames: int | None = None) -> dict[str, Any]:
    means = {"accuracy": accuracy, "accuracy_video_r1": accuracy}
    video = {} if frames is None else {"video": {"max_frames": frames}}
    by = {"duration": {"short": {"num_samples": 900, "accuracy": accuracy}}}
    return {"benchmark": "videomme", "task": "multi_choice_qa", "metrics": means, "by": by, "settings": video}


def test_ours_stand_below_the_published_numbers() -> None:
    table = paper_table(TABLES["videochat_r1"], {"ours": [of_videomme(0.7125)]}).splitlines()
    assert "VideoMME" in table[0].split() and "Short-Avg" in table[1].split()
    assert table[2].split()[:1] == ["Qwen2.5-VL-7B"] and table[2].split()[11] == "71.3"
    assert table[-1].replace("not run", "-").split() == ["ours", *["-"] * 10, "71.2", *["-"] * 4]


def test_ours_stand_by_their_frames() -> None:
    ours = [of_videomme(0.5, frames=16), of_videomme(0.6, frames=48), of_videomme(0.7)]
    rows = [line.replace("not run", "x") for line in paper_table(TABLES["video_r1"], {"ours": ours}).splitlines()]
    found = [line.split() for line in rows if line.startswith("ours")]
    expected = {"-": "70.0", "16": "50.0", "32": "x", "48": "60.0", "64": "x"}
    assert found == [["ours", frames, *["x"] * 5, value] for frames, value in expected.items()]
    assert rows[6].split() == ["Video-R1-7B", "16", "34.6", "49.8", "64.2", "62.7", "72.6", "57.4"]
    assert rows[7].startswith("ours")


def test_the_table_says_what_its_numbers_could_be_mistaken_for() -> None:
    row = {"benchmark": "got10k", "task": "tracking", "by": {}, "metrics": {"overlap": 0.4, "R@0.5": 0.3}}
    limited = row | {"settings": {"limit": 5}, "folder": "a"}
    other = row | {"settings": {"limit": None}, "folder": "b", "metrics": {"overlap": 0.5, "R@0.5": 0.3}}
    tempcompass = {"benchmark": "tempcompass", "task": "captioning", "by": {}, "metrics": {"accuracy_video_r1": 0.4}}
    part = tempcompass | {"settings": {"subset": "yes_no"}}
    *_, ours, first, second = paper_table(TABLES["videochat_r1"], {"ours": [limited, other]}).splitlines()
    assert ours.replace("not run", "-").split() == ["ours", *["-"] * 8, "40.0", "30.0", *["-"] * 5]
    assert first == "note: ours: got10k is of the first 5 samples only"
    assert second == "note: ours: 2 results of got10k differ, the table has the first: a, b"
    *_, note = paper_table(TABLES["video_r1"], {"ours": [part]}).splitlines()
    assert note == "note: ours: tempcompass is of its subset yes_no"


def test_table_of_a_folder_of_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(folder) == 0
    capsys.readouterr()
    assert main(["eval", "--table", str(folder), "--name", "mine"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:5] == ["mine", "100.0", "100.0", "100.0", "not"]
    found = results(folder / "out")
    for model, place in (("one", "a/charades_sta"), ("two", "b/charades_sta"), ("three", "b/activitynet")):
        (folder / "all" / place).mkdir(parents=True)
        settings = found["settings"] | {"model": f"models/{model}", "thinking": model == "three"}
        (folder / "all" / place / "results.json").write_text(json.dumps(found | {"settings": settings}))
    assert main(["eval", "--table", str(folder / "all")]) == 0
    last = capsys.readouterr().out.splitlines()[-3:]
    assert [line[: line.index("  ")] for line in last] == ["a", "b: three thinking", "b: two"]
    (folder / "all" / "a").rename(folder / "all" / "16_frames")
    assert main(["eval", "--table", str(folder / "all"), "--paper", "video_r1", "--name", "none"]) == 0
    assert "none: b: two" in capsys.readouterr().out and str(folder / "all") not in capsys.readouterr().out
    (folder / "empty").mkdir()
    assert main(["eval", "--table", str(folder / "empty"), "--name", "none"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["none", *["not", "run"] * 15]


# --- run folders ----------------------------------------------------------------------------------------------------


def answer_file(folder: RunFolder, name: str, rows: list[str]) -> None:
    (folder.path / "answers").mkdir(parents=True, exist_ok=True)
    (folder.path / "answers" / name).write_text("\n".join(rows))


def test_a_cut_off_line_is_dropped_and_asked_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    whole = '{"id": "a", "completion": "x"}'
    answer_file(folder, "shard-00000-of-00001.jsonl", [whole, '{"id": "b", "comp'])
    assert list(folder.answers()) == ["a"]
    with folder.writer(0, 1):
        pass
    assert (tmp_path / "answers" / "shard-00000-of-00001.jsonl").read_text() == whole + "\n"
    answer_file(folder, "shard-00000-of-00001.jsonl", ["garbage", whole, ""])
    with pytest.raises(DataError, match="line 1"):
        folder.answers()


def test_an_answer_wins_over_a_failure_and_the_first_answer_over_later_ones(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    failed, first, second = (f'{{"id": "a", "completion": {text}}}' for text in ("null", '"x"', '"y"'))
    answer_file(folder, "1.jsonl", [failed, ""])
    answer_file(folder, "2.jsonl", [first, second, ""])
    assert folder.answers()["a"].completion == "x"


def test_one_shard_has_one_writer(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.writer(0, 2), folder.writer(1, 2), pytest.raises(ConfigError, match="--shard"), folder.writer(0, 2):
        pass


def test_changed_settings_are_refused_and_changed_versions_recorded(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"fps": 2.0, "limit": None}, ["fps", "limit"], {"git_commit": "a"})
    folder.begin({"fps": 2.0, "limit": None}, ["fps", "limit"], {"git_commit": "b"})
    folder.begin({"fps": 2.0, "limit": None}, ["fps", "limit"], {"git_commit": "a"})
    assert folder.recorded()["environments"] == [{"git_commit": "a"}, {"git_commit": "b"}]
    with pytest.raises(ConfigError, match=r"fps was 2\.0, is 1\.0; limit was None, is 5"):
        folder.begin({"fps": 1.0, "limit": 5}, ["fps", "limit"], {"git_commit": "a"})


# --- a tiny model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, four videos (one of them is missing) and seven queries."""
    from videochat_r1.modeling.tiny import build_tiny

    folder = tmp_path_factory.mktemp("world")
    (folder / "videos").mkdir()
    for index in range(3):
        write_video(folder / "videos" / f"V{index}.mp4", num_frames=16 + 4 * index, fps=8)
    write_annotations(folder / "test.json")
    build_tiny(folder / "model", hidden=64, layers=2, vision_hidden=32)
    return folder


def run(world: Path, output: str, *more: str) -> int:
    asked = f"--benchmark charades_sta --annotations {world / 'test.json'} --videos {world / 'videos'}"
    answered = f"--model {world / 'model'} --dtype float32 --device cpu --max-new-tokens 12 --output {world / output}"
    sized = "--min-pixels 784 --max-pixels 3136 --batch-size 2 --workers 2"
    return main(["eval", *asked.split(), *answered.split(), *sized.split(), *more])


def answers(folder: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == IDS
    return {row["id"]: row["completion"] for row in rows}


@pytest.mark.parametrize(
    ("model", "family", "side"), [("model", "qwen2_5_vl", 28), ("older", "qwen2_vl", 28), ("other", "qwen3_vl", 32)]
)
def test_a_model_is_run_and_everything_recorded(world: Path, model: str, family: str, side: int) -> None:
    from videochat_r1.modeling.tiny import build_tiny

    if not (world / model).exists():
        build_tiny(world / model, hidden=64, layers=2, vision_hidden=32, family=family)
    out = world / ("plain" if model == "model" else family)
    assert run(world, out.name, "--model", str(world / model)) == 0
    found = results(out)
    assert found["num_samples"] == 7
    assert found["failures"]["video_error"] == {"count": 1, "first": ["V3_0"]}
    assert found["ended"]["video_error"] == pytest.approx(1 / 7) and sum(found["ended"].values()) == pytest.approx(1)
    settings = found["settings"]
    assert settings["model"] == str(world / model) and settings["dtype"] == "float32"
    assert settings["video"]["fps"] == 2.0 and settings["temperature"] == 0.0 and settings["thinking"] is False
    assert settings["weights"] and settings["git_commit"] and settings["versions"]["transformers"]
    row, *_, gone = samples_of(out)
    assert "event 0 of V0" in row["prompt"] and row["num_tokens"] <= 12 and row["temporal_steps"] == 2
    assert [pixels % side for pixels in row["frame_size"]] == [0, 0]
    assert gone["completion"] is None and "V3.mp4" in gone["reason"] and gone["scores"]["mIoU"] == 0.0


POPE_ROWS = [{"question_id": n, "image": f"{n}.jpg", "text": "Is there a cat?", "label": "no"} for n in (1, 2)]
MATHVISTA_ROW = {"question": "How much?", "image": "1.jpg", "choices": None, "unit": None, "precision": None, "answer": "5",
                 "question_type": "free_form", "answer_type": "integer", "metadata": {"skills": []}}  # fmt: skip
CHOICE = {"choices": ["five", "six"], "answer": "five", "question_type": "multi_choice", "answer_type": "text"}
VSI_ROW = {"id": 1, "dataset": ".", "scene_name": "V0", "question_type": "object_counting", "question": "How many?",
           "ground_truth": "4", "options": None}  # fmt: skip
ROUTE = {"id": 2, "question_type": "route_planning", "ground_truth": "A", "options": ["A. left", "B. right"]}


@pytest.mark.parametrize(
    ("benchmark", "file", "content", "tasks", "media"),
    [
        ("pope", "coco_pope_random.json", "\n".join(map(json.dumps, POPE_ROWS)), ["quality_assessment"] * 2, "images"),
        ("mathvista", "testmini.json", json.dumps({"1": MATHVISTA_ROW, "2": MATHVISTA_ROW | CHOICE}),
         ["numerical_qa", "multi_choice_qa"], "images"),
        ("vsi_bench", "test.json", json.dumps([VSI_ROW, VSI_ROW | ROUTE]), ["regression", "multi_choice_qa"], "video"),
    ],
)  # fmt: skip
def test_pictures_and_several_tasks_are_run_too(
    world: Path, tmp_path: Path, benchmark: str, file: str, content: str, tasks: list[str], media: str
) -> None:
    for number in (1, 2):
        picture = np.full((40, 60, 3), 100 * number, dtype=np.uint8)
        Image.fromarray(picture).save(world / "videos" / f"{number}.jpg")
    (tmp_path / file).write_text(content)
    asked = f"--benchmark {benchmark} --annotations {tmp_path / file} --picture-max-pixels 3136"
    assert run(world, benchmark, *asked.split()) == 0
    rows, found = samples_of(world / benchmark), results(world / benchmark)
    assert [row["task"] for row in rows] == tasks and all(row[media] for row in rows)
    assert all(row["completion"] is not None and row["num_tokens"] <= 12 for row in rows)
    assert found["headline"] in found["metrics"] and "majority_answer" in found["baselines"]
    for row in rows:
        task = TASKS[row["task"]]
        assert task.answer_form(task.target_from_json(row["target"]), thinking=False) in row["prompt"]
    assert "data:image" in (world / benchmark / "report.html").read_text()


def test_shards_and_batches_give_the_same_answers_as_one_process(world: Path) -> None:
    run(world, "plain")
    for index in (2, 0):
        assert run(world, "shards", "--shard", f"{index}/3", "--batch-size", "5", "--workers", "0") == 0
        assert not (world / "shards" / "results.json").exists()
    assert run(world, "shards", "--shard", "1/3") == 0
    assert answers(world / "shards") == answers(world / "plain")
    assert results(world / "shards")["metrics"] == results(world / "plain")["metrics"]


def test_torchrun_variables_are_a_shard(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(world, "plain")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert run(world, "ranks") == 0
    assert answers(world / "ranks") == answers(world / "plain")
    assert len(list((world / "ranks" / "answers").glob("*.jsonl"))) == 2


def test_sampled_answers_do_not_depend_on_batches(world: Path) -> None:
    sampled = ("--temperature", "1", "--seed", "3", "--limit", "4")
    assert run(world, "sampled_a", *sampled) == run(world, "sampled_b", *sampled, "--batch-size", "3") == 0
    both = [(world / name / "samples.jsonl").read_text() for name in ("sampled_a", "sampled_b")]
    assert both[0] == both[1]
    assert run(world, "sampled_c", *sampled[:3], "4", *sampled[4:]) == 0
    assert (world / "sampled_c" / "samples.jsonl").read_text() != both[0]


def test_a_video_is_computed_once_for_the_questions_of_a_batch(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers do not depend on it. V0 has one question, V1 two, V2 three; the frames of V0 and V1 are the same."""
    from videochat_r1.rollout import transformers_engine

    media_arguments, shown = transformers_engine.media_arguments, []

    def counted(*args: Any) -> dict[str, object]:
        shown.append(len(args[-1]))
        return media_arguments(*args)

    monkeypatch.setattr(transformers_engine, "media_arguments", counted)
    found = {}
    for size, times in (("8", 2), ("3", 2), ("2", 4), ("1", 6)):
        shown.clear()
        assert run(world, f"by_{size}", "--batch-size", size) == 0
        assert sum(shown) == times
        found[size] = answers(world / f"by_{size}")
    assert found["8"] == found["3"] == found["2"] == found["1"]


def test_a_killed_run_goes_on_without_losing_or_repeating_a_row(world: Path) -> None:
    run(world, "plain")
    arguments = {"world": str(world)}
    code = f"""
import os, signal
from pathlib import Path
from tests import test_eval_command
from videochat_r1.evaluation.running.folder import AnswerWriter

add, calls = AnswerWriter.add, []

def deadly(self, predictions):
    calls.append(len(predictions))
    if len(calls) < 3:
        return add(self, predictions)
    # In the middle of a line.
    os.write(self._descriptor, b'{{"id": "V2_1", "completion": "ha')
    os.kill(os.getpid(), signal.SIGKILL)

AnswerWriter.add = deadly
test_eval_command.run(Path({arguments["world"]!r}), "killed", "--shard", "0/1")
"""
    root = Path(__file__).resolve().parent.parent
    died = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    # Two batches of whole videos, of one question and of two.
    assert len(RunFolder(world / "killed").answers()) == 3
    # Resumed in another layout: two shards.
    assert run(world, "killed", "--shard", "1/2") == 0
    assert run(world, "killed", "--shard", "0/2") == 0
    assert answers(world / "killed") == answers(world / "plain")
    rows = [line for file in (world / "killed" / "answers").glob("*.jsonl") for line in file.read_text().splitlines()]
    written = [json.loads(line)["id"] for line in rows if line.endswith("}")]
    assert sorted(written) == sorted(IDS)


def test_a_changed_setting_is_refused_with_the_difference(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, "plain")
    before = (world / "plain" / "results.json").read_bytes()
    assert run(world, "plain", "--fps", "1", "--thinking", "true") == 2
    message = capsys.readouterr().err
    assert "thinking was False, is True" in message and "video.fps was 2.0, is 1.0" in message
    answered = write_predictions(world / "answers.jsonl", gold())
    arguments = ["--annotations", str(world / "test.json"), "--predictions", str(answered)]
    assert main(["eval", "--benchmark", "charades_sta", *arguments, "--output", str(world / "plain")]) == 2
    assert (world / "plain" / "results.json").read_bytes() == before


def test_a_run_that_could_not_begin_leaves_the_folder_free(world: Path) -> None:
    assert run(world, "wrong_model", "--model", str(world / "videos")) == 2
    assert run(world, "wrong_model", "--limit", "1") == 0


@pytest.mark.parametrize(("command", "value"), [("eval", float("nan")), ("ask", float("inf"))])
def test_diverged_weights_are_refused_and_leave_the_folder_free(
    world: Path, command: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    broken = world / f"diverged_{command}_{value}"
    shutil.copytree(world / "model", broken)
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("norm.weight"))
    weights[name][3] = value
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    if command == "ask":
        asked = ["ask", "What?", "--model", str(broken), "--video", str(world / "videos" / "V0.mp4"), "--device", "cpu"]
        assert main([*asked, "--video-backend", "pyav"]) == 2
    else:
        assert run(world, f"out_{value}", "--model", str(broken)) == 2
        assert run(world, f"out_{value}", "--limit", "1") == 0
    message = capsys.readouterr().err
    assert f"{broken} holds NaN or infinite weights" in message and "norm.weight (1)" in message


def test_a_question_that_cannot_be_asked_is_told_in_words(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "ask",
        "What?",
        "--model",
        str(world / "model"),
        "--video",
        str(world / "videos" / "V0.mp4"),
        "--device",
        "cpu",
    ]
    assert main([*asked, "--video-backend", "pyav", "--max-prompt-length", "5"]) == 2
    message = capsys.readouterr().err
    assert "videochat-r1 ask: " in message and "max_prompt_length is 5" in message and "Error:" not in message


def test_a_model_that_computes_nan_is_named(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from videochat_r1.rollout.transformers_engine import TransformersEngine

    def diverged(*_: Any, **__: Any) -> Any:
        raise DivergedError("the model's logits are NaN")

    monkeypatch.setattr(TransformersEngine, "generate", diverged)
    assert run(world, "nan") == 2
    assert f"{world / 'model'}: the model's logits are NaN; ask an earlier checkpoint" in capsys.readouterr().err


def test_failed_samples_are_asked_again_only_when_told(world: Path) -> None:
    assert run(world, "retry") == 0
    write_video(world / "videos" / "V3.mp4", num_frames=16, fps=8)
    try:
        assert run(world, "retry") == 0
        assert results(world / "retry")["failures"]["video_error"]["count"] == 1
        assert run(world, "retry", "--retry-failed") == 0
        assert "video_error" not in results(world / "retry")["failures"]
    finally:
        (world / "videos" / "V3.mp4").unlink()


def test_a_wrong_videos_folder_is_no_result(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "wrong", "--videos", str(world)) == 2
    assert "none of the 4 videos is there" in capsys.readouterr().err


def test_a_template_with_an_unknown_field_is_refused_before_any_video(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(world, "template", "--prompt", "When is {event}?") == 2
    assert "{event}" in capsys.readouterr().err
    assert run(world, "template2", "--prompt", "When is {query}?", "--limit", "1") == 0
    row = json.loads((world / "template2" / "samples.jsonl").read_text().splitlines()[0])
    assert "When is event 0 of V0?" in row["prompt"]


def test_an_adapter_is_merged_and_recorded(world: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from videochat_r1.modeling.load import load_model

    run(world, "plain")
    model = load_model(world / "model", dtype=torch.float32)
    lora = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    lora.save_pretrained(str(world / "adapter"))
    assert run(world, "lora", "--adapter", str(world / "adapter")) == 0
    assert results(world / "lora")["settings"]["adapter_weights"]
    assert answers(world / "lora") != answers(world / "plain")
    assert run(world, "lora2", "--adapter", str(world / "nowhere")) == 2


# --- units of boxes ---------------------------------------------------------------------------------------------------


def write_sequence(folder: Path, num_frames: int = 9) -> Path:
    sequence = folder / "GOT-10k_Val_000001"
    sequence.mkdir(parents=True)
    for index in range(num_frames):
        Image.fromarray(np.full((60, 100, 3), 10 * index, dtype=np.uint8)).save(sequence / f"{index + 1:08d}.jpg")
    (sequence / "groundtruth.txt").write_text("20,15,50,30\n" * num_frames)
    (sequence / "meta_info.ini").write_text("[METAINFO]\nobject_class: cat\nresolution: (100, 60)\n")
    return folder


UNITS = {"pixels": "pixels wide", "thousandths": "in thousandths"}


@pytest.mark.parametrize(
    ("box_format", "units"), [("native", "pixels"), ("pixels", "pixels"), ("thousandths", "thousandths")]
)
def test_boxes_are_asked_for_and_read_in_units(world: Path, box_format: str, units: str) -> None:
    folder = write_sequence(world / f"got_{box_format}")
    source = f"--benchmark got10k --annotations {folder} --box-format {box_format}"
    output, scored = world / f"boxes_{box_format}", world / f"boxes_{box_format}_scored"
    asked = f"--model {world / 'model'} --device cpu --dtype float32 --max-new-tokens 4 --output {output}"
    assert main(["eval", *source.split(), *asked.split(), "--min-pixels", "784", "--max-pixels", "7056"]) == 0
    row = json.loads((output / "samples.jsonl").read_text())
    width, height = row["frame_size"] if units == "pixels" else (1000, 1000)
    assert UNITS[units] in row["prompt"]
    box = [0.2 * width, 0.25 * height, 0.7 * width, 0.75 * height]
    assert str([round(side) for side in box]) in row["prompt"]
    assert {"overlap", "overlap_normalised"} <= set(results(output)["metrics"])
    assert results(output)["settings"]["box_format"] == units

    answered = {"id": row["id"], "completion": f"<answer>{[box] * 8}</answer>", "frame_size": row["frame_size"]}
    predictions = write_predictions(world / "boxes.jsonl", [answered])
    source = source.replace(f"--box-format {box_format}", f"--box-format {units}")
    assert main(["eval", *source.split(), "--predictions", str(predictions), "--output", str(scored)]) == 0
    metrics = results(scored)["metrics"]
    assert metrics["overlap"] == pytest.approx(1.0) and metrics["overlap_normalised"] < 0.1
    assert metrics["AO_interpolated"] == pytest.approx(1.0)
    (row,) = map(json.loads, (scored / "samples.jsonl").read_text().splitlines())
    assert row["parsed"][0] == pytest.approx([0.2, 0.25, 0.7, 0.75]) and row["completion"] == answered["completion"]


def test_a_result_recorded_under_the_former_name_of_pixels_is_scored_again(world: Path) -> None:
    folder = write_sequence(world / "got_former")
    row = {"id": "GOT-10k_Val_000001", "completion": "<answer>[[20, 15, 70, 45]]</answer>", "frame_size": [100, 60]}
    predictions = write_predictions(world / "former.jsonl", [row])
    source = f"--benchmark got10k --annotations {folder} --box-format pixels --predictions {predictions}"
    assert main(["eval", *source.split(), "--output", str(world / "former")]) == 0
    recorded = results(world / "former")
    recorded["settings"]["box_format"] = "native_absolute"
    (world / "former" / "results.json").write_text(json.dumps(recorded))
    assert main(["eval", "--rescore", str(world / "former")]) == 0
    assert results(world / "former")["metrics"] == recorded["metrics"] and recorded["metrics"]["overlap"] > 0.1
    assert results(world / "former")["settings"]["box_format"] == "pixels"


def test_boxes_in_pixels_need_the_size_of_the_frames(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sequence(world / "got2")
    predictions = world / "sizeless.jsonl"
    source = f"--benchmark got10k --annotations {folder} --predictions {predictions} --box-format"
    row = {"id": "GOT-10k_Val_000001", "completion": "[]"}
    for size in (None, [0, 1], [True, True], ["3", 4], [float("inf"), 2], [10**300, 3], [1, 2, 3], {}):
        write_predictions(predictions, [row | {"frame_size": size}])
        assert main(["eval", *source.split(), "pixels", "--output", str(world / "sizeless")]) == 2
        assert "frame_size" in capsys.readouterr().err and not (world / "sizeless").exists()
    assert main(["eval", *source.split(), "native", "--output", str(world / "sizeless")]) == 2
    assert "say pixels or thousandths" in capsys.readouterr().err and not (world / "sizeless").exists()
    assert main(["eval", *source.split(), "thousandths", "--output", str(world / "sizeless")]) == 0
    assert run(world, "boxless", "--box-format", "native") == 2
    assert "have no boxes" in capsys.readouterr().err and not (world / "boxless").exists()
