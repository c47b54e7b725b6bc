"""Recipes: a YAML file plus flag overrides becomes typed arguments.

`--config recipe.yaml --learning_rate 5e-7 --video.fps 1` : flags win over the file; a dotted flag sets one key inside a
nested option. An unknown key is an error that names the nearest valid one.
"""

import dataclasses
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from videochat_r1.datasets.mixture import Mixture, MixtureEntry
from videochat_r1.errors import ConfigError
from videochat_r1.video.frames import VideoBudget
from videochat_r1.video.probe import durations

# Videos opened together when an annotation file leaves their durations out.
_PROBES_AT_ONCE = 8


@dataclass
class ModelArguments:
    """Which model is trained, and which of its weights."""

    model_name_or_path: str = field(metadata={"help": "Model folder, or hub name, of a Qwen2.5-VL or Qwen2-VL."})
    attn_implementation: str = field(
        default="sdpa", metadata={"help": "Attention of the vision tower and of prompts that are not shared."}
    )
    freeze_vision_tower: bool = field(default=False, metadata={"help": "Train the language model only."})
    lora: dict | str | None = field(
        default=None,
        metadata={"help": "peft.LoraConfig fields, e.g. {r: 64, lora_alpha: 128}; null trains all weights."},
    )
    merge_lora: bool = field(default=False, metadata={"help": "Also save the final weights with the adapter merged."})

    def __post_init__(self) -> None:
        self.lora = _mapping(self.lora, "lora")


@dataclass
class DataArguments:
    """Which samples are trained on, how their videos are read and how they are asked."""

    mixture: list[dict] | str | None = field(
        default_factory=list,
        metadata={"help": "Corpora: dataset, annotations, videos, task, weight, max_samples, queries_per_video."},
    )
    data_root: str = field(default="data", metadata={"help": "Folder that the mixture's paths are relative to."})
    video: dict | str | None = field(
        default=None, metadata={"help": "fps, frame and pixel limits, decoder and its time limit."}
    )
    thinking: bool = field(default=False, metadata={"help": "Ask for <think>...</think> before the answer."})
    prompt_layout: str = field(default="video_first", metadata={"help": "video_first or text_first."})
    prompts: dict | str | None = field(default=None, metadata={"help": "Task -> prompt template replacing its own."})
    max_prompt_length: int | None = field(
        default=8192,
        metadata={"help": "Longer prompts get a smaller video; text and placeholders are never cut."},
    )
    max_bad_video_share: float = field(
        default=0.05, metadata={"help": "The run stops when more than this share of videos could not be read."}
    )

    def __post_init__(self) -> None:
        self.video = _mapping(self.video, "video")
        self.prompts = _mapping(self.prompts, "prompts")
        if isinstance(self.mixture, str):
            self.mixture = json_option(self.mixture, "mixture")

    def budget(self) -> VideoBudget:
        """How videos are sampled and sized.

        Raises:
            ConfigError: an unknown key under `video`.
        """
        options = dict(self.video or {})  # type: ignore[arg-type]
        check_keys(options, [f.name for f in dataclasses.fields(VideoBudget)], where="video")
        return VideoBudget(**options)

    def load_mixture(self, seed: int) -> Mixture:
        """The samples of all corpora, in an order that depends on `seed` alone.

        Raises:
            ConfigError: an empty mixture or an unknown key in an entry.
            DataError: an annotation file that cannot be read.
        """
        if not self.mixture:
            raise ConfigError("the recipe lists no data: add at least one entry under `mixture`")
        root = Path(self.data_root)
        entries = [MixtureEntry.from_dict(entry) for entry in self.mixture]  # type: ignore[arg-type]
        probe = partial(durations, workers=_PROBES_AT_ONCE, timeout_seconds=self.budget().timeout_seconds)
        return Mixture(entries, seed=seed, root=root, probe_durations=probe)


def parse_recipe(dataclass_types: Sequence[type], arguments: Sequence[str]) -> tuple[Any, ...]:
    """One instance per dataclass, from `--config FILE` and flag overrides.

    Raises:
        ConfigError: unreadable file, unknown key (the nearest valid one is named), or a value of the wrong type.
    """
    config, flags = _read_config(list(arguments))
    valid = [f.name for cls in dataclass_types for f in dataclasses.fields(cls) if f.init]
    flags = _apply_nested_flags(config, flags, valid)
    flags = _apply_trackers(config, flags)
    check_keys(config, valid, where=str(config.pop("__file__", "the recipe")))
    unknown = [
        flag for flag in flags if flag.startswith("--") and flag[2:].split("=")[0].replace("-", "_") not in valid
    ]
    for flag in unknown:
        name = flag[2:].split("=")[0]
        if not (name.startswith("no_") and name[3:] in valid):
            raise ConfigError(f"unknown flag {flag!r}{_nearest(name, valid)}")
    parser = _RecipeParser(dataclass_types)
    parser.set_defaults_with_config(**config)
    try:
        return tuple(parser.parse_args_into_dataclasses(args=flags))
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(error)) from error


class _RecipeParser(TrlParser):
    """TRL's, whose own way of refusing a value is hundreds of lines of usage before the reason."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def check_keys(given: Any, valid: Sequence[str], *, where: str) -> None:
    """Refuse keys that nobody reads.

    Raises:
        ConfigError: naming the key, the place and the nearest valid key.
    """
    for key in given:
        if key not in valid:
            raise ConfigError(f"unknown key {key!r} in {where}{_nearest(str(key), valid)}")


def _read_config(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Values of the `--config` file and the remaining flags."""
    if "--config" not in arguments:
        return {}, arguments
    at = arguments.index("--config")
    if at + 1 == len(arguments):
        raise ConfigError("--config needs a file")
    path = Path(arguments[at + 1])
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} must hold a mapping of option names to values")
    # YAML 1.1 reads 1e-6 as text; argparse would have converted it, defaults are not converted.
    config = {key: _number(value) for key, value in config.items()}
    config["__file__"] = str(path)
    return config, arguments[:at] + arguments[at + 2 :]


def _apply_nested_flags(config: dict[str, Any], flags: list[str], valid: Sequence[str]) -> list[str]:
    """Move `--video.fps 1` into config["video"]["fps"]; returns the other flags."""
    rest: list[str] = []
    position = 0
    while position < len(flags):
        flag = flags[position]
        position += 1
        if not flag.startswith("--") or "." not in flag.split("=")[0]:
            rest.append(flag)
            continue
        name, separator, text = flag[2:].partition("=")
        if not separator:
            if position == len(flags):
                raise ConfigError(f"{flag} needs a value")
            text = flags[position]
            position += 1
        outer, *inner = name.split(".")
        if outer not in valid:
            raise ConfigError(f"unknown flag {flag!r}{_nearest(outer, valid)}")
        config[outer] = _with_nested(config.get(outer), inner, _number(yaml.safe_load(text)), flag)
    return rest


def _apply_trackers(config: dict[str, Any], flags: list[str]) -> list[str]:
    """Move `--report_to wandb tensorboard` into the config, as transformers' own flag takes one name only."""
    if "--report_to" not in flags:
        return flags
    at = flags.index("--report_to") + 1
    end = next((index for index in range(at, len(flags)) if flags[index].startswith("--")), len(flags))
    config["report_to"] = flags[at:end]
    return flags[: at - 1] + flags[end:]


def _with_nested(value: Any, keys: list[str], leaf: Any, flag: str) -> Any:
    """`value` with the entry at `keys` (mapping keys or list positions) set to `leaf`."""
    if not keys:
        return leaf
    if isinstance(value, list):
        if not keys[0].isdigit() or int(keys[0]) >= len(value):
            raise ConfigError(f"{flag}: {keys[0]!r} is not a position in a list of {len(value)}")
        index = int(keys[0])
        return [*value[:index], _with_nested(value[index], keys[1:], leaf, flag), *value[index + 1 :]]
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{flag}: {value!r} has no keys")
    return {**(value or {}), keys[0]: _with_nested((value or {}).get(keys[0]), keys[1:], leaf, flag)}


def _number(value: Any) -> Any:
    """Text such as 1e-6 as the number it means; everything else as it is."""
    if isinstance(value, str):
        try:
            return float(value) if value.strip().lower().lstrip("+-") not in ("nan", "inf", "infinity") else value
        except ValueError:
            return value
    return value


def _mapping(value: Any, name: str) -> dict[str, Any] | None:
    """A nested option given as a mapping or as its JSON text."""
    if isinstance(value, str):
        value = json_option(value, name)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{name} must be a mapping, got {value!r}")
    return value


def json_option(text: str, name: str) -> Any:
    """The value of an option that was given as JSON text.

    Raises:
        ConfigError: it is not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name} on the command line must be JSON, got {text!r}: {error}") from error


def _nearest(name: str, valid: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(valid)[:20])}, ..."
