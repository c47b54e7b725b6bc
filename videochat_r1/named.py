"""Tables of names, and `package.module:Name` for what a user adds from outside.

Wherever a recipe, a manifest or a flag names a task, corpus, benchmark, reward, model family or video backend, it may name one of the
table's entries, or one of the user's own by the module that holds it.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from videochat_r1.errors import ConfigError, shown
from videochat_r1.options import nearest

T = TypeVar("T")


class Table(Mapping[str, T], Generic[T]):
    """The entries that ship with this project, by name; others are looked up at `package.module:Name`.

    A class found there is called without arguments. Iteration and length know the shipped entries only.

    Args:
        what: an entry is, for messages: "task".
        entries: by name.
        fits: whether something from outside can be an entry.
        aliases: other names of entries; with them, case and `-` for `_` do not matter either.

    Raises:
        ConfigError: from every look-up, instead of KeyError: no such entry, naming the nearest; or a module or name that
            cannot be imported, or is something else.
    """

    def __init__(
        self, what: str, entries: Mapping[str, T], fits: Callable[[Any], bool], aliases: Mapping[str, str] | None = None
    ) -> None:
        self._what = what
        self._entries = dict(entries)
        self._fits = fits
        self._aliases = aliases
        self._outside: dict[str, tuple[Any, T]] = {}

    def __getitem__(self, name: str) -> T:
        if name in self._entries:
            return self._entries[name]
        if ":" in str(name):
            return self._from_outside(name)
        if self._aliases is not None:
            plain = str(name).strip().lower().replace("-", "_")
            plain = self._aliases.get(plain, plain)
            if plain in self._entries:
                return self._entries[plain]
        hint = nearest(name, self._entries, self._aliases)
        raise ConfigError(f"unknown {self._what} {shown(str(name))!r}{hint}; or name your own as package.module:Name")

    @property
    def shipped(self) -> Mapping[str, T]:
        """The entries without what comes from outside."""
        return self._entries

    @property
    def loaded(self) -> tuple[T, ...]:
        """The shipped entries, and those from outside that were looked up in this process so far."""
        return *self._entries.values(), *(entry for _, entry in self._outside.values())

    def __contains__(self, name: object) -> bool:
        """Whether a look-up gives an entry; a name from outside that cannot be loaded raises."""
        return name in self._entries or (isinstance(name, str) and ":" in name and self._from_outside(name) is not None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _from_outside(self, name: str) -> T:
        found = load_attribute(name, self._what)
        known, entry = self._outside.get(name, (None, None))
        if found is not known or entry is None:
            entry = found() if isinstance(found, type) else found
            if not self._fits(entry):
                raise ConfigError(f"{name} is a {type(entry).__name__}, which is no {self._what}")
        # The one named last comes last.
        self._outside.pop(name, None)
        self._outside[name] = found, entry
        return entry


def load_attribute(name: str, what: str) -> Any:
    """What `package.module:Name` names. The module is looked for where Python looks, and last in the working directory.

    Raises:
        ConfigError: no such form, module or name.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(f"{what} {name!r}: expected package.module:Name")
    working_directory = str(Path.cwd())
    if not {working_directory, ""} & set(sys.path):
        sys.path.append(working_directory)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{what} {name!r}: module {module_name} cannot be imported ({error}); it must be installed, or lie in the "
            "working directory"
        ) from error
    if not hasattr(module, attribute):
        raise ConfigError(f"{what} {name!r}: module {module_name} has no {attribute!r}")
    return getattr(module, attribute)
