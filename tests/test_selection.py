"""`videochat-r1 data select`: samples chosen by how well a model answers them."""

import json
import statistics
from pathlib import Path

import pytest

from tests.tiny_runs import make_corpus, make_trainer
from tests.window_runs import group, rollout, write_evaluation
from videochat_r1.cli import main
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.rollout_file import read_rollouts
from videochat_r1.sample import Pictures
from videochat_r1.selection.choice import at_most
from videochat_r1.selection.conditions import STATISTICS, Condition, Spread

SPAN = {"span": [1.0, 3.0], "duration": 4.0}
CHOICE = {"options": ["a cat", "a dog"], "answer": "B"}
BOXES = {"boxes": [[0.1, 0.2, 0.3, 0.6]] * 8}
FRAMES = {
    "frames": [f"videos/s/{place}.jpg" for place in range(8)],
    "frame_times": [float(place) for place in range(8)],
}


def answers(*rewards, **others):
    """Rollouts of these rewards: `format` is 1 and the rest `iou`."""
    made = [rollout(place, "<answer>1 to 2</answer>", [1.0, 2.0], value) for place, value in enumerate(rewards)]
    return [{**one, **others} for one in made]


def line(sample, task, target, rollouts, video="videos/a.mp4", **others):
    return group(1, sample, task, target, rollouts, video=video, **others)


def write_log(folder: Path, *lines) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Grounding of four kinds, questions about pictures and a sequence of frames, some of them about one video."""
    monkeypatch.chdir(tmp_path)
    none = {"rewards": {"format": None, "iou": None}, "reward": None, "ended": "unscored"}
    right = {"rewards": {"format": 1.0, "iou": None}}
    return write_log(
        tmp_path / "run",
        line("easy", "temporal_grounding", SPAN, answers(1.9, 2.0)),
        line("hard", "temporal_grounding", SPAN, answers(1.0, 1.0), duration=4.0, response="<answer>1 to 3</answer>"),
        line("mixed", "temporal_grounding", SPAN, answers(1.2, 1.8), video="videos/b.mp4"),
        line("late", "temporal_grounding", SPAN, answers(1.0, **none), video="videos/c.mp4"),
        line("clip", "temporal_grounding", SPAN, answers(1.4, 1.6), video_parts={"start": 1.0, "end": 5.0}),
        line("pick", "multi_choice_qa", CHOICE, answers(1.0, 0.0, **right), video=None, images=["pictures/a.png"]),
        line("follow", "tracking", BOXES, answers(1.5), video="videos/s/0.jpg (+7 frames)", video_parts=FRAMES),
    )


def select(*arguments, output="out.jsonl") -> int:
    return main(["data", "select", *map(str, arguments), "--output", output, "--overwrite"])


def kept(output="out.jsonl") -> list[str]:
    return [sample.id for sample in read_manifest(output)]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (["iou 0.1:0.9"], ["mixed", "clip", "follow"]),
        (["iou 0.1:"], ["easy", "mixed", "clip", "follow"]),
        (["iou :0"], ["hard"]),
        (["reward.std 0.3:"], ["mixed", "pick"]),
        (["reward.range 0.3:", "iou 0.1:0.9"], ["mixed", "pick"]),
        (["temporal_grounding:iou 0.1:0.9", "multi_choice_qa:reward :"], ["mixed", "clip", "pick"]),
        (["tracking:iou.min 0.5:0.5", "iou.max 0:1"], ["follow", "easy", "hard", "mixed", "clip"]),
        (["mIoU 0.2:0.6"], ["easy", "hard", "mixed", "late", "clip"]),
    ],
)
def test_samples_are_kept_by_what_their_answers_are_worth(run, keep, expected, capsys) -> None:
    assert select("--from", run, *(each for condition in keep for each in ("--keep", condition))) == 0
    assert sorted(kept()) == sorted(expected)
    assert f"{len(expected)} samples" in capsys.readouterr().out or len(expected) == 1


def test_a_condition_needs_no_quotes(run) -> None:
    assert select("--from", run, "--keep", "reward.range", "0.3:", "iou 0.1:0.9") == 0
    assert sorted(kept()) == ["mixed", "pick"]


def test_the_table_says_what_became_of_every_sample(run, capsys) -> None:
    assert select("--from", run, "--keep", "temporal_grounding:iou 0.1:0.9") == 0
    printed = capsys.readouterr().out.splitlines()
    heads = ["iou > 0.9", "iou < 0.1", "not scored", "no --keep applies"]
    assert [printed[0].count(head) for head in heads] == [1] * 4
    rows = {row.split()[0]: row.split()[1:] for row in printed[1:5]}
    assert rows == {
        "temporal_grounding": ["5", "2", "1", "1", "1", "0"],
        "multi_choice_qa": ["1", "0", "0", "0", "0", "1"],
        "tracking": ["1", "0", "0", "0", "0", "1"],
        "all": ["7", "2", "1", "1", "1", "2"],
    }
    assert printed[5] == "temporal_grounding:iou: 0 to 0.95 measured, 0.5 to 0.5 kept"
    meta = json.loads(Path("out.meta.json").read_text())
    assert (meta["num_samples"], meta["keep"]) == (2, ["temporal_grounding:iou 0.1:0.9"])
    assert sum(map(sum, (each.values() for each in meta["left_out"].values()))) == 5


def test_a_kept_sample_is_the_one_that_was_asked_with_what_was_measured(run) -> None:
    assert select("--from", run, "--keep", "reward :", "--keep", "iou.std :") == 0
    samples = {sample.id: sample for sample in read_manifest("out.jsonl", "videos")}
    assert samples.keys() == {"easy", "hard", "mixed", "clip", "pick"}, (
        "one answer has no spread, an unscored one no reward"
    )
    assert samples["easy"].extra == {
        "reward": pytest.approx(1.95),
        "iou.std": pytest.approx(0.0707, abs=1e-4),
        "answers": 2,
    }
    assert samples["pick"].extra == {"reward": 0.5, "answers": 2}
    hard = samples["hard"]
    assert (hard.query, hard.duration, hard.source, hard.response) == (
        "Question of hard",
        4.0,
        "toy",
        "<answer>1 to 3</answer>",
    )
    assert (samples["clip"].video.start, samples["clip"].video.end) == (1.0, 5.0)
    assert isinstance(samples["pick"].media, Pictures)


def test_paths_start_at_the_folder_of_all_files_or_at_the_one_named(run, capsys) -> None:
    assert select("--from", run, "--keep", "tracking:iou :") == 0
    [sample] = read_manifest("out.jsonl")
    assert sample.media.files == tuple(f"{place}.jpg" for place in range(8))
    assert f"videos: {run.parent / 'videos' / 's'}" in capsys.readouterr().out
    assert select("--from", run, "--keep", "tracking:iou :", "--videos", "videos") == 0
    assert read_manifest("out.jsonl")[0].media.files[0] == "s/0.jpg"
    assert select("--from", run, "--keep", "tracking:iou :", "--videos", "elsewhere") == 2
    assert "name a folder above it" in capsys.readouterr().err


def test_answers_of_several_passes_count_together(run, tmp_path, capsys) -> None:
    again = write_log(tmp_path / "again", line("easy", "temporal_grounding", SPAN, answers(1.1, 1.1, 1.4)))
    assert select("--from", run, again / "rollouts.jsonl", "--keep", "iou 0.5:0.52") == 0
    samples = {sample.id: sample for sample in read_manifest("out.jsonl")}
    assert samples.keys() == {"easy", "mixed", "clip", "follow"}
    assert samples["easy"].extra == {"iou": pytest.approx((0.9 + 1.0 + 0.1 + 0.1 + 0.4) / 5), "answers": 5}


def test_results_of_benchmarks_are_read_by_their_metrics(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, spans in (("first", [[1.0, 3.0], None, [1.0, 2.0]]), ("second", [[0.0, 4.0], None, None])):
        write_evaluation(tmp_path / name, tmp_path / "clip.mp4", spans)
    rows = (tmp_path / "second" / "samples.jsonl").read_text().splitlines()
    failed = {**json.loads(rows[2]), "completion": None, "failure": "video_error"}
    (tmp_path / "second" / "samples.jsonl").write_text("\n".join([*rows[:2], json.dumps(failed)]) + "\n")
    assert select("--from", tmp_path, "--keep", "mIoU 0.2:0.9") == 0, "all results below a folder"
    assert {sample.id: (sample.extra["mIoU"], sample.extra["answers"]) for sample in read_manifest("out.jsonl")} == {
        "s0": (0.75, 2),
        "s2": (0.5, 1),
    }
    assert select("--from", "second", "--keep", "mIoU :") == 0
    assert "not answered" in capsys.readouterr().out and kept() == ["s0", "s1"]


def test_questions_about_a_video_are_kept_by_their_mean(run) -> None:
    assert select("--from", run, "--keep", "iou 0.4:0.5", "--by-video") == 0
    assert set(kept()) == {"easy", "hard", "clip", "mixed", "follow"}, "0.95, 0 and 0.5 about a.mp4 are 0.483"
    assert select("--from", run, "--keep", "iou 0.4:0.49", "--by-video", "--max", 4) == 0
    assert set(kept()) == {"easy", "hard", "clip"}
    assert select("--from", run, "--keep", "iou 0.4:0.5", "--by-video", "--max", 2) == 0
    assert set(kept()) == {"mixed", "follow"}, "whole videos alone, so that one of three questions does not fit"


def test_a_limit_takes_of_each_task_equally_many_and_the_same_each_time() -> None:
    samples = [(place, "long" if place < 90 else "short", f"s{place}") for place in range(100)]
    for limit, of_short in ((6, 3), (40, 10), (100, 10)):
        chosen = at_most([[each] for each in samples], limit, 1)
        assert len(chosen) == limit and sum(place >= 90 for place in chosen) == of_short
        assert chosen == at_most([[each] for each in reversed(samples)], limit, 1)
    assert at_most([[each] for each in samples], 6, 1) <= at_most([[each] for each in samples], 40, 1)
    assert at_most([[each] for each in samples], 6, 1) != at_most([[each] for each in samples], 6, 2)


@pytest.mark.parametrize("values", [[0.25, 0.5, 1.0], [3.0], [1e8, 1e8 + 1.0]])
def test_the_statistics_are_those_of_all_values(values) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    several = len(values) > 1
    expected = {"mean": statistics.fmean(values), "std": statistics.stdev(values) if several else None}
    expected |= {"range": max(values) - min(values) if several else None, "min": min(values), "max": max(values)}
    assert {name: of(spread) for name, of in STATISTICS.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iou", "expected [TASK:]METRIC"),
        ("iou 0.5", "either bound may be left out"),
        ("iou a:b", "expected"),
        ("iou nan:", "expected"),
        ("0.1:0.9", "expected"),
        ("iou 0.9:0.1", "the lower bound comes first"),
    ],
)
def test_a_condition_that_cannot_be_is_refused(text, message) -> None:
    with pytest.raises(ConfigError, match="--keep") as refused:
        Condition.parse(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mIoU 0.1:0.9", (None, "mIoU", "mean", "mIoU")),
        ("R1@0.5 0.1:", (None, "R1@0.5", "mean", "R1@0.5")),
        ("tracking:R@0.5.std :0.1", ("tracking", "R@0.5", "std", "R@0.5.std")),
        ("my.tasks:Own:score.mean 0:1", ("my.tasks:Own", "score", "mean", "score")),
    ],
)
def test_a_condition_names_task_metric_and_statistic(text, parts) -> None:
    condition = Condition.parse(text)
    assert (condition.task, condition.metric, condition.statistic, condition.column) == parts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "run", "--keep", "miou 0:1"], "rollouts.jsonl have no 'miou'; did you mean 'mIoU'?"),
        (
            ["--from", "run", "--keep", "tracing:iou 0:1"],
            "no sample is of the task 'tracing'; did you mean 'tracking'?",
        ),
        (["--from", "run", "--keep", "iou", "0:1", "reward"], "--keep 'reward': expected [TASK:]METRIC"),
        (["--from", "run", "--keep", "iou 10:90"], "no sample is kept, and out.jsonl was not written"),
        (["--from", "run", "empty", "--keep", "iou :"], "rollouts.jsonl holds no answer"),
        (["--from", "nowhere", "--keep", "iou :"], "nowhere is no folder of a run"),
        (["--from", "old", "--keep", "iou :"], "rollouts.jsonl, line 1 does not tell the query of its sample"),
    ],
)
def test_wrong_input_ends_with_2_and_the_mend(run, tmp_path, capsys, arguments, message) -> None:
    write_log(tmp_path / "empty")
    write_log(tmp_path / "old", group(1, "x", "temporal_grounding", SPAN, answers(1.0), video="a.mp4", query=None))
    assert select(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("out.jsonl").exists()


def test_what_is_there_is_not_replaced_and_a_cut_line_is_passed_over(run, capsys, caplog) -> None:
    Path("out.jsonl").write_text("mine")
    assert main(["data", "select", "--from", str(run), "--keep", "iou :", "--output", "out.jsonl"]) == 2
    assert Path("out.jsonl").read_text() == "mine"
    with (run / "rollouts.jsonl").open("a") as log:
        log.write('{"step": 2, "sample_id": "cut')
    assert select("--from", run, "--keep", "iou :") == 0
    assert "rollouts.jsonl, line 8 is damaged" in caplog.text


def test_what_training_logs_can_be_selected_and_trained_on(tmp_path) -> None:
    samples = make_corpus(tmp_path, 4)
    make_trainer(tmp_path, samples=samples, prompts_per_step=4, max_steps=1).train()
    [first, *_] = read_rollouts(tmp_path / "run" / "rollouts.jsonl")
    assert first["query"] and first["duration"]
    assert select("--from", tmp_path / "run", "--keep", "reward :", output=str(tmp_path / "out.jsonl")) == 0
    again = {sample.id: sample for sample in read_manifest(tmp_path / "out.jsonl", tmp_path)}
    assert {sample.id: (sample.media, sample.query, sample.target) for sample in samples} == {
        name: (sample.media, sample.query, sample.target) for name, sample in again.items()
    }
