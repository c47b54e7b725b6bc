"""Answers in numbers and free text: what is read, what it earns, and what it earned in Video-R1's release."""

import math
import random
import time

import pytest
from rouge_score.rouge_scorer import RougeScorer

from videochat_r1.errors import ConfigError, DataError
from videochat_r1.parsing.quantities import is_quantity, parse_quantity
from videochat_r1.parsing.words import spaced_words, words
from videochat_r1.rewards import make_reward
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.text_overlap import released_rouge, rouge, rouge_words

ANSWERS = ("numerical_qa", "free_form_qa", "text_recognition", "regression")


def earned(name, answer, truth, completion="<answer>{}</answer>", **options):
    target = truth if isinstance(truth, dict) else {"answer": truth}
    (value,) = make_reward("accuracy", **options)([completion.format(answer)], task=[name], target=[target])
    return value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("5", 5), ("5.0", 5), (".5", 0.5), ("5.", 5), ("-5", -5), ("−5", -5), ("+5", 5), ("１２", 12), ("0", 0)],
        *[("1,000", 1000), ("1,234,567.5", 1234567.5), ("1,00,000", 100000), ("1.234.567", 1234567)],
        *[("12,5", 12.5), ("0,125", 0.125), ("1.000,50", 1000.5), ("1 000", 1000), ("5\u00a0000", 5000)],
        *[("12 000,5", 12000.5), ("1'000", 1000), ("1_000", 1000), ("1e5", 1e5), ("2.5 × 10^3", 2500)],
        *[("$12.50", 12.5), ("-$5", -5), ("US$5", 5), ("12%", 12), ("12.5 kg", 12.5), ("5 m^2", 5), ("5 m2", 5)],
        *[("3/4", 0.75), ("1 1/2", 1.5), (r"-\frac{1}{2}", -0.5), (r"1\frac12", 1.5), (r"$\frac{3}{4}$", 0.75)],
        *[(r"\boxed{12}", 12), (r"2 \times 10^{-3}", 0.002), (r"\text{5 cm}", 5), ("about 5", 5), ("5 and 5", 5)],
        *[("The answer is 12, since 3 + 9", 12), ("3 + 4 = 7", 7), ("x = -5", -5), ("There are 5.\n", 5)],
        *[("", None), ("five", None), ("nan", None), ("1e400", None), ("9" * 400, None), ("3-5", None), ("inf", None)],
        *[("5 or 6", None), ("5, 6", None), ("10/0", None), ("3/4/2020", None), ("1,234,5", None), ("5.3.2", None)],
        *[("12:30", None), ("10^3", None), ("The answer is 5 or 6", None), ("1e15", None), ("5" + " " * 20000, None)],
    ],
)
def test_numbers_as_people_write_them(text, number):
    assert parse_quantity(text) == (None if number is None else pytest.approx(number, rel=1e-12))
    assert not is_quantity(text) or number is not None


@pytest.mark.parametrize("text", ["5", "-5.0", "1,000", "$12.50", "12 %", "3/4", r"\frac{1}{2}", "2 × 10^3", " 5 \n"])
def test_a_number_alone_is_well_formed(text):
    assert is_quantity(text)
    for broken in (f"{text} kg", f"x = {text}", f"{text} or so", f"{text} {text}"):
        assert not is_quantity(broken)


# Answer, truth, the task's own accuracy, and that of the release.
NUMBERS = [
    ("12.50", "12.50", 1.0, 1.0),
    ("12.5", "12.50", 1.0, 1.0),
    ("12.504", "12.50", 1.0, 1.0),
    ("12.51", "12.50", 0.0, 0.0),
    ("5", "5.0", 1.0, 0.0),
    ("5.0", "5", 1.0, 0.0),
    ("1,000", "1000", 1.0, 0.0),
    ("1,000", "1000.0", 1.0, 1.0),
    ("12.5 kg", "12.5", 1.0, 0.0),
    ("$12.50", "12.50", 1.0, 0.0),
    ("12%", "12", 1.0, 0.0),
    ("1/2", "0.5", 1.0, 0.0),
    ("0", "0", 1.0, 1.0),
    ("0.0", "0.004", 0.0, 1.0),
    ("0.004", "0.004", 1.0, 1.0),
    ("-5", "5", 0.0, 0.0),
    ("nan", "5", 0.0, 0.0),
    ("inf", "5", 0.0, 0.0),
    ("", "5", 0.0, 0.0),
]
QUANTITIES = [
    ("3.2", 3.2, 1.0, 1.0),
    ("1.6", 3.2, 0.5, 0.5),
    ("4.8", 3.2, 0.5, 0.5),
    ("6.5", 3.2, 0.0, 0.0),
    ("-3.2", 3.2, 0.0, 0.0),
    ("-1.5", -3, 0.5, 0.5),
    ("1.6 m", 3.2, 0.5, 0.0),
    ("0", 0, 1.0, 0.0),
    ("0.001", 0, 0.0, 0.0),
    ("nan", 3.2, 0.0, 0.0),
    ("1e400", 3.2, 0.0, 0.0),
    ("?", 3.2, 0.0, 0.0),
]
TEXTS = [
    ("A red car turns left.", "a red car turns left", 1.0, 1.0),
    ("a car", "a red car", (2 * 2 / 5 + 0 + 2 * 2 / 5) / 3, (2 * 2 / 5 + 0 + 2 * 2 / 5) / 3),
    ("car red a", "a red car", (1 + 0 + 1 / 3) / 3, (1 + 0 + 1 / 3) / 3),
    ("dogs running", "dog runs", 1.0, 1.0),
    ("dog", "dogs", 1.0, 2 / 3),
    ("红色的车", "红色的车", 1.0, 0.0),
    ("красная машина", "Красная машина", 1.0, 0.0),
    ("a cat", "a red car", (2 / 5 + 0 + 2 / 5) / 3, (2 / 5 + 0 + 2 / 5) / 3),
    ("", "a red car", 0.0, 0.0),
]
READ = [
    ("EXIT 12", "EXIT 12", 1.0, 1.0),
    ("EXIT  \n12", "EXIT 12", 1.0, 1.0),
    ("EXIT 13", "EXIT 12", 0.5, 0.5),
    ("exit 12", "EXIT 12", 0.5, 0.5),
    ("EXIT 12 Main St.", "EXIT 12", 0.0, 0.0),
    ("ＥＸＩＴ 12", "EXIT 12", 1.0, 0.5),
    ("出囗", "出口", 0.5, 0.0),
    ("出 口", "出口", 1.0, 0.0),
    ("", "EXIT", 0.0, 0.0),
]
BY_HAND = dict(zip(ANSWERS, (NUMBERS, TEXTS, READ, QUANTITIES), strict=True))


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in BY_HAND.items() for row in rows])
def test_accuracy_by_hand_and_by_the_releases_rule(name, row):
    answer, truth, own, released = row
    assert earned(name, answer, truth) == pytest.approx(own)
    assert earned(name, answer, truth, rule="task") == pytest.approx(own)
    assert earned(name, answer, truth, rule="video_r1") == pytest.approx(released, abs=1e-8)


def test_the_release_compares_letters_as_they_are_and_reads_the_first_answer():
    choice = {"options": ["cat", "dog"], "answer": "B"}
    for answer, expected in (("B", 1.0), (" B\n", 1.0), ("b", 0.0), ("(B)", 0.0), ("B.", 0.0), ("dog", 0.0)):
        assert earned("multi_choice_qa", answer, choice, rule="video_r1") == expected
        assert earned("multi_choice_qa", answer, choice) == 1.0
    draft = "<think><answer>5</answer></think><answer>6</answer>"
    assert [earned("numerical_qa", "", "5", draft, rule=rule) for rule in ("task", "video_r1")] == [0.0, 1.0]
    assert earned("regression", "", "5", "<answer>5", rule="video_r1") == 0.0


def test_the_releases_rule_leaves_other_tasks_alone_and_each_row_has_its_own():
    rows = {"grounding": "temporal_grounding", "label": "quality_assessment", "number": "numerical_qa"}
    targets = [{"span": [5, 10], "duration": 30}, {"choices": ["low", "high"], "answer": "low"}, {"answer": "5"}]
    values = make_reward("accuracy", rule="video_r1")(
        ["<answer>Low.</answer>", "<answer>Low.</answer>", "<answer>5.0</answer>"],
        task=list(rows.values()),
        target=targets,
    )
    assert values == [None, 1.0, 0.0]
    with pytest.raises(ConfigError, match="video_r1"):
        earned("numerical_qa", "5", "5", rule="videor1")


def test_rouge_is_rouge_scores():
    chance = random.Random(0)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    vocabulary = ["dogs", "dog", "running", "runs", "a", "12", "The", "co-operate", "é", "…", "x" * 50]
    for _ in range(60):
        answer, truth = (" ".join(chance.choices(vocabulary, k=chance.randint(0, 15))) for _ in range(2))
        official = [score.fmeasure for score in scorer.score(truth, answer).values()]
        assert released_rouge(answer, truth) == pytest.approx(sum(official) / 3)
        ours = rouge(answer.split(), truth.split())
        assert all(0.0 <= value <= 1.0 for value in ours.values())


def test_words_of_every_script():
    assert words("It's 12.5, 红车 ภาษา") == ["It", "s", "12", "5", "红", "车", "ภ", "า", "ษ", "า"]
    assert spaced_words("It's 12.5,\n红车!") == ["It's", "12.5,", "红", "车", "!"]
    assert rouge_words("Dogs … RUNNING") == ["dog", "run"]


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("answer", ["", " ", "...", None, [], {}, True, math.nan, "\u200b", "x" * 30_000])
def test_a_truth_without_a_word_or_number_is_refused(name, answer):
    with pytest.raises(DataError, match="answer"):
        TASKS[name].target_from_json({"answer": answer})


def test_truths_keep_what_the_annotation_says():
    read = {name: TASKS[name].target_from_json for name in ANSWERS}
    assert read["numerical_qa"]({"answer": " 12.50 kg"}).text == "12.50 kg"
    assert TASKS["numerical_qa"].payloads(read["numerical_qa"]({"answer": "12.50 kg"})) == ("12.5",)
    assert TASKS["numerical_qa"].payloads(read["numerical_qa"]({"answer": "1,000.50"})) == ("1,000.50",)
    assert read["numerical_qa"]({"answer": 5}) == read["numerical_qa"]({"answer": "5"})
    assert read["regression"]({"answer": "3.2 m"}) == read["regression"]({"answer": 3.2})
    with pytest.raises(DataError, match="5 or 6"):
        read["numerical_qa"]({"answer": "5 or 6"})


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("rule", ["task", "video_r1"])
@pytest.mark.parametrize(
    "piece",
    [
        "1 ",
        "1,",
        "1/",
        "1'000",
        "=1",
        "answer is 1 ",
        r"\frac{",
        "y",
        "ational",
        "a b ",
        "红",
        "$",
        "<answer>",
        "\u0301",
    ],
)
def test_no_text_is_slow(name, rule, piece):
    truth = "12.5" if name in ("numerical_qa", "regression") else "a red car turns left " * 400
    text = piece * (19_000 // len(piece))
    start = time.process_time()
    value = earned(name, text, truth, "<answer>{0}ing</answer>", rule=rule)
    assert 0.0 <= value <= 1.0 and time.process_time() - start < 2.0
