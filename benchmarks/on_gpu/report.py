"""Figures of the stages as one JSON file, which is whole after every figure, and as Markdown tables."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Record = Callable[[str, Any], None]
"""Takes a figure's name and its value: a number, a text, or a table as a list of rows."""


class Report:
    """What lies in a folder.

    Args:
        folder: of `gpu_check.json` and `gpu_check.md`.
    """

    def __init__(self, folder: Path) -> None:
        self._json, self._tables = folder / "gpu_check.json", folder / "gpu_check.md"
        self._found: dict[str, Any] = json.loads(self._json.read_text()) if self._json.exists() else {}

    def of(self, stage: str) -> Record:
        """Takes the figures of a stage that begins, whose former figures are forgotten."""
        self._found[stage] = {}
        return partial(self.record, stage)

    def record(self, stage: str, name: str, value: Any) -> None:
        """One figure, written at once."""
        self._found.setdefault(stage, {})[name] = value
        self._write()

    def end(self, stage: str, how: str, seconds: float) -> None:
        """How a stage ended."""
        self._found.setdefault(stage, {}).update({"stage": how, "seconds of the stage": round(seconds, 1)})
        self._write()

    @property
    def failed(self) -> list[str]:
        """Stages that did not come to their end, or found something wrong."""
        return [name for name, found in self._found.items() if found.get("stage") != "done" or found.get("wrong")]

    def write_tables(self) -> None:
        """All figures for people."""
        parts = []
        for stage, found in self._found.items():
            parts.append(f"## {stage}\n")
            plain = {name: value for name, value in found.items() if not isinstance(value, list)}
            parts.append(_table([{"": name, " ": value} for name, value in plain.items()]))
            parts += [
                f"{name}:\n\n{_table(value)}" for name, value in found.items() if isinstance(value, list) and value
            ]
        self._tables.write_text("\n".join(parts))

    def _write(self) -> None:
        new = self._json.with_suffix(".new")
        new.write_text(json.dumps(self._found, indent=1))
        new.replace(self._json)


def _table(rows: list[Any]) -> str:
    if not all(isinstance(row, dict) for row in rows):
        return "\n".join(f"* {_text(row)}" for row in rows) + "\n"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([_text(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "/").replace("\n", " ")
