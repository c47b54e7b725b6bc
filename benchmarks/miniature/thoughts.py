"""Grounding with a thought that supervised training can learn, so that the start can do both: think, and answer at once."""

from collections.abc import Sequence

from videochat_r1.sample import SpanTarget
from videochat_r1.tasks.temporal_grounding import TemporalGrounding


class ThoughtfulGrounding(TemporalGrounding):
    """`<think>appears at 2.5</think><answer>2.5 to 4.0</answer>`, as `thinking: true` asks of grounding."""

    name = "miniature.thoughts:ThoughtfulGrounding"
    template = "Think. When? {query}"
    answer_tags = ("think", "answer")

    def payloads(self, target: SpanTarget) -> tuple[str, ...]:
        """When it begins, and the span."""
        (span,) = super().payloads(target)
        return f"appears at {span.split()[0]}", span

    def examples(self, target: SpanTarget) -> list[tuple[str, ...]]:
        """One span."""
        return [("appears at 12.54", "12.54 to 17.83")]

    def accepts(self, payloads: Sequence[str], target: SpanTarget) -> bool:
        """Any thought, and one span."""
        return super().accepts(payloads[1:], target)
