"""Which parts of a video a second look takes, at which instants, and how their time runs. Plain arithmetic, no torch."""

from collections.abc import Sequence

from videochat_r1.errors import ConfigError
from videochat_r1.geometry import Span, merge_spans
from videochat_r1.video.sampling import TEMPORAL_PATCH


def clue_segments(clues: Sequence[Span], duration: float, padding: float) -> tuple[Span, ...]:
    """The parts of the video that the clues point to: clipped to it, padded on both sides, clipped again, merged.

    Args:
        clues: as the model named them; reversed, empty and those wholly outside the video are no clues.
        duration: seconds of the video.
        padding: seconds to add before and after each.

    Returns:
        Disjoint segments in order of time; empty if there is no valid clue.
    """
    visible = [clue.clipped(duration) for clue in clues if clue.length > 0.0]
    padded = [Span(clue.start - padding, clue.end + padding).clipped(duration) for clue in visible if clue.length > 0.0]
    return tuple(merge_spans(padded))


def gaps_between(segments: Sequence[Span], duration: float) -> tuple[Span, ...]:
    """The rest of the video, in order of time."""
    edges = [0.0, *(edge for segment in segments for edge in segment), duration]
    gaps = (Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True))
    return tuple(gap for gap in gaps if gap.length > 0.0)


def sampled_times(
    segments: Sequence[Span], fps: float, max_frames: int, *, rest: Sequence[Span] = (), rest_fps: float = 0.0
) -> tuple[float, ...]:
    """Ascending instants at which segments and the rest of a video are looked at, in seconds of the video.

    Each part has an even number of instants of its own, evenly spaced from its start: the two frames of one temporal patch
    never come from different parts. A segment has at least two; a part of the rest that is too short for two at its rate has
    none. Above `max_frames` all rates fall alike.

    Args:
        segments: disjoint, in order of time.
        fps: instants per second of the segments, as nearly as pairs of them can be.
        max_frames: of all parts together.
        rest: parts that are disjoint from the segments and each other.
        rest_fps: instants per second of the rest.

    Raises:
        ConfigError: `max_frames` leaves less than two instants for each segment.
    """
    if max_frames < TEMPORAL_PATCH * len(segments):
        raise ConfigError(f"{max_frames} frames are too few for {len(segments)} segments of at least {TEMPORAL_PATCH}")
    parts = sorted([*((segment, fps, 1) for segment in segments), *((gap, rest_fps, 0) for gap in rest)])
    slower = 1.0
    while sum(counts := [_count(*part, slower) for part in parts]) > max_frames:
        slower *= max_frames / sum(counts)
    return tuple(
        part.start + number * part.length / count
        for (part, _, _), count in zip(parts, counts, strict=True)
        for number in range(count)
    )


def _count(part: Span, fps: float, least_pairs: int, slower: float) -> int:
    """Instants of a part."""
    return TEMPORAL_PATCH * max(least_pairs, round(part.length * fps * slower / TEMPORAL_PATCH))


def longest_segments(segments: Sequence[Span], count: int) -> tuple[Span, ...]:
    """At most `count` of the segments, the longest ones (of equal ones the earlier), in order of time."""
    return tuple(sorted(sorted(segments, key=lambda segment: -segment.length)[:count]))


def clip_time(time: float, segments: Sequence[Span]) -> float:
    """Where an instant inside a segment lies in the clip that plays the segments one after the other."""
    return sum(max(0.0, min(time, segment.end) - segment.start) for segment in segments)


def video_spans(span: Span, segments: Sequence[Span]) -> list[Span]:
    """The parts of the video that a span of that clip shows; a part each where it reaches over a cut."""
    found, begin = [], 0.0
    for segment in segments:
        part = Span(max(span.start - begin, 0.0), min(span.end - begin, segment.length))
        if part.length > 0.0:
            found.append(Span(segment.start + part.start, segment.start + part.end))
        begin += segment.length
    return found
