"""Arithmetic that the tasks about time share: coverage of the video, and how the truth is written."""

import math
from collections.abc import Sequence

from videochat_r1.geometry import Span, merge_spans

RECALL_THRESHOLDS = (0.3, 0.5, 0.7)
_COLLAPSED_SHARE = 0.9


def ends_past_video(spans: Sequence[Span], truth: Sequence[Span], duration: float) -> bool:
    """Whether one of the spans ends after the video does.

    Some annotations reach past their own `duration` (1,789 of Charades-STA train by up to 1.5 s). The video then lasts until
    the annotation ends.
    """
    return max((span.end for span in spans), default=0.0) > max([duration, *(span.end for span in truth)])


def covers_video(spans: Sequence[Span], duration: float) -> bool:
    """Whether the union of the spans is more than 90 % of the video."""
    covered = sum(span.length for span in merge_spans([span.clipped(duration) for span in spans]))
    return covered > _COLLAPSED_SHARE * duration


def seconds_text(span: Span) -> tuple[str, str]:
    """Start and end, rounded to 0.01 s; to more digits where the span is shorter than a second."""
    digits = decimals(span.length, 2, enough=1.0)
    return repr(round(span.start, digits)), repr(round(span.end, digits))


def decimals(extent: float, least: int, *, enough: float) -> int:
    """Digits after the point with which what is `extent` long keeps 99 % of its length when its ends are rounded.

    `least` where it is at least `enough` long, or has no length.
    """
    return least if extent >= enough or extent <= 0.0 else max(least, math.ceil(2.0 - math.log10(extent)))
