"""Recipes: a YAML file plus flag overrides becomes typed arguments.

`--config recipe.yaml --learning_rate 5e-7 --video.fps 1` : flags win over the file; a dotted flag sets one key inside a
nested option, or adds an entry to a list. `NESTED` of a class of arguments declares what stands inside its options; a class of
these with `NAMED_BY` may be given as a name alone, which is for that key. An unknown key is an error that names the nearest
valid one.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from trl import TrlParser

from videochat_r1.datasets.curriculum import Sampling
from videochat_r1.datasets.mixture import Mixture, MixtureEntry
from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import family_named
from videochat_r1.options import as_type, check_keys, nearest, parse_yaml, take_config
from videochat_r1.recipe_file import RecipeValues, is_null, read_recipe
from videochat_r1.shipped import found
from videochat_r1.video.frames import VideoBudget
from videochat_r1.video.probe import durations
from videochat_r1.video.stills import PictureBudget

BudgetT = TypeVar("BudgetT", VideoBudget, PictureBudget)

# Videos opened together when an annotation file leaves their durations out.
_PROBES_AT_ONCE = 8

# Options whose paths in the shipped recipes lead to files that come with this project.
_SHIPPED = ("deepspeed", "model_name_or_path")


@dataclass
class _LoraOptions:
    """The fields of `peft.LoraConfig` that recipes set most; it takes others too."""

    r: int
    lora_alpha: int
    lora_dropout: float


@dataclass
class ModelArguments:
    """Which model is trained, and which of its weights."""

    model_name_or_path: str = field(
        metadata={"help": "Model folder, or hub name, of one of the families in docs/training.md."}
    )
    model_family: str | None = field(
        default=None,
        metadata={"help": "Its family, also package.module:Family; null: the known one of the folder's model_type."},
    )
    attn_implementation: str = field(
        default="sdpa", metadata={"help": "Attention of the vision tower and of prompts that are not shared."}
    )
    freeze_vision_tower: bool = field(default=False, metadata={"help": "Train the language model only."})
    lora: dict | str | None = field(
        default=None,
        metadata={"help": "peft.LoraConfig fields, e.g. {r: 64, lora_alpha: 128}; null trains all weights."},
    )
    merge_lora: bool = field(default=False, metadata={"help": "Also save the final weights with the adapter merged."})

    NESTED: ClassVar[Mapping[str, Any]] = {"lora": _LoraOptions | None}

    def __post_init__(self) -> None:
        # Before anything of the folder is read: one from outside has to be known by then.
        if self.model_family is not None:
            family_named(self.model_family)


@dataclass
class DataArguments:
    """Which samples are trained on, how their videos and pictures are read and how they are asked."""

    mixture: list[dict] | str | None = field(
        default_factory=list,
        metadata={
            "help": "Corpora: dataset, annotations, videos, task, weight, max_samples, queries_per_video, questions_together."
        },
    )
    sampling: dict | str | None = field(
        default=None,
        metadata={
            "help": "Order within an epoch: {curriculum: easy_to_hard, by: COLUMN} by a number in the manifests' extra; null: shuffled."
        },
    )
    data_root: str = field(default="data", metadata={"help": "Folder that the mixture's paths are relative to."})
    video: dict | str | None = field(
        default=None, metadata={"help": "fps, frame and pixel limits, decoder and its time limit."}
    )
    picture: dict | str | None = field(
        default=None, metadata={"help": "min_pixels and max_pixels of each picture; null for the model's own."}
    )
    thinking: bool = field(default=False, metadata={"help": "Ask for <think>...</think> before the answer."})
    prompt_layout: str = field(default="video_first", metadata={"help": "video_first or text_first."})
    prompts: dict | str | None = field(default=None, metadata={"help": "Task -> prompt template replacing its own."})
    box_format: str = field(
        default="normalised",
        metadata={"help": "Boxes that the model is asked for: normalised, pixels, thousandths, or its own (native)."},
    )
    max_prompt_length: int | None = field(
        default=8192,
        metadata={"help": "Longer prompts get a smaller video or pictures; text and placeholders are never cut."},
    )
    max_bad_video_share: float = field(
        default=0.05,
        metadata={"help": "The run stops when more than this share of videos or pictures could not be read."},
    )

    NESTED: ClassVar[Mapping[str, Any]] = {
        "video": VideoBudget | None,
        "picture": PictureBudget | None,
        "prompts": dict[str, str] | None,
        "mixture": list[MixtureEntry] | None,
        "sampling": Sampling | None,
    }

    def budget(self) -> VideoBudget:
        """How videos are sampled and sized.

        Raises:
            ConfigError: an unknown key under `video`.
        """
        return _budget(VideoBudget, self.video, "video")

    def picture_budget(self) -> PictureBudget:
        """How large pictures are shown.

        Raises:
            ConfigError: an unknown key under `picture`.
        """
        return _budget(PictureBudget, self.picture, "picture")

    @property
    def questions_together(self) -> int:
        """The largest of the mixture's entries.

        Raises:
            ConfigError: an entry that cannot be.
        """
        return max((MixtureEntry.from_dict(entry).questions_together for entry in self.mixture or ()), default=1)  # type: ignore[arg-type]

    def load_mixture(self, seed: int) -> Mixture:
        """The samples of all corpora, in an order that depends on `seed` alone.

        Raises:
            ConfigError: an empty mixture or an unknown key in an entry or under `sampling`.
            DataError: an annotation file that cannot be read, or samples without the column of `sampling`.
        """
        if not self.mixture:
            raise ConfigError("the recipe lists no data: add at least one entry under `mixture`")
        root = Path(self.data_root)
        entries = [MixtureEntry.from_dict(entry) for entry in self.mixture]  # type: ignore[arg-type]
        probe = partial(durations, workers=_PROBES_AT_ONCE, timeout_seconds=self.budget().timeout_seconds)
        return Mixture(entries, seed=seed, root=root, sampling=Sampling.of(self.sampling), probe_durations=probe)


def _budget(cls: type[BudgetT], values: Any, where: str) -> BudgetT:
    options = dict(values or {})
    check_keys(options, [each.name for each in dataclasses.fields(cls)], where=where)  # type: ignore[arg-type]
    return cls(**options)


def parse_recipe(dataclass_types: Sequence[type], arguments: Sequence[str]) -> tuple[Any, ...]:
    """One instance per dataclass, from `--config FILE` and flag overrides.

    Args:
        dataclass_types: classes of arguments; `NESTED` declares what stands inside their options, `RECIPES` of one of them which
            shipped recipes are theirs.
        arguments: the command line.

    Raises:
        ConfigError: unreadable file, unknown key (the nearest valid one is named), or a value of the wrong type.
    """
    return resolve(dataclass_types, arguments)[0]


def resolve(dataclass_types: Sequence[type], arguments: Sequence[str]) -> tuple[tuple[Any, ...], RecipeValues]:
    """As `parse_recipe`, and what was given with where it comes from."""
    declared: dict[str, Any] = {}
    for cls in dataclass_types:
        types = {**get_type_hints(cls), **getattr(cls, "NESTED", {})}
        declared |= {each.name: types[each.name] for each in dataclasses.fields(cls) if each.init}
    named = {
        key: each.NAMED_BY for key, kind in declared.items() for each in _members(kind) if hasattr(each, "NAMED_BY")
    }
    path, flags = take_config(arguments)
    recipe = RecipeValues(named=named) if path is None else read_recipe(path, kind_of(dataclass_types), named)
    check_keys(recipe.values, declared, where=path or "the recipe")
    flags = _take_flags(recipe, flags, declared)
    config = {key: _as_declared(key, value, declared[key]) for key, value in recipe.values.items()}
    parser = _RecipeParser(dataclass_types)
    parser.set_defaults_with_config(**config)
    try:
        return tuple(parser.parse_args_into_dataclasses(args=flags)), recipe
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(str(error)) from error


def kind_of(dataclass_types: Sequence[type]) -> str:
    """Which of the shipped recipes are meant where one is named: the `RECIPES` of one of the classes."""
    return next((cls.RECIPES for cls in dataclass_types if hasattr(cls, "RECIPES")), "grpo")


class _RecipeParser(TrlParser):
    """TRL's, whose own way of refusing a value is hundreds of lines of usage before the reason."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _take_flags(recipe: RecipeValues, flags: list[str], declared: Mapping[str, Any]) -> list[str]:
    """Put the flags that argparse cannot read into the recipe, where they win; returns the others.

    These are keys inside an option (`--video.fps 1`), nested options as a whole (`--rewards '[{"name": "iou"}]'`), several
    trackers (`--report_to wandb tensorboard`) and `none`.
    """
    rest: list[str] = []
    while flags:
        flag = flags.pop(0)
        if not flag.startswith("--"):
            rest.append(flag)
            continue
        name, equals, text = flag[2:].partition("=")
        outer, *inner = name.split(".")
        outer = outer.replace("-", "_")
        if outer not in declared and outer.removeprefix("no_") not in declared:
            raise ConfigError(f"unknown flag {flag!r}{nearest(outer, declared)}")
        following = flags[0] if flags and not equals else text
        if inner or _holds_others(declared.get(outer)):
            if not equals:
                text = flags.pop(0) if flags else _needs_value(flag)
            if "" in inner:
                raise ConfigError(f"{flag}: a key is missing after a dot")
            recipe.put([outer, *inner], parse_yaml(text, f"the value of {flag}"), f"--{name}")
        elif outer == "report_to" and not equals:
            trackers = list(itertools.takewhile(lambda each: not each.startswith("--"), flags))
            recipe.put([outer], trackers or _needs_value(flag), flag)
            flags = flags[len(trackers) :]
        elif is_null(following) and _null_is_meant(declared.get(outer)):
            recipe.put([outer], None, flag)
            flags = flags if equals else flags[1:]
        else:
            rest.append(flag)
            recipe.note(outer if outer in declared else outer.removeprefix("no_"), None)
    return rest


def _needs_value(flag: str) -> NoReturn:
    raise ConfigError(f"{flag} needs a value")


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union; a type that is none alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _holds_others(annotation: Any) -> bool:
    """Whether an option may be a mapping, or a list of some."""
    kinds = [kind for each in _members(annotation) for kind in (each, *get_args(each))]
    return any(dict in (kind, get_origin(kind)) or dataclasses.is_dataclass(kind) for kind in kinds)


def _null_is_meant(annotation: Any) -> bool:
    """Whether `none` stands for no value, and is not a word that the option knows."""
    members = _members(annotation)
    return NoneType in members and (str not in members or _holds_others(annotation))


def _as_declared(key: str, value: Any, annotation: Any) -> Any:
    if is_null(value) and _null_is_meant(annotation):
        return None
    typed = as_type(value, annotation, key)
    return found(typed) if key in _SHIPPED and isinstance(typed, str) else typed
