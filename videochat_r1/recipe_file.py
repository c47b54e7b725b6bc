"""A recipe's values before they have types: a YAML file, those that it extends, and where each value comes from.

`extends: joint.yaml` takes every value of another recipe, which this one's win over: mappings key by key, everything else,
lists too, as a whole. `joint` without an ending names one of the shipped recipes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.options import nearest, read_yaml
from videochat_r1.shipped import ROOT

EXTENDS = "extends"


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A recipe with those that it extends.

    Args:
        path: of the recipe itself.
        values: option -> value, with `PlainScalar`s in it.
        origins: dotted name of every value (`video.fps`; a list is one value) -> name of the file that it stands in.
    """

    path: Path
    values: dict[str, Any]
    origins: dict[str, str]


def shipped_recipes(kind: str) -> dict[str, Path]:
    """Name -> file of the recipes that come with this project.

    Args:
        kind: `grpo`, `sft`, `eval` or `quickstart`.
    """
    folder = ROOT / "configs" / kind
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def find_recipe(name: str | Path, kind: str, beside: Path | None = None) -> Path:
    """The file of a recipe that is named by its path, or as one of the shipped ones.

    Args:
        name: `my/recipe.yaml`, or `joint`.
        kind: see `shipped_recipes`.
        beside: a recipe whose folder the path starts from; None for the working directory.

    Raises:
        ConfigError: there is no such file and no such recipe.
    """
    path = Path(name) if beside is None else beside.parent / name
    if path.suffix or path.exists():
        return path
    shipped = shipped_recipes(kind)
    if str(name) not in shipped:
        raise ConfigError(
            f"no recipe {str(name)!r}: neither a file nor one of the shipped ones{nearest(name, shipped)}"
        )
    return shipped[str(name)]


def read_recipe(name: str | Path, kind: str) -> RecipeFile:
    """A recipe and, below its own values, those of the recipes that it extends.

    Raises:
        ConfigError: a file that cannot be read, or recipes that extend each other in a circle.
    """
    path = find_recipe(name, kind)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    chain: list[Path] = []
    following: Path | None = path
    while following is not None:
        # Not `resolve`, which raises for a chain of links without an end; reading such a file says so.
        if os.path.realpath(following) in map(os.path.realpath, chain):
            raise ConfigError(f"recipes extend each other in a circle: {' -> '.join(map(str, [*chain, following]))}")
        chain.append(following)
        own = read_yaml(following, "a recipe")
        base = own.pop(EXTENDS, None)
        if base is not None and not isinstance(base, str):
            raise ConfigError(f"{following}: extends names one recipe, got {base!r}")
        values = _joined(own, values)
        origins = {**{key: following.name for key in _leaves(own)}, **origins}
        following = None if base is None else find_recipe(str(base), kind, beside=following)
    return RecipeFile(path, values, {key: origins[key] for key in _leaves(values)})


def _joined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, key by key; where both have a value, that of `above`."""
    joined = dict(below)
    for key, value in above.items():
        mine = joined.get(key)
        joined[key] = _joined(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return joined


def _leaves(values: Mapping[str, Any], above: str = "") -> list[str]:
    """Dotted names of all values that are no mappings, and of empty mappings."""
    names: list[str] = []
    for key, value in values.items():
        name = f"{above}{key}"
        names += _leaves(value, f"{name}.") if isinstance(value, Mapping) and value else [name]
    return names
