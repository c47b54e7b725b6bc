"""A run whose numbers are no longer finite ends with the reason, and nothing of it is saved."""

import math

import pytest
import torch
from transformers import TrainerCallback

from tests.test_sft import make_sft
from tests.tiny_prompts import PAD, make_model, make_prompt
from tests.tiny_runs import make_trainer
from videochat_r1.errors import DivergedError
from videochat_r1.rollout.base import SamplingSettings
from videochat_r1.rollout.sampling import inverse_cdf
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.training import checkpoint
from videochat_r1.training.divergence import weights_are_finite


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("diverged")
    make_trainer(path)  # builds the model
    return path


class Spoil(TrainerCallback):
    """Writes a value into a weight after an update."""

    def __init__(self, step, value):
        self.step, self.value = step, value

    def on_step_end(self, args, state, control, model, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.parameters()).fill_(self.value)


@pytest.mark.parametrize("make", [make_trainer, make_sft])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_stops_with_its_last_checkpoint(folder, tmp_path, make, value):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "output_dir": str(tmp_path)}
    trainer = make(folder, **options)
    # After the checkpoint of update 1 and before that of update 2.
    trainer.add_callback(Spoil(2, value))
    with pytest.raises(
        DivergedError, match=r"at update 2: the run has diverged.*learning_rate.*before is checkpoint-1$"
    ):
        trainer.train()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-1"]


def test_a_checkpoint_of_weights_that_can_compute_nothing_is_named(folder, tmp_path):
    trainer = make_trainer(folder, output_dir=str(tmp_path))
    for step in (1, 2, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / checkpoint.COMPLETE).touch()
    trainer.state.global_step = 3
    said = str(trainer.diverged("the model's logits are NaN"))
    assert said.endswith("the last checkpoint before is checkpoint-2, and checkpoint-3 is useless: delete it")


@pytest.mark.parametrize("make", [make_trainer, make_sft])
def test_without_checkpoints_the_next_computation_tells(folder, tmp_path, make):
    trainer = make(folder, max_steps=4, output_dir=str(tmp_path))
    trainer.add_callback(Spoil(1, math.nan))
    with pytest.raises(DivergedError, match=r"the run has diverged.*there is no checkpoint from before$"):
        trainer.train()
    with pytest.raises(DivergedError, match="weights are NaN"):
        trainer.save_model(str(tmp_path / "final"))
    assert not (tmp_path / "final").exists()


def test_a_damaged_start_is_no_divergence(folder):
    trainer = make_trainer(folder)
    with torch.no_grad():
        trainer.model.lm_head.weight.fill_(math.nan)
    with pytest.raises(DivergedError, match="before the first update: the weights to start from are damaged"):
        trainer.train()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_engine_refuses_logits_that_are_no_numbers(temperature, value):
    model = make_model(tied=False)
    with torch.no_grad():
        model.lm_head.weight[3] = value
    settings = SamplingSettings(max_new_tokens=4, temperature=temperature)
    with pytest.raises(DivergedError, match="logits are NaN or infinite"):
        prompts = [make_prompt(model, 0, (2, 4, 4), 0.5)]
        TransformersEngine(model, PAD).generate(prompts, num_generations=2, settings=settings, noise_seeds=[[1, 2]])


def test_of_nan_some_token_is_drawn():
    tokens = inverse_cdf(torch.full((2, 5), math.nan), torch.tensor([0.0, 0.99], dtype=torch.float64))
    assert ((tokens >= 0) & (tokens < 5)).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_every_weight_counts(value):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).to(torch.bfloat16)
    with torch.no_grad():
        model[1].bias[1] = value
    assert weights_are_finite(model).item() == math.isfinite(value)
