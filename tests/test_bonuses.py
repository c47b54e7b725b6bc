"""Rewards of whole groups: what a recipe may say of them, and what they give in groups worked by hand."""

import pytest

from tests.test_recipe_parsing import parse, parse_text
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.bonuses import LengthBonus, TemporalContrast, temporal_contrast
from videochat_r1.grpo.group_rewards import LengthReward, TemporalBonus, group_rewards
from videochat_r1.rewards import make_reward

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
        ("temporal_contrast: paper", ("--temporal_contrast.factor", "0.8"), PAPER | {"factor": 0.8}),
        ("beta: 0.0", ("--temporal_contrast=paper", "--temporal_contrast.factor=0.8"), PAPER | {"factor": 0.8}),
        ("temporal_contrast: release", ("--temporal_contrast", "null"), None),
        ("temporal_contrast: release", ("--temporal_contrast", "none"), None),
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


# --- groups worked by hand --------------------------------------------------------------------------------------------


def told(completions, **columns):
    """An accuracy that the completion says itself; None where it says nothing."""
    return [float(text) if text else None for text in completions]


def broken(completions, **columns):
    """Not a number for every completion but the first."""
    return [1.0, *["much"] * (len(completions) - 1)]


async def judged(completions, **columns):
    """A reward that somebody has to be asked for."""
    return [1.0] * len(completions)


def call(reward, *groups, lengths=None):
    """A reward's values for groups of (accuracies, those of the shuffled rollouts), group by group, and what was logged."""
    logged = {}
    rows = [(text, number, shuffled) for texts, shuffled in groups for number, text in enumerate(texts)]
    values = reward(
        completions=["" if text is None else str(text) for text, _, _ in rows],
        generation=[number for _, number, _ in rows],
        shuffled_accuracy=[shuffled for _, _, shuffled in rows],
        truth=[False] * len(rows),
        completion_ids=[[7] * length for length in lengths or [1] * len(rows)],
        log_metric=lambda name, value: logged.setdefault(name.removeprefix("temporal_contrast/"), []).append(value),
        log_extra=None,
    )
    rest = iter(values)
    return [[next(rest) for _ in texts] for texts, _ in groups], logged


def temporal(value):
    return TemporalBonus(temporal_contrast({**value, "accuracy": ["told"]}, 8), [told])


EIGHT = [1, 1, 1, 0, 0, 0, 0, 0]
B = 0.3


@pytest.mark.parametrize(
    ("preset", "accuracy", "shuffled", "expected", "fired"),
    [
        # 3 of 8 in order; of 4 shuffled: 1 is less, 2 is more.
        ("release", EIGHT, [1, 0, 0, 0], [B, B, B, 0, 0, 0, 0, 0], 1.0),
        ("paper", EIGHT, [1, 0, 0, 0], [B, B, B, 0, 0, 0, 0, 0], 1.0),
        ("release", EIGHT, [1, 1, 0, 0], [0] * 8, 0.0),  # 0.375 < 0.8 * 0.5
        ("paper", EIGHT, [1, 1, 0, 0], [0] * 8, 0.0),
        # 4 of 5 against all: the release's factor lets it pass, exactly at its bound.
        ("release", [1, 1, 1, 1, 0], [1, 1], [B, B, B, B, 0], 1.0),
        ("paper", [1, 1, 1, 1, 0], [1, 1], [0] * 5, 0.0),
        ("paper", [1, 0], [1, 0], [B, 0], 1.0),  # a tie
        ("release", [0, 0], [0, 0], [0, 0], 1.0),  # one in which nobody earns it
        # Accuracies in between, as of texts: above 0.1 is correct in the release, above 0.5 in the paper.
        ("release", [0.15, 0.1, 0.6, 0.05], [0.25, 0.25], [B, 0, B, 0], 1.0),  # 0.225 >= 0.8 * 0.25
        ("paper", [0.15, 0.5, 0.6, 0.05], [0.5, 0.5], [0, 0, B, 0], 1.0),  # a share of 1/4 against none
        ("paper", [0.15, 0.5, 0.6, 0.05], [0.9, 0.4], [0] * 4, 0.0),  # against a half
        # What has no accuracy is not in the means and earns nothing, and is no 0 either.
        ("release", [1, None, 0, None], [None, 0.5], [B, None, 0, None], 1.0),
        # Rounding: in decimals these are equal.
        ("release", [0.6, 0.6], [0.75], [B, B], 1.0),
    ],
)
def test_correct_rollouts_earn_the_bonus_where_order_helps(preset, accuracy, shuffled, expected, fired):
    (values,), logged = call(temporal({"preset": preset}), (accuracy, shuffled))
    assert values == expected
    assert logged["fired"] == [fired]


def test_every_group_is_compared_with_its_own(tmp_path):
    values, logged = call(
        temporal({"preset": "paper"}),
        ([1, 0], [1, 1]),  # not as accurate as when shuffled
        ([1, 1], None),  # pictures, or a video that cannot be read
        ([1, 0], [0, 0]),
        ([1, 1], [None, None]),  # a shuffled group without any accuracy
    )
    assert values == [[0, 0], [None, None], [B, 0], [None, None]]
    # Their mean is the share among videos.
    assert logged == {"fired": [0.0, 1.0], "accuracy": [0.5, 0.5], "shuffled_accuracy": [1.0, 0.0]}


def test_options_decide_bonus_factor_and_threshold():
    accuracy, shuffled = [0.5, 0.3, 0.2, 0.0], [0.4, 0.2]  # 0.25 against 0.3
    for options, expected in (
        ({"bonus": 0.5}, [0.5, 0.5, 0.5, 0]),
        ({"factor": 0.9}, [0] * 4),
        ({"factor": 0.0}, [B, B, B, 0]),
        ({"correct_above": 0.3}, [B, 0, 0, 0]),
        ({"compare": "share"}, [0] * 4),  # 3/4 against 2/2, times 0.8
        ({"compare": "share", "correct_above": 0.2}, [B, B, 0, 0]),  # 2/4 against 1/2
    ):
        assert call(temporal(options), (accuracy, shuffled))[0] == [expected], options


L = 0.2


@pytest.mark.parametrize(
    ("options", "accuracy", "lengths", "expected"),
    [
        ({}, [1, 1, 0, 1], [320, 512, 400, 513], [L, L, 0, 0]),  # both ends belong to the band
        ({}, [1, 1, 1, 1], [319, 0, 513, 768], [0] * 4),
        ({}, [1, 0, 0, 0], [400] * 4, [0] * 4),  # a single correct one earns nothing
        ({}, [1, 0.15, 0.1, 0], [400] * 4, [L, L, 0, 0]),  # above 0.1 is correct
        ({}, [1, 1, 0, 0], [400, 100, 400, 400], [L, 0, 0, 0]),  # the others need not be in the band
        ({"min_correct": 1}, [1, 0, 0, 0], [400] * 4, [L, 0, 0, 0]),
        ({"min_correct": 3}, [1, 1, 0, 0], [400] * 4, [0] * 4),
        ({"bonus": 0.5, "min_tokens": 2, "max_tokens": 3}, [1, 1, 1, 1], [1, 2, 3, 4], [0, 0.5, 0.5, 0]),
        ({"correct_above": 0.5}, [1, 0.5, 0.6, 0], [400] * 4, [L, 0, L, 0]),
        ({}, [1, 1, None, 1], [400] * 4, [L, L, None, L]),
    ],
)
def test_correct_rollouts_within_the_band_earn_the_length_bonus(options, accuracy, lengths, expected):
    reward = LengthReward(LengthBonus(**options, accuracy=["told"]), [told])
    # Pictures and videos alike.
    for shuffled in (None, [1.0]):
        assert call(reward, (accuracy, shuffled), lengths=lengths)[0] == [expected]


def test_enough_correct_ones_are_counted_in_each_group():
    reward = LengthReward(LengthBonus(accuracy=["told"]), [told])
    values, _ = call(reward, ([1, 0], None), ([1, 1], None), ([0, 1], None), lengths=[400] * 6)
    assert values == [[0, 0], [L, L], [0, 0]]


def test_the_first_of_several_accuracies_that_a_row_has_counts():
    rewards = [make_reward("iou"), make_reward("accuracy")]
    (reward,) = group_rewards([LengthBonus(min_correct=1, accuracy=["accuracy", "iou"])], rewards)
    span = {"span": [1.0, 3.0], "duration": 4.0}
    columns = {"task": ["temporal_grounding", "multi_choice_qa"]}
    columns["target"] = [span, {"options": ["red", "blue"], "answer": "A"}]
    texts = ["<answer>1.0 to 2.0</answer>", "<answer>A</answer>"]
    assert reward.accuracy_of(texts, columns) == [0.5, 1.0]


def test_an_accuracy_that_is_no_number_counts_as_none():
    reward = LengthReward(LengthBonus(min_correct=1, accuracy=["broken"]), [broken])
    assert call(reward, (["", ""], None), lengths=[400, 400])[0] == [[L, None]]


@pytest.mark.parametrize("options", [LengthBonus(accuracy=["tolt"]), temporal_contrast({"accuracy": ["tolt"]}, 8)])
def test_an_accuracy_must_be_a_reward_of_the_recipe(options):
    with pytest.raises(ConfigError, match=rf"{options.WHERE}.accuracy names 'tolt'.*did you mean 'told'"):
        group_rewards([options], [told])


def test_a_judge_is_not_asked_for_an_accuracy():
    with pytest.raises(ConfigError, match="'judged', which asks a judge"):
        group_rewards([LengthBonus(accuracy=["judged"])], [judged])
