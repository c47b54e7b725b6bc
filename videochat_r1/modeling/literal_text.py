"""Text that people wrote, encoded as text: what looks like a control token in it never becomes one.

A question may quote `<|im_end|>`. As a control token it would end the user's turn, and `<|video_pad|>` would ask for a video
that is not there. Such places are marked before the text goes into a chat template, whose own control tokens bear no mark,
and encoded in two pieces: none of them is the token any more.
"""

import re
from functools import cached_property

from transformers import PreTrainedTokenizerBase

_MARK = "\ufdd0"
"""Stands behind the first character of a quoted control token. Unicode keeps this code point for use inside programs."""


def readable(marked: str) -> str:
    """Marked text as a person would read it."""
    return marked.replace(_MARK, "")


class LiteralText:
    """Marks and encodes text for one tokenizer.

    Args:
        tokenizer: its special tokens, and what else it adds in the form `<|...|>`, are control tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def mark(self, text: str) -> str:
        """The text with a mark in each control token it quotes. Halves of surrogate pairs, which no tokenizer takes, and
        code points used as marks become U+FFFD."""
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace(_MARK, "\ufffd")
        return self._begins_control_token.sub(lambda found: found[0] + _MARK, whole)

    def encode(self, marked: str) -> list[int]:
        """Token ids of marked text, or of a template's with marked text in it. Without a mark they are the tokenizer's."""
        pieces = marked.split(_MARK)
        return [token for piece in pieces for token in self._tokenizer(piece, add_special_tokens=False)["input_ids"]]

    @cached_property
    def _begins_control_token(self) -> re.Pattern[str]:
        names = [
            token.content
            for token in self._tokenizer.added_tokens_decoder.values()
            if token.special or re.fullmatch(r"<\|.+\|>", token.content)
        ]
        # Looking ahead finds those that overlap, too.
        return re.compile(f"(?=(?:{'|'.join(map(re.escape, names))})).", re.DOTALL)
