"""Question, truth and answers, in their JSON forms, as what can be drawn and read whatever the task: spans, boxes, a choice, text. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.grpo.tally import is_number

OPTION_KEYS = ("options", "choices")
"""Where a target holds what is chosen from."""

_MARKUP = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>")


def plain_question(prompt: str) -> str:
    """The words of a chat prompt, without the marks of turns and media."""
    for mark in _MARKUP:
        prompt = prompt.replace(mark, "\n")
    lines = [line.strip() for line in prompt.split("\n")]
    if "user" in lines:
        lines = lines[lines.index("user") + 1 :]
    if lines and "assistant" in lines:
        lines = lines[: len(lines) - 1 - lines[::-1].index("assistant")]
    return "\n".join(line for line in lines if line)


def truth_of(target: Mapping[str, Any]) -> dict[str, Any]:
    """A target's JSON form as what can be drawn and read."""
    truth: dict[str, Any] = {}
    if "boxes" in target:
        truth["boxes"] = boxes_of(target["boxes"])
    if spans := spans_of(target.get("spans", target.get("span"))):
        truth["spans"] = spans
    if any(key in target for key in OPTION_KEYS):
        truth["choice"] = str(target.get("answer"))
    elif "answer" in target:
        truth["text"] = str(target["answer"])
    if "caption" in target:
        truth["text"] = str(target["caption"])
    return truth


def answer_of(parsed: Any, target: Mapping[str, Any]) -> dict[str, Any] | None:
    """A parsed answer's JSON form likewise, read as its target is; None for none."""
    if parsed is None:
        return None
    if isinstance(parsed, dict) and ("answer" in parsed or "spans" in parsed):
        answer: dict[str, Any] = {"choice": None if parsed.get("answer") is None else str(parsed["answer"])}
        return {**answer, "spans": spans_of(parsed.get("spans"))}
    if "boxes" in target:
        return {"boxes": boxes_of(parsed)}
    if "span" in target or "spans" in target:
        return {"spans": spans_of(parsed)}
    if any(key in target for key in OPTION_KEYS):
        return {"choice": str(parsed)}
    return {"text": str(parsed)}


def number_of(value: Any) -> float | None:
    """A number of JSON; None for anything else."""
    return float(value) if is_number(value) else None


def spans_of(value: Any) -> list[list[float]]:
    """Pairs of seconds of one span or of several; what is none is left out."""
    if not isinstance(value, list):
        return []
    spans = [value] if len(value) == 2 and all(number_of(part) is not None for part in value) else value
    return [_numbers(span) for span in spans if _is_list_of_numbers(span, 2)]


def boxes_of(value: Any) -> list[list[float] | None]:
    """A box or None for each place of the list."""
    boxes: Sequence[Any] = value if isinstance(value, list) else []
    return [_numbers(box) if _is_list_of_numbers(box, 4) else None for box in boxes]


def _is_list_of_numbers(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(number_of(part) is not None for part in value)


def _numbers(value: Sequence[Any]) -> list[float]:
    return [float(part) for part in value]
