"""Tiny random models whose attention notices a wrong position, and random prompts for them, built by hand."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from transformers import PreTrainedModel

from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES, family_of
from videochat_r1.modeling.inputs import Medium, MediumKind, PromptInputs, placeholder_spans
from videochat_r1.modeling.positions import mrope_positions
from videochat_r1.modeling.tiny import build_tokenizer, tiny_config

PAD = 0
_tokenizer = cache(build_tokenizer)


def make_model(family: str = DEFAULT_FAMILY, *, tied: bool = True) -> PreTrainedModel:
    """In evaluation mode. Queries and keys are scaled up, or attention would hardly depend on positions."""
    torch.manual_seed(1)
    config = tiny_config(
        _tokenizer(),
        hidden=64,
        layers=2,
        vision_hidden=32,
        vision_layers=2,
        tie_word_embeddings=tied,
        family=family,
    )
    model = FAMILIES[family].model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj.weight" in name or "k_proj.weight" in name:
                parameter.mul_(8)
    return model


def make_prompt(
    model: torch.nn.Module, seed: int, grid: tuple[int, int, int], seconds: float, num_text: int = 9
) -> PromptInputs:
    """Random text around a random video whose temporal steps are `seconds` apart."""
    return make_media_prompt(model, seed, "video", [grid], seconds, num_text)


def make_media_prompt(
    model: torch.nn.Module,
    seed: int,
    kind: MediumKind,
    grids: Sequence[tuple[int, int, int]],
    seconds: float = 0.5,
    num_text: int = 9,
    rest: Sequence[int] = (),
) -> PromptInputs:
    """Random text around random media, a token of text before each run of placeholders but the first; then `rest`."""
    generator = torch.Generator().manual_seed(seed)
    config: Any = model.config
    family, vision = family_of(config), config.vision_config
    placeholder = config.video_token_id if kind == "video" else config.image_token_id
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    text = torch.randint(10, 250, (num_text,), generator=generator)
    media, pieces, runs = [], [], []
    for grid in grids:
        patches = torch.randn(math.prod(grid), values, generator=generator)
        times = tuple(frame * seconds / 2 for frame in range(2 * grid[0])) if kind == "video" else ()
        media.append(Medium(kind, patches, grid, 2, times, 2 / seconds if kind == "video" else None))
        pieces += family.pieces(media[-1], config)
    for piece in pieces:
        runs += [text[2:3]] * bool(runs) + [torch.full((piece.num_tokens,), placeholder)]
    input_ids = torch.cat([text[:3], *runs, text[3:], torch.tensor(rest, dtype=torch.long)])
    is_placeholder = input_ids == placeholder
    positions, spans = mrope_positions(is_placeholder, pieces), placeholder_spans(is_placeholder, media)
    return PromptInputs(input_ids, positions, tuple(media), "", spans=spans)


def make_questions(
    model: torch.nn.Module,
    seed: int,
    lengths: Sequence[int],
    kind: MediumKind = "video",
    grids: Sequence[tuple[int, int, int]] = ((4, 4, 6),),
    seconds: float = 0.7,
) -> list[PromptInputs]:
    """Prompts about the same media that begin alike and end in random text of these lengths."""
    words = torch.randint(10, 250, (sum(lengths),), generator=torch.Generator().manual_seed(seed)).tolist()
    ends = list(itertools.accumulate(lengths))
    rests = [words[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return [make_media_prompt(model, seed, kind, grids, seconds, rest=rest) for rest in rests]


def plain_arguments(prompts: Sequence[PromptInputs]) -> dict[str, torch.Tensor]:
    """The prompts' media as transformers' own forward and `generate` take them; all of one kind, or none."""
    media = [medium for prompt in prompts for medium in prompt.media]
    if not media:
        return {}
    names = (
        ("pixel_values_videos", "video_grid_thw") if media[0].kind == "video" else ("pixel_values", "image_grid_thw")
    )
    values = torch.cat([medium.patches for medium in media]), torch.tensor([medium.grid for medium in media])
    return dict(zip(names, values, strict=True))


def shift_one_position(prompt: PromptInputs) -> PromptInputs:
    """The same prompt with one wrong entry: a video token two positions earlier in time."""
    positions = prompt.position_ids.clone()
    positions[0, 10] -= 2
    return replace(prompt, position_ids=positions)


def change_one_pixel(prompt: PromptInputs) -> PromptInputs:
    """The same prompt with one wrong value of one patch of its first medium."""
    patches = prompt.media[0].patches.clone()
    patches[5, 7] += 4
    return replace(prompt, media=(replace(prompt.media[0], patches=patches), *prompt.media[1:]))


def without_last_token(mask: torch.Tensor) -> torch.Tensor:
    """The same completion mask with one wrong entry: the longest row's last."""
    row = int(mask.sum(1).argmax())
    wrong = mask.clone()
    wrong[row, int(mask[row].sum()) - 1] = 0
    return wrong


def make_completions(lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids and their mask, both (B, longest)."""
    width = max(lengths)
    ids = torch.randint(10, 250, (len(lengths), width), generator=torch.Generator().manual_seed(7))
    return ids, (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def ragged_batch(model: torch.nn.Module) -> tuple[list[PromptInputs], torch.Tensor, torch.Tensor]:
    """Two groups of different prompts and completion lengths; one row is masked out, as truncated completions may be."""
    first, second = make_prompt(model, 1, (4, 4, 6), 0.7), make_prompt(model, 2, (3, 4, 4), 1.3)
    return [first, first, first, second, second], *make_completions([11, 6, 1, 0, 8])


def question_batch(model: torch.nn.Module) -> tuple[list[PromptInputs], torch.Tensor, torch.Tensor]:
    """Groups of three questions about one video, two about another in turns with them, and two that share the first of two
    pictures; copies of pixels, ragged completions, and one group and one row masked out."""
    one, two, three = make_questions(model, 1, (5, 9, 2))
    four, five = make_questions(model, 2, (7, 1))
    four = replace(four, media=(replace(four.media[0], patches=four.media[0].patches.clone()),))
    six, other = (make_media_prompt(model, seed, "image", [(1, 4, 6), (1, 4, 4)]) for seed in (3, 4))
    seven = replace(six, media=(six.media[0], other.media[1]))
    prompts = [four, one, one, two, five, two, three, one, six, six, seven]
    return prompts, *make_completions([4, 6, 11, 3, 8, 5, 0, 7, 2, 0, 9])
