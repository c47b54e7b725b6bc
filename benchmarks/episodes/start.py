"""A tiny Qwen2.5-VL that answers with clues, trained from random weights with the project's SFT on coarse videos and on closer
looks at the right episode, roughly cut."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from episodes.scenes import COARSE

from videochat_r1.geometry import Span
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.sample import ChoiceTarget, Sample
from videochat_r1.second_look.next_look import NextLook, next_look
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.question import TASK
from videochat_r1.sft import VideoSFTConfig, VideoSFTTrainer
from videochat_r1.training.run import save_final
from videochat_r1.video.cache import FrameCache

TEMPLATE = "{query}\n{options}"
TEMPLATES = {"grounded_qa": TEMPLATE, "multi_choice_qa": TEMPLATE}
HIDDEN = 128
CLUES = ClueOptions(resolution_boost=3.0, fps_boost=2.0, padding=1.0)


def closer(sample: Sample, rng: np.random.Generator) -> Sample:
    """The question for a second pass: a clue that misses the episode's start and end by up to a second."""
    (span,) = TASK.target_of(sample).spans
    clue = Span(span.start + float(rng.integers(-1, 2)), span.end + float(rng.integers(-1, 2)))
    return replace(sample, id=f"{sample.id}-closer", extra={**sample.extra, "clue": clue})


def letter_only(sample: Sample) -> Sample:
    """The question answered without a clue."""
    target = TASK.target_of(sample)
    return replace(sample, task="multi_choice_qa", target=ChoiceTarget(target.options, target.answer))


class TrainingBuilder(PromptBuilder):
    """Coarse prompts, and closer looks for samples that carry a clue, as `CluePerception` makes them."""

    def build(self, sample: Sample) -> PromptInputs:
        """See `PromptBuilder.build`."""
        first = super().build(sample)
        if "clue" not in sample.extra:
            return first
        found = next_look(self, sample.video, first, [sample.extra["clue"]], CLUES, number=1, load=self.load)
        assert isinstance(found, NextLook)
        return found.inputs


class Shuffled:
    """A `SampleSource`: another order in every epoch."""

    def __init__(self, samples: Sequence[Sample], seed: int) -> None:
        self._samples, self._seed = samples, seed

    def samples(self, epoch: int) -> list[Sample]:
        """All samples."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._samples))
        return [self._samples[index] for index in order]


def make_model(samples: Sequence[Sample], folder: Path, *, seed: int) -> Path:
    """Random weights, and a tokenizer trained on the prompts and answers of the samples."""
    texts = [
        text
        for sample in samples
        for text in (
            TASK.instruction(sample, thinking=False, template=TEMPLATE),
            TASK.gold(TASK.target_of(sample), thinking=False),
        )
    ]
    build_tiny(folder, hidden=HIDDEN, texts=["user\nassistant\n", *texts], initializer_range=HIDDEN**-0.5, seed=seed)
    return folder


def train(
    samples: Sequence[Sample],
    start: Path,
    folder: Path,
    cache: FrameCache,
    *,
    steps: int,
    seed: int,
    rate: float = 1e-3,
) -> Path:
    """SFT from a model folder; returns the folder of the result."""
    processor = load_processor(start)
    builder = TrainingBuilder(
        processor, load_config(start), COARSE, layout="text_first", templates=TEMPLATES, load=cache.load
    )
    args = VideoSFTConfig(
        output_dir=str(folder),
        samples_per_step=12,
        per_device_train_batch_size=12,
        max_steps=steps,
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=50,
        weight_decay=0.0,
        adam_beta2=0.98,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=100,
        save_strategy="no",
        report_to=[],
        seed=seed,
    )
    trainer = VideoSFTTrainer(
        load_model(start, dtype=torch.float32),
        args=args,
        processor=processor,
        builder=builder,
        source=Shuffled(samples, seed),
        max_bad_video_share=0.0,
    )
    trainer.train()
    return save_final(trainer, processor, folder, merge_lora=False)


def make_start(
    samples: Sequence[Sample], folder: Path, cache: FrameCache, *, letter_updates: int, updates: int, seed: int
) -> Path:
    """The folder of the model. Letters come first and alone: next to the long text of clues their share of the loss is too
    small to begin with."""
    closer_samples = [closer(sample, np.random.default_rng([seed, n])) for n, sample in enumerate(samples)]
    model = make_model(samples, folder / "init", seed=seed)
    letters = [letter_only(sample) for sample in closer_samples]
    model = train(letters, model, folder / "letters", cache, steps=letter_updates, seed=seed)
    return train([*samples, *closer_samples], model, folder / "model", cache, steps=updates, seed=seed)
