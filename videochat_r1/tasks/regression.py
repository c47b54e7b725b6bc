"""Regression: a quantity to be estimated, the nearer the better (Video-R1)."""

from collections.abc import Mapping
from typing import Any

from videochat_r1.sample import NumberTarget
from videochat_r1.tasks.numerical_qa import NumericalQA
from videochat_r1.tasks.target_json import number_text


class Regression(NumericalQA):
    """`<answer>3.2</answer>`. The reward is 1 - |answer - truth| / |truth|, at least 0; where the truth is 0, 1 for 0 alone."""

    name = "regression"
    headline = "relative_accuracy"

    def accuracy(self, parsed: float | None, target: NumberTarget) -> float:
        """1 - the relative error, in [0, 1]."""
        if parsed is None:
            return 0.0
        if target.value == 0.0:
            return float(parsed == 0.0)
        return 1.0 - min(1.0, abs(parsed - target.value) / abs(target.value))

    def target_from_json(self, value: Mapping[str, Any]) -> NumberTarget:
        """Of `{"answer": 3.2}` or `{"answer": "3.2 m"}`."""
        number = super().target_from_json(value).value
        return NumberTarget(number, number_text(number))

    def target_to_json(self, target: NumberTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"answer": target.value}
