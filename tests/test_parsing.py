import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videochat_r1.parsing import (
    answer_text,
    is_box_list,
    is_span_list,
    parse_boxes,
    parse_choice,
    parse_letter,
    parse_spans,
    strict_parts,
    tagged_texts,
    write_parts,
)
from videochat_r1.parsing.choices import same_option

FUZZ = settings(deadline=None, derandomize=True)
OPTIONS = ["share with the girl", "approach lady sitting there", "unwrap it", "play with a toy train", "gesture"]


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<answer>C</answer>", "C"),
        ("<answer>A</answer> no, <answer>B</answer>", "B"),
        ("<answer>A</answer><answer>B", "A"),
        ("<answer>A<answer>B</answer>", "B"),
        ("<answer>A</answer></answer>", "A"),
        ("<answer></answer>", ""),
        ("<ANSWER>A</Answer >", "A"),
        ("<think>maybe <answer>A</answer></think><answer>B</answer>", "B"),
        ("<answer>B</answer><think>or <answer>A</answer></think>", "B"),
        ("<think>maybe <answer>A</answer>", None),
        ("<think>maybe <answer>A</answer></think>", None),
        # The chat template opened the thought.
        ("maybe <answer>A</answer></think><answer>B</answer>", "B"),
        ("maybe <answer>A</answer></think>", None),
        # A thought that mentions its own tag ends at the first closing one.
        ("<think>I write <think> first</think><answer>A</answer>", "A"),
        ("<answer>5 <think>hm</think> to 10</answer>", None),
        ("<ans<think></think>wer>A</answer>", None),
        ("<answer>A", None),
        ("A</answer>", None),
        ("A", None),
        ("", None),
    ],
)
def test_the_last_complete_answer_outside_thoughts_counts(completion, expected):
    assert answer_text(completion) == expected


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("C", "C"),
        ("<think>not A</think> C\n", "C"),
        ("not A</think> C", "C"),
        ("C <glue>[(1, 2)]</glue>", "C"),
        ("C <answer>", None),
        ("<answer>C", None),
        ("<think>C", None),
        ("<answer>B</answer> C", "B"),
        ("  ", None),
    ],
)
def test_untagged_reading_needs_a_completion_without_any_answer_tag(completion, expected):
    assert answer_text(completion, untagged=True) == expected


def test_answer_and_clue_are_found_apart():
    texts = tagged_texts("<glue>[(1, 2)]</glue><answer>C</answer><glue>[(3, 4)]</glue><glue>")
    assert texts == {"answer": "C", "glue": "[(3, 4)]"}


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("<think>a</think><answer>b</answer>", ["a", "b"]),
        (" <think>a</think>\n\n<answer>b</answer>\n", ["a", "b"]),
        ("<think></think><answer>b</answer>", ["", "b"]),
        ("<think>in <answer> tags</think><answer>b</answer>", ["in <answer> tags", "b"]),
        ("<think>a</think><answer>b</answer>.", None),
        ("Sure! <think>a</think><answer>b</answer>", None),
        ("<think>a</think>so<answer>b</answer>", None),
        ("<think>a<think></think><answer>b</answer>", None),
        ("<think>a</think><answer>b</answer><answer>c</answer>", None),
        ("<think>a</think><answer>b<answer>c</answer>", None),
        ("<answer>b</answer><think>a</think>", None),
        ("<answer>b</answer>", None),
        ("<THINK>a</THINK><answer>b</answer>", None),
        ("", None),
    ],
)
def test_strict_parts(completion, expected):
    assert strict_parts(completion, ("think", "answer")) == expected


@FUZZ
@given(st.text(st.characters(exclude_characters="<>")), st.text(st.characters(exclude_characters="<>")))
def test_written_parts_read_back(thought, answer):
    completion = write_parts([("think", thought), ("answer", answer)])
    assert strict_parts(completion, ("think", "answer")) == [thought, answer]
    assert answer_text(completion) == answer


ONE_SPAN = [
    "5 to 10",
    "5s to 10s",
    "5.0 - 10.0",
    "5 and 10",
    "00:05 to 00:10",
    "5-10",
    "5 – 10",
    "5—10",
    "5 ~ 10",
    "5 -10",
    "5 -> 10",
    "[5, 10]",
    "(5.0, 10.0)",
    "[(5, 10)]",
    "[[5.0, 10.0]]",
    "(5) to (10)",
    "  5   to\n 10 ",
    "5 seconds to 10 seconds",
    "5 sec. to 10 sec.",
    "5.00 to 10.00 seconds",
    "from 5 to 10",
    "between 5 and 10.",
    "From 5s until 10s",
    "0:00:05 - 0:00:10",
    "00:05.00-00:10.0",
    "00:00:05,000 --> 00:00:10,000",
    "5 TO 10",
    '["5", "10"]',
    "5e0 to 1e1",
]


@pytest.mark.parametrize("text", ONE_SPAN)
def test_notations_of_one_span(text):
    assert parse_spans(text) == [(5.0, 10.0)]
    assert is_span_list(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:02:03 to 1:02:10", (3723.0, 3730.0)),
        ("00:05.5 to 00:10.25", (5.5, 10.25)),
        ("75:30 to 75:31", (4530.0, 4531.0)),
        ("1m5s to 1m10s", (65.0, 70.0)),
        ("1 min 5 sec to 2 minutes", (65.0, 120.0)),
        ("1h 2m 3s to 1h 2m 10s", (3723.0, 3730.0)),
        (".5 to 1.5", (0.5, 1.5)),
    ],
)
def test_clock_times_and_units(text, expected):
    assert parse_spans(text) == [expected]


@pytest.mark.parametrize(
    "text", ["The event starts at 5.0s and ends at 10s.", '{"start": 5, "end": 10}', "I would say 5 to 10, or so"]
)
def test_words_around_a_span_are_passed_over_but_not_well_formed(text):
    assert parse_spans(text) == [(5.0, 10.0)]
    assert not is_span_list(text)


@pytest.mark.parametrize(
    "text",
    [
        "[(5.2, 10.4), (12.0, 13.5)]",
        "[[5.2, 10.4], [12.0, 13.5]]",
        "(5.2, 10.4), (12.0, 13.5)",
        "5.2 to 10.4, 12.0 to 13.5",
        "5.2s - 10.4s; 12s - 13.5s",
        "[5.2 to 10.4] and [12 to 13.5]",
        "(5.2, 10.4)(12.0, 13.5)",
        "5.2-10.4\n12.0-13.5",
    ],
)
def test_lists_of_spans(text):
    assert parse_spans(text) == [(5.2, 10.4), (12.0, 13.5)]
    assert is_span_list(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5 to",
        "to 10",
        "[]",
        "5, 10, 15",
        "nan to 10",
        "5 to nan",
        "5 to inf",
        "-inf to inf",
        "1e400 to 5",
        "5 to 1e400",
        "5 to 1e300",
        "9" * 400 + " to 10",
        "0 to " + "9" * 400,
        "5 to 10000000",
        "-3 to 10",
        "−3 to 10",
        "[-3, 10]",
        "(5, -10)",
        "5 to -10",
        "5 - -10",
        "5th to 10",
        "50% to 60",
        "1.2.3 to 4",
        "five to ten",
        "٣ to ٤",
        "1:2:3:4 to 5",
    ],
)
def test_no_span(text):
    assert parse_spans(text) == []
    assert not is_span_list(text)


def test_a_negative_number_is_never_read_as_positive():
    assert parse_spans("[(-3, 10), (12, 13)]") == [(12.0, 13.0)]
    assert not is_span_list("[(-3, 10), (12, 13)]")


def test_a_reversed_span_is_returned_as_written():
    assert parse_spans("10 to 5") == [(10.0, 5.0)]
    assert parse_spans("5 to 5") == [(5.0, 5.0)]


C_BARE = [
    "C",
    "(C)",
    "C.",
    "c",
    "(c)",
    "C)",
    "[C]",
    "**C**",
    " C\n",
    "Answer: C",
    "answer is c",
    "The answer is (C)",
    "The correct answer is: C.",
    "Option C",
    "Final answer: (C) unwrap it",
    "unwrap it",
    "Unwrap it.",
    '"unwrap it"',
    "The answer is unwrap it",
    "(C) unwrap it",
    "C. unwrap it",
    "C: Unwrap  it",
    "C - unwrap it",
    "c) unwrap it",
    "C unwrap it",
    "Ｃ",
    "（C）",
    "【C】",
    "C。",
]


@pytest.mark.parametrize("text", C_BARE)
def test_notations_of_one_option(text):
    assert parse_letter(text, OPTIONS) == "C"
    assert parse_letter(text, OPTIONS, bare=True) == "C"


@pytest.mark.parametrize(
    "text",
    [
        "C because he wants to see it",
        "(C) He tears the paper.",
        "C. A man unwraps it",
        "C. I see that he opens it",
        "The answer is C since he opens it",
    ],
)
def test_an_explanation_is_passed_over_but_not_bare(text):
    assert parse_letter(text, OPTIONS) == "C"
    assert parse_letter(text, OPTIONS, bare=True) is None


@pytest.mark.parametrize(
    "text",
    [
        "A and C",
        "A or C",
        "A, C",
        "A/C",
        "A & C",
        "(A)(C)",
        "(A), (C)",
        "A C",
        "c or d",
        "Answer: C or D",
        "(C) because it is not (A)",
        "(A) unwrap it",
        "C. unwrap it or gesture",
        "share with the girl and unwrap it",
        "C, then unwrap it, then B",
        "C because A is wrong",
    ],
)
def test_an_answer_that_names_two_options_names_none(text):
    assert parse_letter(text, OPTIONS) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "F",
        "(Z)",
        "Answer",
        "A man opens it",
        "a gift",
        "I think so",
        "AC",
        "not C",
        "The answer is not C",
        "3",
        "é",
    ],
)
def test_no_option_is_named(text):
    assert parse_letter(text, OPTIONS) is None


def test_letters_past_the_last_option_name_nothing():
    assert parse_letter("C", ["yes", "no"]) is None
    assert parse_letter("Answer: C", ["yes", "no"]) is None


def test_options_with_the_same_text_are_one():
    options = ["left", "right", "Left "]
    assert parse_letter("left", options) == "A"
    assert parse_letter("A or C", options) == "A"
    assert parse_letter("A or B", options) is None
    assert same_option("A", "C", options)
    assert not same_option("A", "B", options)
    assert not same_option("Z", "Z", options)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("C++", ["C", "C++"], "B"),
        ("-5", ["5", "-5"], "B"),
        ("5.", ["5", "-5"], "A"),
        ("5%", ["5", "5%"], "B"),
        (".4", ["4", "5"], None),
        ("A", ["B", "A"], "A"),
        ("car", ["red car", "car"], "B"),
        ("A. red car", ["red car", "car"], "A"),
        ("4", ["3", "4"], "B"),
        ("B. red car", ["red car", "car"], None),
        ("(B) the red car", ["red car", "car"], None),
        ("(A) the red car", ["red car", "car"], "A"),
    ],
)
def test_signs_and_marks_that_belong_to_an_option_count(text, options, expected):
    assert parse_letter(text, options) == expected


words = st.text("abcdefgh ", min_size=2, max_size=12).map(str.strip).filter(lambda text: len(text) > 1)


@FUZZ
@given(options=st.lists(words, min_size=2, max_size=6), data=st.data())
def test_letter_and_text_together_name_their_option(options, data):
    index, other = (data.draw(st.integers(0, len(options) - 1)) for _ in range(2))
    letter, other_letter, text = "ABCDEF"[index], "ABCDEF"[other], options[index]
    for form in (
        letter,
        f"({letter})",
        f"{letter}. {text}",
        f"({letter}) {text}",
        f"Answer: {letter}. {text}",
        text,
        f"{text}.",
    ):
        named = parse_letter(form, options)
        assert named is not None, form
        assert same_option(named, letter, options), form
    if not same_option(other_letter, letter, options):
        for form in (f"{letter} or {other_letter}", f"{letter}, {other_letter}", f"({letter}) {options[other]}"):
            assert parse_letter(form, options) is None, form


@pytest.mark.parametrize(
    "text", ["low quality", "Low Quality.", "'LOW quality'", " low\tquality ", "**low quality**", "(low quality)!"]
)
def test_a_choice_matches_without_case_and_outer_punctuation(text):
    assert parse_choice(text, ["low quality", "high quality"]) == "low quality"


@pytest.mark.parametrize(
    "text", ["low", "quality", "", "the low quality", "low quality high quality", "lowquality", "low, quality"]
)
def test_a_choice_must_match_completely(text):
    assert parse_choice(text, ["low quality", "high quality"]) is None


BOX = "[0.1, 0.2, 0.3, 0.4]"


def test_boxes_in_any_brackets():
    box = (0.1, 0.2, 0.3, 0.4)
    assert parse_boxes(f"[{BOX}, {BOX}]", 8) == [box, box]
    assert parse_boxes("((0.1,0.2,0.3,0.4), (.1 .2 .3 .4))", 8) == [box, box]
    assert parse_boxes(f"(first frame) {BOX}\n(second) {BOX}", 8) == [box, box]
    assert parse_boxes("[0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4]", 8) == [box, box]
    assert parse_boxes("0.1, 0.2, 0.3, 0.4", 8) == [box]
    assert parse_boxes(f"[{', '.join([BOX] * 9)}]", 8) == [box] * 8


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "1e400", "9" * 400, "1e9", "x", ""])
def test_an_unreadable_box_keeps_its_place(bad):
    text = f"[{BOX}, [0.1, {bad}, 0.3, 0.4], {BOX}]"
    parsed = parse_boxes(text, 8)
    assert parsed is not None
    assert [box is None for box in parsed] == [False, True, False]
    assert not is_box_list(text, 3)


@pytest.mark.parametrize("text", ["", "[]", "[[]]", "no box", "[1, 2, 3]", "[nan, nan, nan, nan]"])
def test_no_box(text):
    assert parse_boxes(text, 8) is None
    assert not is_box_list(text, 1)


def test_a_box_list_has_exactly_the_boxes_asked_for_and_nothing_else():
    assert is_box_list(f" [{BOX}, {BOX}] ", 2)
    assert is_box_list("[(0, 0, 1, 1), (-0.01, 0, 1e0, 1.5),]", 2)
    assert not is_box_list(f"[{BOX}]", 2)
    assert not is_box_list(f"[{BOX}, {BOX}, {BOX}]", 2)
    assert not is_box_list(f"{BOX}, {BOX}", 2)
    assert not is_box_list(f"boxes: [{BOX}, {BOX}]", 2)
    assert not is_box_list(f"[{BOX} {BOX}]", 2)


HOSTILE_UNITS = [
    *[
        "9",
        " ",
        "[",
        "(",
        "[[0.1,",
        "<",
        "<answer",
        "<answer>",
        "<think></think>",
        "5 to ",
        "5,",
        ".5",
        "-",
        "1:",
        "1.1.",
    ],
    *["A ", "A and ", "the answer is ", "e1", "5 h 5 m ", "'\"", "\\", "0.1,0.2,", "ﷺ", "\x00", "\ud800"],
]


@pytest.mark.parametrize("unit", HOSTILE_UNITS)
def test_a_megabyte_of_hostile_text_is_read_at_once(unit):
    text = unit * (1_000_000 // len(unit))
    start = time.process_time()
    for payload in (text, text[:19_999]):
        tagged_texts(payload)
        answer_text(payload, untagged=True)
        strict_parts(f"<think>{payload}</think><answer>{payload}</answer>", ("think", "answer", "glue"))
        parse_spans(payload)
        is_span_list(payload)
        parse_letter(payload, OPTIONS)
        parse_letter("C " + payload, OPTIONS)
        parse_choice(payload, OPTIONS)
        parse_boxes(payload, 8)
        is_box_list(payload, 8)
    assert time.process_time() - start < 3.0


def test_an_option_past_the_last_letter_has_no_letter():
    options = [f"option {number}" for number in range(30)]
    assert [parse_letter(f"option {number}", options) for number in (25, 26, 29)] == ["Z", None, None]
