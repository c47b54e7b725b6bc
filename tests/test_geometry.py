import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videochat_r1.geometry import Box, Span, box_iou, merge_spans, span_intersection, span_iou, span_set_iou

FUZZ = settings(deadline=None, derandomize=True)
seconds = st.floats(-10, 1e6, allow_nan=False)
spans = st.builds(Span, seconds, seconds)
unit = st.floats(0, 1, allow_nan=False)
boxes = st.builds(Box, unit, unit, unit, unit)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((5, 10), (5, 10), 1.0),
        ((0, 10), (5, 10), 0.5),
        ((0, 10), (5, 15), 5 / 15),
        ((0, 5), (5, 10), 0.0),
        ((0, 5), (7, 10), 0.0),
        ((2, 4), (0, 8), 0.25),
        ((10, 5), (5, 10), 0.0),
        ((5, 5), (5, 5), 0.0),
    ],
)
def test_span_iou_by_hand(a, b, expected):
    assert span_iou(Span(*a), Span(*b)) == pytest.approx(expected)
    assert span_iou(Span(*b), Span(*a)) == pytest.approx(expected)


def test_a_span_iou_at_a_threshold_is_not_lost_to_rounding():
    assert span_iou(Span(0.0, 7.0), Span(0.0, 10.0)) >= 0.7
    assert span_iou(Span(0.0, 0.3), Span(0.0, 1.0)) >= 0.3


def test_clipped_keeps_the_part_inside_the_video():
    assert Span(-3, 40).clipped(30) == (0, 30)
    assert Span(35, 40).clipped(30) == (30, 30)
    assert Span(35, 40).clipped(30).length == 0.0


def test_merged_spans_are_disjoint_and_in_order():
    assert merge_spans([Span(8, 9), Span(0, 2), Span(1, 3), Span(3, 4), Span(6, 5), Span(7, 7)]) == [(0, 4), (8, 9)]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([(0, 10)], [(0, 5), (5, 10)], 1.0),
        ([(0, 4), (6, 10)], [(2, 8)], 4 / 10),
        ([(0, 4), (0, 4), (1, 2)], [(0, 4)], 1.0),
        ([(0, 10)], [(1, 2), (4, 6)], 3 / 10),
        ([], [], 0.0),
        ([(5, 5)], [(5, 5)], 0.0),
        ([(6, 5)], [(5, 6)], 0.0),
    ],
)
def test_span_set_iou_by_hand(a, b, expected):
    assert span_set_iou([Span(*x) for x in a], [Span(*x) for x in b]) == pytest.approx(expected)


def test_box_iou_by_hand():
    assert box_iou(Box(0, 0, 1, 1), Box(0, 0, 1, 1)) == 1.0
    assert box_iou(Box(0, 0, 0.5, 1), Box(0, 0, 1, 1)) == pytest.approx(0.5)
    # 0.1 x 0.1 shared, twice 0.2 x 0.2: 0.01 / 0.07.
    assert box_iou(Box(0, 0, 0.2, 0.2), Box(0.1, 0.1, 0.3, 0.3)) == pytest.approx(1 / 7)
    assert box_iou(Box(0, 0, 0.2, 0.2), Box(0.2, 0.2, 0.3, 0.3)) == 0.0


def test_boxes_without_area_overlap_nothing():
    assert box_iou(Box(0.5, 0.5, 0.5, 0.5), Box(0.5, 0.5, 0.5, 0.5)) == 0.0
    tiny = Box(0, 0, 1e-200, 1e-200)
    assert box_iou(tiny, tiny) == 0.0


def test_normalised_sorts_and_clips_corners():
    assert Box(0.9, -1, 0.1, 2).normalised() == (0.1, 0, 0.9, 1)


@FUZZ
@given(spans, spans)
def test_span_iou_is_a_symmetric_share(a, b):
    assert 0.0 <= span_iou(a, b) <= 1.0
    assert span_iou(a, b) == span_iou(b, a)
    assert span_intersection(a, b) <= max(a.length, b.length)


@FUZZ
@given(st.lists(spans, max_size=6), st.lists(spans, max_size=6))
def test_span_set_iou_is_a_share(a, b):
    assert 0.0 <= span_set_iou(a, b) <= 1.0
    assert span_set_iou(a, a) == (1.0 if merge_spans(a) else 0.0)


@FUZZ
@given(boxes, boxes)
def test_box_iou_is_a_symmetric_share(a, b):
    a, b = a.normalised(), b.normalised()
    assert 0.0 <= box_iou(a, b) <= 1.0
    assert box_iou(a, b) == box_iou(b, a)


@FUZZ
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5),
)
def test_span_set_iou_equals_counting_seconds(a, b):
    seconds_a, seconds_b = ({s for x, y in spans for s in range(x, y)} for spans in (a, b))
    union = len(seconds_a | seconds_b)
    expected = len(seconds_a & seconds_b) / union if seconds_a and seconds_b else 0.0
    assert span_set_iou([Span(*x) for x in a], [Span(*x) for x in b]) == pytest.approx(expected)
