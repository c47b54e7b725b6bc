import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videochat_r1.parsing import (
    answer_text,
    is_box_list,
    is_span_list,
    official_letter,
    option_texts,
    parse_boxes,
    parse_choice,
    parse_letter,
    parse_spans,
    strict_parts,
    tagged_texts,
    write_parts,
)
from videochat_r1.parsing.choices import same_option
from videochat_r1.parsing.plain import MAX_MARKS, normalised, plain

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("（5．2，１０）", "(5.2,10)"),
        ("\u200bC\ufeff", "C"),
        ("e\u0301", "é"),
        # A raised or circled digit is no digit of the number before it.
        ("10²", "10²"),
        ("1½", "1½"),
        ("10①", "10①"),
        ("𝟓", "5"),
        ("5 $to $10", "5 $to $10"),
        ("$C$", "C"),
        ("from $5 to $10", "from $5 to $10"),
        (r"\(5.2\,\text{s}\)", "5.2  s"),
        ("C<|im_end|></s>", "C"),
        ("```json\n[1]\n```", "[1]"),
    ],
)
def test_plain_dress(text, expected):
    assert plain(text).strip() == expected


MARKS = ["\u0345", "\u035d", "\u0315", "\u0301", "\u0323", "\u0328", "\u05b0", "\uff9e", "\u0f73", "\u0344"]


@pytest.mark.parametrize("marks", [MARKS, MARKS[::-1], ["\uff9e", "\u0f73"], ["\u0301\u200b", "\u0323"]])
def test_no_long_run_of_combining_marks_is_put_in_order(monkeypatch, marks):
    normalize, runs = unicodedata.normalize, []

    def watched(form, text):
        run = longest = 0
        for char in normalize("NFKD", text) if len(text) == 1 else text:
            run = run + 1 if unicodedata.combining(char) else 0
            longest = max(longest, run)
        runs.append(longest)
        return normalize(form, text)

    monkeypatch.setattr("videochat_r1.parsing.plain.unicodedata.normalize", watched)
    text = "a" + "".join(mark * 300 for mark in marks)
    parse_letter(text, OPTIONS)
    parse_choice(text, OPTIONS)
    parse_spans(text)
    parse_boxes(text, 8)
    assert 0 < max(runs) <= 2 * MAX_MARKS


@FUZZ
@given(st.text(st.characters(exclude_categories=["Cf", "Cs"])))
def test_the_normalised_form_is_the_compatible_one_where_that_makes_no_digits(text):
    form = normalised(text)
    assert normalised(form) == form
    if not any(each.isdigit() for char in text if not char.isascii() for each in unicodedata.normalize("NFKC", char)):
        assert form == unicodedata.normalize("NFKC", text)


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
    "（5，10）",
    "［５，１０］",
    "00：05 到 00：10",
    "从5秒到10秒",
    "第5秒至第10秒",
    "5、10",
    "5秒～10秒",
    r"\boxed{5 \text{ to } 10}",
    "$5$ to $10$",
    r"$5\,\mathrm{s} \to 10\,\mathrm{s}$",
    "<5> to <10>",
    "<5>-<10>",
    "5 up to 10 seconds",
    "5..10",
    "5 … 10",
    "5000 ms to 10000 ms",
    "5000-10000 ms",
    "5″ to 10″",
    "0'05\" to 0'10\"",
    "5 to 10<|im_end|>",
    "1. 5 to 10",
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
        ("5 to 10 minutes", (300.0, 600.0)),
        ("1-2 min", (60.0, 120.0)),
        ("0.5 to 1.5 hours", (1800.0, 5400.0)),
        ("1h20 to 1h35m", (4800.0, 5700.0)),
        ("1m20 to 1m35", (80.0, 95.0)),
        ("5分20秒到5分35秒", (320.0, 335.0)),
        ("5'20\" to 5'35.5\"", (320.0, 335.5)),
        ("5′20″-5′35″", (320.0, 335.0)),
        ("5'20 to 5'35", (320.0, 335.0)),
        ("5′ to 6′", (300.0, 360.0)),
        ("01:05,500 --> 01:10,250", (65.5, 70.25)),
        ("12,54 to 17,83", (12.54, 17.83)),
        ("5，2 到 10，4", (5.2, 10.4)),
        ("5,2s - 10,4s", (5.2, 10.4)),
        ("5 to 10,5", (5.0, 10.5)),
        ("between 5,2 and 10,4", (5.2, 10.4)),
        ("1,200 to 1,260", (1200.0, 1260.0)),
        ("950 to 1,020.5", (950.0, 1020.5)),
    ],
)
def test_clock_times_and_units(text, expected):
    assert parse_spans(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "The event starts at 5.0s and ends at 10s.",
        "- Start: 5 s\n- End: 10 s",
        "starts at 5 s and finishes at 10 s",
        "I would say 5 to 10, or so",
        "from second 5 to second 10",
        "~5 s to ~10 s",
        "从5秒开始，到10秒结束",
        *[f'{{"{start}": 5, "{end}": 10}}' for start, end in (("start", "end"), ("start_time", "end_time"))],
        *[f'{{"{start}": 5, "{end}": "10"}}' for start, end in (("startTime", "endTime"), ("start_sec", "end_sec"))],
        '```json\n[{"start_timestamp": "00:05", "end_timestamp": "00:10"}]\n```',
        '{"relevant_windows": [[5, 10]]}',
    ],
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
        "1. 5.2 to 10.4\n2. 12 to 13.5",
        "5,2 to 10,4; 12,0 to 13,5",
        "（5.2，10.4），（12，13.5）",
    ],
)
def test_lists_of_spans(text):
    assert parse_spans(text) == [(5.2, 10.4), (12.0, 13.5)]
    assert is_span_list(text)


@pytest.mark.parametrize(
    "text", ["5-10,12-15", "5,10,12,15", "[5,10],[12,15]", "[5,10] and [12,15]", "5 to 10,12 to 15", "5,10\n12,15"]
)
def test_a_comma_between_whole_numbers_parts_them_where_that_makes_spans(text):
    assert parse_spans(text) == [(5.0, 10.0), (12.0, 15.0)]


def test_items_of_a_list_are_not_joined_by_their_dashes():
    assert parse_spans("- 5-10\n- 12-15") == [(5.0, 10.0), (12.0, 15.0)]


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
        # Numbers of something else, or not all of the number.
        "5 to 10%",
        "5 to 10.5%",
        "5 to 10 %",
        "5 to 10 percent",
        "0 to 12.5fps",
        "0 to 12.5 fps",
        "5 to 10.5x",
        "5 to 10.5.3",
        "5 to 10²",
        "5 to 1½",
        "5 to 10^2",
        "1/2 to 3/4",
        r"\frac{1}{2} to 3",
        "5 to 10 frames",
        "frames 5 to 10",
        "frames 5, 10, 15, 20",
        "5°C to 10°C",
        # Minutes to what, and whose comma?
        "5 min to 10",
        "5,10; 12,15",
        "(5,10) to (12,15)",
        "1.200,5 to 1.260,5",
        "00:05,5 to 00:10,4",
        "5 to 10 to 15 to 20",
    ],
)
def test_no_span(text):
    assert parse_spans(text) == []
    assert not is_span_list(text)


def test_a_negative_number_is_never_read_as_positive():
    assert parse_spans("[(-3, 10), (12, 13)]") == [(12.0, 13.0)]
    assert not is_span_list("[(-3, 10), (12, 13)]")


@pytest.mark.parametrize(
    "text",
    [
        "He enters at 2 to 3 s and leaves at 20 - 30. So the answer is 5 to 10.",
        "Between 2 and 3 he waits.\n\nAnswer: 5 to 10",
        "Answer: 2 to 3\nWait, no.\nFinal answer: [5, 10]",
        r"From 2 to 3 he waits, so \boxed{5 \text{ to } 10}",
        "5 to 10. That is my answer, I am sure of it.",
        "先是2秒到3秒。答案：5秒到10秒",
    ],
)
def test_of_an_argument_the_labelled_span_counts(text):
    assert parse_spans(text)[0] == (5.0, 10.0)
    assert not is_span_list(text)


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
    "\u200bC\ufeff",
    "答案：C",
    "正确答案是：C. unwrap it",
    "选C",
    "选项C",
    r"\boxed{C}",
    r"$\boxed{\text{C}}$",
    r"\(C\)",
    "$C$",
    "### Answer\nC",
    "**Answer:** C",
    "C</s>",
    "C<|im_end|>",
    "The answer should be C.",
    "The most likely answer is C",
    "The correct option is (C).",
    '{"answer": "C"}',
    "unwrap it (C)",
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
        "(C) He opens it. A is wrong because he keeps it.",
        "(C) because it is not (A)",
        "C because A is wrong",
        "C rather than A",
        "The answer is not A but C.",
        "C\n\nExplanation: he will gesture later.",
        "Answer: C\n\nHe does not share with the girl",
        "I think the answer is C",
        "Based on the video, the correct answer is C. He opens it.",
        "Sure, C.",
        "It's C",
        "He tears the paper, so C.",
        "I would go with option C",
        "C is correct.",
        "Among these, C is the most accurate.",
        "He tears the paper.\n\nC",
        "Let me see. Option A is wrong.\nThe correct answer is (C).",
        "I considered (A), but it is wrong. Final answer: C.",
        "Answer: A\nWait, no.\nAnswer: C",
        r"He tears it, so the answer is $\boxed{C}$.",
        '{"reason": "A is wrong", "answer": "C. unwrap it"}',
        '```json\n{"answer": "C", "reason": "he opens it"}\n```',
        "根据视频，答案是C。",
        "我认为是C。\n选项A出现得太早。",
        "I am sure that the best answer among the options is C.",
        r"The answer is \boxed{C}.",
        "A and B are wrong, so C",
        "It cannot be A or B. The answer is C",
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
        "(A) unwrap it",
        "C. unwrap it or gesture",
        "share with the girl and unwrap it",
        "C, then unwrap it, then B",
        "B.\nA",
        "A\nB\nC",
        "Answer: C\nor D",
        "Answer: C. Or D.",
        "Answer: C, answer: D",
        "The answer is either C or D",
        r"\boxed{C} or \boxed{D}",
        "It could be C. It could be D.",
        "C is right. D is right.",
        "C is the answer. D is the answer too",
        "选A或选C",
        '{"answer": "C or D"}',
    ],
)
def test_an_answer_that_names_two_options_names_none(text):
    assert parse_letter(text, OPTIONS) is None


@pytest.mark.parametrize(
    "two",
    [
        "C or D",
        "C and D",
        "C/D",
        "C, D",
        "C; D",
        "C D",
        "C-D",
        "(C)(D)",
        "C\nD",
        "C或D",
        "C、D",
        "A ou C",
        "both A and C",
        "A\nC",
    ],
)
@pytest.mark.parametrize(
    "frame",
    ["Answer: {}", "The answer is {}.", "I think {}", r"\boxed{{{}}}", "答案：{}", "so {}", "It's {}", "**{}**", "<b>{}</b>",
     '{{"answer": "{}"}}', "He walks.\n\n{}", "{}\n\nExplanation: he walks.", "{} are right", "Maybe {}"],
)  # fmt: skip
def test_two_options_in_any_frame_name_none(two, frame):
    assert parse_letter(frame.format(two), OPTIONS) is None


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
        "I don't think the answer is C",
        "I don't think it's C",
        "if the answer is C",
        "C is wrong",
        "C is incorrect.",
        "C isn't right",
        "C can be ruled out",
        "C or not",
        "C不对",
        "不选C",
        "A Dog",
        "A gesture",
        "E.g. a dog",
        "Vitamin C helps",
        "None of the above",
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
    "text",
    [
        *["low quality", "Low Quality.", "'LOW quality'", " low\tquality ", "**low quality**", "(low quality)!"],
        *["Ｌｏｗ quality", r"\boxed{low quality}", "Answer: low quality", "答案：low quality", "low quality</s>"],
    ],
)
def test_a_choice_matches_without_case_and_outer_punctuation(text):
    assert parse_choice(text, ["low quality", "high quality"]) == "low quality"


@pytest.mark.parametrize(
    "text", ["low", "quality", "", "the low quality", "low quality high quality", "lowquality", "low, quality"]
)
def test_a_choice_must_match_completely(text):
    assert parse_choice(text, ["low quality", "high quality"]) is None


def test_a_choice_behind_an_argument_is_read_but_not_bare():
    text, choices = "It is blurry.\nSo the answer is: low quality", ["low quality", "high quality"]
    assert parse_choice(text, choices) == "low quality"
    assert parse_choice(text, choices, bare=True) is None
    assert parse_choice("The answer is not low quality", choices) is None


@pytest.mark.parametrize("form", ["（{}）{}", "{}、{}", "{}．{}", "[{}] {}", "【{}】{}", "({}) {}"])
def test_letters_before_options_are_taken_off_in_any_dress(form):
    texts = ["猫", "狗"]
    options = [form.format(letter, text) for letter, text in zip("AB", texts, strict=True)]
    assert option_texts(options) == ("猫", "狗")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C", "C"),
        ("(C) unwrap it", "C"),
        ("The answer is C. A man unwraps it", "C"),
        ("Based on the video, B", "B"),
        ("Because of A", "B"),
        ("Answer: C", "A"),
        ("c", None),
        ("E", None),
        ("The best answer is", None),
        ("", None),
    ],
)
def test_the_first_letter_rule_of_the_benchmarks_authors(text, expected):
    assert official_letter(text, 4) == expected


def test_the_words_before_an_answer_are_no_letter_even_among_many_options():
    assert official_letter("The correct answer is C", 26) == "C"


BOX = "[0.1, 0.2, 0.3, 0.4]"


def test_boxes_in_any_brackets():
    box = (0.1, 0.2, 0.3, 0.4)
    assert parse_boxes(f"[{BOX}, {BOX}]", 8) == [box, box]
    assert parse_boxes("((0.1,0.2,0.3,0.4), (.1 .2 .3 .4))", 8) == [box, box]
    assert parse_boxes(f"(first frame) {BOX}\n(second) {BOX}", 8) == [box, box]
    assert parse_boxes("[0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4]", 8) == [box, box]
    assert parse_boxes("0.1, 0.2, 0.3, 0.4", 8) == [box]
    assert parse_boxes(f"[{', '.join([BOX] * 9)}]", 8) == [box] * 8


@pytest.mark.parametrize(
    "text",
    [
        "［0.1，0.2，0.3，0.4］",
        "【0.1、0.2、0.3、0.4】",
        "<|box_start|>(0.1,0.2),(0.3,0.4)<|box_end|>",
        "<|object_ref_start|>the car<|object_ref_end|><|box_start|>(0.1,0.2),(0.3,0.4)<|box_end|>",
        "[[0.1,0.2],[0.3,0.4]]",
        "(0.1, 0.2) to (0.3, 0.4)",
        '[["0.1","0.2","0.3","0.4"]]',
        '[{"x1":0.1,"y1":0.2,"x2":0.3,"y2":0.4}]',
        '{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}',
        "[left=0.1, top=0.2, width=0.2, height=0.2]",
        '{"bbox_2d": [0.1, 0.2, 0.3, 0.4], "label": "the car [red]"}',
        "I follow [the red car]: [[0.1,0.2,0.3,0.4]]",
        "Frame [0]: [0.1,0.2,0.3,0.4]",
        "[0] [0.1,0.2,0.3,0.4]",
        "[0.0, 0.5]: [0.1,0.2,0.3,0.4]",
        "Frame 1: 0.1 0.2 0.3 0.4",
        "[0,1; 0,2; 0,3; 0,4]",
        "[0,1, 0,2, 0,3, 0,4]",
        r"\boxed{[0.1, 0.2, 0.3, 0.4]}",
        "```json\n[0.1, 0.2, 0.3, 0.4]\n```",
    ],
)
def test_notations_of_one_box(text):
    (box,) = parse_boxes(text, 8)
    assert box == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert parse_boxes(f"{text}\n{text}", 8) == [box, box]


def test_of_an_argument_the_labelled_boxes_count_if_they_are_all_there():
    text = f"The car begins at [0.5, 0.5, 1, 1]. The answer is [{BOX}, {BOX}]"
    assert parse_boxes(text, 2) == [(0.1, 0.2, 0.3, 0.4)] * 2
    assert parse_boxes(text, 3) == [(0.5, 0.5, 1.0, 1.0), *[(0.1, 0.2, 0.3, 0.4)] * 2]
    one_by_one = f"The answer for frame 1 is {BOX}. The answer for frame 2 is [0.5, 0.5, 1, 1]."
    assert parse_boxes(one_by_one, 2) == [(0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 1.0, 1.0)]


@pytest.mark.parametrize(
    "gap", ["[]", "null", "None", "[None]", "[not visible]", "[0.5]", "[0.1, 0.2]", "[1, 2, 3]", "[x]"]
)
def test_what_stands_for_a_box_in_a_list_keeps_its_place(gap):
    parsed = parse_boxes(f"[{BOX}, {gap}, {BOX}]", 8)
    assert [box is None for box in parsed] == [False, True, False]
    assert not is_box_list(f"[{BOX}, {gap}, {BOX}]", 3)


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
    *["a\u0345\u0301", "\uff9e\u0f73", "A is wrong ", "{", "null,", "\\boxed{", "$a", "1,2 to ", "5'20 ", "\n", "答案"],
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
