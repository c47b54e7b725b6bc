"""Prompts that begin alike, found by comparing them: a forest whose branches are what several prompts share.

A branch is a run of tokens that all prompts below it hold at the same place, with the same positions and, where it shows
something, the same pixels: their keys and values are computed once. The last token of a prompt belongs to none: every
completion has a copy of its own, which predicts its first token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from videochat_r1.modeling.inputs import PromptInputs

# Attention over one more set of keys is two calls and a merge in every layer: fewer tokens than this have to be computed
# again. What shows a video or a picture is always shared, and with it the work of the vision tower.
_LEAST_TOKENS = 64


@dataclass(frozen=True, slots=True)
class PromptBranch:
    """Tokens [begin, end) of all prompts at or below it.

    Args:
        begin: its first token's place in any of these prompts.
        end: one past its last.
        prompts: indices of the prompts of which it is the end, all but their last token.
        children: what goes on differently.
    """

    begin: int
    end: int
    prompts: tuple[int, ...]
    children: tuple["PromptBranch", ...] = ()

    @property
    def num_tokens(self) -> int:
        """Its own; 0 of a prompt of one token."""
        return self.end - self.begin

    @property
    def below(self) -> tuple[int, ...]:
        """All prompts that have its tokens, in the order of `walk`; the first may stand for all."""
        return self.prompts + tuple(index for child in self.children for index in child.below)

    def media(self, prompt: PromptInputs) -> list[int]:
        """Which of the media of one of these prompts it shows."""
        return [index for index, (begin, _) in enumerate(prompt.spans) if self.begin <= begin < self.end]


def plant(prompts: Sequence[PromptInputs]) -> tuple[PromptBranch, ...]:
    """The forest of these prompts, whose order does not matter to what is found; it may be as deep as they differ."""
    return _grow(prompts, range(len(prompts)), 0)


def walk(forest: Sequence[PromptBranch]) -> Iterator[PromptBranch]:
    """Every branch before all that lies below it, which follows at once."""
    for branch in forest:
        yield branch
        yield from walk(branch.children)


def common_beginning(one: PromptInputs, other: PromptInputs) -> int:
    """Tokens at the start of both whose keys and values are equal: same ids, positions and pixels.

    Ends before a medium that differs in any of them, and before the last token of the shorter prompt.
    """
    size = _bound(one, other)
    same = (one.input_ids[:size] == other.input_ids[:size]) & (
        one.position_ids[:, :size] == other.position_ids[:, :size]
    ).all(dim=0)
    length = int(same.long().cumprod(0).sum())
    return next((begin for begin, end in one.spans if begin < length < end), length)


def shared_beginning(one: PromptInputs, other: PromptInputs, begin: int = 0) -> int:
    """End of what they share from `begin` on, as `common_beginning`; 0 if that is too little to be worth it."""

    def is_enough(end: int) -> bool:
        return end - begin >= _LEAST_TOKENS or any(begin <= first and last <= end for first, last in one.spans)

    if not is_enough(_bound(one, other)):
        return 0
    end = common_beginning(one, other)
    return end if is_enough(end) else 0


def _bound(one: PromptInputs, other: PromptInputs) -> int:
    """The most that the beginning can be, known without reading a tensor."""
    size = min(one.num_tokens, other.num_tokens) - 1
    for index in range(min(len(one.media), len(other.media))):
        if one.media[index].digest != other.media[index].digest:
            return min(size, one.spans[index][0], other.spans[index][0])
    return size


def _grow(prompts: Sequence[PromptInputs], indices: Sequence[int], begin: int) -> tuple[PromptBranch, ...]:
    """Branches from token `begin` on, of prompts that are equal up to there."""
    stems: list[tuple[int, list[int]]] = []
    for index in indices:
        for place, (end, members) in enumerate(stems):
            shared = shared_beginning(prompts[members[0]], prompts[index], begin)
            if shared:
                stems[place] = (min(end, shared), [*members, index])
                break
        else:
            stems.append((prompts[index].num_tokens - 1, [index]))
    branches = []
    for end, members in stems:
        ending = [index for index in members if prompts[index].num_tokens - 1 == end]
        further = [index for index in members if index not in ending]
        branches.append(PromptBranch(begin, end, tuple(ending), _grow(prompts, further, end)))
    return tuple(branches)
