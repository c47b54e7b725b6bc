"""The table of tasks: adding one is a file in this folder and a line here."""

from difflib import get_close_matches
from typing import Any

from videochat_r1.errors import ConfigError, shown
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.captioning import Captioning
from videochat_r1.tasks.grounded_qa import GroundedQA
from videochat_r1.tasks.multi_choice_qa import MultiChoiceQA
from videochat_r1.tasks.quality_assessment import QualityAssessment
from videochat_r1.tasks.temporal_grounding import TemporalGrounding
from videochat_r1.tasks.tracking import Tracking

TASKS: dict[str, Task[Any, Any]] = {
    "temporal_grounding": TemporalGrounding(),
    "tracking": Tracking(),
    "multi_choice_qa": MultiChoiceQA(),
    "grounded_qa": GroundedQA(),
    "quality_assessment": QualityAssessment(),
    "captioning": Captioning(),
}


def get_task(name: str) -> Task[Any, Any]:
    """The task of that name.

    Raises:
        ConfigError: there is none, naming the nearest.
    """
    if name not in TASKS:
        near = get_close_matches(str(name).lower().replace("-", "_"), TASKS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(f"unknown task {shown(name)!r}{hint} The tasks are {', '.join(TASKS)}.")
    return TASKS[name]


__all__ = ["TASKS", "Task", "get_task"]
