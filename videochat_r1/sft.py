"""Supervised fine-tuning on given responses, else on the tasks' gold answers: the paper's baseline, and the start of a GRPO run.

The same prompts, positions and log-probabilities as in GRPO, so that a comparison of the two compares the losses alone.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import get_peft_model
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    ProcessorMixin,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from trl.trainer.utils import add_fused_lm_head

from videochat_r1.errors import DataError, shown
from videochat_r1.grpo.shared_prefix import completion_logps, first_dropout, install_shared_prefix
from videochat_r1.modeling.inputs import on_device
from videochat_r1.modeling.load import load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.recipe import DataArguments, ModelArguments
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample
from videochat_r1.tasks import TASKS
from videochat_r1.training.card import ModelCard
from videochat_r1.training.console import use_console_log
from videochat_r1.training.divergence import StopsWhenDiverged
from videochat_r1.training.layout import (
    RESUME_CHANGED,
    passes_per_update,
    refuse_data_parallel,
    refuse_torn_questions,
    world_size,
)
from videochat_r1.training.loader import BadSamples, LoadedPrompt, PromptLoader
from videochat_r1.training.resumable import ResumableTrainer
from videochat_r1.training.run import check_videos, load_policy, prompt_builder, save_final
from videochat_r1.training.run_folder import run_folder
from videochat_r1.training.sampler import BatchLayout, GroupSampler, PromptRequest, Requests, SampleSource
from videochat_r1.training.saving import SavesPlainFolders
from videochat_r1.training.settings import run_settings
from videochat_r1.training.trackers import keep_wandb_local

logger = logging.getLogger(__name__)


@dataclass
class VideoSFTConfig(TrainingArguments):
    """`transformers.TrainingArguments` with a batch stated in samples per update.

    Raises:
        ConfigError: a layout that cannot give `samples_per_step`, with the nearest that can.
    """

    samples_per_step: int | None = field(
        default=None,
        metadata={"help": "Samples per optimiser update over all processes; null keeps gradient_accumulation_steps."},
    )
    max_completion_length: int = field(
        default=1024, metadata={"help": "In tokens; samples with a longer answer are left out."}
    )
    logging_steps: float = field(default=1, metadata={"help": "Updates between two lines of the log."})
    resume_changed: bool = field(default=False, metadata={"help": RESUME_CHANGED})

    RECIPES: ClassVar = "sft"

    def __post_init__(self) -> None:
        if self.samples_per_step is not None:
            self.gradient_accumulation_steps = self.accumulation(world_size())
        super().__post_init__()
        refuse_data_parallel(self.n_gpu)

    def check_questions(self, together: int) -> None:
        """Whether micro-batches hold `together` questions about a video. Raises ConfigError."""
        refuse_torn_questions(together, self.per_device_train_batch_size)

    def accumulation(self, num_processes: int) -> int:
        """Micro-batches per update that give `samples_per_step` on so many processes.

        Raises:
            ConfigError: no number does; the nearest layouts that work are named.
        """
        assert self.samples_per_step is not None
        return passes_per_update(
            self.samples_per_step,
            self.per_device_train_batch_size,
            num_processes,
            what="samples",
            option="samples_per_step",
        )


class VideoSFTTrainer(StopsWhenDiverged, SavesPlainFolders, ResumableTrainer, Trainer):
    """Maximises the likelihood of answers, the samples' responses or the gold ones; the loss is over their tokens only.

    Args:
        model: of one of `FAMILIES` (with adapters on it, if any).
        args: options.
        processor: of the model.
        builder: makes prompts from samples.
        source: the samples and their order.
        max_bad_video_share: training stops when more than this share of the samples seen could not be read.
        callbacks: transformers' callbacks.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        args: VideoSFTConfig,
        processor: ProcessorMixin,
        builder: PromptBuilder,
        source: SampleSource,
        max_bad_video_share: float = 0.05,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        install_shared_prefix(base)
        add_fused_lm_head(base, outputs=("log_probs",))
        layout = BatchLayout(
            num_processes=args.world_size,
            groups_per_micro_batch=args.per_device_train_batch_size,
            micro_batches=1,
            repeats=1,
        )
        self._sampler = GroupSampler(source, layout, batches_per_update=args.gradient_accumulation_steps)
        self._tokenizer = processor.tokenizer
        # A prompt has one answer: repeating it costs nothing, and lets dropout differ from place to place.
        self._share_prompt = first_dropout(base) is None
        self._weight = 1.0
        self.bad_samples = BadSamples(max_bad_video_share)
        super().__init__(
            model=model,
            args=args,
            data_collator=list,
            train_dataset=Requests(self._sampler.num_samples),  # type: ignore[arg-type]
            processing_class=processor,
            callbacks=callbacks,
        )
        # The loss below is a mean over sequences, so gradient accumulation divides it by the number of micro-batches.
        self.model_accepts_loss_kwargs = False
        self._builder = builder
        self._loader = PromptLoader(
            builder,
            self._sampler,
            args.process_index,
            num_workers=args.dataloader_num_workers,
            prefetch=args.dataloader_prefetch_factor or 2,
        )

    def get_train_dataloader(self) -> DataLoader:
        """Videos are read once, by `PromptLoader`; this loader only says whose turn it is."""
        loader = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_size=self.args.per_device_train_batch_size,
            sampler=self._sampler,  # type: ignore[arg-type]
            collate_fn=list,
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(  # type: ignore[override]
        self, epoch_iterator: Iterator[list[PromptRequest]], num_batches: int, device: torch.device
    ) -> tuple[list[list[LoadedPrompt]], torch.Tensor | int | None]:
        """Load the prompts of a whole update, so that each micro-batch knows how many samples of it can be used."""
        requests, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = [[self._with_answer_that_fits(prompt) for prompt in self._loader.take(batch)] for batch in requests]
        loaded = [prompt for batch in batches for prompt in batch]
        self.bad_samples.count(loaded, is_main_process=self.accelerator.is_main_process)
        counts = torch.tensor([len(loaded), sum(prompt.inputs is not None for prompt in loaded)], device=device)
        num_all, num_used = self.accelerator.reduce(counts, reduction="sum").tolist()
        self._weight = num_all / num_used if num_used else 1.0
        return batches, num_items

    def _prepare_inputs(self, loaded: list[LoadedPrompt]) -> dict[str, Any]:  # type: ignore[override]
        """Prompts with their answers as padded ids; a sample that cannot be used has a stand-in and no answer."""
        device = self.accelerator.device
        prompts = on_device([prompt.inputs or self._builder.blank() for prompt in loaded], device)
        answers = [self._answer_ids(prompt) if prompt.inputs is not None else [] for prompt in loaded]
        length = max(1, max(map(len, answers)))
        ids = torch.full((len(answers), length), self._tokenizer.pad_token_id)
        mask = torch.zeros(ids.shape, dtype=torch.long)
        for row, answer in enumerate(answers):
            ids[row, : len(answer)] = torch.tensor(answer, dtype=torch.long)
            mask[row, : len(answer)] = 1
        return {"prompts": prompts, "completion_ids": ids.to(device), "completion_mask": mask.to(device)}

    def _with_answer_that_fits(self, prompt: LoadedPrompt) -> LoadedPrompt:
        """The prompt; one that cannot be used where its answer cannot be learnt."""
        if prompt.inputs is None or (problem := self._why_unfit(prompt)) is None:
            return prompt
        return LoadedPrompt(prompt.sample, None, problem, Ended.PROMPT_ERROR)

    def _why_unfit(self, prompt: LoadedPrompt) -> str | None:
        """In words; None for an answer that can be learnt."""
        if (why := why_unfit(prompt.sample, thinking=self._builder.thinking)) is not None:
            return f"its response {why}"
        length, limit = len(self._answer_ids(prompt)), self.args.max_completion_length
        what = "gold answer" if prompt.sample.response is None else "response"
        return f"its {what} has {length} tokens, more than max_completion_length={limit}" if length > limit else None

    def _answer_ids(self, prompt: LoadedPrompt) -> list[int]:
        """What the prompt leaves to be written of the sample's response, else of the gold answer, and the token that ends a turn."""
        assert prompt.inputs is not None
        sample = prompt.sample
        answer = sample.response
        if answer is None:
            answer = TASKS[sample.task].gold(sample.target, thinking=self._builder.thinking)
        return [*self._builder.answer_ids(prompt.inputs.remaining(answer)), self._tokenizer.eos_token_id]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With how many samples were left out so far, as in GRPO."""
        if "loss" in logs:
            logs["data/bad_samples"] = float(len(self.bad_samples.listed))
        super().log(logs, start_time)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Mean over the update's sequences of the mean negative log-likelihood of their answer tokens: this micro-batch's part.

        A sequence whose video could not be read is no part of the mean; the others of the update, on all processes, weigh
        the more.
        """
        mask = inputs["completion_mask"]
        logps, _ = completion_logps(
            model,
            inputs["prompts"],
            inputs["completion_ids"],
            mask,
            share_prompt=self._share_prompt,
            compute_entropy=False,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        lengths = mask.sum(dim=1)
        per_sequence = -(logps * mask).sum(dim=1) / lengths.clamp(min=1)
        return per_sequence.mean() * self._weight


def why_unfit(sample: Sample, *, thinking: bool) -> str | None:
    """See `Task.why_unfit`, of a sample's response; None also where it has none."""
    if sample.response is None:
        return None
    return TASKS[sample.task].why_unfit(sample.response, sample.target, thinking=thinking)


def check_responses(samples: Sequence[Sample], data_args: DataArguments) -> None:
    """Look at every response before anything expensive starts; the samples of those that are unfit are left out when their turn comes.

    Raises:
        DataError: more than `max_bad_video_share` of the samples have an unfit one.
    """
    thinking = data_args.thinking
    unfit = {sample.id: why for sample in samples if (why := why_unfit(sample, thinking=thinking)) is not None}
    if len(unfit) > data_args.max_bad_video_share * len(samples):
        first = "; ".join(f"{shown(name)}: its response {why}" for name, why in list(unfit.items())[:3])
        raise DataError(
            f"{len(unfit)} of {len(samples)} samples have a response that does not fit thinking={str(thinking).lower()}; first {first}. "
            f"Responses with a <think> are learnt with thinking: true, others without; max_bad_video_share={data_args.max_bad_video_share} is "
            "what a run may leave out"
        )


def run_sft(model_args: ModelArguments, data_args: DataArguments, args: VideoSFTConfig) -> Path:
    """Train, resuming from the newest complete checkpoint in `args.output_dir`, and return the final model folder. Of a
    finished run, only that is done.

    Raises:
        ConfigError, DataError: a recipe, a model folder, an annotation file or an output folder that cannot work.
    """
    args.check_questions(data_args.questions_together)
    with run_folder(args) as run:
        source = data_args.load_mixture(args.seed)
        run.begin(run_settings("sft", model_args, data_args, args, source), insist=args.resume_changed)
        if run.finished is not None:
            return run.finished
        check_videos(source.samples(0), data_args.max_bad_video_share)
        check_responses(source.samples(0), data_args)
        processor = load_processor(model_args.model_name_or_path)
        builder = prompt_builder(model_args, data_args, processor)
        if args.process_index == 0:
            run.record(model=model_args, data=data_args, sft=args)
            logger.info("%s", source.describe())
        keep_wandb_local(args)
        model, peft_config = load_policy(model_args, args)
        if peft_config is not None:
            # Adapters begin with random numbers, and the trainer below would seed too late for them.
            set_seed(args.seed)
            model = get_peft_model(model, peft_config)
        trainer = VideoSFTTrainer(
            model,
            args=args,
            processor=processor,
            builder=builder,
            source=source,
            max_bad_video_share=data_args.max_bad_video_share,
        )
        use_console_log(trainer)
        run.train(trainer)
        card = ModelCard("sft", model_args, data_args, source.summaries)
        folder = save_final(trainer, processor, run.path, merge_lora=model_args.merge_lora, card=card)
        run.finish(trainer, folder)
    return folder
