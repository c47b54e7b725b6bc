"""Arithmetic that the tasks about time share: clipping to the video, coverage, and how the truth is written."""

from collections.abc import Sequence

from videochat_r1.geometry import Span, merge_spans

RECALL_THRESHOLDS = (0.3, 0.5, 0.7)
_COLLAPSED_SHARE = 0.9


def visible_spans(spans: Sequence[Span], truth: Sequence[Span], duration: float) -> list[Span]:
    """The spans clipped to the video.

    Some annotations reach past their own `duration` (1,789 of Charades-STA train by up to 1.5 s). The video then lasts until
    the annotation ends, so that the published truth can be answered and is not changed.
    """
    end = max([duration, *(span.end for span in truth)])
    return [span.clipped(end) for span in spans]


def covers_video(spans: Sequence[Span], duration: float) -> bool:
    """Whether the union of the spans is more than 90 % of the video."""
    covered = sum(span.length for span in merge_spans([span.clipped(duration) for span in spans]))
    return covered > _COLLAPSED_SHARE * duration


def seconds_text(span: Span) -> tuple[str, str]:
    """Start and end, rounded to 0.01 s; unrounded where rounding would leave nothing of the span."""
    start, end = round(span.start, 2), round(span.end, 2)
    return (repr(start), repr(end)) if start < end else (repr(span.start), repr(span.end))
