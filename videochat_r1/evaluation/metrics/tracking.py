"""Tracking metrics of GOT-10k (Huang et al. 2021) over every frame of a sequence. Letter: F frames."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videochat_r1.geometry import Box

Array = NDArray[np.float64]
SUCCESS_THRESHOLDS = (0.5, 0.75)


@dataclass(frozen=True, slots=True, eq=False)
class DenseTruth:
    """The published truth of a sequence.

    Args:
        boxes: (F, 4) left, top, width, height in pixels.
        cover: (F,) how much of the object is visible, 0 (none) to 8; all visible where the annotation does not say.
        size: width and height of the frames in pixels.
    """

    boxes: Array
    cover: NDArray[np.int64]
    size: tuple[int, int]

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(F,) frames that the official metrics look at: not the first, whose box is given, and only where the object is visible."""
        counted = self.cover > 0
        counted[0] = False
        return counted


def rectangle_ious(predicted: Array, truth: Array, size: tuple[int, int]) -> Array:
    """(F,) IoU of rectangles (left, top, width, height), both clipped to the frame first (GOT-10k toolkit, `rect_iou`).

    A predicted row with a NaN has IoU 0.
    """
    a, b = _clipped(predicted, size), _clipped(truth, size)
    width = np.minimum(a[:, 0] + a[:, 2], b[:, 0] + b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 1] + a[:, 3], b[:, 1] + b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - intersection
    ious = intersection / (union + np.finfo(np.float64).eps)
    return np.nan_to_num(np.clip(ious, 0.0, 1.0), nan=0.0)


def sequence_scores(predicted: Array, truth: DenseTruth) -> dict[str, float]:
    """AO, SR0.5 and SR0.75 (IoU > threshold) over the counted frames of one sequence; empty if there are none.

    The benchmark pools the frames of all sequences: weigh each sequence by its number of counted frames.

    Args:
        predicted: (F, 4) left, top, width, height in pixels; NaN where there is no prediction.
        truth: of the same F frames.
    """
    ious = rectangle_ious(predicted, truth.boxes, truth.size)[truth.counted]
    if ious.size == 0:
        return {}
    return {"AO": float(ious.mean()), **{f"SR{limit}": float((ious > limit).mean()) for limit in SUCCESS_THRESHOLDS}}


def to_pixels(boxes: Sequence[Box | None], size: tuple[int, int]) -> Array:
    """(F, 4) left, top, width, height in pixels of boxes in fractions of the frame; NaN for None.

    Corners are sorted and not clipped: `rectangle_ious` clips as the toolkit does, which keeps the width of a box that begins
    left of the frame.
    """
    rows = [[np.nan] * 4 if box is None else list(box.sorted_corners()) for box in boxes]
    corners = np.array(rows, dtype=np.float64).reshape(-1, 4) * np.array([*size, *size])
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def interpolate_boxes(boxes: Sequence[Box | None], frames: Sequence[int], num_frames: int) -> list[Box | None]:
    """A box for every frame: corners move in a straight line between the frames that have one.

    None next to a missing box, and before the first and after the last of `frames`: nothing is made up there.

    Args:
        boxes: predictions at `frames`; None or absent where there is none.
        frames: ascending frame numbers.
        num_frames: F.
    """
    dense: list[Box | None] = [None] * num_frames
    known = list(zip(frames, boxes, strict=False))
    for frame, box in known:
        dense[frame] = None if box is None else box.sorted_corners()
    for (begin, first), (end, last) in itertools.pairwise(known):
        if first is None or last is None:
            continue
        a, b = first.sorted_corners(), last.sorted_corners()
        for frame in range(begin + 1, end):
            share = (frame - begin) / (end - begin)
            dense[frame] = Box(*(x + (y - x) * share for x, y in zip(a, b, strict=True)))
    return dense


def _clipped(rectangles: Array, size: tuple[int, int]) -> Array:
    left = np.clip(rectangles[:, 0], 0.0, size[0])
    top = np.clip(rectangles[:, 1], 0.0, size[1])
    width = np.clip(rectangles[:, 2], 0.0, size[0] - left)
    height = np.clip(rectangles[:, 3], 0.0, size[1] - top)
    return np.stack([left, top, width, height], axis=1)
