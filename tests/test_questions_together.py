"""Training on several questions about a video in one micro-batch: read once, computed once, the numbers of repeated prompts."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig

from tests.test_sft import make_sft
from tests.test_trainer import history_value, largest_difference, weights_of
from tests.tiny_runs import make_corpus, make_picture_corpus, make_trainer
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.sample import Video
from videochat_r1.training import loader
from videochat_r1.training.loader import PromptLoader, load_prompts
from videochat_r1.training.sampler import BatchLayout, GroupSampler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of models whose attention depends on positions."""
    path = tmp_path_factory.mktemp("together")
    for family in FAMILIES:
        build_tiny(
            path / f"model_{family}", hidden=64, layers=2, vision_hidden=32, initializer_range=0.125, family=family
        )
    return path


def questions(folder):
    """Two about each of two videos, in turns, and two about the same pictures."""
    corpus, (_, pictures) = make_corpus(folder, 12), make_picture_corpus(folder, 2)
    again = replace(pictures, id="again", query="another question")
    return [corpus[0], corpus[1], corpus[4], corpus[5], pictures, again]


class InOrder:
    def __init__(self, samples):
        self._samples = samples

    def samples(self, epoch):
        return self._samples


TOGETHER = {"per_device_train_batch_size": 24, "prompts_per_step": 6, "max_steps": 1}
EXACT = {"optim": "sgd", "learning_rate": 0.01, "max_grad_norm": 0.0, **TOGETHER}


@pytest.mark.parametrize(
    "options",
    [
        *({"family": family, "beta": 0.5} for family in FAMILIES),
        {"num_iterations": 2, "max_steps": 2, "beta": 0.5, "gradient_checkpointing": True, "family": "qwen3_vl"},
        {"freeze": True, "num_iterations": 2, "max_steps": 2, "beta": 0.5},
        {"beta": 0.0, "skip_uninformative_groups": True},
        {"beta": 0.0, "dynamic_sampling_draws": 1},
        {"broken": (2,)},
        {"broken": (1, 3)},
        {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)},
    ],
    ids=[*FAMILIES, "checkpointing", "frozen tower", "skipped", "dynamic", "a bad video", "bad videos", "LoRA"],
)
def test_repeating_prompts_gives_the_same_weights(folder, options):
    options = dict(options)
    samples = questions(folder)
    for index in options.pop("broken", ()):
        samples[index] = replace(samples[index], media=Video(path=str(folder / "no.mp4")))
    trained, shares = [], []
    for share_prompt in (True, False):
        output = str(folder / f"share_{share_prompt}")
        torch.manual_seed(0)  # of the adapters
        trainer = make_trainer(
            folder, samples=samples, share_prompt=share_prompt, output_dir=output, **{**EXACT, **options}
        )
        before = weights_of(trainer)
        trainer.train()
        trained.append(weights_of(trainer))
        shares += history_value(trainer, "prompts/shared_share")
    assert largest_difference(*trained) < 1e-4 * largest_difference(before, trained[0])
    assert shares and all(0.01 < share < 0.5 for share in shares)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_video_is_read_and_encoded_once_for_all_questions(folder, family, monkeypatch):
    read, forwards = Counter(), []
    samples = questions(folder)
    trainer = make_trainer(folder, samples=samples, family=family, beta=0.0, **TOGETHER)
    media = trainer._builder.media
    monkeypatch.setattr(trainer._builder, "media", lambda shown, *rest: read.update([shown]) or media(shown, *rest))
    trainer._sampler.source = InOrder([samples[index] for index in (0, 2, 1, 3, 4, 5)])

    def seen(module, args, kwargs):
        if torch.is_grad_enabled():
            forwards.append(sorted(kwargs["grid_thw"].tolist()))

    trainer.model.model.visual.register_forward_pre_hook(seen, with_kwargs=True)
    trainer.train()
    assert set(read.values()) == {1} and len(read) == 3
    shown = {sample.media: trainer._builder.media(sample.media) for sample in samples}
    assert forwards == [sorted(list(medium.grid) for media in shown.values() for medium in media)]


def test_a_frozen_tower_encodes_what_is_shown_once_wherever_it_stands(folder):
    trainer = make_trainer(folder, samples=questions(folder), freeze=True, beta=0.0, **TOGETHER)
    grids = []
    trainer.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: grids.append(kwargs["grid_thw"].tolist()), with_kwargs=True
    )
    trainer.train()
    assert len(grids) == 1 + 3  # the blank stand-in, two videos and the pictures


def test_sft_shares_the_video_by_itself(folder, monkeypatch):
    samples = questions(folder)
    options = {
        "samples": samples,
        "per_device_train_batch_size": 6,
        "max_steps": 1,
        "optim": "sgd",
        "max_grad_norm": 0.0,
    }
    trained, patches = [], []
    for share in (True, False):
        trainer = make_sft(folder, **options)
        trainer._share_prompt = share
        trainer.model.model.visual.register_forward_pre_hook(
            lambda module, args, kwargs: patches.append(kwargs["grid_thw"].shape[0]), with_kwargs=True
        )
        before = weights_of(trainer)
        trainer.train()
        trained.append(weights_of(trainer))
    assert patches == [1 + 1 + 2, 2 + 2 + 4]
    assert largest_difference(*trained) < 1e-4 * largest_difference(before, trained[0])


def test_a_run_that_goes_on_inside_a_generation_shares_again(folder, tmp_path):
    options = {**TOGETHER, "num_iterations": 2, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(folder, samples=questions(folder), output_dir=str(tmp_path / "whole"), **options)
    whole.train()
    again = make_trainer(folder, samples=questions(folder), output_dir=str(tmp_path / "again"), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert largest_difference(weights_of(whole), weights_of(again)) == 0.0
    prompts = again._buffered_inputs[0]["row_prompts"][::4]
    assert len({prompt.media[0].patches.data_ptr() for prompt in prompts}) == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_are_dealt_videos_with_their_questions(folder, num_workers):
    samples = [questions(folder)[index] for index in (0, 2, 1, 3, 4, 5)]
    trainer = make_trainer(folder)
    sampler = GroupSampler(InOrder(samples), BatchLayout(1, 2, 3, repeats=1))
    stream = PromptLoader(trainer._builder, sampler, 0, num_workers=num_workers)
    for _ in range(2):
        loaded = stream.take(list(sampler))
        assert [prompt.sample.id for prompt in loaded] == [sample.id for sample in samples]
        for one, other in zip(loaded[::2], loaded[1::2], strict=True):
            assert one.inputs.media[0].patches.data_ptr() == other.inputs.media[0].patches.data_ptr()
            alone = trainer._builder.build(other.sample)
            assert torch.equal(alone.input_ids, other.inputs.input_ids)
            assert alone.pixels == other.inputs.pixels == one.inputs.pixels


def test_one_bad_question_leaves_the_others_and_one_bad_video_none(folder, monkeypatch):
    corpus = make_corpus(folder, 12)
    builder = make_trainer(folder, prompting={"max_prompt_length": 600})._builder
    long = replace(corpus[4], query="word " * 700)
    loaded = load_prompts(builder, [corpus[0], long, corpus[8]])
    assert [prompt.inputs is None for prompt in loaded] == [False, True, False]
    assert loaded[1].ended == "prompt_error" and "needs at least" in loaded[1].problem
    read = []
    monkeypatch.setattr(
        builder, "load", lambda *args, load=builder.load, **options: read.append(1) or load(*args, **options)
    )
    gone = [replace(sample, media=Video(path=str(folder / "no.mp4"))) for sample in corpus[:3]]
    assert [prompt.ended for prompt in load_prompts(builder, gone)] == ["video_error"] * 3
    assert read == [1]


def test_long_questions_of_about_one_length_get_the_same_pixels(folder):
    corpus = make_corpus(folder, 12)
    builder = make_trainer(folder)._builder
    sample = corpus[0]
    whole = builder.build(sample)
    video = sum(medium.num_tokens for medium in whole.media)
    limit = whole.num_tokens - video // 2
    builder.max_prompt_length = limit
    fitted = builder.build_together([sample, replace(sample, query=f"{sample.query} x")])
    assert all(prompt.num_tokens <= limit for prompt in fitted)
    assert fitted[0].num_tokens != fitted[1].num_tokens
    assert fitted[0].pixels != whole.pixels
    assert loader.load_prompts(builder, [sample])[0].inputs.pixels == fitted[0].pixels
