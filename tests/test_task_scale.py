"""`scale_rewards: task_ema`: rewards over the running deviation of their task, the same on any processes and after any resume."""

import json
import random
import statistics

import pytest
import torch

from tests.tiny_runs import DEFAULTS, logged_rollouts, make_trainer
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.payment import Payment
from videochat_r1.grpo.reward_calls import Outcome
from videochat_r1.grpo.rollout_log import Drawn
from videochat_r1.grpo.task_scale import TaskEma, TaskScale
from videochat_r1.grpo.truth import shaped
from videochat_r1.rollout.ended import Ended

GENERATIONS = [
    {"a": [0.1, 0.9, 0.5], "b": [2.0, 3.0]},
    {"a": [1.0, 0.0, 0.2, 0.4]},
    {"b": [2.5, 2.5], "a": [0.3]},
]


def learned(options: TaskEma, shuffled: bool = False) -> TaskScale:
    scale = TaskScale(options)
    for number, generation in enumerate(GENERATIONS):
        rows = [(task, value) for task, values in generation.items() for value in values]
        if shuffled:
            random.Random(number).shuffle(rows)
        scale.learn([value for _, value in rows], [task for task, _ in rows])
    return scale


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_a_deviation_is_that_of_all_answers_older_ones_counting_less(decay: float) -> None:
    found = learned(TaskEma(decay=decay)).deviations
    for task in ("a", "b"):
        own = [generation[task] for generation in GENERATIONS if task in generation]
        weighted = [(decay ** (len(own) - 1 - age), value) for age, values in enumerate(own) for value in values]
        count = sum(weight for weight, _ in weighted)
        mean = sum(weight * value for weight, value in weighted) / count
        variance = sum(weight * (value - mean) ** 2 for weight, value in weighted) / count
        assert found[task] == pytest.approx(max(variance**0.5, 1e-3))


def test_the_first_generation_of_a_task_is_divided_by_its_own_deviation() -> None:
    scale = TaskScale(TaskEma())
    assert scale.deviation("a") == 1.0 and scale.deviations == {}
    scale.learn([0.0, 1.0, 1.0, float("nan")], ["a"] * 3 + ["b"])
    assert scale.deviations == {"a": pytest.approx(statistics.pstdev([0.0, 1.0, 1.0]))}
    scaled = scale.scaled(torch.tensor([[0.5, 0.5], [1.0, torch.nan]]), ["a", "b"])
    torch.testing.assert_close(
        scaled,
        torch.tensor([[0.5, 0.5], [1.0, torch.nan]]) / torch.tensor([[scale.deviation("a")], [1.0]]),
        equal_nan=True,
    )


def test_equal_rewards_are_divided_by_the_guard() -> None:
    scale = TaskScale(TaskEma(guard=0.25))
    scale.learn([0.7] * 8, ["a"] * 8)
    assert scale.deviation("a") == 0.25


def test_the_order_of_answers_changes_no_bit_and_a_state_goes_through_json() -> None:
    scale = learned(TaskEma())
    assert learned(TaskEma(), shuffled=True).deviations == scale.deviations
    again = TaskScale(TaskEma())
    again.restore(json.loads(json.dumps(scale.state())))
    assert again.deviations == scale.deviations
    again.restore({})
    assert again.deviations == {}


def test_true_answers_among_the_rollouts_say_nothing_of_how_rewards_vary() -> None:
    nothing = Outcome(False, None, False)
    drawn = [Drawn({"task": "a", "truth": truth}, "", 1, Ended.STOP, nothing) for truth in (False, False, False, True)]
    rewards = torch.tensor([[0.0], [0.5], [1.0], [1.0]])
    paid, metrics = Payment(TaskEma(), [1.0], shape=True)(rewards, drawn)
    deviation = statistics.pstdev(shaped(rewards[:3]).flatten().tolist())
    assert metrics == {"task_ema/a": pytest.approx(deviation)}
    torch.testing.assert_close(paid, shaped(rewards) / deviation)


def test_advantages_are_centred_rewards_over_the_deviation_that_is_logged(tmp_path) -> None:
    trainer = make_trainer(tmp_path, scale_rewards="task_ema", prompts_per_step=6, max_steps=1)
    trainer.train()
    log = trainer.state.log_history[0]
    rows = logged_rollouts(tmp_path / "run")
    for task in ("temporal_grounding", "tracking", "grounded_qa"):
        own = [row for row in rows if row["task"] == task]
        deviation = statistics.pstdev(row["reward"] for row in own)
        assert log[f"task_ema/{task}"] == pytest.approx(deviation, rel=1e-5)
        for first in range(0, len(own), 4):
            group = own[first : first + 4]
            mean = statistics.fmean(row["reward"] for row in group)
            expected = [(row["reward"] - mean) / deviation for row in group]
            assert [row["advantage"] for row in group] == pytest.approx(expected, abs=1e-5)
    assert log["reward"] == pytest.approx(statistics.fmean(row["reward"] for row in rows)), "as measured"
    assert log["rewards/format/mean"] == pytest.approx(statistics.fmean(row["rewards"]["format"] for row in rows))


def test_a_resumed_run_goes_on_with_the_deviations_to_the_last_bit(tmp_path) -> None:
    options = {"scale_rewards": "task_ema", "max_steps": 3, "save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(tmp_path, **options, output_dir=str(tmp_path / "whole"))
    whole.train()
    resumed = make_trainer(tmp_path, **options, output_dir=str(tmp_path / "whole"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, resumed.model.get_parameter(name)), name
    of_run = [
        [row for row in each.state.log_history if row.get("step") == 3 and "loss" in row][-1]
        for each in (whole, resumed)
    ]
    scales = [{key: value for key, value in row.items() if key.startswith("task_ema/")} for row in of_run]
    assert scales[0] == scales[1] and scales[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_rewards": "group", "task_ema": {"decay": 0.9}}, "which is 'group'"),
        ({"scale_rewards": "task_ema", "task_ema": {"decay": 1.0}}, "task_ema.decay is 1.0"),
        ({"scale_rewards": "task_ema", "task_ema": {"guard": 0.0}}, "task_ema.guard is 0.0"),
        ({"scale_rewards": "task_ema", "task_ema": {"dekay": 0.9}}, "did you mean 'decay'"),
        ({"scale_rewards": "task_ema", "multi_objective_aggregation": "normalize_then_sum"}, "sum_then_normalize"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoGRPOConfig(**{**DEFAULTS, "output_dir": str(tmp_path), **options})


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_the_ways_of_trl_stay_as_they_are(tmp_path, scale) -> None:
    config = VideoGRPOConfig(**{**DEFAULTS, "output_dir": str(tmp_path), "scale_rewards": scale})
    assert config.running_scale() is None and (config.scale_rewards, config.task_ema) == (scale, None)
