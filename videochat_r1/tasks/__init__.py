"""The table of tasks: adding one is a file in this folder and a line here, or a class of one's own named `package.module:Name`."""

from typing import Any

from videochat_r1.named import Table
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.captioning import Captioning
from videochat_r1.tasks.free_form_qa import FreeFormQA
from videochat_r1.tasks.grounded_qa import GroundedQA
from videochat_r1.tasks.multi_choice_qa import MultiChoiceQA
from videochat_r1.tasks.numerical_qa import NumericalQA
from videochat_r1.tasks.quality_assessment import QualityAssessment
from videochat_r1.tasks.regression import Regression
from videochat_r1.tasks.temporal_grounding import TemporalGrounding
from videochat_r1.tasks.text_recognition import TextRecognition
from videochat_r1.tasks.tracking import Tracking

TASKS: Table[Task[Any, Any]] = Table(
    "task",
    {
        "temporal_grounding": TemporalGrounding(),
        "tracking": Tracking(),
        "multi_choice_qa": MultiChoiceQA(),
        "grounded_qa": GroundedQA(),
        "quality_assessment": QualityAssessment(),
        "captioning": Captioning(),
        "numerical_qa": NumericalQA(),
        "free_form_qa": FreeFormQA(),
        "text_recognition": TextRecognition(),
        "regression": Regression(),
    },
    fits=lambda entry: isinstance(entry, Task),
)

__all__ = ["TASKS", "Task"]
