"""Training with a judge that fails: what is unscored weighs nothing, outages are waited for or end the run cleanly."""

import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import TrainerCallback

from tests import judged_rewards
from tests.judged_rewards import TARGET, captions
from tests.tiny_runs import by_letters, logged_rollouts, make_corpus, make_trainer, write_train_manifest
from videochat_r1.commands.grpo import main as grpo_command
from videochat_r1.errors import ConfigError, JudgeError
from videochat_r1.grpo import looks
from videochat_r1.grpo.reward_calls import Outcome, RewardCalls, UnscoredRollouts, lone_share
from videochat_r1.grpo.run import check_rewards_cover, load_rewards
from videochat_r1.judge import Judge, JudgeConfig
from videochat_r1.judge.rule_server import MODEL, RuleJudgeServer
from videochat_r1.rewards import Unscored
from videochat_r1.sample import CaptionTarget, Sample, Video
from videochat_r1.training import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("judged")


@pytest.fixture
def server():
    with RuleJudgeServer() as running:
        yield running


def judged_trainer(folder, server, name, *, judge=None, **options):
    """A trainer whose rollouts earn format and what the local judge says."""
    values = {
        "base_url": server.base_url,
        "model": MODEL,
        "cache_dir": None,
        "backoff_seconds": 0.01,
        "max_attempts": 2,
    }
    rewards = [
        {"name": "format"},
        {
            "name": "tests.judged_rewards:answered",
            "options": {"judge": Judge(JudgeConfig(**{**values, **(judge or {})}))},
        },
    ]
    return make_trainer(folder, reward_entries=rewards, output_dir=str(folder / name), **options)


def with_rewards(folder, *functions, **options):
    """A trainer over the toy corpus with rewards of the test's own."""
    entries = [{"name": f"tests.judged_rewards:{function.__name__}"} for function in functions]
    with pytest.MonkeyPatch.context() as patch:
        for function in functions:
            patch.setattr(f"tests.judged_rewards.{function.__name__}", function, raising=False)
        path = folder / f"rewards_{len(list(folder.iterdir()))}"
        return make_trainer(folder, reward_entries=entries, output_dir=str(path), **options)


def rollouts(trainer):
    return logged_rollouts(Path(trainer.args.output_dir))


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights_of(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


class At(TrainerCallback):
    """Calls something once after an update."""

    def __init__(self, step, call):
        self.step, self.call = step, call

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.call()


@pytest.fixture(scope="module")
def plain_run(folder):
    """Three updates with a judge that never fails."""
    with RuleJudgeServer() as server:
        trainer = judged_trainer(folder, server, "plain", max_steps=3)
        trainer.train()
    return trainer, weights_of(trainer)


def unscored_shares(trainer) -> set[float]:
    """Of every update and task."""
    entries = trainer.state.log_history
    return {value for entry in entries for name, value in entry.items() if name.endswith("/ended/unscored")}


def test_every_rollout_is_judged_once_while_the_step_goes_on(plain_run):
    trainer, _ = plain_run
    rows = rollouts(trainer)
    assert len(rows) == 3 * 2 * 4
    for row in rows:
        (text,) = captions([row["completion"]], [row["generation"]])
        assert row["rewards"]["answered"] == (1.0 if "dog" in text else 0.5)
        assert row["problem"] is None and row["ended"] in ("stop", "length")
        labels = ["entailment" if event in text else "neutral" for event in TARGET["events"]]
        assert row["verdicts"] == {"recall": [list(pair) for pair in zip(TARGET["events"], labels, strict=True)]}
    assert 0 < sum(logged(trainer, "judge/requests")) <= len(rows)
    assert unscored_shares(trainer) == {0.0}


def test_an_unscored_rollout_leaves_its_groups_mean_and_std_and_gets_no_advantage(folder, server):
    server.poison = "Rollout 2"
    trainer = judged_trainer(folder, server, "poisoned", max_steps=2, max_unscored_share=0.5)
    trainer.train()
    rows = rollouts(trainer)
    groups = [rows[begin : begin + 4] for begin in range(0, len(rows), 4)]
    assert len(groups) == 4
    for group in groups:
        unscored = group.pop(2)
        assert unscored["advantage"] == 0.0 and unscored["reward"] is None
        assert set(unscored["rewards"].values()) == {None}, "not even its format counts"
        assert unscored["ended"] == "unscored" and "HTTP 500" in unscored["problem"]
        values = [row["reward"] for row in group]
        mean, std = statistics.fmean(values), statistics.stdev(values)
        for row in group:
            assert row["advantage"] == pytest.approx((row["reward"] - mean) / (std + 1e-4), abs=1e-4)
    assert any(row["advantage"] for group in groups for row in group)
    assert trainer.unscored.total == 4
    level = sum(len({row["reward"] for row in group}) == 1 for group in groups)
    assert sum(logged(trainer, "frac_reward_zero_std")) == pytest.approx(level / 2)
    assert unscored_shares(trainer) == {0.25}


def test_above_the_configured_share_the_run_stops(folder, server):
    server.poison = "Rollout"
    trainer = judged_trainer(folder, server, "all unscored", max_steps=3)
    with pytest.raises(
        JudgeError, match=r"8 of the last 8 judged rollouts are unscored.*max_unscored_share=0\.1.*HTTP 500"
    ):
        trainer.train()
    assert trainer.state.global_step == 0 and checkpoint.last_checkpoint(folder / "all unscored") is None


def test_an_outage_in_mid_training_is_waited_for(folder, server, plain_run):
    trainer = judged_trainer(folder, server, "paused", max_steps=3)

    def interrupt():
        server.stop()
        threading.Timer(0.7, server.start).start()

    trainer.add_callback(At(1, interrupt))
    began = time.monotonic()
    trainer.train()
    assert time.monotonic() - began > 0.7
    assert not any(row["problem"] for row in rollouts(trainer))
    after = weights_of(trainer)
    assert all(torch.equal(value, after[name]) for name, value in plain_run[1].items())


@pytest.mark.parametrize("judge", [{"on_outage": "stop"}, {"max_wait_seconds": 1.5}], ids=["stop", "pause too long"])
def test_an_outage_ends_the_run_with_a_checkpoint_from_which_it_goes_on(folder, server, plain_run, judge):
    name = f"stopped {next(iter(judge))}"
    trainer = judged_trainer(folder, server, name, judge=judge, max_steps=3)
    trainer.add_callback(At(2, server.stop))
    with pytest.raises(JudgeError, match=r"(has not answered|no verdict).*Training has stopped\. .* after update 2"):
        trainer.train()
    assert checkpoint.last_checkpoint(folder / name).name == "checkpoint-2"
    server.start()
    again = judged_trainer(folder, server, name, max_steps=3)
    again.train(resume_from_checkpoint=str(checkpoint.last_checkpoint(folder / name)))
    after = weights_of(again)
    assert all(torch.equal(value, after[name]) for name, value in plain_run[1].items())
    assert [row["step"] for row in rollouts(again)] == [step for step in (1, 2, 3) for _ in range(8)]


def test_ranks_agree_to_pause_and_to_stop(folder):
    """Each of two processes asks a judge of its own; only the second one's goes away, at first shortly, then for good."""
    output, log = folder / "two ranks", folder / "two_ranks.log"
    rewards = [
        {"name": "format"},
        {"name": "tests.judged_rewards:answered_by_ranks_own", "options": {"max_wait_seconds": 8.0}},
    ]
    mixture = [{"manifest": "train.jsonl", "videos": "."}]
    with RuleJudgeServer() as first, RuleJudgeServer() as second:
        second.script += [None] * 4 + ["restart"]  # a step asks four questions at most, so not in the first
        changes = {"judge": None, "rewards": rewards, "mixture": mixture, "output_dir": str(output), "max_steps": 60}
        config = caption_recipe(folder, first, ddp_backend="gloo", **changes)
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "videochat_r1.cli"]
        environment = {
            **os.environ,
            "JUDGE_PORTS": f"{first.port},{second.port}",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        }
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [sys.executable, *command, "grpo", "--config", config], env=environment, stderr=errors
            ) as run,
        ):
            while run.poll() is None and second.counts["answered"] < 8:
                time.sleep(0.02)
            second.stop()
            assert run.wait(timeout=240) != 0
    said = log.read_text()
    newest = checkpoint.last_checkpoint(output)
    assert newest is not None and second.counts["restart"] == 1, said[-6000:]
    step = int(newest.name.partition("-")[2])
    assert 0 < step < 60
    assert f"Training has stopped. The same command goes on after update {step}" in said
    rows = logged_rollouts(output)
    assert [row["step"] for row in rows] == [number for number in range(1, step + 1) for _ in range(8)]
    assert not any(row["problem"] for row in rows)


# --- a recipe -----------------------------------------------------------------------------------------------------------


def caption_recipe(folder, server, **changes):
    """A captioning recipe over the toy videos."""
    write_train_manifest(folder)
    rows = [{"video": f"{index % 4}.mp4", "caption": "A man opens a door.", "id": index} for index in range(4)]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if not (folder / "model_qwen2_vl").exists():
        make_trainer(folder, family="qwen2_vl")
    values = {
        "model_name_or_path": str(folder / "model_qwen2_vl"),
        "data_root": str(folder),
        "mixture": [{"dataset": "captions", "annotations": "captions.jsonl", "videos": "."}],
        "video": {"fps": 3.0, "max_frames": 16, "min_pixels": 784, "max_pixels": 3136},
        "rewards": [{"name": "format"}, {"name": "recall", "options": {"max_words": 50}}],
        "judge": {"base_url": server.base_url, "model": MODEL, "cache_dir": str(folder / "cache")},
        "prompts_per_step": 2,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 5,
        "max_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "output_dir": str(folder / "recipe"),
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def test_a_captioning_recipe_trains_a_qwen2_vl(folder, server):
    assert grpo_command(["--config", caption_recipe(folder, server)]) == 0
    rows = logged_rollouts(folder / "recipe")
    assert len(rows) == 8 and {row["task"] for row in rows} == {"captioning"}
    assert all(row["rewards"]["recall"] == 0.0 for row in rows), "an untrained model answers nothing"
    assert server.counts["requests"] == 1, "the check before training"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--judge.base_url", "http://127.0.0.1:9/v1"], "http://127.0.0.1:9/v1 cannot be asked: no connection"),
        (["--judge.model", "other"], "It serves rules"),
        (["--judge.api_key_env", "NO_SUCH_KEY"], "NO_SUCH_KEY, which is not set"),
        (["--judge.max_wait_seconds", "1800"], "too close to ddp_timeout=1800"),
        (["--max_unscored_share", "10"], "expected a share from 0 to 1"),
        (["--judge.modle", "x"], "did you mean 'model'"),
        (["--judge", "null"], "need a judge"),
        (["--rewards.1.options.max_word", "9"], "did you mean 'max_words'"),
    ],
)
def test_a_judge_that_cannot_be_used_is_refused_before_the_model_is_loaded(folder, server, flags, message):
    (folder / "no weights").mkdir(exist_ok=True)
    (folder / "no weights" / "config.json").write_text("{}")
    places = {"model_name_or_path": str(folder / "no weights"), "output_dir": str(folder / "refused")}
    config = caption_recipe(folder, server, **places)
    with pytest.raises((ConfigError, JudgeError), match=message):
        grpo_command(["--config", config, *flags])


def test_rewards_take_the_recipes_judge():
    judge = Judge(JudgeConfig(base_url="http://127.0.0.1:9/v1", model="m"))
    assert [reward.__name__ for reward in load_rewards(None)[0]] == ["format", "iou", "accuracy"]
    assert [reward.__name__ for reward in load_rewards(None, judge)[0]] == ["format", "iou", "accuracy", "recall"]
    (own,), _ = load_rewards([{"name": "tests.judged_rewards:answered"}], judge)
    assert own.keywords["judge"] is judge
    caption = Sample("c", "captioning", Video(path="v"), "q", CaptionTarget("x"))
    check_rewards_cover([caption], ["format", "recall"], judge)
    with pytest.raises(ConfigError, match="need a judge"):
        check_rewards_cover([caption], ["format", "recall"])


# --- the parts ----------------------------------------------------------------------------------------------------------


def test_judging_begins_early_of_what_was_drawn_and_is_used_only_for_the_same_completions():
    calls = []

    async def slow(completions, **columns):
        calls.append(list(completions))
        return [1.0, Unscored("tired"), None][: len(completions)]

    reward = RewardCalls([slow])

    async def scene(later):
        reward.begin(asyncio.get_running_loop(), ["a", "", "b", "c"], [0, 2, 3], {})
        return await reward.functions[0](completions=later)

    values = asyncio.run(scene(["a", "", "b", "c"]))
    assert values[0] == 1.0 and values[1] is None and math.isnan(values[2]) and values[3] is None
    assert calls == [["a", "b", "c"]]
    nothing = Outcome(False, None, False)
    assert reward.take(4) == [Outcome(True, None, False), nothing, Outcome(True, "tired", False), nothing]
    assert reward.take(4) == [nothing] * 4
    assert asyncio.run(scene(["d"])) == [1.0]
    assert calls[-1] == ["d"]


def test_a_judge_is_asked_once_for_each_look_that_was_taken_and_pays_as_credit_says(folder, server, monkeypatch):
    asked = []
    by_judge = judged_rewards.answered

    async def answered(completions, *, judge=None, **columns):
        asked.extend(zip(columns["sample_id"], columns["generation"], columns["look"], completions, strict=True))
        return await by_judge(completions, judge=judge, **columns)

    monkeypatch.setattr(judged_rewards, "answered", answered)
    monkeypatch.setattr(looks, "read", by_letters)
    credit = {"clue": [], "answer": ["answered"], "share": 0.5}
    options = {"second_look": {"padding": 0.1, "credit": credit}, "samples": make_corpus(folder, 6)[2::3]}
    trainer = judged_trainer(folder, server, "looks", max_steps=2, **options)
    trainer.train()
    told = []
    for row in rollouts(trainer):
        last = row["looks"][-1]["rewards"]["answered"]
        for number, look in enumerate(row["looks"]):
            told.append((row["sample_id"], row["generation"], number, look["completion"]))
            (text,) = captions([look["completion"]], [row["generation"]])
            assert look["rewards"]["answered"] == (1.0 if "dog" in text else 0.5)
            paid = look["rewards"]["format"] + (1.0 if number else 0.5) * last
            assert look["reward"] == pytest.approx(paid)
    assert sorted(asked) == sorted(told) and 16 < len(told) < 32, "some look again and some do not"
    assert unscored_shares(trainer) == {0.0}


def test_a_group_with_one_scored_rollout_or_none_has_no_deviation():
    nan = float("nan")
    rewards = torch.tensor(
        [[1.0, nan], [1.0, nan], [nan, nan], [0.5, 0.5], [nan, nan], [nan, nan], [nan, nan], [nan, nan]]
    )
    assert lone_share(rewards, 2) == pytest.approx(3 / 4)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("given", "value", "reason"),
    [
        (None, None, None),
        (0.5, 0.5, None),
        (True, 1.0, None),
        (np.float32(0.5), 0.5, None),
        (np.bool_(True), 1.0, None),
        (torch.tensor(0.5), 0.5, None),
        (Fraction(1, 2), 0.5, None),
        (math.nan, "unscored", "reward odd gave nan"),
        (np.float64("nan"), "unscored", "reward odd gave nan"),
        (math.inf, "unscored", "reward odd gave inf"),
        (-math.inf, "unscored", "reward odd gave -inf"),
        (1e30, "unscored", "reward odd gave 1e+30, too large to train on"),
        (10**400, "unscored", "reward odd gave inf"),
        ("0.5", "unscored", "reward odd gave '0.5' of type str, not a number"),
        (b"1", "unscored", "reward odd gave b'1' of type bytes, not a number"),
        ([0.5], "unscored", "reward odd gave [0.5] of type list, not a number"),
        (torch.ones(2), "unscored", "reward odd gave tensor([1., 1.]) of type Tensor, not a number"),
        (1j, "unscored", "reward odd gave 1j of type complex, not a number"),
        (Unscored("late"), "unscored", "late"),
    ],
    ids=str,
)
def test_a_reward_is_a_number_or_its_rollout_is_unscored_under_its_name(given, value, reason, is_async):
    def odd(completions, **columns):
        return (0.25, given)

    async def odd_async(completions, **columns):
        return odd(completions)

    odd_async.__name__ = "odd"
    reward = RewardCalls([odd_async if is_async else odd])
    found = reward.functions[0](completions=["a", "b"])
    found = asyncio.run(found) if is_async else found
    assert found[0] == 0.25
    assert math.isnan(found[1]) if value == "unscored" else found[1] == value
    failed = reason is not None
    judged = failed or is_async
    assert reward.take(2) == [
        Outcome(judged, None, False),
        Outcome(failed or (judged and given is not None), reason, False),
    ]


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        (None, "None"),
        (0.5, "0.5"),
        ([1.0], "1 values"),
        ([1.0] * 3, "3 values"),
        (np.ones((0,)), "0 values"),
        (torch.tensor(0.5), "tensor(0.5000)"),
        (object, "<class 'object'>"),
        ({0.5, 1.0}, "{0.5, 1.0}"),
        ({0: 1.0, 1: 1.0}, "{0: 1.0, 1: 1.0}"),
        ("ab", "'ab'"),
    ],
)
def test_a_reward_that_returns_no_list_of_the_right_length_leaves_all_unscored(returned, what):
    def odd(completions, **columns):
        return returned

    reward = RewardCalls([odd])
    assert all(map(math.isnan, reward.functions[0](completions=["a", "b"])))
    assert {one.reason for one in reward.take(2)} == {f"reward odd returned {what} for 2 completions"}


def test_failures_of_a_plain_reward_are_counted_among_all_that_it_scores():
    values = iter([math.nan, *[0.5] * 200])
    reward = RewardCalls([lambda completions, **columns: [next(values) for _ in completions]])
    unscored = UnscoredRollouts(max_share=0.1)
    for _ in range(20):
        reward.functions[0](completions=["a"] * 10)
        assert unscored.count(reward.take(10), is_main_process=True) is None
    assert unscored.total == 1 and len(unscored._recent) == 200


@pytest.mark.parametrize("given", [math.inf, "well done", None], ids=str)
def test_a_run_goes_on_where_one_reward_is_odd_and_stops_where_all_are(folder, given):
    def sometimes(completions, generation, trainer_state, **columns):
        return [given if g == 0 and trainer_state.global_step < 2 else g / 4 for g in generation]

    def always(completions, **columns):
        return [given for _ in completions]

    trainer = with_rewards(folder, sometimes, max_unscored_share=0.5, max_steps=3)
    trainer.train()
    assert len(logged(trainer, "reward")) == 3
    spoilt = [row["problem"] for row in rollouts(trainer)[::4]]
    assert [bool(reason) for reason in spoilt] == [given is not None] * 4 + [False] * 2
    trainer = with_rewards(folder, always, max_steps=3)
    if given is None:
        trainer.train()
        assert not logged(trainer, "reward")
    else:
        with pytest.raises(JudgeError, match=r"8 of the last 8 judged rollouts .* the last for: reward always gave"):
            trainer.train()


def test_the_share_is_that_of_the_last_judged_rollouts():
    unscored = UnscoredRollouts(max_share=0.5)
    failed, fine, free = Outcome(True, "late", False), Outcome(True, None, False), Outcome(False, None, False)
    assert unscored.count([failed] * 7 + [free] * 100, is_main_process=True) is None, "too few to tell"
    assert unscored.count([fine] * 7, is_main_process=True) is None
    assert "8 of the last 15 judged" in unscored.count([failed], is_main_process=True)
    assert unscored.count([fine] * 600, is_main_process=True) is None
    assert "gone" in unscored.count([fine, Outcome(True, "gone", True)], is_main_process=True)
    assert unscored.total == 9
