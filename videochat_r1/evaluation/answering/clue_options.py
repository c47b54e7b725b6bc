"""`ClueOptions` from the arguments of a command."""

from collections.abc import Mapping
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.second_look.options import ClueOptions

CLUE_FLAGS = {
    "resolution_boost": "resolution_boost",
    "fps_boost": "fps_boost",
    "clue_tokens": "max_tokens",
    "clue_time": "time",
    "clue_rounds": "rounds",
    "clue_padding": "padding",
}
"""The command's argument -> the field of `ClueOptions`."""


def clue_options(values: Mapping[str, Any]) -> ClueOptions | None:
    """From the command's arguments; None without `clue_perception`.

    Raises:
        ConfigError: a value out of range, or an option of a second look that there is none of.
    """
    given = {name: values[flag] for flag, name in CLUE_FLAGS.items() if values[flag] is not None}
    if values["clue_perception"]:
        return ClueOptions(**given)
    if given:
        flags = [f"--{flag.replace('_', '-')}" for flag, name in CLUE_FLAGS.items() if name in given]
        raise ConfigError(f"{', '.join(flags)} say how to look again: add --clue-perception, or leave them out")
    return None
