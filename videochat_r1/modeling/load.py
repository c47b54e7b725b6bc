"""Load a model and its processor from a folder, by what its config says and never by its path."""

import functools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoProcessor,
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.utils.logging import set_tqdm_hook

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import family_named, family_of, family_of_type
from videochat_r1.progress import progress_bar

logger = logging.getLogger(__name__)

_SECONDS_SILENT = 5

_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


def load_config(path: str | Path, family: str | None = None) -> PretrainedConfig:
    """The model's config.

    Args:
        path: model folder, or hub name.
        family: name of its family, which may come from outside; None for the known one of its `model_type`.

    Raises:
        ConfigError: no such folder, no readable config.json, weights that may not be read, a model type of no known family, or
            of another one.
    """
    named = None if family is None else family_named(family)
    if is_model_folder(path) and not (Path(path) / "config.json").is_file():
        raise ConfigError(f"{path} holds no config.json: expected a model folder as `save_pretrained` writes it")
    try:
        # Not through AutoConfig, which words a type that it does not know, or that brings its own code, in its own way.
        values, _ = PretrainedConfig.get_config_dict(str(path))
        known = family_of_type(values.get("model_type"))
        config = known.model_class.config_class.from_pretrained(str(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"cannot read a model config from {str(path)!r}: {error}. Give a model folder, or a hub name that can be reached."
        ) from error
    if named is not None and known is not named:
        raise ConfigError(
            f"{path} is of model_type {known.model_type!r}, the model family {family} of {named.model_type!r}"
        )
    return config


def is_model_folder(path: str | Path) -> bool:
    """Whether a model is a folder here, or to be looked for on the hub, which is then said: without a network it takes long.

    Raises:
        ConfigError: it can only be meant as a folder, but there is none, or it may not be read.
    """
    folder = Path(path)
    try:
        unread, found = unreadable_files(folder), folder.exists()
    except OSError as error:
        raise ConfigError(f"the model folder {str(path)!r} may not be read: {error.strerror}") from error
    if unread:
        names = ", ".join(file.name for file in unread[:5])
        raise ConfigError(f"{path}: {names} may not be read by this user; its owner can allow it: chmod -R a+rX {path}")
    # A hub name has at most one slash and no dot in front.
    if not found and (str(path).startswith(("/", ".", "~")) or str(path).count("/") > 1):
        raise ConfigError(f"the model folder {str(path)!r} does not exist")
    if not found:
        _say_hub(str(path))
    return found


def unreadable_files(folder: Path) -> list[Path]:
    """What this user may not read: files of a model folder, or the folder itself; none of a folder that is not there.

    Raises:
        OSError: it lies in a folder that may not be looked into.
    """
    if not folder.is_dir():
        return []
    files = [folder, *(file for file in folder.glob("*") if file.is_file())]
    return [file for file in files if not os.access(file, os.R_OK, effective_ids=True)]


@functools.lru_cache
def _say_hub(name: str) -> None:
    logger.info("%s is no folder here; looking for it on the model hub", name)


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    attn_implementation: str = "sdpa",
    **kwargs: Any,
) -> PreTrainedModel:
    """The model in `dtype`, of the class that its config names.

    Raises:
        ConfigError: see `load_config`; also when the folder's weights are incomplete.
    """
    config = load_config(path)
    # Bars of what takes a moment would stand between the lines of a run, here and when the model is saved.
    set_tqdm_hook(lambda factory, positional, named: progress_bar(*positional, **{**named, "delay": _SECONDS_SILENT}))
    try:
        model, info = family_of(config).model_class.from_pretrained(
            str(path), dtype=dtype, attn_implementation=attn_implementation, output_loading_info=True, **kwargs
        )
    except OSError as error:
        raise ConfigError(
            f"cannot load the weights in {str(path)!r}: {error}. Is the download or copy complete?"
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ConfigError(
            f"the weights in {str(path)!r} lack {len(missing)} tensors, first {missing[:3]}: copy the whole folder again"
        )
    return model


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory left, on a GPU or, where torch has no error of its own for it, on this machine."""
    told = "DefaultCPUAllocator: can't allocate memory"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and told in str(error)
    )


@contextmanager
def saying_when_memory_ends(sentence: str) -> Iterator[None]:
    """Raises a ConfigError of the sentence where no memory is left inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(sentence) from error


def load_processor(path: str | Path) -> ProcessorMixin:
    """Tokenizer and video processor of the model folder.

    Raises:
        ConfigError: when the folder holds none.
    """
    is_model_folder(path)
    try:
        processor = AutoProcessor.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the processor in {str(path)!r}: {error}") from error
    if not isinstance(processor, ProcessorMixin) or not hasattr(processor, "video_processor"):
        raise ConfigError(
            f"{str(path)!r} has a tokenizer but no video processor: copy preprocessor_config.json (and "
            "video_preprocessor_config.json where the release has one) beside the weights"
        )
    return processor


def vision_token_ids(processor: ProcessorMixin) -> tuple[int, ...]:
    """Ids of the tokens that mark visual input: sampling one would desynchronise tokens and features."""
    vocabulary = processor.tokenizer.get_vocab()
    return tuple(sorted(vocabulary[token] for token in _VISION_TOKENS if token in vocabulary))


def eos_token_ids(model: PreTrainedModel, processor: ProcessorMixin) -> tuple[int, ...]:
    """Every id that ends a completion: the tokenizer's and those that the checkpoint's generation config adds."""
    declared = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = [] if declared is None else [declared] if isinstance(declared, int) else list(declared)
    return tuple(dict.fromkeys([processor.tokenizer.eos_token_id, *ids]))
