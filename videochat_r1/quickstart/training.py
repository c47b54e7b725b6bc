"""The quickstart's trainings, with the project's own trainers and recipes."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, Trainer

from videochat_r1.datasets.annotation_files import read_json
from videochat_r1.evaluation.answering.harness import evaluate
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.run import load_rewards
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.load import eos_token_ids, load_config, load_model, load_processor, vision_token_ids
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.saving import save_model_folder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.outputs import write_lines
from videochat_r1.progress import progress_bar
from videochat_r1.quickstart.clock import Clock, TimeLimit
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.rollout.base import SamplingSettings
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.sample import Sample
from videochat_r1.sft import VideoSFTConfig, VideoSFTTrainer
from videochat_r1.tasks import TASKS
from videochat_r1.training.card import ModelCard
from videochat_r1.training.console import use_console_log
from videochat_r1.training.run import load_policy, save_final
from videochat_r1.training.run_folder import run_folder
from videochat_r1.training.settings import run_settings
from videochat_r1.video.cache import FrameCache

HIDDEN = 128

SFT_STAGES = ("sft_questions", "sft_joint")
"""Recipes that lead from random weights to the start of GRPO, in order."""

# Of a finished training's folder: what it took.
_TRAINING = "training.json"

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
        arguments = self._grpo_arguments(start, folder)
        args = arguments[-1]
        rewards, args.reward_weights = load_rewards(args.rewards, bonuses=args.bonuses())  # type: ignore[arg-type]
        trainer = partial(VideoGRPOTrainer, reward_funcs=rewards)
        return self._train("grpo", arguments, trainer, use_console_log)

    def train_sft(self, recipe: str, start: Path, folder: Path) -> TrainingRun:
        """SFT from `start` for as many steps as its recipe says."""
        return self._train("sft", self._sft_arguments(recipe, start, folder), VideoSFTTrainer, use_console_log)

    def continue_sft(self, start: Path, folder: Path, seconds: float) -> TrainingRun:
        """SFT from `start` for as many seconds as given, its learning rate falling linearly over them."""
        flags = f"--max_steps {_MANY_STEPS} --lr_scheduler_type constant --lr_scheduler_kwargs {{}} --warmup_steps 0"
        arguments = self._sft_arguments(SFT_STAGES[-1], start, folder, flags.split())

        def limit(trainer: Trainer) -> None:
            trainer.add_callback(TimeLimit(seconds, "SFT continued"))
            # Their bar counts steps, of which nobody knows how many there will be.
            trainer.remove_callback(ProgressCallback)
            trainer.remove_callback(PrinterCallback)

        return self._train("sft", arguments, VideoSFTTrainer, limit)

    def _train(
        self,
        command: str,
        arguments: tuple[ModelArguments, DataArguments, Any],
        make: Callable[..., Any],
        prepare: Callable[[Trainer], None],
    ) -> TrainingRun:
        """Train, going on from the last checkpoint of the folder; of a finished run there, only say what it was.

        Args:
            command: grpo or sft.
            arguments: of the recipe.
            make: the trainer's class.
            prepare: gives the trainer its callbacks.
        """
        model_args, data_args, args = arguments
        folder = Path(args.output_dir)
        with run_folder(args) as run:
            source = data_args.load_mixture(args.seed)
            run.begin(run_settings(command, model_args, data_args, args, source), insist=False)
            if run.finished is None:
                run.record(model=model_args, data=data_args, **{command: args})
                trainer = make(
                    load_policy(model_args, args)[0],
                    args=args,
                    processor=load_processor(model_args.model_name_or_path),
                    builder=self._builder(model_args, data_args),
                    source=source,
                    max_bad_video_share=data_args.max_bad_video_share,
                )
                prepare(trainer)
                clock = Clock()
                trainer.add_callback(clock)
                trainer.also_kept = (*trainer.also_kept, clock)
                run.train(trainer)
                card = ModelCard(command, model_args, data_args, source.summaries)  # type: ignore[arg-type]
                save_final(trainer, trainer.processing_class, folder, merge_lora=False, card=card)
                found = {"num_steps": trainer.state.global_step, "seconds": clock.seconds}
                write_lines(folder / _TRAINING, [json.dumps(found)])
                run.finish(trainer, folder)
        return TrainingRun(folder, **read_json(folder / _TRAINING))

    def _sft_arguments(
        self, recipe: str, start: Path, folder: Path, flags: Sequence[str] = ()
    ) -> tuple[ModelArguments, DataArguments, VideoSFTConfig]:
        own = (*self.options.sft_flags, *flags)
        found: tuple[ModelArguments, DataArguments, VideoSFTConfig]
        found = self._arguments(recipe, VideoSFTConfig, start, folder, own)
        return found

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


def save_half(model_folder: Path, output: Path) -> None:
    """The same model with weights of 16 bits: half the size, as it is shipped."""
    save_model_folder(load_model(model_folder, dtype=torch.float16), load_processor(model_folder), output)
