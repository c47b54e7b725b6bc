"""From logits to tokens: what may be sampled, with which noise, and the log-probability the trainer will compute.

Letters: R rows, V vocabulary, C the most completion tokens.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from videochat_r1.errors import ConfigError, DivergedError
from videochat_r1.rollout.base import Rollout, SamplingSettings

# A uniform number this close to 1 could round up to the whole mass and fall off the end of the vocabulary.
_LARGEST_UNIFORM = 1.0 - 2.0**-40

# Tokens of a vocabulary that are summed as one row.
_BLOCK = 1024


def uniform_noise(seeds: Sequence[int], max_new_tokens: int) -> torch.Tensor:
    """(R, C) float64 in [0, 1): row r depends on `seeds[r]` alone, and its beginning not on C."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(max_new_tokens) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def inverse_cdf(scores: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """(R,) tokens: the first whose cumulative softmax probability exceeds `uniform`.

    Args:
        scores: (R, V) logits; a token at -inf is never drawn. Where they are NaN some token comes out.
        uniform: (R,) float64 in [0, 1).
    """
    masses = (scores.double() - scores.amax(-1, keepdim=True).double()).exp()
    vocabulary = masses.shape[-1]
    if vocabulary <= _BLOCK:
        return _first_above(masses, uniform.unsqueeze(-1))[0].squeeze(-1)
    # A GPU sums a row of a large vocabulary one piece after the other; blocks of it all at once.
    blocks = torch.nn.functional.pad(masses, (0, -vocabulary % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    block, rest = _first_above(blocks.sum(-1), uniform.unsqueeze(-1))
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, _BLOCK)).squeeze(1)
    token, _ = _first_above(inside, rest)
    return (block * _BLOCK + token).squeeze(-1).clamp(max=vocabulary - 1)


def _first_above(masses: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(R, 1) the first place of (R, N) whose cumulative mass exceeds a share (R, 1) of all, and the share of that place's own mass that
    is reached there."""
    cumulative = masses.cumsum(-1)
    target = share.clamp(max=_LARGEST_UNIFORM) * cumulative[:, -1:]
    # Of NaN the search finds the end, a place that does not exist.
    place = torch.searchsorted(cumulative, target, right=True).clamp(max=masses.shape[-1] - 1)
    own = masses.gather(-1, place)
    return place, (target - (cumulative.gather(-1, place) - own)).clamp(min=0) / own


class TokenSampler:
    """Draws one token per row and step.

    Its log-probabilities are of the whole vocabulary at the temperature (1 when greedy), before suppression, truncation and
    penalty. Those act as in transformers' `generate` and in its order: penalty, suppression, temperature, top-k, top-p, min-p.

    Args:
        settings: how to draw.
        vocabulary_size: V.
        device: where logits will lie.

    Raises:
        ConfigError: a field is out of its range, or nothing can be sampled.
    """

    def __init__(self, settings: SamplingSettings, vocabulary_size: int, device: torch.device) -> None:
        check_settings(settings, vocabulary_size)
        self.greedy = settings.temperature == 0
        self.needs_context = settings.repetition_penalty != 1.0
        self._temperature = 1.0 if self.greedy else settings.temperature
        self._penalty = RepetitionPenaltyLogitsProcessor(settings.repetition_penalty) if self.needs_context else None
        self._bias: torch.Tensor | None = None
        if settings.suppressed_token_ids:
            self._bias = torch.zeros(vocabulary_size, device=device)
            self._bias[list(settings.suppressed_token_ids)] = -torch.inf
        self._truncation = LogitsProcessorList()
        if not self.greedy:
            if settings.top_k > 0:
                self._truncation.append(TopKLogitsWarper(settings.top_k))
            if settings.top_p < 1.0:
                self._truncation.append(TopPLogitsWarper(settings.top_p))
            if settings.min_p > 0.0:
                self._truncation.append(MinPLogitsWarper(settings.min_p))

    def draw(
        self, logits: torch.Tensor, uniform: torch.Tensor | None, context: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (R,) and their log-probabilities (R,) float32.

        Args:
            logits: (R, V).
            uniform: (R,) noise; None when greedy.
            context: (R, tokens so far) prompt and completion; used only when `needs_context`.
        """
        logits = logits.float()
        scores = logits if self._penalty is None else self._penalty(context, logits.clone())
        if self._bias is not None:
            scores = scores + self._bias
        if self._temperature != 1.0:
            logits = logits / self._temperature
            scores = scores / self._temperature
        if self._truncation:
            scores = self._truncation(context, scores)
        if self.greedy:
            tokens = scores.argmax(-1)
        else:
            assert uniform is not None
            tokens = inverse_cdf(scores, uniform)
        chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return tokens, chosen - logits.logsumexp(-1)


def refuse_diverged(groups: Sequence[Sequence[Rollout]]) -> None:
    """Look at a whole generation, as looking at every step would wait for the device.

    Raises:
        DivergedError: a log-probability is NaN, as only logits that are NaN or infinite make it.
    """
    if any(math.isnan(logp) for group in groups for rollout in group for logp in rollout.logps):
        raise DivergedError(
            "the model's logits are NaN or infinite: its weights are damaged, or a training has diverged"
        )


def check_settings(settings: SamplingSettings, vocabulary_size: int) -> None:
    """Refuse settings that cannot be sampled with.

    Raises:
        ConfigError: naming the field, its value and its range.
    """
    ranges = {
        "max_new_tokens": settings.max_new_tokens >= 1,
        "temperature": settings.temperature >= 0,
        "top_p": 0 < settings.top_p <= 1,
        "top_k": settings.top_k >= 0,
        "min_p": 0 <= settings.min_p <= 1,
        "repetition_penalty": settings.repetition_penalty > 0,
    }
    for name, ok in ranges.items():
        if not ok:
            raise ConfigError(f"{name} is {getattr(settings, name)}, which is out of its range")
    ids = {*settings.suppressed_token_ids, *settings.eos_token_ids}
    if outside := sorted(i for i in ids if not 0 <= i < vocabulary_size):
        raise ConfigError(f"token ids {outside[:5]} do not exist: the model's vocabulary has {vocabulary_size} entries")
    if len(set(settings.suppressed_token_ids)) >= vocabulary_size:
        raise ConfigError("every token is suppressed")
    if clash := sorted(set(settings.suppressed_token_ids) & set(settings.eos_token_ids)):
        raise ConfigError(f"token ids {clash} end a completion but are suppressed")
