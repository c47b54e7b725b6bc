"""`truth_as_rollout`: the true answer is one of each group, learned from off-policy and never taken for the policy's."""

import math
import statistics
from dataclasses import replace

import pytest
import torch

from tests.tiny_runs import DEFAULTS, logged_rollouts, make_corpus, make_trainer
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.agreement import agreement
from videochat_r1.grpo.bonuses import length_bonus
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.group_rewards import group_rewards
from videochat_r1.grpo.shared_prefix import completion_logps
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.grpo.truth import check_truths, shaped, truth_of
from videochat_r1.rewards import make_reward
from videochat_r1.tasks import TASKS

OPTIONS = {"truth_as_rollout": True, "max_completion_length": 300}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("truth")


def test_rewards_are_flat_above_the_threshold_and_steep_below_it() -> None:
    values = torch.tensor([0.0, 0.4, 0.8, 1.0, torch.nan])
    expected = [
        0.8 - (math.exp(0.8) - 1) / (math.e - 1),
        0.8 - (math.exp(0.4) - 1) / (math.e - 1),
        0.8,
        0.8 + 0.01 * math.log(1.2),
        math.nan,
    ]
    torch.testing.assert_close(shaped(values), torch.tensor(expected), equal_nan=True)
    steps = shaped(torch.linspace(-1.0, 2.0, 301)).diff()
    assert (steps > 0).all() and steps.max() < 0.1, "one and the other part meet"


def test_with_a_thought_the_truth_is_the_samples_response(folder) -> None:
    sample = make_corpus(folder)[0]
    assert truth_of(sample, thinking=False) == TASKS[sample.task].gold(sample.target, thinking=False)
    assert truth_of(sample, thinking=True) is None
    with pytest.raises(ConfigError, match="no sample has one"):
        check_truths([sample], thinking=True)
    told = replace(sample, response="<think>It is early.</think>\n<answer>0.5 to 1.5</answer>")
    assert truth_of(told, thinking=True) == told.response
    check_truths([sample, told], thinking=True)
    check_truths([sample], thinking=False)


@pytest.fixture(scope="module")
def run(folder):
    trainer = make_trainer(
        folder, **OPTIONS, max_steps=1, prompts_per_step=3, use_cpu=True, output_dir=str(folder / "run")
    )
    trainer.train()
    return trainer, logged_rollouts(folder / "run")


def test_the_last_of_each_group_is_the_truth_and_earns_full_reward(run, folder) -> None:
    _, rows = run
    samples = {sample.id: sample for sample in make_corpus(folder)}
    assert [row.get("truth") for row in rows] == [None, None, None, True] * 3
    for row in rows[3::4]:
        sample = samples[row["sample_id"]]
        parsed = TASKS[sample.task].parse(row["completion"], sample.target)
        assert TASKS[sample.task].iou(parsed, sample.target) == pytest.approx(1.0)
        assert row["rewards"]["format"] == 1.0 and row["ended"] == "stop"


def test_advantages_are_those_of_the_whole_group_of_shaped_rewards(run) -> None:
    _, rows = run
    for first in range(0, len(rows), 4):
        group = rows[first : first + 4]
        sums = [
            sum(shaped(torch.tensor(value)).item() for value in row["rewards"].values() if value is not None)
            for row in group
        ]
        deviation = statistics.stdev(sums) + 1e-4
        expected = [(each - statistics.fmean(sums)) / deviation for each in sums]
        assert [row["advantage"] for row in group] == pytest.approx(expected, abs=1e-4)


def test_metrics_are_the_policys_own(run) -> None:
    trainer, rows = run
    log, drawn = trainer.state.log_history[0], [row for row in rows if not row.get("truth")]
    assert log["reward"] == pytest.approx(statistics.fmean(row["reward"] for row in drawn))
    assert log["rewards/format/mean"] == pytest.approx(statistics.fmean(row["rewards"]["format"] for row in drawn))
    assert log["completions/max_length"] <= max(row["num_tokens"] for row in drawn)
    assert log["truth/share"] == 1.0 and log["truth/reward"] == pytest.approx(
        statistics.fmean(row["reward"] for row in rows[3::4])
    )
    for task in ("temporal_grounding", "tracking", "grounded_qa"):
        own = [row for row in drawn if row["task"] == task]
        assert log[f"{task}/reward"] == pytest.approx(statistics.fmean(row["reward"] for row in own))
        assert log[f"{task}/ended/length"] == pytest.approx(statistics.fmean(row["ended"] == "length" for row in own))
    assert log["sampling/sampling_logp_difference/max"] < 1e-3, "the truth has no sampler to compare with"


def slow_loss(trainer, inputs, *, kl_of_truth: bool):
    """Row by row over prompts of their own: the ratio's gradient everywhere, KL of what the policy has drawn alone."""
    total = torch.zeros(())
    for row, prompt in enumerate(inputs["row_prompts"]):
        ids, mask = inputs["completion_ids"][row : row + 1], inputs["completion_mask"][row : row + 1]
        options = {"share_prompt": False, "compute_entropy": False, "pad_token_id": trainer._tokenizer.pad_token_id}
        logps, _ = completion_logps(trainer.model, [prompt], ids, mask, **options)
        with torch.no_grad():
            reference, _ = completion_logps(trainer.ref_model, [prompt], ids, mask, **options)
        each = -torch.exp(logps - logps.detach()) * inputs["advantages"][row]
        if kl_of_truth or not inputs["row_truth"][row]:
            kl = torch.exp(reference - logps) - (reference - logps) - 1
            each = each + trainer.beta * kl * torch.exp(logps - logps.detach())  # use_bias_correction_kl
        total = total + (each * mask).sum() / mask.sum() / len(inputs["row_prompts"])
    return total / trainer.current_gradient_accumulation_steps


@pytest.mark.parametrize("freeze", [False, True])
def test_its_gradient_is_that_of_a_slow_loss_without_kl_of_the_truth(folder, monkeypatch, freeze) -> None:
    found = {}
    original = VideoGRPOTrainer._compute_loss

    def compared(self, model, inputs):
        loss = original(self, model, inputs)
        if not found:
            parameters = [value for value in self.model.parameters() if value.requires_grad]
            for name, each in (
                ("fast", loss),
                ("slow", slow_loss(self, inputs, kl_of_truth=False)),
                ("with kl", slow_loss(self, inputs, kl_of_truth=True)),
            ):
                grads = torch.autograd.grad(each, parameters, retain_graph=True, allow_unused=True)
                found[name] = torch.cat([grad.flatten() for grad in grads if grad is not None])
        return loss

    trainer = make_trainer(
        folder, **OPTIONS, freeze=freeze, max_steps=1, beta=0.5, output_dir=str(folder / f"freeze{freeze}")
    )
    draw = torch.Generator().manual_seed(0)
    for name, value in trainer.ref_model.named_parameters():
        # A frozen tower's features are the reference's as well.
        value.data += 0.05 * torch.randn(value.shape, generator=draw) * ("visual" not in name)
    monkeypatch.setattr(VideoGRPOTrainer, "_compute_loss", compared)
    trainer.train()
    size = found["slow"].norm()
    assert (found["fast"] - found["slow"]).norm() < 1e-3 * size
    assert (found["with kl"] - found["slow"]).norm() > 1e-2 * size, "what the test is about can be seen"


def test_a_resumed_run_inside_a_generation_keeps_its_truths(folder) -> None:
    options = {**OPTIONS, "max_steps": 3, "num_iterations": 2, "save_strategy": "steps", "save_steps": 1}
    output = str(folder / "whole")
    whole = make_trainer(folder, **options, output_dir=output)
    whole.train()
    resumed = make_trainer(folder, **options, output_dir=output)
    resumed.train(resume_from_checkpoint=f"{output}/checkpoint-1")
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, resumed.model.get_parameter(name)), name


def test_a_truth_that_is_too_long_leaves_its_place_to_the_policy(folder) -> None:
    trainer = make_trainer(
        folder, truth_as_rollout=True, max_completion_length=4, max_steps=1, output_dir=str(folder / "short")
    )
    trainer.train()
    assert not any(row.get("truth") for row in logged_rollouts(folder / "short"))
    assert "truth/share" not in trainer.state.log_history[0]


def test_groups_of_equal_answers_learn_from_a_better_truth(folder) -> None:
    trainer = make_trainer(
        folder, **OPTIONS, max_steps=1, beta=0.0, dynamic_sampling_draws=1, skip_uninformative_groups=True,
        reward_entries=[{"name": name} for name in ("format", "iou", "accuracy")], output_dir=str(folder / "equal"),
    )  # fmt: skip
    trainer.train()
    rows = logged_rollouts(folder / "equal")
    equal = [rows[i : i + 4] for i in range(0, len(rows), 4) if len({row["reward"] for row in rows[i : i + 3]}) == 1]
    assert equal and all(group[3]["advantage"] > 0.5 > 0.0 > group[0]["advantage"] for group in equal)
    assert trainer.state.log_history[0]["groups_skipped"] == 0.0


def test_bonuses_of_a_group_neither_count_nor_pay_the_truth() -> None:
    options = length_bonus({"min_tokens": 1, "max_tokens": 9, "min_correct": 2}, 4, 9)
    [reward] = group_rewards([options], [make_reward("accuracy")])
    columns = {
        "task": ["multi_choice_qa"] * 4,
        "target": [{"options": ["a", "b"], "answer": "A"}] * 4,
        "thinking": [False] * 4,
        "generation": [0, 1, 2, 3],
        "completion_ids": [[1]] * 4,
        "shuffled_accuracy": [None] * 4,
        "log_metric": lambda name, value: None,
    }
    texts = ["<answer>A</answer>", "<answer>B</answer>", "<answer>B</answer>", "<answer>A</answer>"]
    assert reward(texts, **columns, truth=[False] * 4) == [0.2, 0.0, 0.0, 0.2]
    assert reward(texts, **columns, truth=[False, False, False, True]) == [0.0, 0.0, 0.0, None]


def test_tokens_that_no_sampler_has_drawn_are_not_compared() -> None:
    sampled = torch.tensor([[-1.0, -2.0], [math.nan, math.nan]])
    found = agreement(torch.tensor([[-1.5, -2.0], [-9.0, -9.0]]), sampled, torch.ones(2, 2), lambda x: x, lambda x: x)
    assert (found.mean, found.largest) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("other", "message"),
    [({"off_policy_mask_threshold": 0.5}, "would not have drawn"), ({"second_look": {}}, "leave one of them out")],
)
def test_what_it_has_no_place_in_is_refused(tmp_path, other, message) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoGRPOConfig(**{**DEFAULTS, "output_dir": str(tmp_path), "truth_as_rollout": True, **other})
