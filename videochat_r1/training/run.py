"""The parts of a run that GRPO and SFT share: policy, prompt builder, final folder."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin, Trainer, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from videochat_r1.errors import DataError
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.load import load_config, load_model
from videochat_r1.modeling.media_features import tower_parameters
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.saving import save_model_folder
from videochat_r1.recipe import DataArguments, ModelArguments
from videochat_r1.sample import Sample
from videochat_r1.training.card import ModelCard

logger = logging.getLogger(__name__)


def prompt_builder(model_args: ModelArguments, data_args: DataArguments, processor: ProcessorMixin) -> PromptBuilder:
    """The builder that a recipe describes."""
    return PromptBuilder(
        processor,
        load_config(model_args.model_name_or_path, model_args.model_family),
        data_args.budget(),
        pictures=data_args.picture_budget(),
        thinking=data_args.thinking,
        layout=data_args.prompt_layout,  # type: ignore[arg-type]
        templates=data_args.prompts,  # type: ignore[arg-type]
        box_format=data_args.box_format,  # type: ignore[arg-type]
        max_prompt_length=data_args.max_prompt_length,
    )


def weights_dtype(args: TrainingArguments) -> torch.dtype:
    """Precision that the weights are held in.

    bf16 weights without fp32 masters would swallow updates of 1e-6; DeepSpeed keeps masters itself, elsewhere the
    weights stay fp32 and autocast computes in bf16.
    """
    return torch.bfloat16 if args.bf16 and args.deepspeed else torch.float32


def load_policy(model_args: ModelArguments, args: TrainingArguments) -> tuple[PreTrainedModel, Any]:
    """The model to train and, for LoRA, the adapter's config (else None)."""
    lora = dict(model_args.lora or {})  # type: ignore[arg-type]
    dtype = torch.bfloat16 if lora and args.bf16 else weights_dtype(args)
    model = load_model(model_args.model_name_or_path, dtype=dtype, attn_implementation=model_args.attn_implementation)
    if model_args.freeze_vision_tower:
        for weight in tower_parameters(model):
            weight.requires_grad_(False)
    if not lora:
        return model, None
    from peft import LoraConfig

    return model, LoraConfig(task_type="CAUSAL_LM", **{"target_modules": family_of(model.config).lora_targets, **lora})


def save_final(
    trainer: Trainer, processor: ProcessorMixin, output_dir: Path, *, merge_lora: bool, card: ModelCard | None = None
) -> Path:
    """Write weights (gathered under ZeRO-3), processor, state and card; returns the folder that holds the whole model.

    Raises:
        DivergedError: the weights are NaN or infinite; nothing is written.
    """
    trainer.save_model(str(output_dir))
    trainer.save_state()
    trainer.accelerator.wait_for_everyone()
    folders = [output_dir]
    if merge_lora and (output_dir / "adapter_config.json").is_file():
        folders.append(output_dir / "merged")
    if trainer.accelerator.is_main_process:
        processor.save_pretrained(str(output_dir))
        if len(folders) > 1:
            merge_adapter(output_dir, folders[-1], processor)
        if card is not None:
            for folder in folders:
                card.write(folder, trainer)
    return folders[-1]


def merge_adapter(adapter: Path, output: Path, processor: ProcessorMixin) -> None:
    """Write the whole model of a saved adapter. It is built anew from its base: in training it may be spread over ranks."""
    from peft import PeftConfig, PeftModel

    unset_hf_deepspeed_config()
    base = load_model(str(PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path))
    save_model_folder(PeftModel.from_pretrained(base, str(adapter)).merge_and_unload(), processor, output)


def check_videos(samples: Sequence[Sample], max_bad_share: float) -> None:
    """Look for every video and picture file before anything expensive starts; those missing are left out when their turn comes.

    Raises:
        DataError: more than `max_bad_share` of the samples have none.
    """
    paths = {path for sample in samples for path in sample.media.files}
    missing = {path for path in paths if not Path(path).is_file()}
    if not missing:
        return
    lacking = [s for s in samples if missing.intersection(s.media.files)]
    first = ", ".join(sorted(missing)[:10])
    message = f"{len(lacking)} of {len(samples)} samples have no video or pictures; {len(missing)} files are missing, first {first}"
    if len(lacking) > max_bad_share * len(samples):
        raise DataError(
            f"{message}. Are `data_root` and the mixture's `videos` right? `videochat-r1 data check --videos DIR` lists all; "
            f"max_bad_video_share={max_bad_share} is what a run may leave out."
        )
    logger.warning("%s; they are left out", message)
