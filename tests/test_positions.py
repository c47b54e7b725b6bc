"""M-RoPE positions against examples worked by hand."""

import pytest
import torch

from videochat_r1.modeling.positions import mrope_positions, temporal_positions

VIDEO = 9


def positions(num_before, num_after, grid, seconds, tokens_per_second, merge_size=2):
    steps, height, width = grid
    num_video = steps * (height // merge_size) * (width // merge_size)
    ids = torch.tensor([1] * num_before + [VIDEO] * num_video + [1] * num_after)
    return mrope_positions(
        ids,
        video_token_id=VIDEO,
        video_grid_thw=torch.tensor([grid]),
        grid_seconds=seconds,
        merge_size=merge_size,
        tokens_per_second=tokens_per_second,
    )


def test_text_after_a_video_starts_after_its_largest_position():
    # Two text tokens, 3 steps of a 1 x 2 merged grid at 2 frames a second (1 s a step) and 2 positions a second.
    result = positions(2, 2, (3, 2, 4), [0.0, 1.0, 2.0], 2.0)
    assert result.tolist() == [
        [0, 1, 2, 2, 4, 4, 6, 6, 7, 8],
        [0, 1, 2, 2, 2, 2, 2, 2, 7, 8],
        [0, 1, 2, 3, 2, 3, 2, 3, 7, 8],
    ]


def test_a_wide_short_video_is_followed_after_its_widest_column():
    result = positions(1, 1, (1, 2, 10), [0.0], 2.0)
    assert result[:, -1].tolist() == [6, 6, 6]  # 1 + columns 0..4 -> last is 5, next is 6


def test_fractional_seconds_count():
    # 4 frames a second: half a second a step, two positions a second -> one position a step.
    assert temporal_positions([0.0, 0.5, 1.0, 1.5], 2.0) == [0, 1, 2, 3]
    # 5 frames a second: 0.4 s a step -> floor(0, 0.8, 1.6, 2.4).
    assert temporal_positions([0.0, 0.4, 0.8, 1.2], 2.0) == [0, 0, 1, 2]


def test_seconds_a_rounding_error_below_an_integer_keep_their_place():
    assert temporal_positions([index * 0.6 for index in range(6)], 10.0) == [0, 6, 12, 18, 24, 30]


def test_qwen2_vl_counts_steps_whatever_their_seconds():
    result = positions(1, 1, (3, 2, 2), [0.0, 5.0, 7.5], None)
    assert result[0].tolist() == [0, 1, 2, 3, 4]


def test_clips_of_one_video_keep_their_true_time():
    result = positions(0, 1, (4, 2, 2), [3.0, 4.0, 20.0, 21.0], 2.0)
    assert result[0].tolist() == [6, 8, 40, 42, 43]


def test_a_prompt_without_video_counts_up():
    result = mrope_positions(
        torch.tensor([1, 2, 3]),
        video_token_id=VIDEO,
        video_grid_thw=None,
        grid_seconds=[],
        merge_size=2,
        tokens_per_second=2.0,
    )
    assert result.tolist() == [[0, 1, 2]] * 3


@pytest.mark.parametrize("seconds", [[0.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
def test_times_that_do_not_match_the_grid_are_refused(seconds):
    with pytest.raises(ValueError, match="do not match"):
        positions(1, 1, (3, 2, 2), seconds, 2.0)


def test_placeholders_in_two_pieces_are_refused():
    with pytest.raises(ValueError, match="one piece"):
        mrope_positions(
            torch.tensor([VIDEO, 1, VIDEO]),
            video_token_id=VIDEO,
            video_grid_thw=torch.tensor([[2, 2, 2]]),
            grid_seconds=[0.0, 1.0],
            merge_size=2,
            tokens_per_second=2.0,
        )
