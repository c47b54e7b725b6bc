"""The quickstart's trainings, with the project's own trainers and recipes."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from videochat_r1.evaluation.answering.harness import evaluate
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.run import load_rewards
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.load import eos_token_ids, load_config, load_model, load_processor, vision_token_ids
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.saving import save_model_folder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.progress import progress_bar
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.rollout.base import SamplingSettings
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.sample import Sample
from videochat_r1.sft import VideoSFTConfig, VideoSFTTrainer
from videochat_r1.tasks import TASKS
from videochat_r1.training.card import ModelCard
from videochat_r1.training.console import use_console_log
from videochat_r1.training.record import save_run_record
from videochat_r1.training.run import load_policy, save_final
from videochat_r1.video.cache import FrameCache

HIDDEN = 128

SFT_STAGES = ("sft_questions", "sft_joint")
"""Recipes that lead from random weights to the start of GRPO, in order."""

# All frames of the corpus at the size that the model sees take about 200 MB.
_CACHE_BYTES = 1 << 30

_BATCH_SIZE = 64
_MAX_NEW_TOKENS = 64

_MANY_STEPS = 1_000_000


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A finished training.

    Args:
        folder: of the final model.
        num_steps: optimiser updates.
        seconds: that they took, without loading and saving.
    """

    folder: Path
    num_steps: int
    seconds: float


class Workshop:
    """Trains and prompts on one corpus, decoding each video once whatever uses it."""

    def __init__(self, options: QuickstartOptions, cache: FrameCache | None = None) -> None:
        self.options = options
        self.cache = cache or FrameCache(memory_bytes=_CACHE_BYTES)

    def builder(self, model: Path) -> PromptBuilder:
        """Prompts as both recipes state them, for the model in this folder."""
        model_args, data_args, _ = self._grpo_arguments(model)
        return self._builder(model_args, data_args)

    def read_videos(self, model: Path, samples: Sequence[Sample], description: str) -> None:
        """Decode the samples' videos ahead of their use."""
        builder = self.builder(model)
        first_of = {sample.media.key: sample for sample in samples}
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            built = pool.map(builder.build, first_of.values())
            for _ in progress_bar(built, total=len(first_of), desc=description, unit="video"):
                pass

    def answer(
        self,
        model_folder: Path,
        samples: Sequence[Sample],
        *,
        output: Path | None = None,
        builder: PromptBuilder | None = None,
        description: str,
    ) -> list[dict[str, Any]]:
        """Greedy answers of a model, see `evaluate`; a builder of its own shows other frames than in training."""
        model, processor = load_model(model_folder, dtype=torch.float32), load_processor(model_folder)
        settings = SamplingSettings(
            max_new_tokens=_MAX_NEW_TOKENS,
            temperature=0.0,
            eos_token_ids=eos_token_ids(model, processor),
            suppressed_token_ids=vision_token_ids(processor),
        )
        return evaluate(
            TransformersEngine(model, processor.tokenizer.pad_token_id),
            builder or self.builder(model_folder),
            processor.tokenizer,
            samples,
            settings,
            batch_size=_BATCH_SIZE,
            num_workers=torch.get_num_threads(),
            output=output,
            description=description,
        )

    def make_init(self, folder: Path, samples: Sequence[Sample]) -> None:
        """Random weights, and a tokenizer trained on the prompts and answers of the samples."""
        _, data_args, _ = self._grpo_arguments(folder)
        templates: dict[str, str] = data_args.prompts or {}  # type: ignore[assignment]
        texts = [
            text
            for sample in samples
            for text in (
                TASKS[sample.task].instruction(sample, thinking=False, template=templates.get(sample.task)),
                TASKS[sample.task].gold(sample.target, thinking=False),
            )
        ]
        family = FAMILIES[self.options.family]
        build_tiny(
            folder,
            hidden=HIDDEN,
            family=self.options.family,
            texts=["user\nassistant\n", *family.tiny_texts(), *texts],
            initializer_range=HIDDEN**-0.5,
            seed=self.options.seed,
        )

    def train_grpo(self, start: Path, folder: Path) -> TrainingRun:
        """GRPO from `start`; rollouts go to `folder/rollouts.jsonl`."""
        model_args, data_args, args = self._grpo_arguments(start, folder)
        rewards, args.reward_weights = load_rewards(args.rewards, bonuses=args.bonuses())  # type: ignore[arg-type]
        save_run_record(folder, model=model_args, data=data_args, grpo=args)
        model, _ = load_policy(model_args, args)
        source = data_args.load_mixture(args.seed)
        trainer = VideoGRPOTrainer(
            model,
            args=args,
            processor=load_processor(model_args.model_name_or_path),
            builder=self._builder(model_args, data_args),
            source=source,
            reward_funcs=rewards,
            max_bad_video_share=data_args.max_bad_video_share,
        )
        use_console_log(trainer)
        return self._run(trainer, folder, ModelCard("grpo", model_args, data_args, source.summaries))

    def train_sft(self, recipe: str, start: Path, folder: Path) -> TrainingRun:
        """SFT from `start` for as many steps as its recipe says."""
        trainer, card = self._sft_trainer(recipe, start, folder, ())
        use_console_log(trainer)
        return self._run(trainer, folder, card)

    def continue_sft(self, start: Path, folder: Path, seconds: float) -> TrainingRun:
        """SFT from `start` for as many seconds as given, its learning rate falling linearly over them."""
        flags = (
            "--max_steps",
            str(_MANY_STEPS),
            "--lr_scheduler_type",
            "constant",
            "--lr_scheduler_kwargs",
            "{}",
            "--warmup_steps",
            "0",
        )
        trainer, card = self._sft_trainer(SFT_STAGES[-1], start, folder, flags, _TimeLimit(seconds, "SFT continued"))
        # Their bar counts steps, of which nobody knows how many there will be.
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        return self._run(trainer, folder, card)

    def _sft_trainer(
        self, recipe: str, start: Path, folder: Path, flags: Sequence[str], callback: TrainerCallback | None = None
    ) -> tuple[VideoSFTTrainer, ModelCard]:
        model_args, data_args, args = self._arguments(
            recipe, VideoSFTConfig, start, folder, (*self.options.sft_flags, *flags)
        )
        save_run_record(folder, model=model_args, data=data_args, sft=args)
        model, _ = load_policy(model_args, args)
        source = data_args.load_mixture(args.seed)
        trainer = VideoSFTTrainer(
            model,
            args=args,
            processor=load_processor(model_args.model_name_or_path),
            builder=self._builder(model_args, data_args),
            source=source,
            max_bad_video_share=data_args.max_bad_video_share,
            callbacks=[callback] if callback is not None else [],
        )
        return trainer, ModelCard("sft", model_args, data_args, source.summaries)

    def _run(self, trainer: Trainer, folder: Path, card: ModelCard) -> TrainingRun:
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
        save_final(trainer, trainer.processing_class, folder, merge_lora=False, card=card)  # type: ignore[arg-type]
        return TrainingRun(folder, trainer.state.global_step, seconds)

    def _grpo_arguments(
        self, model: Path, folder: Path | None = None
    ) -> tuple[ModelArguments, DataArguments, VideoGRPOConfig]:
        return self._arguments(
            "grpo", VideoGRPOConfig, model, folder or self.options.checkpoints / "grpo", self.options.grpo_flags
        )

    def _arguments(self, recipe: str, args: Callable[..., Any], model: Path, folder: Path, flags: Sequence[str]) -> Any:
        """Model, data and training arguments of a recipe with this run's paths and seed filled in."""
        filled = {
            "model_name_or_path": model,
            "data_root": self.options.data,
            "output_dir": folder,
            "seed": self.options.seed,
        }
        named = [part for name, value in filled.items() for part in (f"--{name}", str(value))]
        return parse_recipe(
            [ModelArguments, DataArguments, args],  # type: ignore[list-item]
            ["--config", str(self.options.recipe(recipe)), *named, *flags],
        )

    def _builder(self, model_args: ModelArguments, data_args: DataArguments) -> PromptBuilder:
        return PromptBuilder(
            load_processor(model_args.model_name_or_path),
            load_config(model_args.model_name_or_path),
            data_args.budget(),
            thinking=data_args.thinking,
            layout=data_args.prompt_layout,  # type: ignore[arg-type]
            templates=data_args.prompts,  # type: ignore[arg-type]
            load=self.cache.load,
        )


class _TimeLimit(TrainerCallback):
    """Stops after so many seconds; the bar counts them, and the learning rate falls to zero with them."""

    def __init__(self, seconds: float, description: str) -> None:
        self._seconds = seconds
        self._total = max(1, round(seconds))
        self._bar = progress_bar(
            total=self._total, desc=description, unit="s", bar_format="{l_bar}{bar}| {n}/{total} s"
        )
        self._begin = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The clock starts."""
        self._begin = time.perf_counter()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the learning rate of this step."""
        left = max(0.0, 1.0 - (time.perf_counter() - self._begin) / self._seconds)
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = args.learning_rate * left

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar, and stop when time is up."""
        elapsed = time.perf_counter() - self._begin
        self._bar.update(min(round(elapsed), self._total) - self._bar.n)
        if elapsed >= self._seconds:
            self._bar.close()
            control.should_training_stop = True


def save_half(model_folder: Path, output: Path) -> None:
    """The same model with weights of 16 bits: half the size, as it is shipped."""
    save_model_folder(load_model(model_folder, dtype=torch.float16), load_processor(model_folder), output)
