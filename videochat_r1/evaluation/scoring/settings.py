"""What a result depends on, as JSON, and the refusal to mix two settings in one folder."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.benchmarks.base import Benchmark, Source
from videochat_r1.provenance import git_commit, package_versions, setting_changes


def source_settings(benchmark: Benchmark, source: Source, limit: int | None) -> dict[str, Any]:
    """Which questions are asked; paths are absolute, so that a run can be scored again from anywhere."""
    settings: dict[str, Any] = {
        "benchmark": benchmark.name,
        "task": source.task or benchmark.tasks[0],
        "subset": source.subset,
        "limit": limit,
        "annotations": str(source.annotations.resolve()),
        "annotations_sha256": hash_files(benchmark.files(source.annotations)),
        "videos": None if source.videos is None else str(source.videos.resolve()),
    }
    if source.durations is not None:
        settings["durations"] = str(source.durations.resolve())
    if benchmark.takes_subtitles:
        settings["subtitles"] = None if source.subtitles is None else str(source.subtitles.resolve())
        settings["subtitle_chars"] = None if source.subtitles is None else source.subtitle_chars
    return settings


def environment() -> dict[str, Any]:
    """Versions and commit that a result was made with."""
    return {"versions": package_versions(), "git_commit": git_commit()}


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], keys: Sequence[str], folder: Path) -> None:
    """Raise if a setting differs.

    Args:
        before: settings that the folder was begun with.
        now: those asked for.
        keys: dotted names that have to be equal, e.g. `video.fps`.
        folder: named in the message.

    Raises:
        ConfigError: naming every difference.
    """
    if changes := setting_changes(before, now, keys):
        raise ConfigError(
            f"{folder} holds results of other settings: {'; '.join(changes.values())}. "
            "Use the same settings to go on, or another --output"
        )


def hash_files(files: Sequence[Path]) -> str:
    """SHA-256 over the names and contents of files; of missing ones, over their names."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        if file.is_file():
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
