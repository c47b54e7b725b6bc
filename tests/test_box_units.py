"""Boxes in a checkpoint's own units: written by tasks in fractions, read back in fractions."""

import re

import pytest

from tests.task_targets import TARGETS
from tests.test_parsing import BOX
from videochat_r1.errors import ConfigError
from videochat_r1.geometry import Box
from videochat_r1.parsing import parse_boxes
from videochat_r1.parsing.box_units import RANGE, UNIT, BoxUnits, check_box_format
from videochat_r1.sample import Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.testing import hostile_texts

SIZE = (448, 252)
CONVENTIONS = ("thousandths", "pixels")
WITH_BOXES = [name for name, task in TASKS.items() if task.has_boxes]


def units(convention: str) -> BoxUnits:
    made = BoxUnits.of(convention, SIZE)
    assert made is not None
    return made


def test_fractions_have_no_units_of_their_own_and_only_known_formats_are_taken() -> None:
    assert BoxUnits.of("normalised", SIZE) is None
    check_box_format("native")
    with pytest.raises(ConfigError, match="'native_absolute'; expected one of normalised, pixels, thousandths, native"):
        check_box_format("native_absolute")


def test_units_are_whole_numbers_of_the_frame() -> None:
    text = "[[0.1, 0.25, 0.5, 1.0], [0, -0.01, 1.02, 0.5]] at 0.5 s, [0.1, 0.2]"
    assert units("thousandths").write(text) == "[[100, 250, 500, 1000], [0, -10, 1020, 500]] at 0.5 s, [0.1, 0.2]"
    assert units("pixels").write(text) == "[[45, 63, 224, 252], [0, -3, 457, 126]] at 0.5 s, [0.1, 0.2]"


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", WITH_BOXES)
def test_a_gold_answer_in_units_is_well_formed_and_right_within_rounding(
    name: str, convention: str, thinking: bool
) -> None:
    task, told = TASKS[name], units(convention)
    target = task.target_from_json(TARGETS[name][0])
    gold = task.gold(target, thinking=thinking)
    written = told.write(gold)
    assert "." not in written and written != gold
    read = told.read(written)
    assert task.is_well_formed(read, target, thinking=thinking)
    assert not task.is_well_formed(read, target, thinking=not thinking)
    assert task.iou(task.parse(read, target), target) > 0.97
    assert task.iou(task.parse(written, target), target) < 0.2


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", WITH_BOXES)
def test_a_prompt_in_units_says_them_and_its_example_is_a_good_answer(name: str, convention: str) -> None:
    task, told = TASKS[name], units(convention)
    sample = Sample("id", name, Video(path="x"), "the cat", task.target_from_json(TARGETS[name][0]))
    plain = task.instruction(sample, thinking=False)
    asked = told.write(plain)
    assert UNIT in plain and RANGE in plain and UNIT not in asked and RANGE not in asked
    assert told.unit in asked and told.range in asked
    numbers = [float(number) for box in re.findall(r"\[[-\d., ]+\]", asked) for number in box[1:-1].split(",")]
    assert numbers and max(numbers) > 1 and all(number == round(number) for number in numbers)
    example = asked[asked.rindex("<answer>") :]
    assert task.is_well_formed(told.read(example), sample.target, thinking=False)


NOTATIONS = (
    "[[100, 50, 300, 150], [120, 60, 320, 160]]",
    "[(100, 50, 300, 150), (120, 60, 320, 160)]",
    "[100, 50, 300, 150, 120, 60, 320, 160]",
    "<|box_start|>(100,50),(300,150)<|box_end|> <|box_start|>(120,60),(320,160)<|box_end|>",
    '[{"bbox_2d": [100, 50, 300, 150], "label": "cat 7"}, {"time": 1.0, "bbox_2d": [120, 60, 320, 160]}]',
    '[{"x1": 100, "y1": 50, "x2": 300, "y2": 150}, {"y1": 60, "x1": 120, "y2": 160, "x2": 320}]',
    "[left=100, top=50, width=200, height=100] [left=120, top=60, width=200, height=100]",
    "Frame [0]: [100, 50, 300, 150]\nFrame [1]: [120, 60, 320, 160]",
    "Frame 1: 100 50 300 150\nFrame 2: 120 60 320 160",
    "100 50 300 150 120 60 320 160",
    "［１００，50，300，150］［120，60，320，160］",
    "【100、50、300、150】【120、60、320、160】",
    '[["100","50","300","150"],["120","60","320","160"]]',
    "[[100.0, 50.0, 3e2, 150.], [120, 60, 320, 160]]",
)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("text", NOTATIONS)
def test_boxes_are_read_in_every_notation_that_the_parser_knows(text: str, convention: str) -> None:
    told = units(convention)
    across, down = told.width, told.height
    wanted = [(100 / across, 50 / down, 300 / across, 150 / down), (120 / across, 60 / down, 320 / across, 160 / down)]
    for completion in (text, f"<think>\n[1, 2, 3, 4]</think>\n{text}", f"a thought</think>{text}"):
        said = told.read(completion).rpartition("</think>")[2]
        assert [tuple(box or ()) for box in parse_boxes(said, 2) or []] == [
            pytest.approx(box, abs=1e-5) for box in wanted
        ]


@pytest.mark.parametrize(
    "text", ["<think>[1, 2, 3, 4]", "at [3]", "from 5 to 10 s", "[1, 2, 3]", "[a1, b2]", "[10px, 5px]"]
)
def test_what_is_no_corner_stays(text: str) -> None:
    assert units("thousandths").read(text) == text


ODD = ("9" * 400, "1e400", "1e9", "-1e9", "nan", "-5", "[500, 400, 100, 50]", f"[{BOX}, [1e6, -1e6, 0.5, 3.7]]", "null")


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_hostile_answers_are_read_as_the_parser_reads_them(convention: str) -> None:
    told, task = units(convention), TASKS["tracking"]
    target = task.target_from_json(TARGETS["tracking"][0])
    boxes = [f"[[10, 20, 30, 40], [{odd}, 20, 30, 40], {odd}]" for odd in ODD]
    for text in [*boxes, *(f"<answer>{text}</answer>" for text in boxes), *ODD, *hostile_texts(400)]:
        read = told.read(text)
        assert task.is_well_formed(read, target, thinking=False) == task.is_well_formed(text, target, thinking=False)
        before, after = task.parse(text, target, untagged=True), task.parse(read, target, untagged=True)
        assert (before is None) == (after is None), text
        for was, now in zip(before or [], after or [], strict=True):
            scaled = was and (was.x0 / told.width, was.y0 / told.height, was.x1 / told.width, was.y1 / told.height)
            assert now == (was and pytest.approx(Box(*scaled), abs=1e-6, rel=1e-6)), text
        assert 0.0 <= task.iou(after, target) <= 1.0


@pytest.mark.parametrize(
    "unit", ["[", "[1, 2,", "1 ", "<answer>", "<think></think>", "(1,2)", "x1: ", "1,2;", "\n1:", "a" * 50, "1.1."]
)
def test_long_hostile_answers_are_read_and_kept(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    assert len(units("pixels").read(text)) >= len(text) // 20
