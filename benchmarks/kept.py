"""Results that a benchmark makes once, so that the same command goes on where it was interrupted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from videochat_r1.datasets.annotation_files import read_json
from videochat_r1.outputs import write_lines


def once(file: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives as JSON, now or in an earlier run; it is kept in the file, which appears whole or not at all."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_lines(file, [json.dumps(make())])
    return read_json(file)
