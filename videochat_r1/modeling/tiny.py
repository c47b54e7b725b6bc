"""A model of about a million parameters of any family, made from its config: the real architecture and processor classes, no model hub.

The quickstart trains it and the tests run on it. Its tokenizer is a byte-level BPE with Qwen's special tokens, trained on
text like the tasks' answers, so that a number is one token and an answer with 8 boxes about 45.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerFast, ProcessorMixin

from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.saving import save_model_folder

EOS_TOKEN = "<|im_end|>"
PAD_TOKEN = "<|endoftext|>"
_SPECIAL_TOKENS = (
    "<|im_start|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Tags, written times, numbers (with the comma that may follow), the "to" of a span, brackets, words: each becomes one token once
# training has seen it. Anything else falls back to shorter pieces, down to bytes.
_PIECES = r"</?[a-z]+>|<\d+\.\d seconds>|\d+\.\d+(?:, )?|\d|(?<=\d) to (?=\d)|[\[\](){}]+(?:, [\[(]+)?| ?\p{L}+|\s*\n+|[^\s\p{L}\p{N}<>\[\](){}]+|\s+"

_CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'video' -%}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif part['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def answer_texts() -> Iterator[str]:
    """Text like the tasks' prompts and answers: every time up to 32 s in tenths, every coordinate in hundredths."""
    for tenth in range(321):
        time = tenth / 10
        yield f"<think></think><answer>{time:.1f} to {time:.1f}</answer>"
        yield f"<answer>A</answer><glue>[({time:.1f}, {time:.1f}), ({time:.1f}, {time:.1f})]</glue>"
    for hundredth in range(101):
        x = hundredth / 100
        box = f"[{x:.2f}, {x:.2f}, {x:.2f}, {x:.2f}]"
        yield f"<answer>[{box}, {box}, {box}]</answer>"
    for letter in "ABCDEFGH":
        yield f"({letter}) {letter}. Options: <answer>{letter}</answer>\n"
    yield from (
        "When is the object visible in the video? Give its start and end in seconds.",
        "Track the object in the video from its first box. Which option is right? Answer with the letter.",
        "user\nassistant\nsystem\n",
    )


def build_tokenizer(texts: Iterable[str] | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `texts` (`answer_texts()` if None), with Qwen's special tokens; any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(answer_texts() if texts is None else texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS_TOKEN, pad_token=PAD_TOKEN)
    fast.add_special_tokens({"additional_special_tokens": list(_SPECIAL_TOKENS)})
    return fast


def build_processor(tokenizer: PreTrainedTokenizerFast, family: str = DEFAULT_FAMILY) -> ProcessorMixin:
    """The processor class that real checkpoints of this family use, around the given tokenizer."""
    return FAMILIES[family].tiny_processor(tokenizer, _CHAT_TEMPLATE)


def tiny_config(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden: int,
    layers: int,
    vision_hidden: int,
    vision_layers: int,
    tie_word_embeddings: bool,
    family: str,
    initializer_range: float = 0.02,
) -> PretrainedConfig:
    """The config: `hidden` and `layers` of the language model (heads of 32), `vision_*` of the vision tower (4 heads).

    Half of the rotary frequencies serve time, more than in the large models, so that the slow ones among them do not wrap
    within a video.
    """
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (*_SPECIAL_TOKENS, EOS_TOKEN, PAD_TOKEN)}
    text_config = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": hidden * 3,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, hidden // 32),
        "num_key_value_heads": max(1, hidden // 64),
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 4, 4], "rope_theta": 10000.0},
        "tie_word_embeddings": tie_word_embeddings,
        "initializer_range": initializer_range,
        "bos_token_id": None,
        "eos_token_id": ids[EOS_TOKEN],
        "pad_token_id": ids[PAD_TOKEN],
    }
    shared: dict[str, Any] = {
        "text_config": text_config,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": tie_word_embeddings,
        "initializer_range": initializer_range,
    }
    tower = {
        "depth": vision_layers,
        "hidden_size": vision_hidden,
        "intermediate_size": vision_hidden * 2,
        "num_heads": 4,
        "out_hidden_size": hidden,
        "initializer_range": initializer_range,
    }
    return FAMILIES[family].tiny_config(shared, tower)


def build_tiny(
    path: str | Path,
    *,
    hidden: int = 128,
    layers: int = 4,
    vision_hidden: int = 64,
    vision_layers: int = 2,
    tie_word_embeddings: bool = True,
    family: str = DEFAULT_FAMILY,
    texts: Iterable[str] | None = None,
    initializer_range: float = 0.02,
    seed: int = 0,
) -> None:
    """Save a model with random weights (fp32) and its processor; `from_pretrained` of plain transformers loads both.

    The sizes as they stand give about 1 M parameters; `hidden=64, layers=2` is enough where nothing has to be learned.
    The same arguments give the same weights, and the global random state is left alone.

    Args:
        path: the folder, made if absent.
        hidden: width of the language model, a multiple of 32 (of 64 from 64 on).
        layers: its depth.
        vision_hidden: width of the vision tower, a multiple of 16.
        vision_layers: its depth; the last layer attends to the whole frame.
        tie_word_embeddings: whether output and input embeddings are one tensor.
        family: which architecture, as in `FAMILIES`.
        texts: what the tokenizer is trained on, see `build_tokenizer`.
        initializer_range: deviation of the random weights. The large models' 0.02 is made for widths of thousands; to
            learn quickly this one needs about hidden ** -0.5.
        seed: of the weights.
    """
    tokenizer = build_tokenizer(texts)
    config = tiny_config(
        tokenizer,
        hidden=hidden,
        layers=layers,
        vision_hidden=vision_hidden,
        vision_layers=vision_layers,
        tie_word_embeddings=tie_word_embeddings,
        family=family,
        initializer_range=initializer_range,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[family].model_class(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    save_model_folder(model, build_processor(tokenizer, family), path)
