"""Tokens in the log of rollouts: what was sampled, cut where the tokenizer cuts it, and read back for the window."""

import math

import pytest

from videochat_r1.grpo.token_log import Token, TokenLog, read_tokens, with_differences
from videochat_r1.window.group_view import group_view
from videochat_r1.window.media import Folders

# A vocabulary of bytes, as those of Qwen's tokenizers are at heart; 256 is a special token, which is no text.
PIECES = [*(bytes([byte]) for byte in range(256)), b""]


class Bytes:
    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return b"".join(PIECES[token] for token in ids).decode("utf-8", "replace")


def ids_of(text):
    return [*text.encode(), 256]


@pytest.mark.parametrize(
    ("sampled", "lengths"),
    [
        ("ab", [1, 1, 0]),
        ("aé!", [1, 0, 1, 1, 0]),
        ("\U0001f600\u4e2d", [0, 0, 0, 1, 0, 0, 1, 0]),
        ("", [0]),
    ],
)
@pytest.mark.parametrize("opened", ["", "<think>\n"])
def test_tokens_joined_are_the_completion(sampled, lengths, opened):
    ids, text = ids_of(sampled), opened + sampled
    logps = [-place / 8 for place in range(len(ids))]
    held = TokenLog(Bytes()).of(ids, logps, opened.__add__, text)
    assert held == {"lengths": lengths, "logps": [round(logp, 2) for logp in logps]}
    read, tokens = read_tokens({"completion": text, "tokens": held})
    assert opened + "".join(read[token.start : token.end] for token in tokens) == text
    assert [token.logp for token in tokens] == pytest.approx(logps, abs=0.006)


@pytest.mark.parametrize("ids", [[0xC3], [0x61, 0xC3], [0xC3, 0x61, 0xE4, 0xB8], [0xFF, 0xFF]])
def test_characters_that_were_cut_off_or_are_none_belong_to_a_token_too(ids):
    text = Bytes().decode(ids, True)
    held = TokenLog(Bytes()).of(ids, [0.0] * len(ids), str, text)
    assert sum(held["lengths"]) == len(text) and len(held["lengths"]) == len(ids)


def test_what_the_log_tells_otherwise_is_held_as_the_model_wrote_it():
    text, logged = "[56, 28]", "[0.5, 0.25]"
    held = with_differences(TokenLog(Bytes()).of(ids_of(text), [-1.0] * 9, str, logged), [2e-4, -0.5] + [0.0] * 7)
    read, tokens = read_tokens({"completion": logged, "tokens": held})
    assert read == text and tokens[:3] == [Token(0, 1, -1.0, 2e-4), Token(1, 2, -1.0, -0.5), Token(2, 3, -1.0, 0.0)]


@pytest.mark.parametrize(
    "tokens",
    [
        3,
        {},
        {"lengths": [2], "logps": [0]},
        {"lengths": [1, -1], "logps": [0, 0]},
        {"lengths": [1], "logps": ["x"]},
        {"lengths": [1], "logps": [0, 0]},
        {"lengths": [True], "logps": [0]},
        {"lengths": [1], "logps": [0], "text": 3},
        TokenLog(Bytes()).of([97], [math.nan], str, "a"),
    ],
)
def test_tokens_that_do_not_fit_are_none(tokens):
    assert read_tokens({"completion": "a", "tokens": tokens}) == ("a", [])


def test_the_window_tells_thought_and_answer_in_pieces():
    text = "<think>\nno</think> <answer>1 to 3</answer>"
    ids = ids_of(text.removeprefix("<think>\n"))
    held = TokenLog(Bytes()).of(ids, [-1.0] * (len(ids) - 1) + [-0.5], "<think>\n".__add__, text)
    target = {"span": [1.0, 3.0], "duration": 4.0}
    rollout = {"completion": text, "rewards": {}, "tokens": held}
    group = {"step": 1, "task": "temporal_grounding", "sample_id": "s", "target": target, "rollouts": [rollout]}
    [seen] = group_view(1, group, Folders([]).shown(group))["rollouts"]
    thought, answer = seen["parts"]
    assert thought == {"kind": "think", "text": "no", "pieces": [["n", -1.0, None], ["o", -1.0, None]]}
    assert [piece for piece, *_ in answer["pieces"]] == list("1 to 3")
    assert seen["end"] == -0.5 and seen["mean_logp"] == pytest.approx(-1.0, abs=0.02)
