"""Prompts that begin alike are found by comparing ids, positions and pixels, to any depth and in any order."""

import dataclasses
import itertools
import pickle
from collections.abc import Callable, Sequence

import pytest
import torch

from tests.tiny_prompts import change_one_pixel, make_media_prompt, make_model, make_questions
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.inputs import PromptInputs, on_device
from videochat_r1.modeling.prompt_tree import PromptBranch, common_beginning, plant, walk


def text(*ids: int) -> PromptInputs:
    return PromptInputs(torch.tensor(ids), torch.arange(len(ids)).expand(3, -1), (), "")


def shapes(forest: Sequence[PromptBranch]) -> list:
    """Each branch as (own tokens, prompts that end there, children)."""
    return [(branch.num_tokens, branch.prompts, shapes(branch.children)) for branch in forest]


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_about_one_video_share_it_and_what_stands_before(family: str) -> None:
    model = make_model(family)
    first, second = make_questions(model, 1, (5, 9, 2)), make_questions(model, 2, (4,))
    shared = first[0].num_tokens - 5
    assert [common_beginning(first[0], other) for other in first] == [shared + 4, shared, shared]
    assert shapes(plant([*first, *second])) == [
        (shared, (), [(4, (0,), []), (8, (1,), []), (1, (2,), [])]),
        (second[0].num_tokens - 1, (3,), []),
    ]


def test_order_does_not_matter() -> None:
    model = make_model()
    prompts = [*make_questions(model, 1, (5, 9)), *make_questions(model, 2, (4, 3))]
    for order in itertools.permutations(range(4)):
        forest = plant([prompts[index] for index in order])
        assert sorted(tuple(sorted(order[index] for index in root.below)) for root in forest) == [(0, 1), (2, 3)]


def test_equal_prompts_are_one_branch_and_the_last_token_belongs_to_none() -> None:
    ids = range(10, 80)
    assert shapes(plant([text(*ids), text(*ids), text(*ids[:-1], 99)])) == [(69, (0, 1, 2), [])]
    # One that is another's beginning ends at the shared branch.
    assert shapes(plant([text(*ids), text(*ids, *ids)])) == [(69, (0,), [(70, (1,), [])])]
    assert shapes(plant([text(7)])) == [(0, (0,), [])]
    assert plant([]) == ()


def test_a_few_words_are_not_worth_a_branch() -> None:
    words = list(range(100, 200))
    assert shapes(plant([text(*words[:63], 1, 2), text(*words[:63], 3, 4)])) == [(64, (0,), []), (64, (1,), [])]
    assert shapes(plant([text(*words[:64], 1, 2), text(*words[:64], 3, 4)])) == [
        (64, (), [(1, (0,), []), (1, (1,), [])])
    ]


def test_branches_are_as_deep_as_prompts_differ() -> None:
    """A system text, a first picture, then one of two second pictures, then questions."""
    model = make_model()
    grids = [(1, 4, 6), (1, 4, 4)]
    first = make_questions(model, 1, (5, 3), "image", grids)
    media = first[0].media[0], make_media_prompt(model, 9, "image", grids).media[1]
    second = [dataclasses.replace(prompt, media=media) for prompt in make_questions(model, 1, (5, 3), "image", grids)]
    start = first[0].spans[1][0]
    rest = first[0].num_tokens - 5 - start
    forest = plant([first[0], second[0], second[1], first[1]])
    assert shapes(forest) == [
        (start, (), [(rest, (), [(4, (0,), []), (2, (3,), [])]), (rest, (), [(4, (1,), []), (2, (2,), [])])])
    ]
    assert [branch.media(first[0]) for branch in walk(forest)] == [[0], [1], [], [], [1], [], []]
    assert forest[0].below == (0, 3, 1, 2)


def other_position(prompt: PromptInputs) -> PromptInputs:
    positions = prompt.position_ids.clone()
    positions[0, prompt.spans[0][1] - 2] += 1
    return dataclasses.replace(prompt, position_ids=positions)


def other_word(prompt: PromptInputs) -> PromptInputs:
    ids = prompt.input_ids.clone()
    ids[1] += 1
    return dataclasses.replace(prompt, input_ids=ids)


@pytest.mark.parametrize("change, length", [(change_one_pixel, 3), (other_position, 3), (other_word, 1)])
def test_one_difference_in_or_before_the_video_ends_the_beginning_before_it(
    change: Callable[[PromptInputs], PromptInputs], length: int
) -> None:
    one, other = make_questions(make_model(), 1, (5, 9))
    changed = change(other)
    assert common_beginning(one, changed) == common_beginning(changed, one) == length
    assert len(plant([one, changed])) == 2


def test_a_copy_of_the_pixels_is_found_and_moved_once() -> None:
    one, other = make_questions(make_model(), 1, (5, 9))
    copied = pickle.loads(pickle.dumps(other.media[0]))
    assert copied.patches is not one.media[0].patches
    assert len(plant([one, dataclasses.replace(other, media=(copied,))])) == 1
    for device in ("cpu", "meta"):
        moved = on_device([one, other], device)
        assert moved[0].media[0].patches is moved[1].media[0].patches
        assert [prompt.media[0].digest for prompt in moved] == [one.media[0].digest] * 2
