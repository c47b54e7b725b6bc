"""Keys and values of prompts that were answered before, for prompts that go on from them: the next question of a conversation.

Letters: H query heads, K key heads, N tokens that go on, P tokens that are kept, D head size.
"""

from dataclasses import dataclass

import torch
from transformers import DynamicCache

from videochat_r1.modeling.attention_kernels import choose_kernel, merge
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompt_tree import shared_beginning


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A prompt, and (1, K, its tokens but the last, D) keys and values per layer."""

    prompt: PromptInputs
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @property
    def num_tokens(self) -> int:
        return int(self.layers[0][0].shape[2])


class KeptPrompts:
    """The prompts that were answered last, up to a number of tokens together; one longer than that is not kept.

    They hold for as long as the model's weights do.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._kept: list[_Kept] = []

    def begin(self, prompt: PromptInputs) -> tuple[DynamicCache, int]:
        """A cache that holds the beginning of a prompt as far as it is known, and of how many tokens that is.

        What it was taken from is no longer kept: the prompt will be, which goes on from it.
        """
        cache = DynamicCache()
        shared = [shared_beginning(kept.prompt, prompt) for kept in self._kept]
        length = max(shared, default=0)
        if length:
            for layer, (keys, values) in enumerate(self._kept.pop(shared.index(length)).layers):
                cache.update(keys[:, :, :length], values[:, :, :length], layer)
        return cache, length

    def keep(self, prompt: PromptInputs, prefilled: DynamicCache) -> None:
        """Keep a prompt, all of whose tokens but the last are in the cache, and let the oldest go."""
        self._kept.append(_Kept(prompt, tuple((layer.keys, layer.values) for layer in prefilled.layers)))
        while sum(kept.num_tokens for kept in self._kept) > self._max_tokens:
            self._kept.pop(0)

    def forget(self) -> None:
        """Keep nothing."""
        self._kept.clear()


@dataclass(frozen=True, slots=True)
class Continuation:
    """A `SharedPrefix` of tokens that go on from kept ones, all of which each of them sees."""

    num_kept: int

    def attend(
        self, layer_idx: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """(1, N, H, D) of query (1, H, N, D) over key and value (1, K, P + N, D)."""
        kernel = choose_kernel(query.device, query.dtype, query.shape[-1])
        earlier, own = slice(self.num_kept), slice(self.num_kept, None)
        out, lse, _ = kernel.forward(query, key[:, :, own], value[:, :, own], True, scale)
        before, before_lse, _ = kernel.forward(query, key[:, :, earlier], value[:, :, earlier], False, scale)
        return merge(out, lse, before, before_lse)[0].transpose(1, 2)

    def leaves_only(self) -> "Continuation":
        """The same: there are no leaves, and what comes out of the last layer is not read."""
        return self
