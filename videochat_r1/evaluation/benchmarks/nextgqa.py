"""NExT-GQA: multiple-choice questions with the spans that show the answer (Xiao et al. 2024)."""

from typing import Any, ClassVar

from videochat_r1.evaluation.benchmarks.base import CorpusBenchmark
from videochat_r1.evaluation.metrics.grounding import nextgqa_scores
from videochat_r1.sample import GroundedChoiceTarget, Sample
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.base import Scores


class NExTGQA(CorpusBenchmark):
    """Test split. `grounded_qa` asks for the option and the spans, `multi_choice_qa` for the option alone."""

    name = "nextgqa"
    tasks = ("grounded_qa", "multi_choice_qa")
    num_samples: ClassVar = {"all": 5553}
    definitions: ClassVar = {
        "accuracy": "share of questions answered with the right option (paper, Table 1)",
        "union_mIoU": "mean IoU of the unions of answered and true spans (paper, Table 1, mIoU)",
        "mIoU": "mean over questions of the best IoU of the first answered span with a true one (NExT-GQA, eval_ground.py)",
        "IoU@0.3": "share of questions with that IoU >= 0.3; also 0.5 (NExT-GQA)",
        "mIoP": "mean of the best intersection over prediction, in the same way (NExT-GQA)",
        "IoP@0.3": "share of questions with that IoP >= 0.3; also 0.5 (NExT-GQA)",
        "Acc@GQA": "share of questions with the right option and IoP >= 0.5 (NExT-GQA)",
    }

    def score(self, parsed: Any, sample: Sample) -> Scores:
        """Accuracy, and for `grounded_qa` the official metrics and the paper's."""
        task = TASKS[sample.task]
        if not isinstance(sample.target, GroundedChoiceTarget):
            return task.scores(parsed, sample.target)
        accuracy = task.accuracy(parsed, sample.target) or 0.0
        spans = () if parsed is None else parsed.spans
        answered = parsed is not None and parsed.answer is not None
        return {
            "accuracy": accuracy,
            **nextgqa_scores(spans, sample.target.spans, correct=accuracy == 1.0),
            "parse_rate": float(answered and bool(spans)),
        }

    def groups(self, sample: Sample) -> dict[str, str]:
        """By question type: causal (CW, CH), temporal (TN, TC); the authors count TP among TN."""
        return {"type": "TN" if sample.extra["type"] == "TP" else str(sample.extra["type"])}

    def distributions(self, task: str) -> tuple[str, ...]:
        """How well the spans were found; the option is right or wrong."""
        return ("union_mIoU",) if task == "grounded_qa" else ()
