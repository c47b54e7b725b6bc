"""Quality assessment: which of a few named labels fits the video (paper 3.2; VidTAB quality)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.parsing import answer_text, parse_choice
from videochat_r1.sample import LabelTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.target_json import read_choice, read_texts, required


class QualityAssessment(Task[LabelTarget, str]):
    """`<answer>low quality</answer>`: the label itself, complete."""

    name = "quality_assessment"
    target_type = LabelTarget
    reward_names = ("format", "accuracy")
    headline = "accuracy"
    template = "{query}\n{answer_form}"
    request = "one of these labels, word for word"

    def target_fields(self, target: LabelTarget) -> dict[str, str]:
        """`choices`, with commas between them."""
        return {"choices": ", ".join(target.choices)}

    def payloads(self, target: LabelTarget) -> tuple[str, ...]:
        """The label."""
        return (target.answer,)

    def examples(self, target: LabelTarget) -> list[tuple[str, ...]]:
        """Every label, so that none is preferred."""
        return [(choice,) for choice in target.choices]

    def parse(self, completion: str, target: LabelTarget, *, untagged: bool = False) -> str | None:
        """The label that the answer is, spelled as in the target."""
        text = answer_text(completion, untagged=untagged)
        return parse_choice(text, target.choices) if text is not None else None

    def accepts(self, payloads: Sequence[str], target: LabelTarget) -> bool:
        """One of the labels and no explanation."""
        return parse_choice(payloads[0], target.choices, bare=True) is not None

    def accuracy(self, parsed: str | None, target: LabelTarget) -> float:
        """1.0 for the right label."""
        return float(parsed == target.answer)

    def scores(self, parsed: str | None, target: LabelTarget) -> dict[str, float]:
        """Accuracy."""
        return {"accuracy": self.accuracy(parsed, target), "parse_rate": float(parsed is not None)}

    def target_from_json(self, value: Mapping[str, Any]) -> LabelTarget:
        """Of `{"choices": [label, ...], "answer": label}`."""
        choices = read_texts(required(value, "choices"), "choices")
        return LabelTarget(choices=choices, answer=read_choice(required(value, "answer"), "answer", choices))

    def target_to_json(self, target: LabelTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"choices": list(target.choices), "answer": target.answer}
