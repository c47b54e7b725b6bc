"""`--print-config`: the resolved recipe as YAML, and where each value comes from."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from videochat_r1.commands.recipe_help import asks_for_help, recipe_help
from videochat_r1.options import take_config
from videochat_r1.recipe import kind_of, parse_recipe
from videochat_r1.recipe_file import read_recipe
from videochat_r1.training.record import plain

FLAG = "--print-config"
_WIDTH = 60


def asked_to_tell(command: str, purpose: str, sections: dict[str, type], argv: Sequence[str]) -> str | None:
    """The help or the resolved recipe, where the command line asks for one of them; arguments as for `recipe_help`."""
    if asks_for_help(argv):
        return recipe_help(command, purpose, sections, argv)
    return printed_config(list(sections.values()), argv) if FLAG in argv else None


def printed_config(dataclass_types: Sequence[type], argv: Sequence[str]) -> str:
    """The options of all classes, those that recipe and flags set first: YAML that is a recipe itself, with the file, the flag or
    the default behind each value.

    Raises:
        ConfigError: see `parse_recipe`.
    """
    arguments = [flag for flag in argv if flag != FLAG]
    path, flags = take_config(arguments)
    origins = {} if path is None else read_recipe(path, kind_of(dataclass_types)).origins
    for flag in flags:
        if flag.startswith("--"):
            name = flag[2:].partition("=")[0].replace("-", "_")
            origins[name] = "flag"
    ours: list[str] = []
    others: list[str] = []
    for cls, values in zip(dataclass_types, parse_recipe(dataclass_types, arguments), strict=True):
        for option in dataclasses.fields(cls):
            if option.init:
                name, value = option.name, plain(getattr(values, option.name))
                inside = [key for key in origins if key == name or key.startswith(f"{name}.")]
                lines = list(_option(name, value, origins, option))
                (ours if inside else others).extend(lines)
    return "\n".join([*ours, "", "# as TRL, transformers and this project have them", *others])


def _option(name: str, value: Any, origins: dict[str, str], option: dataclasses.Field) -> Iterator[str]:
    if isinstance(value, dict) and value and name not in origins:
        yield f"{name}:"
        for key, item in value.items():
            origin = origins.get(f"{name}.{key}", "default")
            yield from (f"  {line}" for line in _lines(key, item, origin))
        return
    inside = next((origins[key] for key in origins if key.startswith(f"{name}.")), None)
    own = option.default if option.default is not dataclasses.MISSING else None
    yield from _lines(name, value, origins.get(name) or inside or ("default" if value == plain(own) else "computed"))


def _lines(name: str, value: Any, origin: str) -> Iterator[str]:
    first, *rest = yaml.safe_dump({name: value}, sort_keys=False, width=1000).rstrip("\n").split("\n")
    yield f"{first:<{_WIDTH}} # {origin}"
    yield from rest
