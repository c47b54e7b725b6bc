"""Videos and pictures in one run: one update learns from both, and each is read, encoded and prefilled once."""

from collections import Counter

import pytest
import torch
from peft import LoraConfig

from tests.tiny_runs import logged_rollouts, make_corpus, make_picture_corpus, make_trainer
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.rollout.prefix_cache import SharedPrefixCache
from videochat_r1.video import stills

# Plain gradient steps, which amplify nothing and add up.
EXACT = {"optim": "sgd", "learning_rate": 0.01, "max_grad_norm": 0.0, "beta": 0.0, "max_steps": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mixed")


@pytest.fixture(scope="module")
def mixture(folder):
    """A question about a video and one about two pictures."""
    return [make_corpus(folder, 1)[0], make_picture_corpus(folder, 2)[1]]


def weights_of(trainer):
    return torch.cat([value.detach().flatten() for value in trainer.model.parameters()])


def history_value(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def step(folder, samples, **options):
    """How an update moves the weights."""
    trainer = make_trainer(folder, samples=samples, prompts_per_step=len(samples), **EXACT, **options)
    before = weights_of(trainer).clone()
    trainer.train()
    return weights_of(trainer) - before


@pytest.mark.parametrize("family", FAMILIES)
def test_an_update_on_both_is_the_mean_of_the_updates_on_each(folder, mixture, family):
    alone = [step(folder, [sample], family=family) for sample in mixture]
    assert min(float(one.abs().max()) for one in alone) > 1e-5
    for rows in (8, 4):  # in one micro-batch, and in one after the other
        both = step(folder, mixture, family=family, per_device_train_batch_size=rows)
        assert (both - (alone[0] + alone[1]) / 2).norm() < 1e-4 * both.norm(), rows


@pytest.mark.parametrize(
    "options",
    [
        {"family": "qwen3_vl", "freeze": True},
        {"peft_config": LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")},
        {
            "family": "qwen3_vl",
            "gradient_checkpointing": True,
            "dataloader_num_workers": 1,
            "verify_shared_prompt": True,
        },
        {"share_prompt": False},
    ],
    ids=["frozen", "lora", "checkpointing", "repeated prompts"],
)
def test_variants_train(folder, mixture, options):
    trainer = make_trainer(folder, samples=mixture, per_device_train_batch_size=8, num_iterations=2, **options)
    before = weights_of(trainer).clone()
    trainer.train()
    assert not torch.equal(before, weights_of(trainer))
    assert history_value(trainer, "data/bad_samples") == [0.0]  # said once per generation
    assert max(history_value(trainer, "sampling/sampling_logp_difference/max")) < 2e-5
    shown = {row["sample_id"]: (row.get("video"), row.get("images")) for row in logged_rollouts(folder / "run")}
    video, pictures = (sample.media for sample in mixture)
    assert shown == {"g0": (video.path, None), "p1": (None, list(pictures.paths))}


def test_a_picture_is_read_encoded_and_prefilled_once_for_its_group(folder, mixture, monkeypatch):
    read, prefilled, encoded = Counter(), [], []
    read_in_process, add_prompts = stills.read_in_process, SharedPrefixCache.add_prompts
    monkeypatch.setattr(
        stills, "read_in_process", lambda path, *rest: read.update([path]) or read_in_process(path, *rest)
    )
    monkeypatch.setattr(
        SharedPrefixCache,
        "add_prompts",
        lambda cache, keys, forest: (
            prefilled.extend(branch.num_tokens for branch in forest) or add_prompts(cache, keys, forest)
        ),
    )
    trainer = make_trainer(folder, samples=mixture, freeze=True, num_iterations=2, beta=0.0)
    trainer.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: encoded.append(kwargs["grid_thw"].tolist()), with_kwargs=True
    )
    trainer.train()
    # Two updates on one generation.
    assert read == Counter(mixture[1].media.paths)
    prompts = [trainer._builder.build(sample) for sample in mixture]
    assert sorted(prefilled) == sorted(prompt.num_tokens - 1 for prompt in prompts)
    for prompt in prompts:
        assert encoded.count([list(medium.grid) for medium in prompt.media]) == 1
