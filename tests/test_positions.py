"""M-RoPE positions against examples worked by hand."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.inputs import Medium, MediumKind
from videochat_r1.modeling.positions import Piece, mrope_positions, temporal_positions

CONFIG: Any = SimpleNamespace(vision_config=SimpleNamespace(tokens_per_second=2))


def medium(grid: tuple[int, int, int], seconds: Sequence[float] = (), kind: MediumKind = "video") -> Medium:
    """Patches are merged 2 x 2; `seconds` are those of the temporal steps."""
    frames = tuple(time for second in seconds for time in (second, second + 0.25))
    return Medium(kind, torch.empty(0), grid, 2, frames)


def positions(family: str, text: str, *media: Medium) -> list[list[int]]:
    """Of a prompt given as letters: `v` is a placeholder."""
    pieces = [piece for shown in media for piece in FAMILIES[family].pieces(shown, CONFIG)]
    result: list[list[int]] = mrope_positions(torch.tensor([letter == "v" for letter in text]), pieces).tolist()
    return result


def test_text_after_a_video_starts_after_its_largest_position() -> None:
    # Two text tokens, 3 steps of a 1 x 2 merged grid at 2 frames a second (1 s a step) and 2 positions a second.
    assert positions("qwen2_5_vl", "tt" + "v" * 6 + "tt", medium((3, 2, 4), [0.0, 1.0, 2.0])) == [
        [0, 1, 2, 2, 4, 4, 6, 6, 7, 8],
        [0, 1, 2, 2, 2, 2, 2, 2, 7, 8],
        [0, 1, 2, 3, 2, 3, 2, 3, 7, 8],
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_follows_a_wide_step_starts_after_its_widest_column(family: str) -> None:
    # 1 + columns 0..4 -> last is 5, next is 6
    assert [axis[-1] for axis in positions(family, "tvvvvvt", medium((1, 2, 10), [0.0]))] == [6, 6, 6]


def test_fractional_seconds_count() -> None:
    # 4 frames a second: half a second a step, two positions a second -> one position a step.
    assert temporal_positions([0.0, 0.5, 1.0, 1.5], 2.0) == (0, 1, 2, 3)
    # 5 frames a second: 0.4 s a step -> floor(0, 0.8, 1.6, 2.4).
    assert temporal_positions([0.0, 0.4, 0.8, 1.2], 2.0) == (0, 0, 1, 2)


def test_seconds_a_rounding_error_below_an_integer_keep_their_place() -> None:
    assert temporal_positions([index * 0.6 for index in range(6)], 10.0) == (0, 6, 12, 18, 24, 30)


def test_qwen2_vl_counts_steps_whatever_their_seconds() -> None:
    assert positions("qwen2_vl", "tvvvt", medium((3, 2, 2), [0.0, 5.0, 7.5]))[0] == [0, 1, 2, 3, 4]


def test_clips_of_one_video_keep_their_true_time() -> None:
    shown = medium((4, 2, 2), [3.0, 4.0, 20.0, 21.0])
    assert positions("qwen2_5_vl", "vvvvt", shown)[0] == [6, 8, 40, 42, 43]


def test_qwen3_vl_gives_every_step_the_positions_of_a_picture() -> None:
    # Two steps of a 2 x 3 merged grid: a step at 6 fills rows 6 and 7, columns 6 to 8, so text goes on at 6 + 3 = 9; the
    # next step stands at 14.
    text = "tttttt" + "v" * 6 + "ttttt" + "v" * 6 + "ttt"
    assert positions("qwen3_vl", text, medium((2, 4, 6), [0.0, 1.0])) == [
        [*range(6), *[6] * 6, *range(9, 14), *[14] * 6, 17, 18, 19],
        [*range(6), 6, 6, 6, 7, 7, 7, *range(9, 14), 14, 14, 14, 15, 15, 15, 17, 18, 19],
        [*range(6), 6, 7, 8, 6, 7, 8, *range(9, 14), 14, 15, 16, 14, 15, 16, 17, 18, 19],
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_single_steps_one_after_the_other(family: str) -> None:
    # A 2 x 1 picture at 1 fills rows 1 and 2; two tokens of text at 3 and 4; a 1 x 3 picture at 5 fills columns 5 to 7.
    shown = [medium((1, 4, 2), kind="image"), medium((1, 2, 6), kind="image")]
    assert positions(family, "tvvttvvvt", *shown) == [
        [0, 1, 1, 3, 4, 5, 5, 5, 8],
        [0, 1, 2, 3, 4, 5, 5, 5, 8],
        [0, 1, 1, 3, 4, 5, 6, 7, 8],
    ]


def test_a_prompt_without_media_counts_up() -> None:
    assert mrope_positions(torch.zeros(3, dtype=torch.bool), []).tolist() == [[0, 1, 2]] * 3


@pytest.mark.parametrize("seconds", [[0.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
def test_times_that_do_not_match_the_grid_are_refused(seconds: list[float]) -> None:
    pieces = [Piece(temporal_positions(seconds, 2.0), 1, 1)]
    with pytest.raises(ValueError, match="do not match"):
        mrope_positions(torch.tensor([False, True, True, True]), pieces)


def test_placeholders_in_two_pieces_are_refused() -> None:
    with pytest.raises(ValueError, match="one piece"):
        mrope_positions(torch.tensor([True, False, True]), [Piece((0, 1), 1, 1)])


@pytest.mark.parametrize(
    ("num_frames", "steps", "first", "mean"),
    [
        (4, 2, (0.0, 1.0), (0.25, 1.25)),
        (3, 2, (0.0, 1.0), (0.25, 1.0)),  # the repeated last frame repeats its time
        (2, 1, (0.0,), (0.25,)),
        (1, 1, (0.0,), (0.0,)),
    ],
)
def test_times_of_temporal_steps(
    num_frames: int, steps: int, first: tuple[float, ...], mean: tuple[float, ...]
) -> None:
    shown = Medium("video", torch.empty(0), (steps, 2, 2), 2, tuple(0.5 * frame for frame in range(num_frames)))
    assert (shown.step_seconds, shown.mean_seconds) == (first, mean)
