"""Questions answered with a number that is right or wrong (Video-R1)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.parsing import answer_text
from videochat_r1.parsing.quantities import is_quantity, parse_quantity
from videochat_r1.sample import NumberTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.seconds import decimals
from videochat_r1.tasks.target_json import number_text, read_number_or_text, required


class NumericalQA(Task[NumberTarget, float]):
    """`<answer>12.5</answer>`. Right is what agrees with the truth when both are rounded to two decimals.

    A truth below 0.01, which two decimals do not tell from nothing, needs more of them.
    """

    name = "numerical_qa"
    target_type = NumberTarget
    reward_names = ("format", "accuracy")
    headline = "accuracy"
    template = "{query}\n{answer_form}"
    request = "the number in digits, without its unit"

    def payloads(self, target: NumberTarget) -> tuple[str, ...]:
        """The number as the annotation writes it, without its unit."""
        return (target.text if is_quantity(target.text) else number_text(target.value),)

    def examples(self, target: NumberTarget) -> list[tuple[str, ...]]:
        """A whole number and a decimal."""
        return [("42",), ("3.14",)]

    def parse(self, completion: str, target: NumberTarget, *, untagged: bool = False) -> float | None:
        """The one number of the answer, whatever words and units stand around it."""
        text = answer_text(completion, untagged=untagged)
        return None if text is None else parse_quantity(text)

    def accepts(self, payloads: Sequence[str], target: NumberTarget) -> bool:
        """A number and nothing else."""
        return is_quantity(payloads[0])

    def accuracy(self, parsed: float | None, target: NumberTarget) -> float:
        """1.0 for the right number."""
        if parsed is None:
            return 0.0
        digits = decimals(abs(target.value), 2, enough=0.01)
        return float(round(parsed, digits) == round(target.value, digits))

    def scores(self, parsed: float | None, target: NumberTarget) -> dict[str, float]:
        """Accuracy."""
        return {self.headline: self.accuracy(parsed, target), "parse_rate": float(parsed is not None)}

    def target_from_json(self, value: Mapping[str, Any]) -> NumberTarget:
        """Of `{"answer": "12.50"}` or `{"answer": 12.5}`."""
        return NumberTarget(*read_number_or_text(required(value, "answer"), "answer"))

    def target_to_json(self, target: NumberTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"answer": target.text}
