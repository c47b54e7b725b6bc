"""Temporal grounding: when does the described thing happen? One span in seconds (paper 3.2, 3.3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.geometry import Span, span_iou
from videochat_r1.parsing import answer_text, is_span_list, parse_spans
from videochat_r1.sample import SpanTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.seconds import RECALL_THRESHOLDS, covers_video, ends_past_video, seconds_text
from videochat_r1.tasks.target_json import read_duration, read_span, required


class TemporalGrounding(Task[SpanTarget, Span]):
    """`<answer>12.54 to 17.83</answer>`. Of several spans in one answer the first counts (R1 is recall of the first)."""

    name = "temporal_grounding"
    target_type = SpanTarget
    needs_video = True
    reward_names = ("format", "iou")
    headline = "mIoU"
    template = 'Watch the video and find the moment at which this takes place: "{query}"\n{answer_form}'
    request = "the time at which it starts and the time at which it ends, in seconds"

    def payloads(self, target: SpanTarget) -> tuple[str, ...]:
        """`start to end`."""
        start, end = seconds_text(target.span)
        return (f"{start} to {end}",)

    def examples(self, target: SpanTarget) -> list[tuple[str, ...]]:
        """One span."""
        return [("12.54 to 17.83",)]

    def parse(self, completion: str, target: SpanTarget, *, untagged: bool = False) -> Span | None:
        """The first span of the answer, as written: it may be reversed or reach past the video."""
        text = answer_text(completion, untagged=untagged)
        return next(iter(parse_spans(text)), None) if text is not None else None

    def accepts(self, payloads: Sequence[str], target: SpanTarget) -> bool:
        """One span, in any notation that the parser reads."""
        return is_span_list(payloads[0]) and len(parse_spans(payloads[0])) == 1

    def iou(self, parsed: Span | None, target: SpanTarget) -> float:
        """IoU with the true span of the answer as written: what reaches past the video counts against it."""
        return 0.0 if parsed is None else span_iou(parsed, target.span)

    def scores(self, parsed: Span | None, target: SpanTarget) -> dict[str, float]:
        """mIoU and R1 at 0.3, 0.5 and 0.7 (IoU at least the threshold)."""
        iou = self.iou(parsed, target)
        recalls = {f"R1@{threshold}": float(iou >= threshold) for threshold in RECALL_THRESHOLDS}
        return {"mIoU": iou, **recalls, "parse_rate": float(parsed is not None)}

    def target_from_json(self, value: Mapping[str, Any]) -> SpanTarget:
        """Of `{"span": [start, end], "duration": seconds}`."""
        return SpanTarget(
            span=read_span(required(value, "span"), "span"),
            duration=read_duration(required(value, "duration"), "duration"),
        )

    def target_to_json(self, target: SpanTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"span": list(target.span), "duration": target.duration}

    def parsed_to_json(self, parsed: Span | None) -> Any:
        """`[start, end]`."""
        return None if parsed is None else list(parsed)

    def whole_video(self, parsed: Span | None, target: SpanTarget) -> bool:
        """Whether the span covers more than 90 % of the video."""
        return parsed is not None and covers_video([parsed], target.duration)

    def past_end(self, parsed: Span | None, target: SpanTarget) -> bool:
        """Whether the span ends after the video."""
        return parsed is not None and ends_past_video([parsed], [target.span], target.duration)
