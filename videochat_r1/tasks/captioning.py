"""Captioning: tell what happens in the video, in free text (paper 3.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.errors import DataError
from videochat_r1.parsing import answer_text
from videochat_r1.sample import CaptionTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.target_json import read_texts, required

REQUEST = "Describe in detail what happens in this video."
PICTURE_REQUEST = "Describe in detail what is to be seen."
"""What corpora that bring no request of their own are asked with."""


class Captioning(Task[CaptionTarget, str]):
    """`<answer>free text</answer>`. How good a caption is, only a judge can tell: see `videochat_r1.rewards.recall`."""

    name = "captioning"
    target_type = CaptionTarget
    reward_names = ("format", "recall")
    headline = "parse_rate"
    template = "{query}\n{answer_form}"
    request = "the description, as plain sentences in the order of what happens"

    def payloads(self, target: CaptionTarget) -> tuple[str, ...]:
        """The caption."""
        return (target.caption,)

    def examples(self, target: CaptionTarget) -> list[tuple[str, ...]]:
        """Of no video, so that none of its words help."""
        return [("Someone does something. Then something else happens.",)]

    def parse(self, completion: str, target: CaptionTarget, *, untagged: bool = False) -> str | None:
        """The text of the answer; None without one or if it is blank."""
        text = answer_text(completion, untagged=untagged)
        return (text or "").strip() or None

    def accepts(self, payloads: Sequence[str], target: CaptionTarget) -> bool:
        """Any text that is not blank."""
        return bool(payloads[0].strip())

    def scores(self, parsed: str | None, target: CaptionTarget) -> dict[str, float]:
        """Whether there is a caption; recall and precision take a judge."""
        return {"parse_rate": float(parsed is not None)}

    def target_from_json(self, value: Mapping[str, Any]) -> CaptionTarget:
        """Of `{"caption": text}` or `{"caption": text, "events": [text, ...]}`."""
        caption = required(value, "caption")
        if not isinstance(caption, str):
            raise DataError(f"caption must be text, got a {type(caption).__name__}")
        events = value.get("events") or ()
        return CaptionTarget(caption, read_texts(events, "events") if events else ())

    def target_to_json(self, target: CaptionTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"caption": target.caption, "events": list(target.events)}
