"""The arithmetic of a second look: which segments, at which instants, at which size, and how a clip's time maps back."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videochat_r1.errors import ConfigError
from videochat_r1.geometry import Span
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.segments import (
    clip_time,
    clue_segments,
    longest_segments,
    segment_times,
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
    assert segment_times([Span(1.0, 3.0)], 2.0, 100) == (1.0, 1.5, 2.0, 2.5)
    # Five instants at this rate; pairs are four, evenly spaced over the segment.
    assert segment_times([Span(1.0, 3.5)], 2.0, 100) == (1.0, 1.625, 2.25, 2.875)
    # Too short for two instants at this rate: half way through is the second.
    assert segment_times([Span(1.0, 3.0), Span(5.0, 5.5)], 2.0, 100) == (1.0, 1.5, 2.0, 2.5, 5.0, 5.25)
    # 8 + 4 instants at 2 fps are too many; at two thirds of the rate they are 6 + 2.
    expected = (0.0, 4 / 6, 8 / 6, 2.0, 16 / 6, 20 / 6, 6.0, 7.0)
    assert segment_times([Span(0.0, 4.0), Span(6.0, 8.0)], 2.0, 8) == pytest.approx(expected)


def test_too_few_frames_for_the_segments() -> None:
    assert segment_times([Span(0, 4), Span(6, 8)], 2.0, 4) == (0.0, 2.0, 6.0, 7.0)
    with pytest.raises(ConfigError, match="3 frames are too few for 2 segments"):
        segment_times([Span(0, 4), Span(6, 8)], 2.0, 3)


_edges = st.lists(st.integers(0, 4000), min_size=2, max_size=12, unique=True).map(sorted)


@given(_edges, st.floats(0.1, 50.0), st.integers(0, 60))
def test_instants_ascend_in_pairs_within_their_segments(edges: list[int], fps: float, room: int) -> None:
    pairs = zip(edges[::2], edges[1::2], strict=False)
    segments = [Span(start / 10, end / 10) for start, end in pairs]
    max_frames = 2 * len(segments) + room
    times = segment_times(segments, fps, max_frames)
    assert len(times) <= max_frames
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    inside = [[time for time in times if segment.start <= time < segment.end] for segment in segments]
    assert sum(map(len, inside)) == len(times)
    assert all(len(found) >= 2 and len(found) % 2 == 0 for found in inside)


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
FIRST = Look((), "absolute", 60, 1.0, (112, 56), 240)
"""8 tokens per pair of frames."""


def plan(options: ClueOptions, *, max_tokens: int = 10_000, number: int = 1, segments: tuple[Span, ...] = (Span(10, 18),), budget: VideoBudget = BUDGET):  # fmt: skip
    return plan_look(segments, FIRST, VIDEO, budget, options, number=number, max_tokens=lambda steps: max_tokens, factor=28)  # fmt: skip


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
        ({"time": "wall"}, "'wall'; expected one of absolute, relative"),
    ],
)
def test_options_out_of_range(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClueOptions(**values)
