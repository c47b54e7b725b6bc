"""Load a model and its processor from a folder, by what its config says and never by its path."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoProcessor,
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)

from videochat_r1.errors import ConfigError

MODEL_CLASSES: dict[str, type[PreTrainedModel]] = {
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen2_vl": Qwen2VLForConditionalGeneration,
}
"""`model_type` of config.json -> class."""

_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


def check_readable(folder: Path) -> None:
    """See that this user may read config and weights of a model folder, as far as they are there.

    Raises:
        ConfigError: naming the file.
    """
    for path in sorted([*folder.glob("config.json"), *folder.glob("*.safetensors")]):
        try:
            path.open("rb").close()
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise ConfigError(f"{path} may not be read by this user: its owner can allow it (chmod a+r)") from error


def load_config(path: str | Path) -> PretrainedConfig:
    """The model's config.

    Raises:
        ConfigError: no such folder, no readable config.json, weights that may not be read, or a model type this project does not know.
    """
    folder = Path(path)
    # A hub name has at most one slash and no dot in front: this can only be meant as a folder.
    if not folder.exists() and (str(path).startswith(("/", ".", "~")) or str(path).count("/") > 1):
        raise ConfigError(f"the model folder {str(path)!r} does not exist")
    if folder.exists() and not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} holds no config.json: expected a model folder as `save_pretrained` writes it")
    check_readable(folder)
    try:
        config = AutoConfig.from_pretrained(str(path))
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"cannot read a model config from {str(path)!r}: {error}. Give a model folder, or a hub name that can be reached."
        ) from error
    if config.model_type not in MODEL_CLASSES:
        raise ConfigError(
            f"{str(path)!r} is of type {config.model_type!r}; this project trains {', '.join(sorted(MODEL_CLASSES))}"
        )
    return config


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
    try:
        model, info = MODEL_CLASSES[config.model_type].from_pretrained(
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


def load_processor(path: str | Path) -> ProcessorMixin:
    """Tokenizer and video processor of the model folder.

    Raises:
        ConfigError: when the folder holds none.
    """
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
