"""A model folder: its type, whether every weight file is there and whole, and whether its processor loads."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, ProcessorMixin

from videochat_r1.doctor.memory import ModelShape, model_shape
from videochat_r1.doctor.report import Section
from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import family_of, published_config
from videochat_r1.modeling.inputs import MediumKind
from videochat_r1.modeling.load import load_config, load_processor, unreadable_files

COPY_AGAIN = "copy or download the model folder again, whole"
_GIVE_ACCESS = "let its owner give read access: chmod -R a+rX FOLDER (and a+x on the folders above it)"
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


def check_model(path: str, family: str | None = None) -> tuple[Section, ModelShape | None]:
    """Facts and problems of a model folder, and its sizes: those published of a checkpoint that is not here, None where its config
    cannot be read."""
    section = Section("model", {"path": path})
    try:
        is_folder, unread = Path(path).is_dir(), unreadable_files(Path(path))
    except OSError as error:
        section.problem(f"{error.filename} may not be read: {error.strerror}", _GIVE_ACCESS)
        return section, None
    if unread:
        names = ", ".join(file.name for file in unread[:5])
        section.problem(f"{path}: {names} may not be read by this user", _GIVE_ACCESS)
        return section, None
    if not is_folder:
        section.problem(
            f"{path!r} is no folder on this machine: a run would look for it on the model hub when it starts",
            "download it beforehand and name its folder with --model (MODEL)",
        )
        known = published_config(path)
        return section, None if known is None else model_shape(known)
    try:
        config = load_config(path, family)
    except ConfigError as error:
        section.problem(str(error), "name a folder with a checkpoint of one of these families")
        return section, None
    shape = model_shape(config)
    section.facts["type"] = config.model_type
    section.facts["parameters"] = f"{shape.parameters:,} ({shape.vision_parameters:,} of them in the vision tower)"
    _check_weights(section, Path(path), shape, tied=bool(config.tie_word_embeddings))
    _check_processor(section, path, config)
    return section, shape


def _check_weights(section: Section, folder: Path, shape: ModelShape, *, tied: bool) -> None:
    files, problem = weight_files(folder)
    if problem:
        section.problem(problem, COPY_AGAIN)
    broken = [text for file in files if (text := file_defect(file)) is not None]
    for text in broken:
        section.problem(text, COPY_AGAIN)
    section.facts["weight files"] = len(files)
    if problem or broken:
        return
    stored = sum(math.prod(shape_) for file in files for shape_ in tensor_shapes(file).values())
    section.facts["stored values"] = f"{stored:,}"
    # Tied embeddings may be stored once or twice, so only too few values are an error.
    if stored < shape.parameters:
        section.problem(
            f"the weight files hold {stored:,} values, the config describes {shape.parameters:,}", COPY_AGAIN
        )
    elif stored > shape.parameters and not tied:
        section.notes.append(f"the weight files hold {stored - shape.parameters:,} values that the model does not use")


def weight_files(folder: Path) -> tuple[list[Path], str | None]:
    """The safetensors files of a checkpoint that are there, and what is wrong with the list, if anything."""
    index = folder / _INDEX
    if not index.is_file():
        single = folder / _SINGLE
        return ([single], None) if single.is_file() else ([], f"{folder} holds neither {_SINGLE} nor {_INDEX}")
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        return [], f"{index} is not a weight index: {error!r}"
    missing = [name for name in names if not (folder / name).is_file()]
    problem = f"{len(missing)} of {len(names)} weight files are missing: {', '.join(missing[:5])}" if missing else None
    return [folder / name for name in names if name not in missing], problem


def file_defect(path: Path) -> str | None:
    """What is wrong with a safetensors file, by its header and its size; None for a whole one."""
    try:
        length, tensors = _header(path)
        expected = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, struct.error, KeyError, TypeError, IndexError) as error:
        return f"{path} is not a safetensors file: {error}"
    actual = path.stat().st_size
    return None if actual == expected else f"{path} has {actual:,} bytes, its header says {expected:,}"


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Tensor name -> shape, from the header alone."""
    return {name: entry["shape"] for name, entry in _header(path)[1].items()}


def _header(path: Path) -> tuple[int, dict[str, dict]]:
    """Length of the header in bytes, and tensor name -> {"dtype", "shape", "data_offsets"}."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError(f"its header would be {length:,} bytes long")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    header.pop("__metadata__", None)
    return length, header


def _check_processor(section: Section, path: str, config: PretrainedConfig) -> None:
    try:
        processor: ProcessorMixin = load_processor(path)
    except ConfigError as error:
        section.problem(str(error), COPY_AGAIN)
        return
    section.facts["processor"] = type(processor).__name__
    kinds: dict[MediumKind, tuple[str, int]] = {
        "video": (processor.video_token, config.video_token_id),
        "image": (processor.image_token, config.image_token_id),
    }
    for kind, (token, number) in kinds.items():
        token_id = processor.tokenizer.convert_tokens_to_ids(token)
        if token_id != number:
            section.problem(
                f"the tokenizer gives {token} the id {token_id}, the config says {number}",
                "take tokenizer and config from the same release",
            )
        _check_pixels(section, kind, getattr(processor, f"{kind}_processor"), config)
    if not (processor.chat_template or processor.tokenizer.chat_template):
        section.problem("the processor has no chat template", "copy chat_template.jinja (or .json) beside the weights")


def _check_pixels(section: Section, kind: MediumKind, processor: Any, config: PretrainedConfig) -> None:
    """Whether pixels of videos or pictures are normalised and cut as the weights were trained with, which no shape would give away."""
    family, vision = family_of(config), config.vision_config
    expected = {
        "image_mean": family.pixel_mean,
        "image_std": family.pixel_std,
        "patch_size": vision.patch_size,
        "merge_size": vision.spatial_merge_size,
        "temporal_patch_size": vision.temporal_patch_size,
    }
    for name, value in expected.items():
        found = getattr(processor, name, None)
        found = tuple(found) if isinstance(found, list) else found
        if found != value:
            section.problem(
                f"the {kind} processor's {name} is {found}, {config.model_type} has {value}",
                "copy video_preprocessor_config.json and preprocessor_config.json of the model's own release beside the weights",
            )
