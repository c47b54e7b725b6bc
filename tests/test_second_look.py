"""The arithmetic of a second look: which segments, at which instants, at which size, and how a clip's time maps back."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videochat_r1.errors import ConfigError, DataError
from videochat_r1.geometry import Span
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.segments import (
    clip_time,
    clue_segments,
    gaps_between,
    longest_segments,
    sampled_times,
    video_spans,
)
from videochat_r1.second_look.view import Look, plan_look
from videochat_r1.video.frames import VideoBudget
from videochat_r1.video.probe import VideoInfo


@pytest.mark.parametrize(
    ("clues", "padding", "expected"),
    [
        ([(2, 4), (3, 6), (10, 11.5)], 1.0, [(1, 7), (9, 12)]),
        ([(10, 11), (2, 4)], 0.0, [(2, 4), (10, 11)]),
        ([(2, 4), (6, 8)], 1.0, [(1, 9)]),  # padded, they touch
        ([(0.5, 3)], 2.0, [(0, 5)]),
        ([(11, 40)], 0.5, [(10.5, 12)]),
        ([(0, 12)], 3.0, [(0, 12)]),
        ([(5, 5), (7, 6)], 1.0, []),
        ([(12, 15), (13, 14)], 3.0, []),  # padding does not revive what lies outside
        ([], 1.0, []),
    ],
)
def test_segments_are_clipped_padded_clipped_and_merged(
    clues: list[tuple[float, float]], padding: float, expected: list[tuple[float, float]]
) -> None:
    found = clue_segments([Span(*clue) for clue in clues], 12.0, padding)
    assert found == tuple(Span(*segment) for segment in expected)


def test_each_segment_has_a_grid_of_its_own() -> None:
    assert sampled_times([Span(1.0, 3.0)], 2.0, 100) == (1.0, 1.5, 2.0, 2.5)
    # Five instants at this rate; pairs are four, evenly spaced over the segment.
    assert sampled_times([Span(1.0, 3.5)], 2.0, 100) == (1.0, 1.625, 2.25, 2.875)
    # Too short for two instants at this rate: half way through is the second.
    assert sampled_times([Span(1.0, 3.0), Span(5.0, 5.5)], 2.0, 100) == (1.0, 1.5, 2.0, 2.5, 5.0, 5.25)
    # 8 + 4 instants at 2 fps are too many; at two thirds of the rate they are 6 + 2.
    expected = (0.0, 4 / 6, 8 / 6, 2.0, 16 / 6, 20 / 6, 6.0, 7.0)
    assert sampled_times([Span(0.0, 4.0), Span(6.0, 8.0)], 2.0, 8) == pytest.approx(expected)


def test_the_rest_of_a_video_has_a_grid_of_its_own() -> None:
    segments = [Span(2.0, 4.0), Span(6.0, 7.0)]
    rest = gaps_between(segments, 7.5)
    assert rest == (Span(0, 2), Span(4, 6), Span(7, 7.5))
    assert gaps_between([Span(0, 7.5)], 7.5) == ()
    # The last gap is too short for two instants at its rate.
    expected = (0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 6.5)
    assert sampled_times(segments, 2.0, 100, rest=rest, rest_fps=1.0) == expected
    # At 0.8 of the rates the second part of the video still has a pair; at 0.4 the rest has none.
    assert sampled_times(segments, 2.0, 6, rest=rest, rest_fps=1.0) == (2.0, 3.0, 6.0, 6.5)


def test_too_few_frames_for_the_segments() -> None:
    assert sampled_times([Span(0, 4), Span(6, 8)], 2.0, 4) == (0.0, 2.0, 6.0, 7.0)
    with pytest.raises(ConfigError, match="3 frames are too few for 2 segments"):
        sampled_times([Span(0, 4), Span(6, 8)], 2.0, 3)


_edges = st.lists(st.integers(0, 4000), min_size=2, max_size=12, unique=True).map(sorted)


@given(_edges, st.floats(0.1, 50.0), st.integers(0, 60), st.floats(0.0, 1.0))
def test_instants_ascend_in_pairs_within_their_parts(edges: list[int], fps: float, room: int, share: float) -> None:
    pairs = zip(edges[::2], edges[1::2], strict=False)
    segments = [Span(start / 10, end / 10) for start, end in pairs]
    max_frames = 2 * len(segments) + room
    rest = gaps_between(segments, 401.0)
    times = sampled_times(segments, fps, max_frames, rest=rest, rest_fps=fps * share)
    assert len(times) <= max_frames
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    counts = {part: sum(part.start <= time < part.end for time in times) for part in (*segments, *rest)}
    assert sum(counts.values()) == len(times) and all(count % 2 == 0 for count in counts.values())
    assert all(counts[segment] >= 2 for segment in segments)


def test_the_longest_segments_stay_in_order_of_time() -> None:
    segments = [Span(0, 1), Span(2, 5), Span(6, 7), Span(8, 10)]
    assert longest_segments(segments, 3) == (Span(0, 1), Span(2, 5), Span(8, 10))
    assert longest_segments(segments, 9) == tuple(segments)


def test_time_of_the_clip_and_back() -> None:
    segments = [Span(10, 12), Span(20, 23)]
    assert [clip_time(time, segments) for time in (10.0, 11.5, 12.0, 20.0, 22.0)] == [0.0, 1.5, 2.0, 2.0, 4.0]
    assert video_spans(Span(0.5, 1.5), segments) == [Span(10.5, 11.5)]
    assert video_spans(Span(1.0, 3.0), segments) == [Span(11, 12), Span(20, 21)]
    assert video_spans(Span(2.0, 9.0), segments) == [Span(20, 23)]
    assert video_spans(Span(5.0, 9.0), segments) == video_spans(Span(2.0, 1.0), segments) == []


# --- how close a look is --------------------------------------------------------------------------------------------

VIDEO = VideoInfo(duration=60.0, num_frames=1500, fps=25.0, width=448, height=224)
BUDGET = VideoBudget(fps=1.0, max_frames=60, min_pixels=28 * 28, max_pixels=112 * 56)
FIRST = Look((), "absolute", 60, 1.0, 1.0, (112, 56), 240)
"""8 tokens per pair of frames."""


def plan(options: ClueOptions, *, max_tokens: int = 10_000, number: int = 1, segments: tuple[Span, ...] = (Span(10, 18),), budget: VideoBudget = BUDGET):  # fmt: skip
    return plan_look(segments, FIRST, VIDEO, budget, options, number=number, max_tokens=lambda steps: max_tokens, factor=28).look  # fmt: skip


@pytest.mark.parametrize(
    "look",
    [
        FIRST,
        plan(ClueOptions(time="relative")),
        plan(ClueOptions(time="dense")),
        replace(FIRST, num_frames=2, fps=None, rest_fps=0.0),
    ],
)
def test_a_look_is_what_it_told(look: Look) -> None:
    told = Look.from_json(json.loads(json.dumps(look.to_json())))
    assert told == replace(look, times=tuple(round(time, 3) for time in look.times))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_frames": 0},
        {"frame_size": [1]},
        {"fps": 0},
        {"fps": "nan"},
        {"rest_fps": -1},
        {"times": [1.0] * 61},
        {"times": [float("nan")]},
        {"num_tokens": []},
        {"segments": 3},
        {"segments": [[0, float("inf")]]},
        {"time": ["dense"]},
    ],
)
def test_what_no_look_can_have_told_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no look of a model"):
        Look.from_json(FIRST.to_json() | changes)


def test_boosts_multiply_rate_and_sides() -> None:
    found = plan(ClueOptions(resolution_boost=2.0, fps_boost=2.0))
    assert found.frame_size == (224, 112)
    assert found.times == tuple(10 + step / 2 for step in range(16))
    assert found.num_tokens == 8 * 8 * 4
    again = plan(ClueOptions(resolution_boost=1.5, fps_boost=1.5), number=2)
    assert again.times == pytest.approx([10 + step / 2.25 for step in range(18)])
    assert again.frame_size == (252, 112)  # 252 x 126, rounded down to the factor


def test_nothing_is_boosted_above_the_video() -> None:
    found = plan(
        ClueOptions(resolution_boost=50.0, fps_boost=100.0), max_tokens=12_800, budget=VideoBudget(max_frames=768)
    )
    assert found.frame_size == (448, 224) and len(found.times) == 200


def test_within_the_tokens_frames_shrink_first_and_then_become_fewer() -> None:
    options = ClueOptions(resolution_boost=2.0, fps_boost=2.0)
    smaller = plan(options, max_tokens=200)  # 25 per pair: 7 x 3
    assert smaller.frame_size == (196, 84) and len(smaller.times) == 16 and smaller.num_tokens == 8 * 21
    fewer = plan(options, max_tokens=40)  # five pairs of the first pass's size
    assert fewer.frame_size == (112, 56) and fewer.num_tokens <= 40 and len(fewer.times) == 10
    least = plan(options, max_tokens=3)
    assert len(least.times) == 2 and least.num_tokens <= 3


def test_a_dense_look_keeps_the_rest_of_the_video_as_long_as_tokens_allow() -> None:
    """12 s of the video as closely as in any view; the other 48 s, in two parts, at the first look's rate."""
    options = ClueOptions(resolution_boost=2.0, fps_boost=2.0, time="dense")
    found = plan(options, segments=(Span(10, 22),), budget=replace(BUDGET, max_frames=768))
    assert (found.fps, found.rest_fps, found.num_frames) == (2.0, 1.0, 72)
    assert found.times[:10] == tuple(range(10)) and found.times[10:34] == tuple(10 + k / 2 for k in range(24))
    assert found.times[34:] == tuple(range(22, 60)) and found.frame_size == (224, 112) and found.num_tokens == 36 * 32
    for max_tokens, fewer, size in ((36 * 21, 72, (168, 84)), (240, 60, (112, 56)), (40, 10, (112, 56))):
        less = plan(options, max_tokens=max_tokens, segments=(Span(10, 22),), budget=replace(BUDGET, max_frames=768))
        assert less.num_tokens <= max_tokens and less.frame_size == size and less.num_frames in (fewer, fewer - 2)
    assert less.fps > less.rest_fps > 0.0
    least = plan(options, max_tokens=8, segments=(Span(10, 22),))
    assert least.times == (10.0, 16.0) and least.rest_fps == 0.0
    # No more frames than the first look may have: all rates fall alike.
    assert len(plan(options, segments=(Span(10, 22),)).times) in (58, 60)


def test_the_shortest_segments_are_left_out_where_tokens_are_short() -> None:
    found = plan(ClueOptions(), max_tokens=8, segments=(Span(0, 1), Span(5, 9)))
    assert found.segments == (Span(5, 9),) and found.num_tokens == 8
    few = plan(
        ClueOptions(), segments=tuple(Span(3 * k, 3 * k + 1) for k in range(4)), budget=VideoBudget(max_frames=4)
    )
    assert len(few.segments) == 2 and len(few.times) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fps_boost": 0.5}, "fps_boost is 0.5"),
        ({"resolution_boost": float("nan")}, "resolution_boost is nan"),
        ({"padding": -1.0}, "padding is -1.0"),
        ({"rounds": 0}, "rounds are 0"),
        ({"max_tokens": 0}, "tokens 0"),
        ({"time": "wall"}, "'wall'; expected one of absolute, relative, dense"),
    ],
)
def test_options_out_of_range(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClueOptions(**values)
