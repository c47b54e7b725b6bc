"""`truth_as_rollout`: the true answer as one of a group's rollouts, off-policy, and rewards shaped for it (TempSamp-R1,
arXiv 2509.18056)."""

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from videochat_r1.errors import ConfigError
from videochat_r1.grpo.rows import Turn
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.rollout.base import Rollout
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample
from videochat_r1.tasks import TASKS

# The paper's threshold, weight above it, and steepness below it.
_THRESHOLD, _ABOVE, _BELOW = 0.8, 0.01, 1.0


def shaped(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards in [0, 1] as the paper reshapes them, each function's by itself; NaN stays.

    0.8 + 0.01 ln(r - 0.8 + 1) from 0.8 on, 0.8 - (exp(0.8 - r) - 1) / (e - 1) below: nearly flat where an answer is good, so that
    the true one does not push all others below their mean, and steep where it is bad.
    """
    above = _THRESHOLD + _ABOVE * torch.log1p((rewards - _THRESHOLD).clamp(min=0.0))
    below = _THRESHOLD - torch.expm1(_BELOW * (_THRESHOLD - rewards).clamp(min=0.0)) / math.expm1(_BELOW)
    return torch.where(rewards >= _THRESHOLD, above, below)


def truth_of(sample: Sample, *, thinking: bool) -> str | None:
    """The true answer as a completion: the gold answer, or where a thought is asked for the sample's response.

    None where there is a thought to give and no response: a gold answer behind an empty thought would teach not to think.
    """
    return sample.response if thinking else TASKS[sample.task].gold(sample.target, thinking=False)


def check_truths(samples: Sequence[Sample], *, thinking: bool) -> None:
    """Raises ConfigError where no sample has a true answer to give."""
    if all(truth_of(sample, thinking=thinking) is None for sample in samples):
        raise ConfigError(
            "truth_as_rollout with thinking: true takes the samples' responses, as a gold answer has no thought, and no sample has "
            "one: add `response` to the manifest (docs/training.md), or turn one of the two off"
        )


def give_truths(
    turns: Sequence[Turn],
    samples: Sequence[Sample],
    builder: PromptBuilder,
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
) -> None:
    """Put the truth into the last row of each sample, as if drawn; where there is none, or one too long, that row is left to draw.

    Args:
        turns: the rows of a batch, as many of each sample.
        samples: of the batch.
        builder: of the prompts.
        tokenizer: of the model.
        limit: most tokens of a completion.
    """
    size = len(turns) // len(samples)
    for sample, turn in zip(samples, turns[size - 1 :: size], strict=True):
        truth = truth_of(sample, thinking=builder.thinking)
        if turn.prompt is None or truth is None:
            continue
        ids = [*builder.answer_ids(turn.prompt.remaining(truth)), tokenizer.eos_token_id]
        if limit is not None and len(ids) > limit:
            continue
        # Nobody has drawn it: no sampler knows how likely it was.
        turn.rollout = Rollout(ids, [math.nan] * len(ids), Ended.STOP)
        turn.completion = turn.prompt.judged(tokenizer.decode(ids, skip_special_tokens=True))
        turn.columns["truth"] = True
