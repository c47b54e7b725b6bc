"""Rewards of whole groups: what a recipe may say of them, and what they give in groups worked by hand."""

import pytest

from tests.test_recipe_parsing import parse, parse_text
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.bonuses import LengthBonus, TemporalContrast

RELEASE = {"bonus": 0.3, "factor": 0.8, "correct_above": 0.1, "compare": "mean", "shuffled_generations": 4}
PAPER = {"bonus": 0.3, "factor": 1.0, "correct_above": 0.5, "compare": "share", "shuffled_generations": 4}


@pytest.mark.parametrize(
    ("lines", "flags", "expected"),
    [
        ("temporal_contrast: release", (), RELEASE),
        ("temporal_contrast: paper", (), PAPER),
        ("temporal_contrast: release", ("--temporal_contrast", "paper"), PAPER),
        ("temporal_contrast: {preset: paper, bonus: 2e-1}", (), PAPER | {"bonus": 0.2}),
        ("temporal_contrast: {shuffled_generations: 8}", (), RELEASE | {"shuffled_generations": 8}),
        ("temporal_contrast: {preset: paper}", ("--temporal_contrast.factor", "0.8"), PAPER | {"factor": 0.8}),
        ("temporal_contrast: release", ("--temporal_contrast", "null"), None),
    ],
)
def test_temporal_contrast_begins_from_a_preset(tmp_path, lines, flags, expected):
    _, _, args = parse_text(tmp_path, lines, *flags)
    if expected is None:
        assert args.bonuses() == [] and args.temporal_contrast is None
        return
    (options,) = args.bonuses()
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.accuracy == ["accuracy"]
    # What is recorded of a run says every number, and means the same when it is read again.
    assert TemporalContrast(**args.temporal_contrast) == options


def test_the_length_bonus_has_the_numbers_of_the_release(tmp_path):
    (options,) = parse(tmp_path, length_bonus={}, max_completion_length=768)[2].bonuses()
    assert options == LengthBonus(bonus=0.2, min_tokens=320, max_tokens=512, min_correct=2, correct_above=0.1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("temporal_contrast: papper", "no preset 'papper'; did you mean 'paper'"),
        ("temporal_contrast: {preset: [paper]}", "temporal_contrast.preset"),
        ("temporal_contrast: {facter: 1.0}", "'facter' in temporal_contrast; did you mean 'factor'"),
        ("temporal_contrast: {compare: median}", "compare is 'median'; expected mean or share"),
        ("temporal_contrast: {bonus: 0}", "temporal_contrast.bonus is 0"),
        ("temporal_contrast: {factor: -1}", "temporal_contrast.factor is -1"),
        ("temporal_contrast: {shuffled_generations: 0}", "shuffled_generations is 0"),
        ("temporal_contrast: {correct_above: 1.0}", "correct_above is 1.0"),
        ("temporal_contrast: {accuracy: []}", "at least one reward"),
        ("temporal_contrast: [0.3]", "temporal_contrast is"),
        (
            "length_bonus: {min_tokens: 20, max_tokens: 10}",
            "length_bonus.min_tokens is 20; expected 1 to max_tokens=10",
        ),
        ("max_completion_length: 256\nlength_bonus: {min_tokens: 257}", "at most max_completion_length=256"),
        ("length_bonus: {min_tokens: 20, min_correct: 9}", "at most num_generations=8"),
        ("length_bonus: {min_tokens: 20, min_correct: 0}", "min_correct is 0"),
        ("length_bonus: release", "length_bonus is 'release'"),
    ],
)
def test_options_that_cannot_work_are_named(tmp_path, lines, said):
    with pytest.raises(ConfigError, match=said):
        parse_text(tmp_path, lines)
