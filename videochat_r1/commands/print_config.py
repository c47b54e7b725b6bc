"""`--print-config`: the resolved recipe as YAML, and where each value comes from."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from videochat_r1.commands.recipe_help import asks_for_help, recipe_help
from videochat_r1.recipe import resolve
from videochat_r1.recipe_file import RecipeValues
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
    resolved, recipe = resolve(dataclass_types, arguments)
    ours: list[str] = []
    others: list[str] = []
    for cls, values in zip(dataclass_types, resolved, strict=True):
        for option in dataclasses.fields(cls):
            if option.init:
                value = plain(getattr(values, option.name))
                own = option.default if option.default is not dataclasses.MISSING else None
                lines = _lines(
                    option.name, option.name, value, recipe, "default" if value == plain(own) else "computed"
                )
                (others if recipe.origin(option.name) is None else ours).extend(lines)
    return "\n".join([*ours, "", "# as TRL, transformers and this project have them", *others])


def _lines(key: str, name: str, value: Any, recipe: RecipeValues, otherwise: str) -> Iterator[str]:
    """A value under its key, those in a mapping each by itself.

    Args:
        key: in the mapping around it.
        name: dotted.
        value: as YAML's basic types.
        recipe: what was given.
        otherwise: where the value comes from if nobody has given it.
    """
    if isinstance(value, dict) and value:
        yield f"{key}:"
        for inner, item in value.items():
            yield from (f"  {line}" for line in _lines(inner, f"{name}.{inner}", item, recipe, "default"))
        return
    first, *rest = yaml.safe_dump({key: value}, sort_keys=False, width=1000).rstrip("\n").split("\n")
    yield f"{first:<{_WIDTH}} # {recipe.origin(name) or otherwise}"
    yield from rest
