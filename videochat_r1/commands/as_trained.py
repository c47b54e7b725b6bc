"""What a model's training showed it and asked it, as defaults of a command's arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videochat_r1.options import read_yaml, untyped
from videochat_r1.provenance import RESOLVED_CONFIG

_VIDEO = {
    **{name: name for name in ("fps", "min_frames", "max_frames", "total_pixels", "min_pixels", "max_pixels")},
    "backend": "video_backend",
    "timeout_seconds": "video_timeout",
}
_PICTURE = {"min_pixels": "picture_min_pixels", "max_pixels": "picture_max_pixels"}
_DATA = {name: name for name in ("thinking", "prompt_layout", "max_prompt_length", "prompts", "box_format")}


def as_trained(folder: Path) -> dict[str, Any]:
    """Argument -> its value in the training that made this model or adapter; empty where the folder has no record of one.

    `prompts` (task -> template) and `box_format` are among them, which no argument gives.

    Raises:
        ConfigError: the record cannot be read.
    """
    places = [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]
    record = next((place / RESOLVED_CONFIG for place in places if (place / RESOLVED_CONFIG).is_file()), None)
    if record is None:
        return {}
    config = untyped(read_yaml(record, "the recipe of a run"))
    data = _mapping(config.get("data"))
    found = _renamed(data, _DATA) | _renamed(_mapping(config.get("model")), {"model_family": "model_family"})
    return found | _renamed(_mapping(data.get("video")), _VIDEO) | _renamed(_mapping(data.get("picture")), _PICTURE)


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {argument: values[name] for name, argument in names.items() if values.get(name) is not None}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
