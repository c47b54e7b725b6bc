"""Multiple-choice questions answered with a letter and the spans that support it (paper 3.2, 3.3)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from videochat_r1.geometry import Span, span_set_iou
from videochat_r1.parsing import answer_text, is_span_list, parse_letter, parse_spans, same_option, tagged_texts
from videochat_r1.sample import GroundedChoiceTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.multi_choice_qa import example_letter, options_text
from videochat_r1.tasks.seconds import covers_video, ends_past_video, seconds_text
from videochat_r1.tasks.target_json import read_duration, read_letter, read_options, read_spans, required


class GroundedAnswer(NamedTuple):
    """The two parts of an answer; either may be missing (None, empty), not both."""

    answer: str | None
    spans: tuple[Span, ...]


class GroundedQA(Task[GroundedChoiceTarget, GroundedAnswer]):
    """`<answer>C</answer><glue>[(5.2, 10.4), (12.0, 13.5)]</glue>`; the two parts are read and scored apart."""

    name = "grounded_qa"
    target_type = GroundedChoiceTarget
    needs_video = True
    reward_names = ("format", "iou", "accuracy")
    headline = "accuracy"
    template = "{query}\n{options}\nOne of these options is right. {answer_form}"
    request = (
        "its letter between <answer> and </answer>, and between <glue> and </glue> the parts of the video that show it, "
        "each as (start, end) in seconds"
    )
    answer_tags = ("answer", "glue")

    def target_fields(self, target: GroundedChoiceTarget) -> dict[str, str]:
        """`options`, one a line."""
        return {"options": options_text(target.options)}

    def payloads(self, target: GroundedChoiceTarget) -> tuple[str, ...]:
        """The letter, and a list of (start, end)."""
        spans = (f"({', '.join(seconds_text(span))})" for span in target.spans)
        return target.answer, f"[{', '.join(spans)}]"

    def examples(self, target: GroundedChoiceTarget) -> list[tuple[str, ...]]:
        """A letter among the options with two spans."""
        return [(example_letter(target.options), "[(5.2, 10.4), (12.0, 13.5)]")]

    def parse(self, completion: str, target: GroundedChoiceTarget, *, untagged: bool = False) -> GroundedAnswer | None:
        """The option that the answer names and all spans of the clue; None if neither can be read."""
        text = answer_text(completion, untagged=untagged)
        letter = None if text is None else parse_letter(text, target.options)
        spans = tuple(parse_spans(tagged_texts(completion).get("glue", "")))
        return GroundedAnswer(letter, spans) if letter is not None or spans else None

    def accepts(self, payloads: Sequence[str], target: GroundedChoiceTarget) -> bool:
        """An option without explanation, and a list of at least one span."""
        answer, glue = payloads
        return parse_letter(answer, target.options, bare=True) is not None and is_span_list(glue)

    def iou(self, parsed: GroundedAnswer | None, target: GroundedChoiceTarget) -> float | None:
        """IoU of the union of the predicted spans, as written, with the union of the true ones; None where nobody knows these."""
        if not target.spans:
            return None
        return 0.0 if parsed is None else span_set_iou(parsed.spans, target.spans)

    def accuracy(self, parsed: GroundedAnswer | None, target: GroundedChoiceTarget) -> float:
        """1.0 for the right option."""
        if parsed is None or parsed.answer is None:
            return 0.0
        return float(same_option(parsed.answer, target.answer, target.options))

    def scores(self, parsed: GroundedAnswer | None, target: GroundedChoiceTarget) -> dict[str, float | None]:
        """Accuracy and union mIoU; an answer counts as parsed if both of its parts are."""
        return {
            "accuracy": self.accuracy(parsed, target),
            "mIoU": self.iou(parsed, target),
            "parse_rate": float(parsed is not None and parsed.answer is not None and bool(parsed.spans)),
        }

    def target_from_json(self, value: Mapping[str, Any]) -> GroundedChoiceTarget:
        """Of `{"options": [text, ...], "answer": letter or text, "spans": [[start, end], ...], "duration": seconds}`; spans and
        duration are null where nobody knows them."""
        options = read_options(required(value, "options"), "options")
        return GroundedChoiceTarget(
            options=options,
            answer=read_letter(required(value, "answer"), "answer", options),
            spans=() if required(value, "spans") is None else read_spans(value["spans"], "spans"),
            duration=0.0 if required(value, "duration") is None else read_duration(value["duration"], "duration"),
        )

    def target_to_json(self, target: GroundedChoiceTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {
            "options": list(target.options),
            "answer": target.answer,
            "spans": [list(span) for span in target.spans] or None,
            "duration": target.duration or None,
        }

    def parsed_to_json(self, parsed: GroundedAnswer | None) -> Any:
        """`{"answer": letter or null, "spans": [[start, end], ...]}`."""
        return None if parsed is None else {"answer": parsed.answer, "spans": [list(span) for span in parsed.spans]}

    def whole_video(self, parsed: GroundedAnswer | None, target: GroundedChoiceTarget) -> bool | None:
        """Whether the spans together cover more than 90 % of the video; None where nobody knows its length."""
        if not target.duration:
            return None
        return parsed is not None and covers_video(parsed.spans, target.duration)

    def past_end(self, parsed: GroundedAnswer | None, target: GroundedChoiceTarget) -> bool | None:
        """Whether one of the spans ends after the video; None where nobody knows its length."""
        if not target.duration:
            return None
        return parsed is not None and ends_past_video(parsed.spans, target.spans, target.duration)
