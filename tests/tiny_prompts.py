"""Tiny random models whose attention notices a wrong position, and random prompts for them, built by hand."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from transformers import PreTrainedModel

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import MODEL_CLASSES
from videochat_r1.modeling.positions import mrope_positions
from videochat_r1.modeling.tiny import ModelType, build_tokenizer, tiny_config

MODEL_TYPES: tuple[ModelType, ...] = ("qwen2_5_vl", "qwen2_vl")
PAD = 0
_tokenizer = cache(build_tokenizer)


def make_model(model_type: ModelType = "qwen2_5_vl", *, tied: bool = True) -> PreTrainedModel:
    """In evaluation mode. Queries and keys are scaled up, or attention would hardly depend on positions."""
    torch.manual_seed(1)
    config = tiny_config(
        _tokenizer(),
        hidden=64,
        layers=2,
        vision_hidden=32,
        vision_layers=2,
        tie_word_embeddings=tied,
        model_type=model_type,
    )
    model = MODEL_CLASSES[model_type](config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj.weight" in name or "k_proj.weight" in name:
                parameter.mul_(8)
    return model


def make_prompt(
    model: torch.nn.Module, seed: int, grid: tuple[int, int, int], seconds: float, num_text: int = 9
) -> PromptInputs:
    """Random text around a random video whose temporal steps are `seconds` apart."""
    generator = torch.Generator().manual_seed(seed)
    steps, height, width = grid
    video_token_id = model.config.video_token_id
    text = torch.randint(10, 250, (num_text,), generator=generator)
    input_ids = torch.cat([text[:3], torch.full((steps * height * width // 4,), video_token_id), text[3:]])
    video_grid_thw = torch.tensor([grid])
    positions = mrope_positions(
        input_ids,
        video_token_id=video_token_id,
        video_grid_thw=video_grid_thw,
        grid_seconds=[step * seconds for step in range(steps)],
        merge_size=2,
        tokens_per_second=4,
    )
    pixels = torch.randn(steps * height * width, 3 * 2 * 14 * 14, generator=generator)
    return PromptInputs(input_ids, positions, pixels, video_grid_thw, seconds, "")


def shift_one_position(prompt: PromptInputs) -> PromptInputs:
    """The same prompt with one wrong entry: a video token two positions earlier in time."""
    positions = prompt.position_ids.clone()
    positions[0, 10] -= 2
    return replace(prompt, position_ids=positions)


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
