"""Which groups of a log a list shows, in which order."""

from dataclasses import dataclass
from typing import Any

FLAGS = {
    "unparsable": "unread > 0",
    "truncated": "cut > 0",
    "whole_video": "whole > 0",
    "all_equal": "equal = 1",
    "unscored": "unscored > 0",
}
"""What a list of groups can be narrowed down to, with its condition."""
ORDERS = {
    "log": "number",
    "newest": "number desc",
    "disagreement": "spread desc, number",
    "best": "mean is null, mean desc, number",
    "worst": "mean is null, mean, number",
}
"""What it can be ordered by."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which groups a list shows, and in which order; None and empty values narrow nothing."""

    task: str | None = None
    source: str | None = None
    sample: str | None = None
    flags: tuple[str, ...] = ()
    steps: tuple[int, int] | None = None
    order: str = "log"

    def condition(self) -> tuple[str, list[Any]]:
        """SQL and its values."""
        named = {"task": self.task, "source": self.source, "sample": self.sample}
        parts = [f"{name} = ?" for name, value in named.items() if value]
        values: list[Any] = [value for value in named.values() if value]
        parts += [FLAGS[flag] for flag in self.flags]
        if self.steps is not None:
            parts.append("step between ? and ?")
            values += self.steps
        return " and ".join(parts) or "1", values
