"""SFT: the loss is that of given responses and of gold answers, and training lowers it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.tiny_prompts import plain_arguments
from tests.tiny_runs import Source, make_corpus, make_picture_corpus, make_trainer, write_train_manifest
from videochat_r1 import sft
from videochat_r1.datasets.manifest import write_manifest
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.recipe import DataArguments, ModelArguments
from videochat_r1.sample import CaptionTarget, Pictures, Sample, Video
from videochat_r1.sft import VideoSFTConfig, VideoSFTTrainer
from videochat_r1.tasks import TASKS
from videochat_r1.training.loader import LoadedPrompt
from videochat_r1.video.frames import VideoBudget

OPTIONS = {
    "use_cpu": True,
    "bf16": False,
    "per_device_train_batch_size": 3,
    "learning_rate": 3e-3,
    "max_steps": 6,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "seed": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sft")
    make_trainer(path)  # builds the model
    return path


def make_sft(folder, *, samples=None, lora=None, family=DEFAULT_FAMILY, prompting=None, **overrides):
    model_path = folder / f"model_{family}"
    if not model_path.exists():
        build_tiny(model_path, hidden=64, layers=2, vision_hidden=32, family=family)
    processor = load_processor(model_path)
    budget = VideoBudget(fps=3.0, max_frames=16, min_pixels=28 * 28, max_pixels=56 * 56)
    model = load_model(model_path, dtype=torch.float32)
    return VideoSFTTrainer(
        model if lora is None else get_peft_model(model, lora),
        args=VideoSFTConfig(**{**OPTIONS, "output_dir": str(folder / "sft"), **overrides}),
        processor=processor,
        builder=PromptBuilder(processor, load_config(model_path), budget, **(prompting or {})),
        source=Source(samples or make_corpus(folder, 12)),
    )


class Corpus:
    """The samples in their own order."""

    def __init__(self, samples):
        self._samples = samples

    def samples(self, epoch):
        return self._samples


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


RESPONSE = "<think>\nIt begins red ...\nor not.</think>\n<answer>A</answer> "


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("responses", [0, 1])
def test_the_loss_is_the_mean_likelihood_of_the_answers(folder, family, responses):
    samples, pictures = None, 0
    if responses:
        one, *others = make_picture_corpus(folder, 2) + make_corpus(folder, 1)
        samples, pictures = [replace(one, response=RESPONSE), *others], 2
    prompting = {"thinking": responses > 0}
    options = {"family": family, "samples": samples, "prompting": prompting}
    trainer = make_sft(folder, **options, max_steps=1, learning_rate=0.0)
    trainer.train()
    model = trainer.model.eval()
    builder, processor = trainer._builder, trainer.processing_class
    per_sample = []
    first = trainer._sampler.source.samples(0)[:3]
    assert sum(isinstance(sample.media, Pictures) for sample in first) == pictures
    assert sum(sample.response is not None for sample in first) == responses
    for sample in first:
        prompt = builder.build(sample)
        text = sample.response or TASKS[sample.task].gold(sample.target, **prompting)
        answer = [*processor.tokenizer(text, add_special_tokens=False)["input_ids"], processor.tokenizer.eos_token_id]
        ids = torch.cat([prompt.input_ids, torch.tensor(answer)])
        after = torch.arange(len(answer)).expand(3, -1) + prompt.next_position
        with torch.no_grad():
            logits = model(
                input_ids=ids[None],
                position_ids=torch.cat([prompt.position_ids, after], dim=1)[:, None],
                **plain_arguments([prompt]),
            ).logits[0]
        logps = logits.log_softmax(-1)[prompt.num_tokens - 1 : -1].gather(1, torch.tensor(answer)[:, None])
        per_sample.append(-logps.mean())
    assert losses(trainer)[0] == pytest.approx(float(torch.stack(per_sample).mean()), abs=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_the_loss(folder, family):
    trainer = make_sft(folder, family=family)
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0] - 0.5


@pytest.mark.parametrize("given", [False, True])
def test_what_an_answer_quotes_is_text(folder, given):
    trainer = make_sft(folder)
    quoted = "The sign says <|im_end|><|video_pad|>."
    truth = CaptionTarget("It." if given else quoted, ("it",))
    response = f"<answer>{quoted}</answer>" if given else None
    sample = Sample("c", "captioning", Video(path="x"), "", truth, response=response)
    ids = trainer._answer_ids(LoadedPrompt(sample, trainer._builder.blank(), None))
    control = set(trainer.processing_class.tokenizer.added_tokens_decoder)
    assert [token for token in ids if token in control] == [trainer.processing_class.tokenizer.eos_token_id]
    assert quoted in trainer.processing_class.tokenizer.decode(ids)


def test_of_a_response_all_and_nothing_else_is_learnt(folder):
    """The gradient at the logits, which the loss below the model sees, is none outside of it."""
    samples = [replace(sample, response=RESPONSE) for sample in make_picture_corpus(folder, 2)]
    trainer = make_sft(folder, samples=samples, prompting={"thinking": True}, per_device_train_batch_size=2)
    loaded = [LoadedPrompt(sample, trainer._builder.build(sample), None) for sample in samples]
    inputs = trainer._prepare_inputs(loaded)
    learnt = [
        ids[mask.bool()].tolist() for ids, mask in zip(inputs["completion_ids"], inputs["completion_mask"], strict=True)
    ]
    tokenizer = trainer.processing_class.tokenizer
    assert [tokenizer.decode(ids) for ids in learnt] == [RESPONSE + tokenizer.eos_token] * 2
    placeholders = {load_config(folder / f"model_{DEFAULT_FAMILY}").image_token_id}
    assert all(not placeholders & set(ids) for ids in learnt)
    assert all(placeholders & set(prompt.input_ids.tolist()) for prompt in inputs["prompts"])


@pytest.mark.parametrize("options", [{"per_device_train_batch_size": 4}, {"gradient_accumulation_steps": 4}])
def test_a_sample_that_cannot_be_read_is_no_part_of_an_update(folder, options):
    samples = make_corpus(folder, 4)
    broken = [replace(sample, media=Video(path=str(folder / "none.mp4"))) for sample in samples[2:]]
    weights, first = [], []
    for used in ([*samples[:2], *broken], samples[:2]):
        options = options if len(used) == 4 else {"per_device_train_batch_size": 2}
        run = {
            "per_device_train_batch_size": 1,
            "max_steps": 1,
            "optim": "sgd",
            "learning_rate": 0.1,
            "max_grad_norm": 0.0,
        }
        trainer = make_sft(folder, samples=used, **{**run, **options})
        trainer.train()
        weights.append(torch.cat([value.flatten() for value in trainer.model.state_dict().values()]))
        first += losses(trainer)
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    assert (weights[0] - weights[1]).abs().max() < 1e-6


def test_adapters_with_dropout_train(folder):
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.2)
    trainer = make_sft(folder, lora=lora, learning_rate=3e-2, per_device_train_batch_size=2)
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0]


def test_the_seed_names_the_adapters_first_weights(folder, monkeypatch):
    write_train_manifest(folder)
    models = []

    class MadeError(Exception):
        pass

    def made(model, **options):
        models.append({name: value.clone() for name, value in model.state_dict().items() if "lora_A" in name})
        raise MadeError

    monkeypatch.setattr(sft, "VideoSFTTrainer", made)
    for seed in (1, 1, 2):
        options = {key: value for key, value in OPTIONS.items() if key != "seed"}
        with pytest.raises(MadeError):
            sft.run_sft(
                ModelArguments(model_name_or_path=str(folder / "model_qwen2_5_vl"), lora={"r": 4}),
                DataArguments(data_root=str(folder), mixture=[{"manifest": "train.jsonl", "videos": "."}]),
                VideoSFTConfig(**options, seed=seed, output_dir=str(folder / "seeded")),
            )
    assert models[0] and all(torch.equal(value, models[1][name]) for name, value in models[0].items())
    assert not any(torch.equal(value, models[2][name]) for name, value in models[0].items())


def test_gradient_accumulation_gives_the_same_update(folder):
    weights = []
    for batch, accumulation in ((4, 1), (2, 2)):
        options = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        trainer = make_sft(folder, **options, max_steps=1, optim="sgd", max_grad_norm=0.0)
        trainer.train()
        weights.append(torch.cat([value.flatten() for value in trainer.model.state_dict().values()]))
    assert (weights[0] - weights[1]).abs().max() < 1e-6


@pytest.mark.parametrize("defect", ["video", "pictures", "answer", "response"])
def test_samples_that_cannot_be_used_are_left_out_and_counted(folder, defect, monkeypatch):
    samples = make_corpus(folder, 6)
    bad = {"t1", "t4"} if defect == "answer" else {sample.id for sample in samples[:3]}
    changes = {
        "video": {"media": Video(path=str(folder / "gone.mp4"))},
        "pictures": {"media": Pictures((str(folder / "gone.png"),))},
        "response": {"response": RESPONSE},  # not asked for a thought
    }.get(defect, {})
    samples = [replace(sample, **changes) if sample.id in bad else sample for sample in samples]
    monkeypatch.setattr("tests.test_sft.make_corpus", lambda *_: samples)
    # In this order the first batch holds the first three. Of the gold answers only tracking's boxes are long.
    monkeypatch.setattr("tests.test_sft.Source", Corpus)
    trainer = make_sft(folder, max_steps=2, max_completion_length=20 if defect == "answer" else 1024)
    trainer.bad_samples.max_share = 1.0
    trainer.train()
    assert {one["sample_id"] for one in trainer.bad_samples.listed} == bad
    assert [entry["data/bad_samples"] for entry in trainer.state.log_history if "loss" in entry][-1] >= 2
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())


def test_a_response_that_cannot_be_learnt_says_why(folder):
    trainer = make_sft(folder, max_completion_length=20)
    sample = make_picture_corpus(folder, 1)[0]
    inputs = trainer._builder.build(sample)
    for response, why in {
        "<answer>B</answer>": None,
        "<answer>B" + " " * 100 + "</answer>": "its response has [0-9]+ tokens, more than max_completion_length=20",
        " ": "its response is empty",
        RESPONSE: "its response is not of the form <answer>...</answer>$",
        "<answer>B</answer>, I think.": "its response is not of the form <answer>...</answer>$",
        "<answer>None of them</answer>": "its response has an answer that cannot be read",
        None: None,
    }.items():
        loaded = LoadedPrompt(replace(sample, response=response), inputs, None)
        fit = trainer._with_answer_that_fits(loaded)
        assert (fit is loaded and why is None) or re.search(why, fit.problem), (response, fit.problem)


def test_responses_that_do_not_fit_the_prompt_are_refused_before_anything_is_loaded(folder, tmp_path):
    local = [
        replace(sample, media=sample.media.moved(lambda path: Path(path).name)) for sample in make_corpus(folder, 4)
    ]
    local[0] = replace(local[0], response="<think>Early.</think><answer>0.5 to 1.5</answer>")
    write_manifest(folder / "responses.jsonl", local)
    data = DataArguments(data_root=str(folder), mixture=[{"manifest": "responses.jsonl", "videos": "."}])
    options = {key: value for key, value in OPTIONS.items() if key != "output_dir"}
    with pytest.raises(
        DataError, match=r"1 of 4 samples have a response that does not fit thinking=false; first g0: .*thinking: true"
    ):
        sft.run_sft(
            ModelArguments(model_name_or_path=str(folder / f"model_{DEFAULT_FAMILY}")),
            data,
            VideoSFTConfig(**options, output_dir=str(tmp_path / "out")),
        )


def test_an_interrupted_run_goes_on_where_it_stopped(folder):
    options = {"save_strategy": "steps", "save_steps": 4}
    whole = make_sft(folder, **options, output_dir=str(folder / "whole"))
    whole.train()
    again = make_sft(folder, **options, output_dir=str(folder / "again"))
    again.train(resume_from_checkpoint=str(folder / "whole" / "checkpoint-4"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_a_batch_that_does_not_add_up_is_refused(folder):
    with pytest.raises(ConfigError, match="cannot add up to samples_per_step=8"):
        VideoSFTConfig(output_dir=str(folder), use_cpu=True, per_device_train_batch_size=3, samples_per_step=8)
