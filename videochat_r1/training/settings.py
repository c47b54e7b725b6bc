"""Which settings decide a run's numbers, as JSON, and the refusal to go on with others."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from videochat_r1.datasets.mixture import Mixture
from videochat_r1.errors import ConfigError
from videochat_r1.judge import JudgeConfig
from videochat_r1.modeling.load import is_model_folder
from videochat_r1.provenance import setting_changes
from videochat_r1.recipe import DataArguments, ModelArguments
from videochat_r1.sample import Video

logger = logging.getLogger(__name__)

# What is watched, how long is waited, where things lie and how work is spread: none of it changes what is computed.
_FREE_PREFIXES = (
    *("logging_", "log_", "save_", "eval_", "hub_", "push_to_", "dataloader_", "ddp_", "trackio_", "do_", "include_"),
    *("gradient_checkpointing", "vllm_server_", "vllm_group_"),
)
_FREE = {
    *("output_dir", "resume_from_checkpoint", "resume_changed", "run_name", "report_to", "project", "disable_tqdm"),
    *("local_rank", "skip_memory_metrics", "torch_empty_cache_steps", "debug", "enable_jit_checkpoint"),
    *("per_device_eval_batch_size", "num_generations_eval", "prediction_loss_only", "batch_eval_metrics"),
    *("num_completions_to_print", "remove_unused_columns", "label_names", "length_column_name"),
    *("vllm_gpu_memory_utilization", "vllm_enable_sleep_mode", "rollout_batch_rows", "verify_shared_prompt"),
    *("max_unscored_share", "max_bad_video_share", "merge_lora", "deepspeed"),
    *("video.timeout_seconds", "video.num_threads", "video.isolation"),
    *("judge.base_url", "judge.api_key_env", "judge.concurrency", "judge.requests_per_minute", "judge.timeout_seconds"),
    *("judge.max_attempts", "judge.backoff_seconds", "judge.on_outage", "judge.max_wait_seconds"),
    *("judge.cache_dir", "judge.cache_megabytes"),
    # Follow from others that are compared.
    *("gradient_accumulation_steps", "steps_per_generation", "reward_weights"),
}
# What the states in a checkpoint are made for.
_FIXED = ("command", "lora", "freeze_vision_tower", "optim", "bf16", "fp16", "zero_stage")
_OPTIMIZER = (
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_steps", "num_train_epochs"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "optim_args"),
)
_OF_A_GENERATION = (
    *("num_processes", "per_device_train_batch_size", "prompts_per_step", "generation_batch_size"),
    *("num_generations", "num_iterations", "samples"),
)
_SAMPLE_BYTES = 1 << 20


def run_settings(
    command: str,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: TrainingArguments,
    source: Mixture,
    judge: JudgeConfig | None = None,
) -> dict[str, Any]:
    """Settings that decide a run's numbers, by the names of their flags, and what the files behind them hold."""
    values = {name: value for part in (model_args, data_args, args) for name, value in _options(part).items()}
    values.update(
        command=command,
        num_processes=args.world_size,
        video=dataclasses.asdict(data_args.budget()),
        picture=data_args.picture_budget().stated(),
        mixture=[dataclasses.asdict(entry) for entry in source.entries],
        sampling=None if source.sampling.by is None else dataclasses.asdict(source.sampling),
        samples=_digest_of_samples(source),
        model=_digest_of_model(model_args.model_name_or_path),
        judge=None if judge is None else dataclasses.asdict(judge),
        batch=args.gradient_accumulation_steps * args.per_device_train_batch_size * args.world_size,
        **_zero(args),
    )
    if args.max_steps > 0:
        del values["num_train_epochs"]
    return dict(json.loads(json.dumps(values, default=str)))


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Name -> "NAME was X, is Y" of all settings that decide numbers and differ."""
    found = setting_changes(before, now, list(dict.fromkeys([*before, *now])))
    for content, places in (("samples", ("mixture", "data_root", "sampling")), ("model", ("model_name_or_path",))):
        named = [name for name in found if name.partition(".")[0] in places]
        if content not in found:
            # Files that were moved, or a limit that does not bind.
            found = {name: text for name, text in found.items() if name not in named}
        elif named or "seed" in found:
            del found[content]
        else:
            found[content] = f"the {content} behind {' and '.join(places[:2])} changed"
    return {name: text for name, text in found.items() if not _is_free(name)}


def refuse_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], *, where: str, insist: bool, mid_generation: bool = False
) -> bool:
    """Whether settings differ, and the new ones are insisted on and can be followed.

    Args:
        before: settings so far.
        now: those asked for.
        where: what was made with the former, for the message.
        insist: on the new ones.
        mid_generation: whether completions of former settings wait to be trained on.

    Raises:
        ConfigError: they differ and are not insisted on, or nothing can go on exactly with them; all are named.
    """
    found = changes(before, now)
    if not found:
        return False
    fixed = list(_FIXED)
    if before.get("zero_stage") is not None or now.get("zero_stage") is not None:
        # ZeRO divides the optimiser's states over the processes, and keeps its options with them.
        fixed += ["num_processes", *_OPTIMIZER]
    if mid_generation:
        fixed += _OF_A_GENERATION
    stuck = [name for name in found if name.partition(".")[0] in fixed]
    said = f"{where} was made with other settings: {'; '.join(found.values())}"
    if stuck:
        raise ConfigError(
            f"{said}. Its states cannot go on with another {', '.join(stuck)}: use the same settings, or another output_dir, "
            "where a new run can start from its weights"
        )
    if not insist:
        raise ConfigError(
            f"{said}. Use the same settings to go on, or another output_dir; --resume_changed true goes on with the new ones"
        )
    logger.warning("from %s on with other settings: %s", where, "; ".join(found.values()))
    return True


def _is_free(name: str) -> bool:
    return name in _FREE or name.startswith(_FREE_PREFIXES)


def _options(arguments: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(arguments) if field.init]
    values = arguments.to_dict() if hasattr(arguments, "to_dict") else dataclasses.asdict(arguments)
    return {name: values[name] for name in names if name in values}


def _zero(args: TrainingArguments) -> dict[str, Any]:
    """Stage of ZeRO and what it moves to the host; no stage without DeepSpeed."""
    if not args.deepspeed:
        return {"zero_stage": None}
    options = args.hf_deepspeed_config.config.get("zero_optimization") or {}
    moved = {f"zero_{name}": (options.get(name) or {}).get("device") for name in ("offload_optimizer", "offload_param")}
    return {"zero_stage": options.get("stage", 0), **moved}


def _digest_of_samples(source: Mixture) -> str:
    """Of what is asked in the first two epochs, in its order; where the files lie is left out."""
    digest = hashlib.sha256()
    for epoch in (0, 1):
        for sample in source.samples(epoch):
            media = sample.media
            files = [Path(path).name for path in media.files]
            clip = (media.frame_times, media.start, media.end) if isinstance(media, Video) else ("pictures",)
            told = (sample.source, sample.id, sample.task, sample.query, sample.target, sample.duration)
            learnt = () if sample.response is None else (sample.response,)
            digest.update(repr((*told, *learnt, files, *clip)).encode("utf-8", "replace"))
    return digest.hexdigest()


def _digest_of_model(name: str) -> str:
    """Of a folder's config, and of size, beginning and end of each file of weights; of a hub name, the name."""
    folder = Path(name)
    if not is_model_folder(name):
        return name
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("config.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode() + file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
