"""`videochat-r1 grpo --help` and `sft --help`: the options of a recipe, this project's first."""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_type_hints

from videochat_r1.options import described

_WIDTH = 110
_ASKED = ("-h", "--help")


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether a command line asks what the command takes."""
    return any(flag in _ASKED for flag in argv)


def recipe_help(command: str, purpose: str, sections: dict[str, type], argv: Sequence[str]) -> str:
    """The text of `--help`; with `--help all` in `argv`, the options of the libraries below too.

    Args:
        command: `grpo` or `sft`.
        purpose: one line.
        sections: title -> class of arguments, whose base classes are the libraries'.
        argv: the command line.
    """
    lines = [
        f"usage: videochat-r1 {command} --config RECIPE.yaml [--OPTION VALUE ...]",
        "",
        purpose,
        "",
        "Every option may stand in the recipe or follow as a flag, which wins: --learning_rate 5e-7; --video.fps 1 sets a key",
        f"inside an option, --mixture.0.max_samples 500 one of a list's entry. configs/{command}/ holds recipes,",
        "docs/training.md says how they are launched on several GPUs.",
    ]
    every = "all" in argv
    for title, cls in sections.items():
        lines += ["", f"{title}:", *_options(cls, every=every)]
    if not every:
        bases = " and ".join(
            base.__name__ for cls in sections.values() for base in cls.__mro__[1:2] if base is not object
        )
        lines += ["", f"and every option of {bases}: videochat-r1 {command} --help all"]
    return "\n".join(lines)


def _options(cls: type, *, every: bool) -> Iterator[str]:
    hints = {**get_type_hints(cls), **getattr(cls, "NESTED", {})}
    own = {name for name in vars(cls).get("__annotations__", {})}
    for each in dataclasses.fields(cls):
        if each.init and (every or each.name in own):
            yield f"  --{each.name}  {described(hints[each.name])}{_default(each)}"
            text = str(each.metadata.get("help", ""))
            yield from textwrap.wrap(text, _WIDTH, initial_indent="      ", subsequent_indent="      ")
            if keys := _keys_inside(hints[each.name]):
                inside = f"Keys: {', '.join(keys)}."
                yield from textwrap.wrap(inside, _WIDTH, initial_indent="      ", subsequent_indent="      ")


def _default(option: dataclasses.Field) -> str:
    if option.default is dataclasses.MISSING or option.default is None:
        return ""
    value = getattr(option.default, "value", option.default)
    return f" (default {str(value).lower() if isinstance(value, bool) else value})"


def _keys_inside(annotation: Any) -> list[str]:
    """Field names of the class that an option's mapping, or each entry of its list, is made into."""
    if dataclasses.is_dataclass(annotation):
        return [each.name for each in dataclasses.fields(annotation)]
    return [key for each in get_args(annotation) for key in _keys_inside(each)]
