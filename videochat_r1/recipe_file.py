"""A recipe's values before they have types: a YAML file, those that it extends, flags, and where each value comes from.

`extends: joint.yaml` takes every value of another recipe, which this one's win over: mappings key by key, everything else,
lists too, as a whole. `joint` without an ending names one of the shipped recipes.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.options import nearest, parse_yaml, read_yaml, untyped
from videochat_r1.shipped import ROOT

EXTENDS = "extends"
NULLS = ("none", "null")
"""Words that stand for no value."""
_FLAG = "flag"


@dataclass(frozen=True, slots=True)
class RecipeValues:
    """What recipes and flags give.

    Args:
        values: option -> value, with `PlainScalar`s in it.
        origins: dotted name of every value that holds no others (`video.fps`, `mixture.0.weight`) -> name of the file that it
            stands in, or `flag`.
        named: option that may be a name alone -> the key of its mapping that the name is for.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)

    def put(self, keys: Sequence[str], value: Any, flag: str) -> None:
        """Set a value as a flag does.

        Args:
            keys: the option, then mapping keys or list positions inside.
            value: from YAML.
            flag: for messages.

        Raises:
            ConfigError: there are no keys at that place.
        """
        option, *inner = keys
        if not inner:
            value = _spelled_out({option: value}, self.named)[option]
        self.values[option] = _with_nested(self.values.get(option), inner, value, flag)
        self.note(".".join(keys), value)

    def note(self, name: str, value: Any) -> None:
        """That a flag sets what has this dotted name."""
        for key in [key for key in self.origins if _is_inside(key, name) or _is_inside(name, key)]:
            del self.origins[key]
        self.origins.update(dict.fromkeys(_leaves(value, name), _FLAG))

    def origin(self, name: str) -> str | None:
        """Where the value of a dotted name comes from, its parts each from one of several places; None where nobody gives it."""
        found = [origin for key, origin in self.origins.items() if _is_inside(key, name)]
        found = found or [origin for key, origin in self.origins.items() if _is_inside(name, key)]
        return ", ".join(dict.fromkeys(found)) or None


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


def read_recipe(name: str | Path, kind: str, named: Mapping[str, str] | None = None) -> RecipeValues:
    """A recipe and, below its own values, those of the recipes that it extends.

    Args:
        name: see `find_recipe`.
        kind: see `find_recipe`.
        named: see `RecipeValues`; such names become mappings.

    Raises:
        ConfigError: a file that cannot be read, or recipes that extend each other in a circle.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    chain: list[Path] = []
    following: Path | None = find_recipe(name, kind)
    while following is not None:
        # Not `resolve`, which raises for a chain of links without an end; reading such a file says so.
        if os.path.realpath(following) in map(os.path.realpath, chain):
            raise ConfigError(f"recipes extend each other in a circle: {' -> '.join(map(str, [*chain, following]))}")
        chain.append(following)
        own = read_yaml(following, "a recipe")
        base = own.pop(EXTENDS, None)
        if base is not None and not isinstance(base, str):
            raise ConfigError(f"{following}: extends names one recipe, got {base!r}")
        own = _spelled_out(own, named or {})
        values = _joined(own, values)
        origins = {**dict.fromkeys(_all_leaves(own), following.name), **origins}
        following = None if base is None else find_recipe(str(base), kind, beside=following)
    return RecipeValues(values, {key: origins[key] for key in _all_leaves(values)}, named or {})


def is_null(value: Any) -> bool:
    """Whether a value is one of the words for none, or none."""
    return value is None or (isinstance(value, str) and value.lower() in NULLS)


def _spelled_out(values: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """The values with mappings in place of names."""
    return {
        key: {named[key]: value} if key in named and isinstance(value, str) and not is_null(value) else value
        for key, value in values.items()
    }


def _joined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, key by key; where both have a value, that of `above`."""
    joined = dict(below)
    for key, value in above.items():
        mine = joined.get(key)
        joined[key] = _joined(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return joined


def _with_nested(value: Any, keys: list[str], leaf: Any, flag: str) -> Any:
    """`value` with the entry at `keys` (mapping keys or list positions) set to `leaf`."""
    if not keys:
        return leaf
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = parse_yaml(value, "the value before")
    if is_null(value):
        value = [] if keys[0] == "0" else {}  # the first entry of a list that the recipe leaves out
    if isinstance(value, list):
        if not keys[0].isdecimal() or int(keys[0]) > len(value):
            raise ConfigError(
                f"{flag}: {keys[0]!r} is not a position in a list of {len(value)}; {len(value)} would add one at its end"
            )
        index = int(keys[0])
        one = value[index] if index < len(value) else None
        return [*value[:index], _with_nested(one, keys[1:], leaf, flag), *value[index + 1 :]]
    if not isinstance(value, dict):
        whole = json.dumps(reduce(lambda inside, key: {key: inside}, reversed(keys), untyped(leaf)))
        option = flag.removesuffix("." + ".".join(keys))
        raise ConfigError(
            f"{flag}: {option} is {value!r}, which has no keys here; give it as a mapping of all its keys, {option} '{whole}'"
        )
    return {**value, keys[0]: _with_nested(value.get(keys[0]), keys[1:], leaf, flag)}


def _all_leaves(values: Mapping[str, Any]) -> list[str]:
    return [leaf for key, value in values.items() for leaf in _leaves(value, key)]


def _leaves(value: Any, name: str) -> list[str]:
    """Dotted names of all values inside that hold no others; the value's own where there are none."""
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping | list):
        inside = value.items() if isinstance(value, Mapping) else enumerate(value)
    return [leaf for key, item in inside for leaf in _leaves(item, f"{name}.{key}")] or [name]


def _is_inside(name: str, outer: str) -> bool:
    """Whether one dotted name is the other, or of something in it."""
    return f"{name}.".startswith(f"{outer}.")
