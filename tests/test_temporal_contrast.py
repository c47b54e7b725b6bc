"""Training with rollouts of shuffled frames beside the groups of videos."""

import json
import statistics
from collections import Counter
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig

from tests.tiny_runs import chatty_parse_reward, make_corpus, make_picture_corpus, make_trainer
from videochat_r1.grpo.rollout_file import read_rollouts
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.prompt_tree import walk
from videochat_r1.rollout.prefix_cache import SharedPrefixCache
from videochat_r1.sample import Video

OPTIONS = {
    "temporal_contrast": {"accuracy": ["chatty_parse_reward"], "shuffled_generations": 3, "correct_above": 0.4},
    "length_bonus": {"accuracy": ["chatty_parse_reward"], "min_tokens": 2, "max_tokens": 6, "correct_above": 0.4},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("contrast")


@pytest.fixture(scope="module")
def mixture(folder):
    """A question about a video and one about two pictures."""
    return [make_corpus(folder, 1)[0], make_picture_corpus(folder, 2)[1]]


def history_value(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def lines(output):
    return [json.loads(line) for line in (output / "rollouts.jsonl").read_text().splitlines()]


def weights_of(trainer):
    return torch.cat([value.detach().flatten() for value in trainer.model.parameters()])


async def slow_reward(completions, **columns):
    """What TRL asks for beside other work, as a judge is."""
    return [len(text) % 3 / 3 for text in completions]


def equal_for_some(completions, sample_id, **columns):
    """Equal rewards of half of the samples, whatever the completions, so that they teach nothing."""
    varied = chatty_parse_reward(completions, sample_id)
    return [value if int(name[1:]) % 2 else 0.2 for value, name in zip(varied, sample_id, strict=True)]


def test_a_video_is_contrasted_and_pictures_are_not(folder, mixture):
    trainer = make_trainer(folder, samples=mixture, **OPTIONS)
    trainer.train()
    groups = {(group["step"], group["sample_id"]): group for group in read_rollouts(folder / "run" / "rollouts.jsonl")}
    assert set(groups) == {(step, name) for step in (1, 2) for name in ("g0", "p1")}
    for (step, name), group in groups.items():
        rewards = [rollout["rewards"] for rollout in group["rollouts"]]
        accuracy = [each["chatty_parse_reward"] for each in rewards]
        assert accuracy == pytest.approx(chatty_parse_reward([one["completion"] for one in group["rollouts"]], None))
        right = [value > 0.4 for value in accuracy]
        enough = sum(right) >= 2
        assert [each["length_bonus"] for each in rewards] == pytest.approx([0.2 * (one and enough) for one in right])
        if name == "p1":
            assert "shuffled_accuracy" not in group and {each["temporal"] for each in rewards} == {None}
            continue
        shuffled = group["shuffled_accuracy"]
        assert len(shuffled) == 3
        fires = statistics.fmean(accuracy) >= 0.8 * statistics.fmean(shuffled)
        assert [each["temporal"] for each in rewards] == pytest.approx([0.3 * (one and fires) for one in right])
        # Pictures neither dilute the rate of firing nor the accuracies.
        for what, value in (("fired", float(fires)), ("accuracy", statistics.fmean(accuracy))):
            assert history_value(trainer, f"temporal_contrast/{what}")[step - 1] == pytest.approx(value)
        said = history_value(trainer, "temporal_contrast/shuffled_accuracy")[step - 1]
        assert said == pytest.approx(statistics.fmean(shuffled))
        for rollout in group["rollouts"]:
            paid = [value for value in rollout["rewards"].values() if value is not None]
            assert rollout["reward"] == pytest.approx(sum(paid), abs=1e-6)
    assert history_value(trainer, "rewards/temporal/mean") == history_value(
        trainer, "temporal_grounding/rewards/temporal/mean"
    )


VARIANTS = {
    **{family: {"family": family} for family in FAMILIES},
    "frozen tower": {"family": "qwen3_vl", "freeze": True, "beta": 0.0},
    "lora": {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")},
    "repeated prompts": {"share_prompt": False},
    "rollouts in parts": {"num_iterations": 2, "rollout_batch_rows": 4},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_what_is_drawn_besides_moves_no_weight(folder, mixture, options):
    """With a bonus that nobody earns, rollouts and updates are those without."""
    unreached = {"temporal_contrast": {"accuracy": ["chatty_parse_reward"], "correct_above": 0.995}}
    made = []
    for name, more in (("plain", {}), ("contrast", unreached)):
        chosen = {"samples": mixture, "optim": "sgd", "learning_rate": 0.01, **options, **more}
        trainer = make_trainer(folder, output_dir=str(folder / name), **chosen)
        before = weights_of(trainer).clone()
        trainer.train()
        assert max(history_value(trainer, "sampling/sampling_logp_difference/max")) < 2e-5
        made.append((weights_of(trainer) - before, lines(folder / name)))
    (moved, alone), (again, beside) = made
    assert moved.norm() > 1e-3 and (again - moved).norm() < 1e-5 * moved.norm()
    for one, other in zip(alone, beside, strict=True):
        assert (other.pop("shuffled_accuracy", None) is None) == ("images" in one)
        assert all(rollout["rewards"].pop("temporal") in (0.0, None) for rollout in other["rollouts"])
        for name in ("completion", "reward", "advantage"):
            expected, found = ([rollout[name] for rollout in group["rollouts"]] for group in (one, other))
            assert found == (expected if name == "completion" else pytest.approx(expected, abs=1e-6))


@pytest.mark.parametrize("freeze", [False, True])
def test_the_shuffled_prompt_is_encoded_and_prefilled_once(folder, mixture, freeze, monkeypatch):
    prefilled, encoded = [], []
    add_prompts = SharedPrefixCache.add_prompts
    monkeypatch.setattr(
        SharedPrefixCache,
        "add_prompts",
        lambda cache, keys, forest: (
            prefilled.extend(branch.num_tokens for branch in walk(forest)) or add_prompts(cache, keys, forest)
        ),
    )
    trainer = make_trainer(folder, samples=mixture, freeze=freeze, beta=0.0, max_steps=1, **OPTIONS)
    trainer.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: encoded.extend(kwargs["grid_thw"].tolist()), with_kwargs=True
    )
    trainer.train()
    video, pictures = (trainer._builder.build(sample) for sample in mixture)
    assert Counter(prefilled) == {video.num_tokens - 1: 2, pictures.num_tokens - 1: 1}
    # In order, shuffled, and where the tower is trained for the update.
    assert encoded.count(list(video.media[0].grid)) == (2 if freeze else 3)


def test_the_frames_are_those_of_the_video_in_an_order_of_the_step(folder, mixture, monkeypatch):
    trainer = make_trainer(folder, samples=mixture, **OPTIONS)
    shown, shuffled = [], type(trainer._builder).shuffled

    def noted(builder, inputs, seed):
        shown.append((inputs, shuffled(builder, inputs, seed)))
        return shown[-1][1]

    monkeypatch.setattr(type(trainer._builder), "shuffled", noted)
    trainer.train()
    assert len(shown) == 2  # one for each step's video
    for before, after in shown:
        assert not torch.equal(before.media[0].patches, after.media[0].patches)
        values = (one.media[0].patches.flatten().sort().values for one in (before, after))
        assert torch.equal(next(values), next(values))
    assert not torch.equal(shown[0][1].media[0].patches, shown[1][1].media[0].patches)


def test_a_run_that_is_resumed_inside_a_generation_says_the_same(tmp_path, folder):
    samples = [*make_corpus(tmp_path, 3), *make_picture_corpus(tmp_path, 1)]
    options = {"samples": samples, "num_iterations": 2, "max_steps": 3, "save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(tmp_path, **OPTIONS, **options, output_dir=str(tmp_path / "whole"))
    whole.train()
    for step in (1, 2):  # within the first generation, and between it and the second
        output = tmp_path / f"resumed_{step}"
        again = make_trainer(tmp_path, **OPTIONS, **options, output_dir=str(output))
        again.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert torch.equal(weights_of(whole), weights_of(again))
        later = [line for line in lines(tmp_path / "whole") if line["step"] > step]
        assert later and lines(output) == later
        assert any("shuffled_accuracy" in line for line in later)


def test_replaced_groups_and_judged_rewards_go_with_it(folder):
    samples = [sample for sample in make_corpus(folder, 6) if sample.task != "tracking"]
    trainer = make_trainer(
        folder,
        samples=samples,
        reward_entries=[{"name": f"{__name__}:equal_for_some"}, {"name": f"{__name__}:slow_reward", "weight": 0.0}],
        temporal_contrast={"accuracy": ["equal_for_some"], "shuffled_generations": 2, "correct_above": 0.3},
        dynamic_sampling_draws=4,
    )
    trainer.train()
    assert sum(history_value(trainer, "dynamic_sampling/groups_replaced")) > 0
    groups = lines(folder / "run")
    assert len(groups) > 4
    for group in groups:
        assert len(group["shuffled_accuracy"]) == 2
        accuracy = [rollout["rewards"]["equal_for_some"] for rollout in group["rollouts"]]
        fires = statistics.fmean(accuracy) >= 0.8 * statistics.fmean(group["shuffled_accuracy"])
        given = [rollout["rewards"]["temporal"] for rollout in group["rollouts"]]
        assert given == pytest.approx([0.3 * (fires and value > 0.3) for value in accuracy])
        assert [rollout["rewards"]["slow_reward"] for rollout in group["rollouts"]] == pytest.approx(
            [len(rollout["completion"]) % 3 / 3 for rollout in group["rollouts"]]
        )
    assert len(history_value(trainer, "temporal_contrast/fired")) == 2


def test_a_video_that_cannot_be_read_is_not_contrasted(folder, mixture):
    broken = replace(mixture[0], id="broken", media=Video(path=str(folder / "none.mp4")))
    output = folder / "broken"
    trainer = make_trainer(folder, samples=[broken, mixture[1]], max_steps=1, output_dir=str(output), **OPTIONS)
    trainer.train()
    assert [(line["sample_id"], "shuffled_accuracy" in line) for line in lines(output)] == [("p1", False)]
    assert not history_value(trainer, "temporal_contrast/fired")
    assert history_value(trainer, "rewards/length_bonus/mean") and not history_value(trainer, "rewards/temporal/mean")


def test_a_generation_without_any_video_draws_nothing_besides(folder, mixture):
    trainer = make_trainer(folder, samples=make_picture_corpus(folder, 2), max_steps=1, **OPTIONS)
    trainer.train()
    assert not history_value(trainer, "temporal_contrast/fired")
