"""A group as the page shows it: question, truth and answers in one form for all tasks, without a path of this machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.grpo.drawable import OPTION_KEYS, answer_of, number_of, plain_question, spans_of, truth_of
from videochat_r1.grpo.token_log import read_tokens
from videochat_r1.parsing.tags import placed_parts
from videochat_r1.window.media import Shown


def group_view(number: int, group: Mapping[str, Any], shown: Shown) -> dict[str, Any]:
    """What the page is sent of a group.

    `truth` and each rollout's `answer` hold, where they have them, `spans` ([start, end] in seconds), `boxes` ([x0, y0, x1, y1]
    in fractions, or null), `choice` (a letter or an option's text) and `text`. Of a caption that was judged, `found` has a label
    for each of the `events`, and `claims` are its own events with theirs.
    """
    target = group.get("target")
    target = target if isinstance(target, dict) else {}
    options: list[Any] = next((target[key] for key in OPTION_KEYS if isinstance(target.get(key), list)), [])
    return {
        "number": number,
        "step": group["step"],
        "task": str(group["task"]),
        "source": str(group.get("source") or ""),
        "sample": str(group["sample_id"]),
        "question": plain_question(str(group.get("prompt") or "")),
        "media": _media_view(shown),
        "duration": number_of(target.get("duration")),
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


def _rollout_view(one: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "generation": one.get("generation"),
        "name": "the true answer, put among them" if one.get("truth") else one.get("name"),
        **_text_view(one),
        "answer": answer_of(one.get("parsed"), target),
        "reward": number_of(one.get("reward")),
        "advantage": number_of(one.get("advantage")),
        "rewards": _rewards(one),
        "tokens": number_of(one.get("num_tokens")),
        "ended": str(one.get("ended") or ""),
        "whole_video": one.get("whole_video") is True,
        "past_end": one.get("past_end") is True,
        "found": dict(_verdicts(one, "recall")),
        "claims": _verdicts(one, "precision"),
        "problem": None if one.get("problem") is None else str(one["problem"]),
        "looks": _looks_view(one),
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


def _looks_view(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All looks of a rollout, of which the last one's tokens are its own."""
    looks = [each for each in one.get("looks") or () if isinstance(each, dict)]
    return [*map(_look_view, looks[:-1]), *(_look_view({"tokens": one.get("tokens"), **each}) for each in looks[-1:])]


def _look_view(one: Mapping[str, Any]) -> dict[str, Any]:
    """One of several looks at the video: what was written and earned, its clues, and the parts of the video that it showed (none:
    the whole), alone or with the rest of it at a lower rate."""
    found = one.get("saw")
    saw = found if isinstance(found, dict) else {}
    return {
        **_text_view(one),
        "clues": spans_of(one.get("clues")),
        "segments": spans_of(saw.get("segments")),
        "rest_fps": number_of(saw.get("rest_fps")),
        "frames": number_of(saw.get("num_frames")),
        "tokens": number_of(saw.get("num_tokens")),
        "rewards": _rewards(one),
        "reward": number_of(one.get("reward")),
        "advantage": number_of(one.get("advantage")),
    }


def _rewards(one: Mapping[str, Any]) -> dict[str, float | None]:
    rewards = one.get("rewards")
    return {str(name): number_of(value) for name, value in rewards.items()} if isinstance(rewards, dict) else {}
