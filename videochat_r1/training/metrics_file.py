"""`metrics.jsonl` of a run: what every logged step said, a line each, for whoever looks while it runs. No torch."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def append_metrics(path: Path, step: int, logs: Mapping[str, Any]) -> None:
    """Add the line of a step; what is no finite number is left out."""
    numbers = {name: value for name, value in logs.items() if isinstance(value, int | float) and math.isfinite(value)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**numbers, "step": step}) + "\n")


class MetricsReader:
    """The metrics of a run so far, read on as the file grows.

    Attributes:
        values: name -> step -> value. What a resumed run does again counts once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = 0
        self.values: dict[str, dict[int, float]] = {}

    def read_on(self) -> bool:
        """Take in what is new; whether there was anything."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size < self._known:
            self._known, self.values = 0, {}
        if size == self._known:
            return False
        with self._path.open("rb") as file:
            file.seek(self._known)
            lines = file.read(size - self._known).split(b"\n")
        for line in lines[:-1]:
            self._known += len(line) + 1
            self._take(line)
        return len(lines) > 1

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            return  # cut off by a kill
        if not isinstance(row, dict) or not isinstance(step := row.pop("step", None), int):
            return
        for name, value in row.items():
            column = self.values.setdefault(name, {})
            while column and next(reversed(column)) >= step:
                column.popitem()
            if isinstance(value, int | float):
                column[step] = float(value)
