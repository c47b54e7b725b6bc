"""The example that is all of GRPO in one file computes what the trainer computes."""

import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from tests.tiny_runs import Source, chatty_parse_reward, make_corpus, make_trainer
from videochat_r1.grpo.rows import noise_seed
from videochat_r1.modeling.load import load_model

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "minimal_grpo.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("minimal_grpo", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class KeepGradients(TrainerCallback):
    """The gradients and weights of the first update, before the optimiser sees them."""

    def __init__(self):
        self.gradients = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.gradients:
            self.gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}


def test_its_gradients_are_the_trainers(tmp_path, example, monkeypatch):
    kept = KeepGradients()
    samples = Source(make_corpus(tmp_path)).samples(0)[:2]
    trainer = make_trainer(tmp_path, callbacks=[kept], max_steps=1, max_grad_norm=0.0)
    trainer.train()

    monkeypatch.setattr(example, "G", 4)
    monkeypatch.setattr(example, "REWARDS", [*example.REWARDS, chatty_parse_reward])
    path = tmp_path / "model_qwen2_5_vl"
    model, reference = (example.prepare(load_model(path, dtype=torch.float32)) for _ in range(2))
    seeds = [[noise_seed(7, 0, 0, sample, g) for g in range(4)] for sample in samples]
    settings = example.sampling(model, trainer.processing_class, max_new_tokens=6)
    example.step(model, reference, trainer._builder, settings, samples, seeds)

    assert any(weight.grad is not None and weight.grad.abs().max() > 1e-6 for weight in model.parameters())
    for name, weight in model.named_parameters():
        expected = kept.gradients[name]
        assert (weight.grad - expected).norm() <= 1e-5 * expected.norm() + 1e-9, name


def test_it_has_no_classes_and_can_be_read_in_one_go():
    text = EXAMPLE.read_text()
    assert "\nclass " not in text
    assert len(text.splitlines()) < 200
