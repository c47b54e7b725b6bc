import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import task_targets
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.geometry import Box
from videochat_r1.sample import BoxesTarget, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.base import render_template
from videochat_r1.tasks.tracking import frame_ious
from videochat_r1.testing import check_task

TARGETS = {name: truth for name, (truth, _) in task_targets.TARGETS.items()}
FUZZ = settings(deadline=None, derandomize=True)
EVERY_TASK = pytest.mark.parametrize("name", list(TASKS))
THINKING = pytest.mark.parametrize("thinking", [True, False])


def target_of(name):
    return TASKS[name].target_from_json(TARGETS[name])


def sample_of(name):
    return Sample("id", name, Video(path="v.mp4"), " what happens {here}? ", target_of(name))


def test_every_task_has_a_target_here():
    assert set(TARGETS) == set(TASKS)


@EVERY_TASK
def test_every_task_keeps_the_contract(name):
    task = TASKS[name]
    assert task.name == name
    check_task(task, *task_targets.TARGETS[name])


@EVERY_TASK
def test_a_missing_key_is_named(name):
    for key in TARGETS[name]:
        value = {other: TARGETS[name][other] for other in TARGETS[name] if other != key}
        with pytest.raises(DataError, match=key):
            TASKS[name].target_from_json(value)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tracking'"):
        TASKS["traking"]


def test_the_duration_in_a_prompt_is_the_samples_own_first():
    task, sample = TASKS["temporal_grounding"], sample_of("temporal_grounding")
    assert task.instruction(sample, thinking=False, template="{duration}") == "30.00"
    longer = Sample("id", sample.task, sample.media, "q", sample.target, duration=31.5)
    assert task.instruction(longer, thinking=False, template="{duration}") == "31.50"
    assert TASKS["tracking"].instruction(sample_of("tracking"), thinking=False, template="{duration}") == "unknown"


@pytest.mark.parametrize(
    "template", ["{query", "query}", "{query!r}", "{query:>9}", "{query.real}", "{}", "{0}", "{query[0]}"]
)
def test_templates_are_plain(template):
    with pytest.raises(ConfigError):
        render_template(template, {"query": "q"}, where="here")


def test_a_target_of_another_task_is_refused():
    sample = Sample("id", "tracking", Video(path="v"), "q", target_of("multi_choice_qa"))
    with pytest.raises(DataError, match="BoxesTarget"):
        TASKS["tracking"].instruction(sample, thinking=False)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("temporal_grounding", {"span": [1]}, "span"),
        ("temporal_grounding", {"span": "1 to 2"}, "span"),
        ("temporal_grounding", {"span": [1, math.nan]}, "span"),
        ("temporal_grounding", {"span": [1, 10**400]}, "span"),
        ("temporal_grounding", {"span": [1, True]}, "span"),
        ("temporal_grounding", {"duration": 0}, "duration"),
        ("temporal_grounding", {"duration": None}, "duration"),
        ("tracking", {"boxes": []}, "boxes"),
        ("tracking", {"boxes": [[0, 0, 1]]}, r"boxes\[0\]"),
        ("tracking", {"boxes": [[0, 0, 1, math.inf]]}, r"boxes\[0\]"),
        ("multi_choice_qa", {"options": []}, "options"),
        ("multi_choice_qa", {"options": "ABC"}, "options"),
        ("multi_choice_qa", {"options": ["x"] * 27}, "27"),
        ("multi_choice_qa", {"answer": "E"}, "answer"),
        ("multi_choice_qa", {"answer": 2}, "answer"),
        ("multi_choice_qa", {"answer": "A or B"}, "answer"),
        ("grounded_qa", {"spans": []}, "spans"),
        ("grounded_qa", {"spans": [[1, 2], [3]]}, r"spans\[1\]"),
        ("quality_assessment", {"answer": "medium"}, "answer"),
        ("quality_assessment", {"choices": []}, "choices"),
        ("captioning", {"caption": None}, "caption"),
        ("captioning", {"events": "A man opens a door."}, "events"),
        ("captioning", {"events": ["A man opens a door.", 3]}, "events"),
    ],
)
def test_a_malformed_target_is_named(name, change, message):
    with pytest.raises(DataError, match=message):
        TASKS[name].target_from_json({**TARGETS[name], **change})


@pytest.mark.parametrize("answer", ["C", "(C)", "c", "C.", "unwrap it", "(C) unwrap it", "C. unwrap it"])
@pytest.mark.parametrize(
    "form",
    ["{text}", "({letter}) {text}", "{letter}. {text}", "{letter}) {text}", "{letter}: {text}", "({letter}){text}"],
)
def test_options_with_and_without_letters_and_any_form_of_the_answer(answer, form):
    texts = ["share it", "sit down", "unwrap it"]
    options = [form.format(letter=letter, text=text) for letter, text in zip("ABC", texts, strict=True)]
    target = TASKS["multi_choice_qa"].target_from_json({"options": options, "answer": answer})
    assert target.options == tuple(texts)
    assert target.answer == "C"


def test_letters_that_belong_to_the_text_stay():
    read = TASKS["multi_choice_qa"].target_from_json
    assert read({"options": ["A. Smith", "C. Jones"], "answer": "B"}).options == ("A. Smith", "C. Jones")
    assert read({"options": ["(A)", "(B)"], "answer": "B"}).options == ("(A)", "(B)")
    assert read({"options": ["(a) ", "(b) cat"], "answer": "cat"}).options == ("", "cat")


def test_options_without_text_are_not_one_option():
    task = TASKS["multi_choice_qa"]
    target = task.target_from_json({"options": ["", " ", "cat"], "answer": "A"})
    assert [task.accuracy(letter, target) for letter in "ABC"] == [1.0, 0.0, 0.0]


def test_boxes_in_pixels_are_refused():
    with pytest.raises(DataError, match=r"boxes\[1\].*fractions.*pixels"):
        TASKS["tracking"].target_from_json({"boxes": [[0, 0, 1, 1], [10, 20, 110, 70]]})


# Temporal grounding


def grounding_iou(answer, span=(5, 10), duration=30):
    task = TASKS["temporal_grounding"]
    target = task.target_from_json({"span": list(span), "duration": duration})
    return task.iou(task.parse(f"<answer>{answer}</answer>", target), target)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("5 to 10", 1.0),
        ("0 to 10", 0.5),
        ("7.5 to 10", 0.5),
        ("8 to 13", 2 / 8),
        ("10 to 20", 0.0),
        ("10 to 5", 0.0),
        ("5 to 5", 0.0),
        ("-3 to 10", 0.0),
        ("nan to 10", 0.0),
        ("5 to inf", 0.0),
        ("0 to 1e400", 0.0),
        ("0 to " + "9" * 400, 0.0),
        ("0 to 1000", 5 / 1000),
        ("[(5, 10), (20, 25)]", 1.0),
        ("[(20, 25), (5, 10)]", 0.0),
    ],
)
def test_grounding_iou_by_hand(answer, expected):
    assert grounding_iou(answer) == pytest.approx(expected)


def test_what_reaches_past_the_video_counts_against_the_answer_and_is_seen():
    for name, form in (
        ("temporal_grounding", "<answer>{}</answer>"),
        ("grounded_qa", "<answer>A</answer><glue>{}</glue>"),
    ):
        task = TASKS[name]
        truth = {"span": [20, 30]} if name == "temporal_grounding" else {"spans": [[20, 30]]}
        target = task.target_from_json({**TARGETS[name], **truth, "duration": 29.5})
        for answer, expected in (("20 to 30", 1.0), ("20 to 45", 10 / 25), ("0 to 1000", 10 / 1000)):
            parsed = task.parse(form.format(answer), target)
            assert task.iou(parsed, target) == pytest.approx(expected)
            assert task.past_end(parsed, target) is (expected < 1.0)
        assert task.past_end(None, target) is False
    assert TASKS["tracking"].past_end([], target_of("tracking")) is None


def test_a_truth_past_the_duration_can_be_answered_and_is_not_changed():
    assert grounding_iou("20.8 to 30.0", span=(20.8, 30.0), duration=29.46) == 1.0
    assert grounding_iou("20.8 to 40.0", span=(20.8, 30.0), duration=29.46) == pytest.approx(9.2 / 19.2)
    assert grounding_iou("20.8 to 29.46", span=(20.8, 30.0), duration=29.46) == pytest.approx(8.66 / 9.2)


@pytest.mark.parametrize("span", [(8, 7), (5, 5), (-2, -1)])
def test_a_defective_truth_overlaps_nothing_and_raises_nothing(span):
    for answer in ("8 to 7", "7 to 8", "5 to 5", "0 to 30", ""):
        assert grounding_iou(answer, span=span) == 0.0
    task = TASKS["temporal_grounding"]
    target = task.target_from_json({"span": list(span), "duration": 30})
    assert task.scores(task.parse(task.gold(target, thinking=True), target), target)["mIoU"] == 0.0


def test_recall_counts_an_iou_at_the_threshold():
    task = TASKS["temporal_grounding"]
    target = task.target_from_json({"span": [0, 10], "duration": 30})
    assert task.scores(task.parse("<answer>0 to 5</answer>", target), target) == {
        "mIoU": 0.5,
        "R1@0.3": 1.0,
        "R1@0.5": 1.0,
        "R1@0.7": 0.0,
        "parse_rate": 1.0,
    }
    assert set(task.scores(None, target).values()) == {0.0}


@pytest.mark.parametrize(
    ("answer", "expected"), [("0 to 30", True), ("0 to 99", True), ("0 to 27", False), ("5 to 10", False), ("x", False)]
)
def test_collapse_to_the_whole_video_is_seen(answer, expected):
    for name, completion in (
        ("temporal_grounding", f"<answer>{answer}</answer>"),
        ("grounded_qa", f"<glue>[{answer}]</glue>"),
    ):
        task = TASKS[name]
        target = task.target_from_json({**TARGETS[name], "duration": 30})
        assert task.whole_video(task.parse(completion, target), target) is expected
    assert TASKS["multi_choice_qa"].whole_video("C", target_of("multi_choice_qa")) is None


@pytest.mark.parametrize(
    ("span", "text"),
    [([1.2345, 4.5678], "1.23 to 4.57"), ([1.0011, 1.0012], "1.0011 to 1.0012"), ([5, 5], "5.0 to 5.0")],
)
def test_gold_seconds_are_rounded_as_far_as_the_span_allows(span, text):
    task = TASKS["temporal_grounding"]
    gold = task.gold(task.target_from_json({"span": span, "duration": 9}), thinking=False)
    assert gold == f"<answer>{text}</answer>"


@FUZZ
@given(
    extent=st.floats(1e-6, 1.0),
    start=st.floats(0, 100),
    left=st.floats(0, 0.5),
    top=st.floats(0, 0.5),
    num=st.integers(1, 8),
)
def test_gold_of_any_target_is_full_reward_up_to_rounding(extent, start, left, top, num):
    box = [left, top, left + extent / 2, top + extent / 2]
    for name, value in (
        ("temporal_grounding", {"span": [start, start + extent]}),
        ("grounded_qa", {"spans": [[start, start + extent]]}),
        ("tracking", {"boxes": [box] * num}),
    ):
        task = TASKS[name]
        target = task.target_from_json({**TARGETS[name], **value})
        for thinking in (False, True):
            gold = task.gold(target, thinking=thinking)
            assert task.is_well_formed(gold, target, thinking=thinking)
            assert task.iou(task.parse(gold, target), target) > 0.95


# Tracking

WHOLE = "[0, 0, 1, 1]"


def tracking(answer, boxes=((0, 0, 1, 1),) * 8):
    task = TASKS["tracking"]
    target = task.target_from_json({"boxes": [list(box) for box in boxes]})
    completion = f"<answer>{answer}</answer>"
    return task.iou(task.parse(completion, target), target), task.is_well_formed(completion, target, thinking=False)


def test_tracking_sums_over_eight_boxes_whatever_the_answer_has():
    assert tracking(f"[{', '.join([WHOLE] * 8)}]") == (1.0, True)
    assert tracking(f"[{', '.join([WHOLE] * 4)}]") == (0.5, False)
    assert tracking(f"[{', '.join([WHOLE] * 9)}]") == (1.0, False)
    assert tracking(f"[{', '.join(['[0, 0, 1, 0.5]'] * 8)}]") == (0.5, True)
    assert tracking("[]") == (0.0, False)


def test_corners_are_sorted_and_clipped():
    assert tracking(f"[{', '.join(['[1, 1, 0, 0]'] * 8)}]") == (1.0, True)
    assert tracking(f"[{', '.join(['[-1, -2, 3, 4]'] * 8)}]") == (1.0, True)


@pytest.mark.parametrize("bad", ["1e400", "nan", "inf", "9" * 400])
def test_a_box_that_is_no_number_costs_its_own_frame_only(bad):
    boxes = [WHOLE] * 8
    boxes[2] = f"[0, 0, {bad}, 1]"
    assert tracking(f"[{', '.join(boxes)}]") == (7 / 8, False)
    assert tracking(f"[{', '.join([boxes[2]] * 8)}]") == (0.0, False)


def test_echoing_the_given_box_earns_an_eighth_with_it_and_nothing_without():
    task = TASKS["tracking"]
    target = BoxesTarget(boxes=(Box(0, 0, 0.1, 0.1), *[Box(0.5, 0.5, 1, 1)] * 7))
    parsed = [Box(0, 0, 0.1, 0.1)] * 8
    assert task.iou(parsed, target) == pytest.approx(1 / 8)
    assert task.iou(parsed, target, score_given_box=False) == 0.0
    scores = task.scores([*target.boxes[:1], *[Box(0.5, 0.5, 1, 0.8)] * 7], target)
    assert scores == pytest.approx(
        {
            "overlap": (1 + 7 * 0.6) / 8,
            "R@0.5": 1.0,
            "R@0.7": 0.0,
            "overlap_without_given": 0.6,
            "R@0.5_without_given": 1.0,
            "R@0.7_without_given": 0.0,
            "parse_rate": 1.0,
        }
    )


def test_missing_boxes_score_zero():
    box = Box(0, 0, 1, 1)
    assert frame_ious([box, None], [box, box, box]) == [1.0, 0.0, 0.0]
    assert frame_ious([box] * 5, [box, box]) == [1.0, 1.0]
    assert TASKS["tracking"].iou([box], BoxesTarget(boxes=(box,)), score_given_box=False) is None


# Questions


def test_either_of_two_options_with_the_same_text_is_right():
    task = TASKS["multi_choice_qa"]
    target = task.target_from_json({"options": ["left", "right", "left"], "answer": "(C)"})
    for answer, expected in (("A", 1.0), ("C", 1.0), ("left", 1.0), ("A or C", 1.0), ("B", 0.0), ("A or B", 0.0)):
        assert task.accuracy(task.parse(f"<answer>{answer}</answer>", target), target) == expected


def test_an_explanation_costs_the_format_and_keeps_the_accuracy():
    task, target = TASKS["multi_choice_qa"], target_of("multi_choice_qa")
    completion = "<answer>C because he tears it</answer>"
    assert task.accuracy(task.parse(completion, target), target) == 1.0
    assert not task.is_well_formed(completion, target, thinking=False)


@pytest.mark.parametrize(
    ("completion", "accuracy", "iou", "well_formed"),
    [
        ("<answer>C</answer><glue>[(5, 10), (12, 13.5)]</glue>", 1.0, 1.0, True),
        ("<answer>C</answer>\n<glue>5 to 10, 12 to 13.5</glue>", 1.0, 1.0, True),
        ("<answer>C</answer><glue>[(5, 10)]</glue>", 1.0, 5 / 6.5, True),
        ("<answer>C</answer><glue>[(5, 13.5)]</glue>", 1.0, 6.5 / 8.5, True),
        ("<answer>B</answer><glue>[(5, 8), (7, 10)]</glue>", 0.0, 5 / 6.5, True),
        ("<answer>C</answer>", 1.0, 0.0, False),
        ("<answer>C</answer><glue>[]</glue>", 1.0, 0.0, False),
        ("<answer>C</answer><glue></glue>", 1.0, 0.0, False),
        ("<answer>C</answer><glue>[(10, 5)]</glue>", 1.0, 0.0, True),
        ("<answer>C</answer><glue>[(5, 10), (nan, 3)]</glue>", 1.0, 5 / 6.5, False),
        ("<glue>[(5, 10), (12, 13.5)]</glue>", 0.0, 1.0, False),
        ("<glue>[(5, 10), (12, 13.5)]</glue><answer>C</answer>", 1.0, 1.0, False),
        ("<think>x</think><answer>C</answer><glue>[(5, 10), (12, 13.5)]</glue>", 1.0, 1.0, False),
        ("", 0.0, 0.0, False),
    ],
)
def test_grounded_answers_by_hand(completion, accuracy, iou, well_formed):
    task, target = TASKS["grounded_qa"], target_of("grounded_qa")
    parsed = task.parse(completion, target)
    assert task.accuracy(parsed, target) == accuracy
    assert task.iou(parsed, target) == pytest.approx(iou)
    assert task.is_well_formed(completion, target, thinking=False) == well_formed


def test_an_empty_clue_against_an_empty_truth_scores_nothing():
    task = TASKS["grounded_qa"]
    target = task.target_from_json({**TARGETS["grounded_qa"], "spans": [[7, 7]]})
    for glue in ("[]", "", "[(7, 7)]"):
        assert task.iou(task.parse(f"<answer>C</answer><glue>{glue}</glue>", target), target) == 0.0


@EVERY_TASK
def test_an_answer_without_tags_counts_only_where_that_is_asked_for(name):
    task, target = TASKS[name], target_of(name)
    payloads = task.payloads(target)
    completion = payloads[0] + "".join(
        f"<{tag}>{text}</{tag}>" for tag, text in zip(task.answer_tags[1:], payloads[1:], strict=True)
    )
    assert task.scores(task.parse(completion, target, untagged=True), target)[task.headline] == 1.0
    assert task.scores(task.parse(completion, target), target)[task.headline] == 0.0


# Hostile text

HOSTILE_PIECES = [
    *[
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<glue>",
        "</glue>",
        "[",
        "]",
        "(",
        ")",
        ",",
        " to ",
        "-",
        ".",
        ":",
    ],
    *["5", "10.5", "nan", "inf", "1e400", "9" * 400, "-3", "00:05", "A", "(C)", "Answer: ", " or ", "unwrap it"],
    *["low quality", "\n", "\x00", "\ud800", "é"],
]
hostile = st.one_of(st.text(), st.lists(st.sampled_from(HOSTILE_PIECES), max_size=40).map("".join))


@EVERY_TASK
@FUZZ
@given(completion=hostile, tagged=st.booleans())
def test_no_text_raises_and_all_scores_are_shares(name, completion, tagged):
    task, target = TASKS[name], target_of(name)
    text = f"<answer>{completion}</answer><glue>{completion}</glue>" if tagged else completion
    for untagged in (False, True):
        parsed = task.parse(text, target, untagged=untagged)
        values = [*task.scores(parsed, target).values(), task.iou(parsed, target), task.accuracy(parsed, target)]
        assert all(value is None or (math.isfinite(value) and 0.0 <= value <= 1.0) for value in values)
        json.dumps(task.parsed_to_json(parsed), allow_nan=False)
        assert task.whole_video(parsed, target) in (True, False, None)
        assert task.past_end(parsed, target) in (True, False, None)
    for thinking in (False, True):
        if task.is_well_formed(text, target, thinking=thinking):
            assert task.parse(text, target) is not None


# Real annotations


@pytest.fixture
def annotations(shared_dir):
    def read(path):
        file = shared_dir / "annotations" / path
        if not file.exists():
            pytest.skip(f"{path} is not among the real annotations on this machine")
        return json.loads(file.read_text())

    return read


def test_the_whole_video_on_charades_gives_the_known_baseline(annotations):
    task, rows = TASKS["temporal_grounding"], []
    for video in annotations("charades_sta/test.json").values():
        for span in video["timestamps"]:
            target = task.target_from_json({"span": span, "duration": video["duration"]})
            rows.append(task.scores(task.parse(f"<answer>0 to {video['duration']}</answer>", target), target))
            gold = task.gold(target, thinking=False)
            assert task.iou(task.parse(gold, target), target) == 1.0
    means = {key: round(100 * sum(row[key] for row in rows) / len(rows), 1) for key in ("mIoU", "R1@0.3", "R1@0.5")}
    assert (len(rows), means) == (3720, {"mIoU": 27.0, "R1@0.3": 34.3, "R1@0.5": 0.4})


def test_the_copied_box_on_got10k_gives_the_known_baseline(annotations):
    task, rows = TASKS["tracking"], []
    for row in annotations("got10k/videochat_r1_val.json"):
        target = task.target_from_json({"boxes": row["gt"]})
        copied = f"<answer>{[row['gt'][0]] * 8}</answer>"
        rows.append(task.scores(task.parse(copied, target), target))
        assert task.iou(task.parse(task.gold(target, thinking=False), target), target) == 1.0
    means = {key: 100 * sum(row[key] for row in rows) / len(rows) for key in ("overlap", "R@0.5", "R@0.7")}
    assert means == pytest.approx({"overlap": 42.35, "R@0.5": 32.2, "R@0.7": 5.6}, abs=0.05)


def test_every_wording_of_every_option_of_nextgqa_is_read(annotations):
    task = TASKS["grounded_qa"]
    for row in annotations("nextgqa/videochat_r1_val.json")[::4]:
        target = task.target_from_json({**row, "spans": row["glue"]})
        for index, text in enumerate(target.options):
            letter = "ABCDE"[index]
            for answer in (letter, f"({letter}) {text}", f"{letter}. {text}", f"Answer: {letter.lower()}", f"{text}."):
                parsed = task.parse(f"<answer>{answer}</answer>", target)
                assert parsed is not None and parsed.answer is not None, (answer, target.options)
                assert target.options["ABCDE".index(parsed.answer)].casefold() == text.casefold()
