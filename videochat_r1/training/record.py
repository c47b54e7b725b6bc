"""What a run was made with, as files of its folder: all options as used, and where and on what it ran."""

import dataclasses
import enum
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from videochat_r1.provenance import RESOLVED_CONFIG, changed_files, git_commit, package_versions
from videochat_r1.training.layout import world_size

_DRIVER = Path("/sys/module/nvidia/version")


def save_run_record(output_dir: Path, **resolved: Any) -> None:
    """Write `resolved_config.yaml` and `environment.json` into the run's folder."""
    output_dir.mkdir(parents=True, exist_ok=True)
    config = {name: plain(value) for name, value in resolved.items()}
    (output_dir / RESOLVED_CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    (output_dir / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Command, time, code, versions and machine of this process."""
    return {
        "command": sys.argv,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "uncommitted_changes": changed_files(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "host": platform.node(),
        "num_processes": world_size(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "gpus": _gpus(),
        "cuda": torch.version.cuda,
        "driver": _DRIVER.read_text().strip() if _DRIVER.is_file() else None,
    }


def _gpus() -> list[dict[str, Any]]:
    """Those of this node that the process can use."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    return [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in found]


def plain(value: Any) -> Any:
    """`value` as YAML's basic types."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
