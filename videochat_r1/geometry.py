"""Spans of time and boxes on a frame, and how much two of them overlap. Plain arithmetic on finite floats."""

from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of a video, in seconds. Empty (and overlapping nothing) unless start < end."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """Seconds; 0.0 for a reversed span."""
        return max(0.0, self.end - self.start)

    def clipped(self, duration: float) -> "Span":
        """The part of the span inside [0, duration]."""
        return Span(min(max(self.start, 0.0), duration), min(max(self.end, 0.0), duration))


class Box(NamedTuple):
    """Corners of an axis-parallel rectangle, normalised to [0, 1] of the original frame's width and height."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def area(self) -> float:
        """Share of the frame; 0.0 for a box whose corners are swapped."""
        return max(0.0, self.x1 - self.x0) * max(0.0, self.y1 - self.y0)

    def sorted_corners(self) -> "Box":
        """The same box with its upper left corner first."""
        left, right = sorted((self.x0, self.x1))
        top, bottom = sorted((self.y0, self.y1))
        return Box(left, top, right, bottom)

    def normalised(self) -> "Box":
        """The same box with sorted corners, clipped to the frame."""
        return Box(*(min(max(value, 0.0), 1.0) for value in self.sorted_corners()))


def span_intersection(a: Span, b: Span) -> float:
    """Seconds that lie in both spans."""
    return max(0.0, min(a.end, b.end) - max(a.start, b.start))


def span_iou(a: Span, b: Span) -> float:
    """Intersection over union of two spans, in [0, 1]; 0.0 when either is empty or reversed."""
    if a.length == 0.0 or b.length == 0.0:
        return 0.0
    return span_intersection(a, b) / (max(a.end, b.end) - min(a.start, b.start))


def merge_spans(spans: Sequence[Span]) -> list[Span]:
    """The union of the spans as disjoint spans in order of time; empty and reversed ones are left out."""
    merged: list[Span] = []
    for span in sorted(span for span in spans if span.length > 0.0):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def span_set_iou(a: Sequence[Span], b: Sequence[Span]) -> float:
    """Total intersection over total union of two sets of spans, each merged first (paper 3.2); 0.0 when either is empty."""
    merged_a, merged_b = merge_spans(a), merge_spans(b)
    if not merged_a or not merged_b:
        return 0.0
    intersection = sum(span_intersection(x, y) for x in merged_a for y in merged_b)
    union = sum(x.length for x in merged_a) + sum(y.length for y in merged_b) - intersection
    return min(1.0, intersection / union)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]; 0.0 when either has no area."""
    width = max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0))
    height = max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))
    intersection = width * height
    # A product of two tiny sides is 0, although both are positive.
    if intersection == 0.0:
        return 0.0
    return min(1.0, intersection / (a.area + b.area - intersection))
