"""Options as people write them: YAML files, values by the type that an option declares, and the nearest name to a wrong one.

YAML 1.1, which PyYAML reads, takes `1e-6` for text, `001` for the number 1 and `no` for false. What a plain value means
depends here on the option it is given to: each keeps its text until the option's type is known.
"""

import dataclasses
import difflib
import enum
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from videochat_r1.errors import ConfigError
from videochat_r1.text import read_text, whole_value

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class PlainScalar(str):
    """A value written without quotes: its text, and in `value` what YAML takes it for (a number, a truth value)."""

    value: Any


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that keeps the text of plain numbers and truth values, and refuses a key given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(str(key.value))
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}


def _plain_scalar(loader: Any, node: Any) -> PlainScalar:
    kind = node.tag.rpartition(":")[2]
    scalar = PlainScalar(node.value)
    # No option takes a date: 2025-11-26 is a name.
    scalar.value = node.value if kind == "timestamp" else getattr(loader, f"construct_yaml_{kind}")(node)
    if kind == "int" and (number := _number(node.value)) is not None:
        scalar.value = number  # 0042 is forty-two, and not an octal number
    return scalar


for _kind in ("int", "float", "bool", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _plain_scalar)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text without half characters, with `PlainScalar`s in it; hand it to `as_type`.

    Raises:
        ConfigError: naming `where` it stood, and the line.
    """
    try:
        return whole_value(yaml.load(text, Loader=_Loader))
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigError(f"{where} is not valid YAML: {error.problem or error.context}{place}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        # A value that its own tag does not fit (`!!timestamp x`) is an error of any of these kinds.
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """The mapping of a YAML file, with `PlainScalar`s in it.

    Args:
        path: the file.
        what: was expected, for messages: "a recipe".

    Raises:
        ConfigError: the file cannot be read, or holds no mapping.
    """
    values = parse_yaml(read_text(Path(path), what, ConfigError, empty=True), str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of option names to values")
    return values


def take_config(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The file that `--config` names, and the other flags.

    Raises:
        ConfigError: it names none, or several.
    """
    paths: list[str] = []
    flags: list[str] = []
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        name, equals, value = flag.partition("=")
        if name != "--config":
            flags.append(flag)
            continue
        if not equals and not rest:
            raise ConfigError("--config needs a file")
        paths.append(value if equals else rest.pop(0))
    if len(paths) > 1:
        raise ConfigError(f"--config is given {len(paths)} times ({', '.join(paths)}); a run has one recipe")
    return (paths[0] if paths else None), flags


def as_type(value: Any, annotation: Any, where: str) -> Any:
    """`value` as an option of this type takes it, however it was written: `"8"` and `1e3` are whole numbers, `1e-6` is a
    number, `001` given to a text is that text.

    Args:
        value: from YAML, JSON or a flag.
        annotation: a type as annotated in a dataclass; a dataclass stands for the mapping of its fields (unknown keys
            stay), as does a mapping of names to types.
        where: names the option in messages.

    Raises:
        ConfigError: the value cannot be meant as one of this type.
    """
    if value is None:
        if _takes_none(annotation):
            return None
        raise ConfigError(f"{where} is null; expected {described(annotation)}")
    converted = _converted(value, annotation, where)
    if converted is _UNFIT:
        raise ConfigError(f"{where} is {untyped(value)!r}; expected {described(annotation)}")
    return converted


def untyped(value: Any) -> Any:
    """`value` with every plain scalar as what it most likely is: a number or truth value, else its text."""
    if isinstance(value, PlainScalar):
        return value.value
    if isinstance(value, dict):
        return {key: untyped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [untyped(item) for item in value]
    if type(value) is str and (number := _exponent(value)) is not None:
        return number
    return value


def nearest(name: Any, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """`; did you mean 'learning_rate'?`, or the names to choose from where none is near.

    Args:
        name: as it was written.
        known: the names.
        aliases: other spellings -> the name that each stands for.
    """
    names = {**{each: each for each in known}, **(aliases or {})}
    close = difflib.get_close_matches(str(name).lower().replace("-", "_"), names, n=1)
    if close:
        return f"; did you mean {names[close[0]]!r}?"
    listed = sorted(set(names.values()))
    return f"; known: {', '.join(listed[:20])}{', ...' if len(listed) > 20 else ''}"


def check_keys(given: Iterable[Any], known: Iterable[str], *, where: str) -> None:
    """Refuse keys that nobody reads.

    Raises:
        ConfigError: naming the key, the place and the nearest valid key.
    """
    names = list(known)
    for key in given:
        if key not in names:
            raise ConfigError(f"unknown key {key!r} in {where}{nearest(key, names)}")


def fields_of(given: Any, cls: type, where: str, expected: str = "a mapping, or null") -> dict[str, Any]:
    """The fields of a dataclass that a mapping gives, each as its type takes it.

    Args:
        given: from a recipe.
        cls: the dataclass.
        where: names the mapping in messages.
        expected: what the mapping should be, for messages.

    Raises:
        ConfigError: no mapping, an unknown key (naming the nearest), or a value of another type.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is {given!r}; expected {expected}")
    check_keys(given, [each.name for each in dataclasses.fields(cls)], where=where)
    fields: dict[str, Any] = as_type(dict(given), cls, where)
    return fields


_UNFIT = object()


def _converted(value: Any, annotation: Any, where: str) -> Any:
    """`value` as `annotation`, or `_UNFIT`."""
    if annotation is Any:
        return untyped(value)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, [each for each in arguments if each is not type(None)], where)
    if origin is Literal:
        return next((each for each in arguments if each == value or each == untyped(value)), _UNFIT)
    if dataclasses.is_dataclass(annotation) or isinstance(annotation, Mapping):
        return _fields(value, annotation, where)
    if origin is dict or annotation is dict:
        item = arguments[1] if arguments else Any
        if not isinstance(value, Mapping):
            return _UNFIT
        return {str(key): as_type(each, item, f"{where}.{key}") for key, each in value.items()}
    if origin in (list, tuple) or annotation in (list, tuple):
        item = arguments[0] if arguments else Any
        if not isinstance(value, list | tuple):
            return _UNFIT
        return [as_type(each, item, f"{where}.{index}") for index, each in enumerate(value)]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return str(value) if isinstance(value, str) else _UNFIT
    if annotation in _SCALARS:
        return _SCALARS[annotation](value)
    return untyped(value)


def _one_of(value: Any, members: list[Any], where: str) -> Any:
    """The first member that the value fits, text last: everything can be text."""
    plain = untyped(value)
    members = sorted(members, key=lambda each: (each is str, each is not type(plain)))
    for member in members:
        fitting = _converted(value, member, where)
        if fitting is not _UNFIT:
            return fitting
    return _UNFIT


def _fields(value: Any, annotation: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        return _UNFIT
    known = annotation if isinstance(annotation, Mapping) else typing.get_type_hints(annotation)
    return {
        str(key): as_type(each, known[str(key)] if key in known else Any, f"{where}.{key}")
        for key, each in value.items()
    }


def _truth(value: Any) -> Any:
    value = untyped(value)
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower(), _UNFIT)
    return bool(value) if isinstance(value, int) and value in (0, 1) else _UNFIT


def _real(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, PlainScalar):
        number = _number(value)
        return _UNFIT if number is None else float(number)
    value = untyped(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _UNFIT


def _whole(value: Any) -> Any:
    number = _real(value)
    return int(number) if number is not _UNFIT and math.isfinite(number) and number == int(number) else _UNFIT


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _UNFIT


_SCALARS = {bool: _truth, int: _whole, float: _real, str: _text}


def _number(text: str) -> int | float | None:
    """The finite number that a text spells in decimal digits; None where it spells none."""
    try:
        return int(text, 10)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _exponent(text: str) -> float | None:
    """The number that YAML 1.1 takes for text, as it wants a dot and a sign: `1e-6`."""
    mantissa, mark, exponent = text.lower().partition("e")
    return float(text) if mark and _number(mantissa) is not None and exponent.lstrip("+-").isdecimal() else None


def _takes_none(annotation: Any) -> bool:
    return annotation is Any or annotation is type(None) or type(None) in typing.get_args(annotation)


def described(annotation: Any) -> str:
    """What an option expects, in words."""
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if annotation in names:
        return names[annotation]
    members = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return " or ".join(map(str, members))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys("null" if each is type(None) else described(each) for each in members))
    if origin is list or annotation is list:
        return "a list"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(str(each.value) for each in annotation)
    alone = getattr(annotation, "NAMED_BY", None)
    return "a mapping" if alone is None else f"a mapping or its {alone} alone"
