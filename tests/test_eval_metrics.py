"""Metrics of the benchmarks against values worked out by hand; baselines against the known ones of the real files."""

import json
import math
from typing import Any

import numpy as np
import pytest

from videochat_r1.evaluation.baselines.trivial import best_constant_interval, chance, compute_baselines, majority_answer
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.metrics.grounding import (
    moment_scores,
    nextgqa_scores,
    overlap_and_precision,
)
from videochat_r1.evaluation.metrics.score_table import ScoreTable
from videochat_r1.evaluation.metrics.tracking import (
    DenseTruth,
    interpolate_boxes,
    rectangle_ious,
    sequence_scores,
    to_pixels,
)
from videochat_r1.evaluation.reports.summary import result_table
from videochat_r1.evaluation.scoring.answers import ScoringOptions, failure_of, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction, read_row
from videochat_r1.geometry import Box, Span
from videochat_r1.rollout.ended import shares_in_words
from videochat_r1.sample import ChoiceTarget, LabelTarget, Sample, SpanTarget, Video

# --- temporal grounding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "truth", "expected"),
    [
        (Span(0, 5), Span(0, 10), 0.5),
        (Span(5, 15), Span(0, 10), 5 / 15),
        (Span(0, 10), Span(0, 10), 1.0),
        (Span(10, 20), Span(0, 10), 0.0),
        (Span(12, 20), Span(0, 10), 0.0),
        (Span(8, 2), Span(0, 10), 0.0),
        (Span(5, 5), Span(0, 10), 0.0),
        (Span(3, 3), Span(3, 3), 0.0),
        (Span(0, 30), Span(8, 7), 0.0),
        (Span(2, 4), Span(1, 9), 2 / 8),
    ],
)
def test_the_iou_of_a_moment(span: Span, truth: Span, expected: float) -> None:
    assert moment_scores(span, truth)["mIoU"] == pytest.approx(expected)


def test_an_answer_past_the_end_of_the_video_is_not_clipped() -> None:
    # 10 of 40 seconds: a clipped answer would have reached 10 / 30.
    assert moment_scores(Span(20, 60), Span(20, 30))["mIoU"] == pytest.approx(0.25)


def test_a_tie_reaches_its_threshold() -> None:
    assert moment_scores(Span(0, 5), Span(0, 10)) == {"mIoU": 0.5, "R1@0.3": 1.0, "R1@0.5": 1.0, "R1@0.7": 0.0}
    assert moment_scores(Span(0, 3), Span(0, 10))["R1@0.3"] == 1.0
    assert moment_scores(Span(0, 7), Span(0, 10))["R1@0.7"] == 1.0
    assert moment_scores(None, Span(0, 10)) == {"mIoU": 0.0, "R1@0.3": 0.0, "R1@0.5": 0.0, "R1@0.7": 0.0}


# --- NExT-GQA -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "truth", "iou", "iop"),
    [
        (Span(2, 6), Span(4, 10), 2 / 8, 2 / 4),
        (Span(4, 6), Span(0, 10), 2 / 10, 1.0),
        (Span(0, 20), Span(5, 10), 5 / 20, 5 / 20),
        (Span(6, 6), Span(5, 10), 0.0, 1.0),
        (Span(10, 10), Span(5, 10), 0.0, 1.0),
        (Span(11, 11), Span(5, 10), 0.0, 0.0),
        (Span(9, 6), Span(5, 10), 0.0, 0.0),
        (Span(10, 12), Span(5, 10), 0.0, 0.0),
    ],
)
def test_overlap_and_precision(span: Span, truth: Span, iou: float, iop: float) -> None:
    assert overlap_and_precision(span, truth) == pytest.approx((iou, iop))


def test_best_true_span_counts_for_iou_and_iop_apart() -> None:
    # Against (0, 2): IoU 2/4, IoP 2/4. Against (1, 11): IoU 3/11, IoP 3/4.
    scores = nextgqa_scores([Span(0, 4)], [Span(0, 2), Span(1, 11)], correct=True)
    assert scores["mIoU"] == pytest.approx(0.5) and scores["IoU@0.5"] == 1.0
    assert scores["mIoP"] == pytest.approx(0.75) and scores["Acc@GQA"] == 1.0


def test_of_several_answered_spans_the_first_counts_officially_and_all_in_the_papers_union() -> None:
    scores = nextgqa_scores([Span(50, 60), Span(0, 10)], [Span(0, 10)], correct=True)
    assert scores["mIoU"] == scores["mIoP"] == scores["Acc@GQA"] == 0.0
    assert scores["union_mIoU"] == pytest.approx(0.5)


def test_acc_gqa_needs_the_right_option_and_half_the_prediction_inside() -> None:
    half = [Span(0, 10)]
    assert nextgqa_scores(half, [Span(5, 20)], correct=True)["Acc@GQA"] == 1.0
    assert nextgqa_scores(half, [Span(5, 20)], correct=False)["Acc@GQA"] == 0.0
    assert nextgqa_scores(half, [Span(5.1, 20)], correct=True)["Acc@GQA"] == 0.0
    assert nextgqa_scores([], [Span(5, 20)], correct=True)["Acc@GQA"] == 0.0


# --- tracking -------------------------------------------------------------------------------------------------------


def test_rectangles_are_clipped_to_the_frame_first() -> None:
    predicted = np.array([[90.0, 0.0, 40.0, 10.0], [0.0, 0.0, 10.0, 10.0], [np.nan] * 4])
    truth = np.array([[90.0, 0.0, 10.0, 10.0], [5.0, 0.0, 10.0, 10.0], [0.0, 0.0, 5.0, 5.0]])
    assert rectangle_ious(predicted, truth, (100, 100)) == pytest.approx([1.0, 50 / 150, 0.0])


def dense_truth(cover: list[int]) -> DenseTruth:
    boxes = np.array([[0.0, 0.0, 10.0, 10.0]] * len(cover))
    return DenseTruth(boxes, np.array(cover), (100, 100))


def test_ao_leaves_out_the_first_frame_and_invisible_ones_and_sr_is_strict() -> None:
    # IoU per frame: 1 (given), 0.5 exactly, 0.75 exactly, 1 but invisible, 0.8.
    widths = [10.0, 5.0, 7.5, 10.0, 8.0]
    predicted = np.array([[0.0, 0.0, width, 10.0] for width in widths])
    scores = sequence_scores(predicted, dense_truth([8, 8, 1, 0, 8]))
    assert scores["AO"] == pytest.approx((0.5 + 0.75 + 0.8) / 3)
    assert scores["SR0.5"] == pytest.approx(2 / 3) and scores["SR0.75"] == pytest.approx(1 / 3)
    assert sequence_scores(predicted[:2], dense_truth([8, 0])) == {}


def test_interpolation_moves_corners_in_a_straight_line_and_invents_nothing() -> None:
    first, last = Box(0.0, 0.0, 0.2, 0.2), Box(0.4, 0.0, 0.6, 0.4)
    dense = interpolate_boxes([first, last, None], [0, 2, 4], 6)
    assert dense[0] == first and dense[2] == last
    assert dense[1] == pytest.approx((0.2, 0.0, 0.4, 0.3))
    assert dense[3:] == [None, None, None]


def test_pixels_of_boxes_in_fractions() -> None:
    rows = to_pixels([Box(0.1, 0.2, 0.3, 0.6), None, Box(0.3, 0.6, 0.1, 1.5)], (100, 50))
    assert rows[0] == pytest.approx([10.0, 10.0, 20.0, 20.0])
    assert np.isnan(rows[1]).all()
    assert rows[2] == pytest.approx([10.0, 30.0, 20.0, 45.0])


def test_a_box_that_begins_left_of_the_frame_keeps_its_width_as_in_the_toolkit() -> None:
    # The toolkit moves the left edge to 0 and leaves the width: 0 to 30, not 0 to 20.
    boxes = to_pixels([Box(-0.1, 0.0, 0.2, 0.5), Box(0.8, 0.0, 1.2, 0.5)], (100, 100))
    truth = np.array([[0.0, 0.0, 20.0, 50.0], [80.0, 0.0, 20.0, 50.0]])
    assert rectangle_ious(boxes, truth, (100, 100)) == pytest.approx([20 / 30, 1.0])


# --- means and intervals --------------------------------------------------------------------------------------------


def test_a_metric_that_some_rows_lack_is_zero_there_and_weights_pool() -> None:
    table = ScoreTable.of([{"a": 1.0, "AO": 0.5}, {"a": 0.0}, {"a": 0.5, "AO": 1.0}], {"AO": [10.0, 20.0, 30.0]})
    assert table.means() == pytest.approx({"a": 0.5, "AO": (5.0 + 0.0 + 30.0) / 60.0})


def test_without_weight_there_is_no_mean() -> None:
    table = ScoreTable.of([{"AO": 0.5}], {"AO": [0.0]})
    assert table.means() == {"AO": None} and table.intervals(10, 0) == {"AO": None}


def test_bootstrap_interval_is_that_of_the_normal_approximation_and_follows_the_seed() -> None:
    values = np.random.default_rng(1).random(2000)
    table = ScoreTable.of([{"x": float(value)} for value in values])
    (low, high) = table.intervals(2000, seed=3)["x"] or (0.0, 0.0)
    margin = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - margin, abs=margin / 8)
    assert high == pytest.approx(values.mean() + margin, abs=margin / 8)
    assert table.intervals(2000, seed=3)["x"] == [low, high] != table.intervals(2000, seed=4)["x"]
    assert table.intervals(0, seed=3)["x"] is None


def test_groups_are_sorted_by_number_and_keep_their_counts() -> None:
    table = ScoreTable.of([{"x": 1.0}, {"x": 0.0}, {"x": 1.0}, {"x": 1.0}])
    groups = table.by_group(["60", ("15",), ("15", "60"), None])
    assert list(groups) == ["15", "60"]
    assert groups["15"] == {"num_samples": 2, "x": 0.5}
    assert groups["60"] == {"num_samples": 2, "x": 1.0}, "a sample may count in several"


# --- what fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "kind"),
    [
        (Prediction("a", None), "no_completion"),
        (Prediction("a", None, "video_error"), "video_error"),
        (Prediction("a", "  "), "empty_completion"),
        (Prediction("a", "<answer>5 to", extra={"ended": "length"}), "cut_off"),
        (Prediction("a", "no idea"), "unparsable"),
    ],
)
def test_kinds_of_failure(prediction: Prediction, kind: str) -> None:
    assert failure_of(prediction, None) == kind
    assert failure_of(Prediction("a", "x"), Span(0, 1)) is None


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"finished": False}, {"ended": "length"}),
        ({"finished": True, "num_tokens": 3}, {"ended": "stop", "num_tokens": 3}),
        ({"finished": "yesterday"}, {"finished": "yesterday"}),
        ({"failure": "prompt_error"}, {"failure": "prompt_error", "ended": "prompt_error"}),
        ({"failure": "video_error", "ended": "video_error"}, {"failure": "video_error", "ended": "video_error"}),
        ({"failure": "asleep"}, {"failure": "asleep"}),
        ({"ended": "length"}, {"ended": "length"}),
        ({}, {}),
    ],
    ids=str,
)
def test_rows_say_why_they_ended_whichever_version_wrote_them(row: dict[str, Any], read: dict[str, Any]) -> None:
    failure = read.pop("failure", None)
    assert read_row(json.dumps({"id": "a", "completion": None} | row)) == Prediction("a", None, failure, read)


@pytest.mark.parametrize(
    ("ended", "shares"),
    [
        (["stop", "length", "stop", "video_error"], "stop 50.0 %, length 25.0 %, video_error 25.0 %"),
        (["stop"] * 4, "stop 100.0 %"),
        (["stop", None, "stop", "stop"], None),
        ([None] * 4, None),
    ],
)
def test_results_have_the_shares_of_why_answers_ended_where_all_say_it(ended: list[Any], shares: str | None) -> None:
    samples = [moment(str(index), Span(10, 20)) for index in range(4)]
    answers = [
        Prediction(str(index), "<answer>10 to 20</answer>", extra={} if one is None else {"ended": one})
        for index, one in enumerate(ended)
    ]
    results = score_answers(BENCHMARKS["charades_sta"], samples, answers, ScoringOptions(bootstrap=10)).results
    assert (shares_in_words(results["ended"]) if "ended" in results else None) == shares
    table = result_table(results | {"settings": {}})
    assert (f"\nended: {shares}\n" in table) == (shares is not None)


def moment(name: str, span: Span, duration: float = 100.0) -> Sample:
    target = SpanTarget(span, duration)
    return Sample(name, "temporal_grounding", Video(path=f"{name}.mp4"), "it happens", target, duration, "toy")


def test_failures_stay_in_the_denominator_and_are_listed() -> None:
    samples = [moment(str(index), Span(10, 20)) for index in range(4)]
    texts = ["<answer>10 to 20</answer>", "<answer>10 to 15</answer>", None, "10 to 20"]
    answers = [Prediction(str(index), text) for index, text in enumerate(texts)]
    results = score_answers(BENCHMARKS["charades_sta"], samples, answers, ScoringOptions(bootstrap=10)).results
    assert results["metrics"]["mIoU"] == pytest.approx(1.5 / 4)
    assert results["num_failed"] == 2
    assert results["failures"] == {
        "no_completion": {"count": 1, "first": ["2"]},
        "unparsable": {"count": 1, "first": ["3"]},
    }
    untagged = ScoringOptions(untagged=True, bootstrap=0)
    results = score_answers(BENCHMARKS["charades_sta"], samples, answers, untagged).results
    assert results["metrics"]["mIoU"] == pytest.approx(2.5 / 4) and results["num_failed"] == 1


LETTERED = ("perception_test", "videomme", "longvideobench")


@pytest.mark.parametrize(
    ("completion", "right", "by_the_letter", "by_mvbench"),
    [
        ("<answer>B</answer>", True, True, True),
        ("<answer>(b) a cat</answer>", True, False, True),
        ("<answer>a cat</answer>", True, False, False),
        ("<think>A?</think><answer>Bananas are seen.</answer>", False, True, False),
        ("It may well be B or so", False, True, False),
        ("B. A is a dog", False, True, True),
        ("<answer>(</answer>", False, False, True),
        ("<answer> </answer>", False, False, False),
        ("<answer>A dog</answer>", False, False, False),
        (None, False, False, False),
    ],
)
def test_the_authors_own_rules_stand_beside_ours(
    completion: str | None, right: bool, by_the_letter: bool, by_mvbench: bool
) -> None:
    target = ChoiceTarget(("a dog", "a cat"), "B")
    for name in (*LETTERED, "mvbench"):
        sample = Sample("1", "multi_choice_qa", Video(path="v.mp4"), "q", target, extra={"task": "action_count"})
        found = score_answers(BENCHMARKS[name], [sample], [Prediction("1", completion)], ScoringOptions(bootstrap=0))
        metrics = found.results["metrics"]
        assert (metrics["accuracy"], metrics["accuracy_official"]) == (
            float(right),
            float(by_mvbench if name == "mvbench" else by_the_letter),
        ), name


# --- baselines ------------------------------------------------------------------------------------------------------


def test_baselines_of_the_real_files(shared_dir) -> None:
    folder = shared_dir / "annotations"
    charades = BENCHMARKS["charades_sta"]
    samples = charades.load(Source(folder / "charades_sta" / "test.json"))
    train = charades.load(Source(folder / "charades_sta" / "train.json"))
    found = compute_baselines(charades, samples, train).metrics
    whole, constant = found["whole_video"], found["best_constant_interval"]
    assert whole is not None and constant is not None
    shown = [round(100 * whole[name], 1) for name in ("mIoU", "R1@0.3", "R1@0.5")]
    assert shown == [27.0, 34.3, 0.4]
    assert constant["mIoU"] > whole["mIoU"]

    got10k = BENCHMARKS["got10k"]
    samples = got10k.load(Source(folder / "got10k" / "videochat_r1_val.json"))
    copied = compute_baselines(got10k, samples, None).metrics["copied_box"]
    assert copied is not None
    assert round(100 * copied["overlap"], 2) == 42.35
    assert [round(100 * copied[name], 1) for name in ("R@0.5", "R@0.7")] == [32.2, 5.6]

    vidtab = BENCHMARKS["vidtab_quality"]
    samples = vidtab.load(Source(folder / "vidtab" / "quality_test.json"))
    found = compute_baselines(vidtab, samples, None).metrics
    assert found["majority_answer"] is not None and found["random_choice"] == {"accuracy": 0.5}
    assert round(100 * found["majority_answer"]["accuracy"], 1) == 50.3

    nextgqa = BENCHMARKS["nextgqa"]
    samples = nextgqa.load(Source(folder / "nextgqa" / "videochat_r1_val.json"))
    baselines = compute_baselines(nextgqa, samples, None)
    whole = baselines.metrics["whole_video"]
    assert whole is not None and "accuracy" not in whole
    # The validation split's; the test split's is 22.65.
    assert round(100 * whole["union_mIoU"], 2) == 22.78
    assert baselines.metrics["best_constant_interval"] is None
    assert "--train-annotations" in baselines.notes["best_constant_interval"]


def test_best_constant_interval_in_shares_and_in_seconds() -> None:
    shares = [moment(str(d), Span(0.25 * d, 0.5 * d), d) for d in (20.0, 50.0, 100.0, 300.0)]
    answer, words = best_constant_interval(shares)
    assert answer(40.0) == pytest.approx((10.0, 20.0)) and "of the duration" in words
    seconds = [moment(str(d), Span(5.0, 10.0), d) for d in (20.0, 50.0, 73.0, 100.0)]
    answer, words = best_constant_interval(seconds)
    assert answer(40.0) == pytest.approx((5.0, 10.0)) and "seconds" in words


def test_majority_and_chance() -> None:
    def question(answer: str, options: tuple[str, ...]) -> Sample:
        return Sample(answer, "multi_choice_qa", Video(path="v.mp4"), "why?", ChoiceTarget(options, answer))

    three = ("a", "b", "c")
    assert majority_answer([question("B", three), question("A", three), question("B", three)]) == "B"
    assert majority_answer([question("B", three), question("A", three)]) == "A"
    assert chance(question("A", ("x", "y", "x", "z"))) == 0.5
    label = LabelTarget(("low", "high"), "low")
    assert chance(Sample("v", "quality_assessment", Video(path="v.mp4"), "?", label)) == 0.5


def test_unknown_durations_leave_span_baselines_out_with_the_reason() -> None:
    samples = [moment("a", Span(1, 2), math.nan)]
    baselines = compute_baselines(BENCHMARKS["charades_sta"], samples, None)
    assert baselines.metrics == {"whole_video": None, "best_constant_interval": None}
    assert "--durations" in baselines.notes["whole_video"]


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_every_benchmark_cites_its_metrics(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name and benchmark.definitions and benchmark.num_samples["all"] > 0
    for task in benchmark.tasks:
        assert benchmark.headline(task) in benchmark.definitions
