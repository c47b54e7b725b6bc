"""A group as the page shows it: question, truth and answers in one form for all tasks, without a path of this machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.grpo.tally import is_number
from videochat_r1.grpo.token_log import read_tokens
from videochat_r1.parsing.tags import parts_of, placed_parts
from videochat_r1.window.media import Shown

_MARKUP = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>")
_OPTION_KEYS = ("options", "choices")


def group_view(number: int, group: Mapping[str, Any], shown: Shown) -> dict[str, Any]:
    """What the page is sent of a group.

    `truth` and each rollout's `answer` hold, where they have them, `spans` ([start, end] in seconds), `boxes` ([x0, y0, x1, y1]
    in fractions, or null), `choice` (a letter or an option's text) and `text`. Of a caption that was judged, `found` has a label
    for each of the `events`, and `claims` are its own events with theirs.
    """
    target = group.get("target")
    target = target if isinstance(target, dict) else {}
    options: list[Any] = next((target[key] for key in _OPTION_KEYS if isinstance(target.get(key), list)), [])
    return {
        "number": number,
        "step": group["step"],
        "task": str(group["task"]),
        "source": str(group.get("source") or ""),
        "sample": str(group["sample_id"]),
        "question": plain_question(str(group.get("prompt") or "")),
        "media": _media_view(shown),
        "duration": _number(target.get("duration")),
        "options": [str(option) for option in options],
        "lettered": "options" in target,
        "events": _events(target, group["rollouts"]),
        "truth": truth_of(target),
        "rollouts": [_rollout_view(one, target) for one in group["rollouts"]],
    }


def _events(target: Mapping[str, Any], rollouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of a true caption, as the target has them or else a judge."""
    given = target.get("events")
    if isinstance(given, list) and given:
        return [str(event) for event in given]
    judged = (_verdicts(one, "recall") for one in rollouts)
    return [event for event, _ in next((pairs for pairs in judged if pairs), [])]


def _verdicts(rollout: Mapping[str, Any], name: str) -> list[list[str]]:
    """(event, label) pairs that a judge gave for one side: `recall` of the true events, `precision` of the answer's own."""
    verdicts = rollout.get("verdicts")
    pairs = verdicts.get(name) if isinstance(verdicts, dict) else None
    pairs = pairs if isinstance(pairs, list) else []
    return [[str(part) for part in pair] for pair in pairs if isinstance(pair, list) and len(pair) == 2]


def _media_view(shown: Shown) -> dict[str, Any]:
    """`start` and `end` are seconds of what is played, where that is more than was shown."""
    about = {"kind": shown.kind, "name": shown.name, "count": len(shown.files), "problem": shown.problem}
    return {**about, "start": shown.start, "end": shown.end}


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
        truth["boxes"] = _boxes(target["boxes"])
    if spans := _spans(target.get("spans", target.get("span"))):
        truth["spans"] = spans
    if any(key in target for key in _OPTION_KEYS):
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
        return {**answer, "spans": _spans(parsed.get("spans"))}
    if "boxes" in target:
        return {"boxes": _boxes(parsed)}
    if "span" in target or "spans" in target:
        return {"spans": _spans(parsed)}
    if any(key in target for key in _OPTION_KEYS):
        return {"choice": str(parsed)}
    return {"text": str(parsed)}


def _rollout_view(one: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
    rewards = one.get("rewards")
    return {
        "generation": one.get("generation"),
        "name": one.get("name"),
        **_text_view(one),
        "answer": answer_of(one.get("parsed"), target),
        "reward": _number(one.get("reward")),
        "advantage": _number(one.get("advantage")),
        "rewards": {str(name): _number(value) for name, value in rewards.items()} if isinstance(rewards, dict) else {},
        "tokens": _number(one.get("num_tokens")),
        "ended": str(one.get("ended") or ""),
        "whole_video": one.get("whole_video") is True,
        "past_end": one.get("past_end") is True,
        "found": dict(_verdicts(one, "recall")),
        "claims": _verdicts(one, "precision"),
        "problem": None if one.get("problem") is None else str(one["problem"]),
        "passes": [_pass_view(each) for each in one.get("passes") or () if isinstance(each, dict)],
    }


def _text_view(one: Mapping[str, Any]) -> dict[str, Any]:
    """`parts` of a completion, each cut into `pieces` where the log has its tokens: (text, log-probability, how far it is above
    the trainer's), the last two None where they are not known; `end` is what the token that ended the text had."""
    text, tokens = read_tokens(one)
    parts: list[dict[str, Any]] = []
    for kind, start, end in placed_parts(text):
        part: dict[str, Any] = {"kind": kind, "text": text[start:end]}
        if tokens:
            opened = [[text[start : min(end, tokens[0].start)], None, None]] if start < tokens[0].start else []
            cut = [(text[max(start, token.start) : min(end, token.end)], token) for token in tokens]
            part["pieces"] = opened + [[piece, token.logp, token.difference] for piece, token in cut if piece]
        parts.append(part)
    ending = tokens[-1] if tokens and tokens[-1].start == tokens[-1].end else None
    return {
        "parts": parts,
        "end": ending.logp if ending else None,
        "mean_logp": sum(token.logp for token in tokens) / len(tokens) if tokens else None,
    }


def _pass_view(one: Mapping[str, Any]) -> dict[str, Any]:
    """A pass of clue-perception: what it wrote, its clues, and the parts of the video that it looked at (none: the whole), alone
    or with the rest of it at a lower rate."""
    found = one.get("saw")
    saw = found if isinstance(found, dict) else {}
    return {
        "parts": [{"kind": kind, "text": text} for kind, text in parts_of(str(one.get("completion") or ""))],
        "clues": _spans(one.get("clues")),
        "segments": _spans(saw.get("segments")),
        "rest_fps": _number(saw.get("rest_fps")),
        "frames": _number(saw.get("num_frames")),
        "tokens": _number(saw.get("num_tokens")),
    }


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _spans(value: Any) -> list[list[float]]:
    """Pairs of seconds of one span or of several; what is none is left out."""
    if not isinstance(value, list):
        return []
    spans = [value] if len(value) == 2 and all(_number(part) is not None for part in value) else value
    return [_numbers(span) for span in spans if _is_list_of_numbers(span, 2)]


def _boxes(value: Any) -> list[list[float] | None]:
    """A box or None for each place of the list."""
    boxes: Sequence[Any] = value if isinstance(value, list) else []
    return [_numbers(box) if _is_list_of_numbers(box, 4) else None for box in boxes]


def _is_list_of_numbers(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_number(part) is not None for part in value)


def _numbers(value: Sequence[Any]) -> list[float]:
    return [float(part) for part in value]
