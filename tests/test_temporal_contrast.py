"""Training with rollouts of shuffled frames beside the groups of videos."""

import statistics

import pytest

from tests.tiny_runs import chatty_parse_reward, make_corpus, make_picture_corpus, make_trainer
from videochat_r1.grpo.rollout_log import read_rollouts

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
