"""Rollouts with the transformers model itself: each video encoded and each prompt prefilled once, whatever the group size.

A completion's first decoding step takes the prompt's last token as its input, as its segment does in the trainer's packed
row, so prefill needs no logits and sampler and trainer compute the same thing.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from transformers import DynamicCache

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.media_features import media_arguments, unwrap
from videochat_r1.modeling.packed_attention import Branch, lay_out
from videochat_r1.modeling.prefix_attention import SharedPrefix, install_prefix_attention
from videochat_r1.modeling.prompt_tree import PromptBranch, plant, walk
from videochat_r1.rollout.base import Rollout, SamplingSettings, Watch, rollouts_per_prompt
from videochat_r1.rollout.batches import batches, runs
from videochat_r1.rollout.decoding_rows import DecodingRows
from videochat_r1.rollout.decoding_step import DecodingStep, RecordedStep, can_record, check_decoder
from videochat_r1.rollout.kept_prompts import Continuation, KeptPrompts
from videochat_r1.rollout.prefix_cache import SharedPrefixCache
from videochat_r1.rollout.sampling import TokenSampler, refuse_diverged

PREFILL_TOKENS = 16384
"""Prompts are prefilled together up to this many tokens: enough to fill a device, little enough to bound its memory."""

# Asking an accelerator whether all rows have ended waits for it; the CPU computes in step anyway.
_STEPS_BETWEEN_CHECKS = {"cpu": 1}
_STEPS_BETWEEN_CHECKS_ELSEWHERE = 8


class TransformersEngine:
    """A `RolloutEngine` on the training model's own weights.

    Args:
        model: may be wrapped, in training mode, and with gradient checkpointing; it is left as it was found.
        pad_token_id: fed to rows that have ended while others go on.
        max_batch_rows: rows decoded at a time, at least one group; None decodes all together.
        cuda_graph: record the decoding step on a GPU and repeat it, instead of starting its kernels one by one.
        max_kept_tokens: of prompts answered one at a time whose keys and values are kept, for prompts that go on from them; only
            for weights that do not change.

    Attributes:
        kept: the kept prompts.

    Raises:
        ConfigError: the text decoder is built of unknown parts, has sliding-window layers, or the model is spread over several devices.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        pad_token_id: int,
        *,
        max_batch_rows: int | None = None,
        cuda_graph: bool = True,
        max_kept_tokens: int = 0,
    ) -> None:
        self._model = unwrap(model)
        self._pad_token_id = pad_token_id
        self._max_batch_rows = max_batch_rows
        self._cuda_graph = cuda_graph
        self.kept = KeptPrompts(max_kept_tokens)
        check_decoder(self._model)
        install_prefix_attention(self._model)
        # Renamed in transformers 5.24.
        named = inspect.signature(type(self._model.base_model).forward).parameters
        self._cache_argument = "cache" if "cache" in named else "past_key_values"

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[PromptInputs],
        *,
        num_generations: int | Sequence[int],
        settings: SamplingSettings,
        noise_seeds: Sequence[Sequence[int]] | None = None,
        media_features: Sequence[torch.Tensor | None] | None = None,
        watch: Watch | None = None,
    ) -> list[list[Rollout]]:
        """See `RolloutEngine`. Greedy log-probabilities are at temperature 1.

        Args:
            prompts: each of at least two tokens.
            num_generations: of every prompt, or of each its own; all are decoded together.
            settings: how to draw.
            noise_seeds: one per rollout; may be None only when greedy.
            media_features: one per prompt as `encode_media` gives them, for a frozen vision tower; None computes them.
            watch: told after every step, for which the host waits.

        Raises:
            ConfigError: settings out of range.
            DivergedError: the model's logits are NaN or infinite.
            ValueError: numbers, seeds or features that do not fit the prompts, or a prompt of one token.
        """
        counts = rollouts_per_prompt(len(prompts), num_generations, settings, noise_seeds)
        _check_prompts(prompts, media_features)
        sampler = TokenSampler(settings, self._model.config.get_text_config().vocab_size, self._model.device)
        drawn: dict[int, list[Rollout]] = {}
        with _eval_mode(self._model):
            for batch in self._batches(prompts, max(counts, default=1)):
                forest = _in_order(plant([prompts[index] for index in batch]))
                forest, batch = _renamed(forest), [batch[index] for tree in forest for index in tree.below]
                part, wanted = [prompts[index] for index in batch], [counts[index] for index in batch]
                features = None if media_features is None else [media_features[index] for index in batch]
                seeds = None if sampler.greedy or noise_seeds is None else [noise_seeds[index] for index in batch]
                rows = DecodingRows(part, wanted, settings, self._pad_token_id, seeds, self._model.device)
                config = self._model.config.get_text_config()
                cache = SharedPrefixCache(
                    config.num_hidden_layers,
                    max(wanted),
                    settings.max_new_tokens,
                    config.num_attention_heads // config.num_key_value_heads,
                )
                self._prefill(cache, part, forest, features)
                self._decode(cache, rows, sampler, settings.max_new_tokens, _for_batch(watch, batch))
                drawn |= dict(zip(batch, rows.rollouts(), strict=True))
        rollouts = [drawn[index] for index in range(len(prompts))]
        refuse_diverged(rollouts)
        return rollouts

    def _batches(self, prompts: Sequence[PromptInputs], num_generations: int) -> list[list[int]]:
        """Which prompts are decoded together: where it fits, all that share something."""
        limit = len(prompts) if self._max_batch_rows is None else max(self._max_batch_rows // num_generations, 1)
        if len(prompts) <= limit:
            return [list(range(len(prompts)))] if prompts else []
        together = batches([tree.below for tree in plant(prompts)], limit)
        return [[index for family in batch for index in family] for batch in together]

    def _prefill(
        self,
        cache: SharedPrefixCache,
        prompts: Sequence[PromptInputs],
        forest: Sequence[PromptBranch],
        features: Sequence[torch.Tensor | None] | None,
    ) -> None:
        """Keys and values of every prompt but its last token, in rows without padding: each branch of their forest once."""
        if len(prompts) == 1:
            self._prefill_lone(cache, prompts, forest, features)
            return
        sizes = [sum(branch.num_tokens for branch in walk([tree])) for tree in forest]
        for begin, end in runs(sizes, PREFILL_TOKENS):
            part = forest[begin:end]
            prefilled = DynamicCache()
            layout = lay_out([_without_leaves(tree) for tree in part], self._model.device)
            self._compute(prefilled, list(walk(part)), layout, prompts, features)
            cache.add_prompts(prefilled, part)

    def _prefill_lone(
        self,
        cache: SharedPrefixCache,
        prompts: Sequence[PromptInputs],
        forest: Sequence[PromptBranch],
        features: Sequence[torch.Tensor | None] | None,
    ) -> None:
        """The same of one prompt, from where it is not kept already."""
        prefilled, begun = self.kept.begin(prompts[0])
        rest = replace(forest[0], begin=begun)
        if rest.num_tokens:
            whole = lay_out([Branch(rest.num_tokens)], self._model.device)
            self._compute(prefilled, [rest], Continuation(begun) if begun else whole, prompts, features)
        self.kept.keep(prompts[0], prefilled)
        cache.add_prompts(prefilled, forest)

    def _compute(
        self,
        cache: DynamicCache,
        branches: Sequence[PromptBranch],
        layout: SharedPrefix,
        prompts: Sequence[PromptInputs],
        features: Sequence[torch.Tensor | None] | None,
    ) -> None:
        """Add keys and values of a row of branches to the cache."""
        device = self._model.device
        row = [(branch, prompts[branch.below[0]]) for branch in branches]
        ids = torch.cat([prompt.input_ids[branch.begin : branch.end] for branch, prompt in row])
        positions = torch.cat([prompt.position_ids[:, branch.begin : branch.end] for branch, prompt in row], 1)
        shown = [(branch.below[0], medium) for branch, prompt in row for medium in branch.media(prompt)]
        self._model.base_model(
            position_ids=positions.unsqueeze(1).to(device, non_blocking=True),
            use_cache=True,
            shared_prefix=layout,
            scored_positions=torch.empty(0, dtype=torch.long, device=device),
            **{self._cache_argument: cache},
            **media_arguments(
                self._model.config, ids.unsqueeze(0).to(device, non_blocking=True), prompts, features, shown
            ),
        )

    def _decode(
        self,
        cache: SharedPrefixCache,
        rows: DecodingRows,
        sampler: TokenSampler,
        max_new_tokens: int,
        watch: Callable[[list[list[list[int]]]], None] | None,
    ) -> None:
        device = self._model.device.type
        interval = 1 if watch is not None else _STEPS_BETWEEN_CHECKS.get(device, _STEPS_BETWEEN_CHECKS_ELSEWHERE)
        own = cache.own
        step: Callable[[], None] = DecodingStep(self._model, cache, rows, sampler)
        if self._cuda_graph and can_record(self._model.device):
            step = RecordedStep(step, lambda: (cache.version, own.reach))
        for number in range(max_new_tokens):
            own.reach_for(number)
            step()
            if watch is not None:
                watch(rows.drawn())
            if (number + 1) % interval == 0 and not rows.go_on(cache):
                break


@contextmanager
def _eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Every module in evaluation mode inside, and in its own mode again afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _for_batch(watch: Watch | None, batch: Sequence[int]) -> Callable[[list[list[list[int]]]], None] | None:
    """Tells of a batch's groups under the numbers of their prompts."""
    if watch is None:
        return None

    def tell(groups: list[list[list[int]]]) -> None:
        for index, group in zip(batch, groups, strict=True):
            watch(index, group)

    return tell


def _in_order(forest: Sequence[PromptBranch]) -> list[PromptBranch]:
    """Trees that are alike one after the other, the deepest first, so that few attention calls read their branches."""

    def depth(branch: PromptBranch) -> int:
        return 1 + max(map(depth, branch.children), default=0)

    return sorted(forest, key=lambda tree: (-depth(tree), len(tree.below), tree.num_tokens))


def _renamed(forest: Sequence[PromptBranch]) -> list[PromptBranch]:
    """The same forest of the same prompts, these in the order of `below`."""
    place = {index: new for new, index in enumerate(index for tree in forest for index in tree.below)}

    def rename(branch: PromptBranch) -> PromptBranch:
        names = tuple(place[index] for index in branch.prompts)
        return replace(branch, prompts=names, children=tuple(map(rename, branch.children)))

    return list(map(rename, forest))


def _without_leaves(branch: PromptBranch) -> Branch:
    return Branch(branch.num_tokens, children=tuple(map(_without_leaves, branch.children)))


def _check_prompts(prompts: Sequence[PromptInputs], media_features: Sequence[torch.Tensor | None] | None) -> None:
    if media_features is not None and len(media_features) != len(prompts):
        raise ValueError(f"{len(media_features)} video features for {len(prompts)} prompts")
    if any(prompt.num_tokens < 2 for prompt in prompts):
        raise ValueError("a prompt needs at least two tokens")
