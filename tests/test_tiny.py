from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.tiny import build_processor, build_tiny, build_tokenizer


def build_small(path: Path, **options) -> None:
    build_tiny(path, hidden=64, layers=2, vision_hidden=32, vision_layers=2, **options)


def test_default_size_is_about_a_million_parameters(tmp_path):
    build_tiny(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert 1.0e6 < sum(tensor.numel() for tensor in weights.values()) < 2.0e6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_plain_transformers_loads_model_and_processor(tmp_path, family, tied):
    build_small(tmp_path, family=family, tie_word_embeddings=tied)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is type(build_processor(build_tokenizer(), family))
    assert model.config.model_type == family
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    side = FAMILIES[family].token_side(model.config)
    video = torch.randint(0, 255, (4, 3, 2 * side, side), dtype=torch.uint8)
    chat = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "When?"}]}]
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], videos=[video], return_tensors="pt", do_sample_frames=False, do_resize=False)
    assert (inputs["input_ids"] == model.config.video_token_id).sum() == 2 * 2 * 1
    assert model.generate(**inputs, max_new_tokens=3, min_new_tokens=3).shape[1] == inputs["input_ids"].shape[1] + 3


def test_same_seed_same_weights_and_global_random_state_untouched(tmp_path):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_small(tmp_path / name, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_tokens_of_answers_are_few_and_survive_saving(tmp_path):
    build_small(tmp_path)
    for tokenizer in (build_tokenizer(), AutoProcessor.from_pretrained(tmp_path).tokenizer):
        assert tokenizer.tokenize("<answer>12.5 to 17.8</answer>") == [
            *("<answer>", "12.5"),
            *("Ġto" + "Ġ", "17.8", "</answer>"),
        ]
        boxes = ", ".join(["[0.12, 0.34, 0.56, 0.78]"] * 8)
        assert 40 <= len(tokenizer(f"<answer>[{boxes}]</answer>")["input_ids"]) <= 60


@pytest.mark.parametrize(
    "text", ["ünïcode 漢字 🎬\t\n\n x", "1e400 -3.14159, [[[( )]]] <nope> </", "<think>\n a\n</think>"]
)
def test_any_text_survives_encoding_and_decoding(text):
    tokenizer = build_tokenizer()
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_special_tokens_are_single_ids():
    tokenizer = build_tokenizer()
    for token in ("<|im_end|>", "<|endoftext|>", "<|video_pad|>", "<|vision_start|>"):
        assert len(tokenizer(token)["input_ids"]) == 1
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token != tokenizer.eos_token
