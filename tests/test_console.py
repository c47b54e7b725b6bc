"""What a run says to people: a line per step, and bars that a log file can hold."""

import io
import itertools
import math
import sys

import pytest

from tests.tiny_runs import make_corpus, make_trainer
from videochat_r1 import progress
from videochat_r1.sample import Sample, Video
from videochat_r1.training.console import summary_line, use_console_log

GRPO = {"loss": 0.1, "frac_reward_zero_std": 0.5, "grad_norm": 1.25, "step_time": 2.0, "completions/mean_length": 18.0}


@pytest.mark.parametrize(
    ("logs", "line"),
    [
        ({"loss": 0.5, "grad_norm": 1.0}, "step     7  loss 0.5000  grad 1.00"),
        ({"loss": 0.0, "data/bad_samples": 3.0}, "step     7  loss 0.0000  left out so far 3"),
        (
            GRPO | {"reward": 1.41, "tracking/reward": 1.5, "tracking/rewards/iou/mean": 0.55, "data/bad_samples": 0.0}
            | {"tracking/ended/stop": 0.75, "tracking/ended/length": 0.25, "tracking/ended/unscored": 0.0},
            "step     7  reward 1.410  tracking 1.50 (iou 0.55, length 0.25)  grad 1.25  tokens 18  s/step 2.00",
        ),
        (GRPO | {"data/bad_samples": 2.0}, "step     7  no rollout scored  grad 1.25  tokens 18  s/step 2.00  left out so far 2"),
        (
            GRPO | {"reward": None, "kl": None, "tracking/reward": None, "grad_norm": None, "step_time": None},
            "step     7  no rollout scored  tokens 18",
        ),
        ({}, "step     7"),
    ],
)  # fmt: skip
def test_a_step_line_shows_what_the_step_has(logs, line):
    assert summary_line(7, logs) == line


class InOrder:
    def __init__(self, samples):
        self._samples = samples

    def samples(self, epoch):
        return self._samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("console")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.0, "dynamic_sampling_draws": 1},
        {"beta": 0.0, "skip_uninformative_groups": True},
        {"loss_type": "bnpo", "scale_rewards": "batch", "num_iterations": 2},
        {"multi_objective_aggregation": "normalize_then_sum", "report_to": ["tensorboard"]},
    ],
    ids=str,
)
def test_a_step_whose_videos_are_all_bad_goes_on_and_says_so(folder, options, monkeypatch, capsys, caplog):
    good = make_corpus(folder, 2)
    bad = [
        Sample(f"b{index}", one.task, Video(path=str(folder / "no.mp4")), "q", one.target, 2.0, "toy")
        for index, one in enumerate(good)
    ]
    monkeypatch.setattr("tests.tiny_runs.Source", lambda samples: InOrder([*good, *bad]))
    trainer = make_trainer(folder, max_steps=3, **options)
    trainer.bad_samples.max_share = 1.0
    use_console_log(trainer)
    trainer.train()
    said = capsys.readouterr().out
    assert ("no rollout scored" in said) == ("dynamic_sampling_draws" not in options)
    assert "left out so far" in said
    assert {one["sample_id"] for one in trainer.bad_samples.listed} == {"b0", "b1"}
    values = [value for entry in trainer.state.log_history for value in entry.values()]
    assert not [value for value in values if value is None or (isinstance(value, float) and not math.isfinite(value))]
    assert trainer.state.global_step == 3 and "NoneType" not in caplog.text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_is_a_few_lines_in_a_file(monkeypatch, terminal):
    clock = itertools.count(0.0, 20.0)
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    monkeypatch.setattr("tqdm.std.TMonitor", None)
    for _ in progress.progress_bar(range(6), desc="videos", unit="video"):
        pass
    text = stream.getvalue()
    assert ("\r" in text) == terminal
    if not terminal:
        lines = text.splitlines()
        assert all(line.startswith("videos: ") for line in lines) and 1 < len(lines) <= 6, lines


def test_what_is_over_soon_leaves_nothing_in_a_file(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress.progress_bar(range(3), desc="videos")) == [0, 1, 2]
    progress.progress_bar(total=3).close()
    assert stream.getvalue() == ""
