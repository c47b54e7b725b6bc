"""Tracking: where is the object in each frame shown, given its first box? (paper 3.2, 3.3)"""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.geometry import Box, box_iou
from videochat_r1.parsing import answer_text, is_box_list, parse_boxes
from videochat_r1.parsing.box_units import RANGE, UNIT
from videochat_r1.sample import BoxesTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.seconds import decimals
from videochat_r1.tasks.target_json import read_boxes, required

_RECALL_THRESHOLDS = (0.5, 0.7)


class Tracking(Task[BoxesTarget, list[Box | None]]):
    """`<answer>[[x0, y0, x1, y1], ...]</answer>`, one box per frame shown (8 in GOT-10k), corners in [0, 1] of the frame.

    A parsed box is None where its place in the list cannot be read; its frame scores 0.
    """

    name = "tracking"
    target_type = BoxesTarget
    needs_video = True
    has_boxes = True
    reward_names = ("format", "iou")
    headline = "overlap"
    template = (
        "The video shows this object: {query}. At the start its box is {box}, as [left, top, right, bottom] {box_unit}. Follow it "
        "through {num_boxes} instants, evenly spaced from the first frame to the last.\n{answer_form}"
    )
    request = f"its box at each of these instants as one list that begins with the given box, {RANGE}"

    def target_fields(self, target: BoxesTarget) -> dict[str, str]:
        """`box`, the first one, `box_unit` of its numbers, and `num_boxes`."""
        return {"box": _box_text(target.boxes[0]), "box_unit": UNIT, "num_boxes": str(len(target.boxes))}

    def payloads(self, target: BoxesTarget) -> tuple[str, ...]:
        """A list of boxes."""
        return (_boxes_text(target.boxes),)

    def examples(self, target: BoxesTarget) -> list[tuple[str, ...]]:
        """A box that drifts to the right, as often as boxes are asked for."""
        steps = [0.4 * place / len(target.boxes) for place in range(len(target.boxes))]
        return [(_boxes_text([Box(round(0.1 + step, 2), 0.2, round(0.4 + step, 2), 0.6) for step in steps]),)]

    def parse(self, completion: str, target: BoxesTarget, *, untagged: bool = False) -> list[Box | None] | None:
        """The first boxes of the answer, at most as many as the target has, corners as written."""
        text = answer_text(completion, untagged=untagged)
        return parse_boxes(text, len(target.boxes)) if text is not None else None

    def accepts(self, payloads: Sequence[str], target: BoxesTarget) -> bool:
        """A list of exactly as many boxes as the target has."""
        return is_box_list(payloads[0], len(target.boxes))

    def iou(
        self, parsed: list[Box | None] | None, target: BoxesTarget, *, score_given_box: bool = True
    ) -> float | None:
        """Sum of the box IoUs over the number of true boxes; without the given box, both from the second on, None if there is
        none."""
        ious = frame_ious(parsed or [], target.boxes)
        counted = ious if score_given_box else ious[1:]
        return sum(counted) / len(counted) if counted else None

    def scores(self, parsed: list[Box | None] | None, target: BoxesTarget) -> dict[str, float | None]:
        """Overlap and the shares that reach 0.5 and 0.7, with the given box (as in the paper) and without it."""
        scores: dict[str, float | None] = {}
        for suffix, score_given_box in (("", True), ("_without_given", False)):
            overlap = self.iou(parsed, target, score_given_box=score_given_box)
            scores[f"overlap{suffix}"] = overlap
            for threshold in _RECALL_THRESHOLDS:
                scores[f"R@{threshold}{suffix}"] = None if overlap is None else float(overlap >= threshold)
        return {**scores, "parse_rate": float(parsed is not None)}

    def target_from_json(self, value: Mapping[str, Any]) -> BoxesTarget:
        """Of `{"boxes": [[x0, y0, x1, y1], ...]}`."""
        return BoxesTarget(boxes=read_boxes(required(value, "boxes"), "boxes"))

    def target_to_json(self, target: BoxesTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"boxes": [list(box) for box in target.boxes]}

    def parsed_to_json(self, parsed: list[Box | None] | None) -> Any:
        """A list of `[x0, y0, x1, y1]` or null."""
        return None if parsed is None else [None if box is None else list(box) for box in parsed]


def frame_ious(predicted: Sequence[Box | None], truth: Sequence[Box]) -> list[float]:
    """IoU per true box, corners sorted and clipped to the frame; 0.0 where no box was predicted."""
    padded = [*predicted[: len(truth)], *[None] * (len(truth) - len(predicted))]
    return [
        0.0 if box is None else box_iou(box.normalised(), true_box.normalised())
        for box, true_box in zip(padded, truth, strict=True)
    ]


def _box_text(box: Box) -> str:
    """The corners, rounded to 0.001; to more digits where a side is shorter than 0.05."""
    digits = decimals(min(abs(box.x1 - box.x0), abs(box.y1 - box.y0)), 3, enough=0.05)
    return "[" + ", ".join(repr(round(value, digits)) for value in box) + "]"


def _boxes_text(boxes: Sequence[Box]) -> str:
    return "[" + ", ".join(map(_box_text, boxes)) + "]"
