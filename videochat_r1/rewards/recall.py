"""Recall reward: the share of the true events that a judge finds in the caption (paper 3.2, eq. 6)."""

import asyncio
import math
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.judge import Judge, UnscoredError
from videochat_r1.judge.events import event_precision, event_recall
from videochat_r1.parsing.words import LETTER, SIGN
from videochat_r1.rewards.columns import typed_rows
from videochat_r1.rewards.values import Judged, Unscored
from videochat_r1.sample import CaptionTarget

_BREAKS = re.compile(r"[\s_/|.,;:!?…·•+=~—–、。，；：！？\u200b-]++")
# Scripts without spaces: a sign of Chinese or Japanese is a word, four letters of Thai, Lao, Burmese or Khmer are.
_SIGN = re.compile(SIGN)
_LETTER = re.compile(LETTER)
_LETTERS_OF_A_WORD, _LONGEST_WORD = 4, 20


async def recall(
    completions: Sequence[str],
    *,
    task: Sequence[str],
    target: Sequence[Mapping[str, Any]],
    judge: Judge | None = None,
    precision_weight: float = 0.0,
    min_words: int | None = None,
    max_words: int | None = None,
    log_metric: Callable[[str, float], None] | None = None,
    **columns: Any,
) -> list[float | None]:
    """In [0, 1] for captions, 0.0 for a completion without one, `Unscored` where the judge gave no usable answer; None for
    other tasks.

    All captions are judged at once, equal ones once. Only the text inside `<answer>` is shown to the judge.

    Options:
        judge: whom to ask (a recipe's `judge`).
        precision_weight: share w of the precision in (1 - w) recall + w precision: the caption's events that the true caption
            entails. The paper has none; with it a caption that claims everything earns less.
        min_words, max_words: length band; the reward of a caption of n words falls as n / min_words below it, and from 1 at
            max_words to 0 at twice as many above it.

    Raises:
        ConfigError: captions without a judge, or an option out of its range.
    """
    _check_options(precision_weight, min_words, max_words)
    rows = [
        (row_task.parse(completion, typed), typed) if "recall" in row_task.reward_names else None
        for completion, row_task, typed in typed_rows(completions, task, target)
    ]
    captions = {index: row for index, row in enumerate(rows) if row is not None}
    if captions and judge is None:
        raise ConfigError("the reward recall needs a judge: add `judge` with base_url and model to the recipe")
    values: list[float | None] = [None if row is None else 0.0 for row in rows]
    jobs = {
        index: _judge_caption(judge, caption, truth, precision_weight)
        for index, (caption, truth) in captions.items()
        if caption is not None and judge is not None
    }
    if judge is not None and jobs:
        before = dict(judge.counts)
        for index, value in (await _gather(jobs, judge)).items():
            caption = captions[index][0] or ""
            if isinstance(value, Judged):
                value = Judged(value * length_factor(caption, min_words, max_words), value.verdicts)
            values[index] = value
        if log_metric is not None:
            for name in ("requests", "retries", "cache_hits"):
                log_metric(f"judge/{name}", float(judge.counts[name] - before.get(name, 0)))
    return values


def length_factor(caption: str, min_words: int | None, max_words: int | None) -> float:
    """1.0 inside the band of words, falling to 0.0 at none and at twice the most."""
    words = num_words(caption)
    if min_words is not None and words < min_words:
        return words / min_words
    if max_words is not None and words > max_words:
        return max(0.0, 2.0 - words / max_words)
    return 1.0


def num_words(text: str) -> int:
    """Words of a text in any script; joining words with `_` or other marks, or without any, makes them no fewer."""
    total = 0
    for piece in _BREAKS.split(text):
        signs, letters = len(_SIGN.findall(piece)), len(_LETTER.findall(piece))
        others = len(piece) - signs - letters if any(map(str.isalnum, piece)) else 0
        total += signs + math.ceil(letters / _LETTERS_OF_A_WORD) + math.ceil(others / _LONGEST_WORD)
    return total


async def _judge_caption(judge: Judge, caption: str, truth: CaptionTarget, precision_weight: float) -> Judged:
    found = event_recall(judge, caption, truth.caption, truth.events)
    if precision_weight == 0.0:
        recalled = await found
        return Judged(recalled.share, {"recall": recalled.pairs})
    recalled, precise = await asyncio.gather(found, event_precision(judge, caption, truth.caption))
    value = (1.0 - precision_weight) * recalled.share + precision_weight * precise.share
    return Judged(value, {"recall": recalled.pairs, "precision": precise.pairs})


async def _gather(jobs: Mapping[int, Coroutine[Any, Any, Judged]], judge: Judge) -> dict[int, Judged | Unscored]:
    """The value of every job, `Unscored` for those that fail or that the judge does not get done in `max_wait_seconds`."""
    seconds = judge.config.max_wait_seconds
    tasks = {index: asyncio.create_task(job) for index, job in jobs.items()}
    await asyncio.wait(tasks.values(), timeout=seconds)
    values: dict[int, Judged | Unscored] = {}
    for index, job in tasks.items():
        if not job.done():
            job.cancel()
            values[index] = Unscored(f"no verdict within max_wait_seconds={seconds:g}", stop=judge.is_out)
            continue
        try:
            values[index] = job.result()
        except UnscoredError as error:
            values[index] = Unscored(error.reason, stop=error.outage)
    return values


def _check_options(precision_weight: float, min_words: int | None, max_words: int | None) -> None:
    if not 0.0 <= precision_weight <= 1.0:
        raise ConfigError(f"recall: precision_weight is {precision_weight}; expected a share from 0 to 1")
    least = 1 if min_words is None else min_words
    if least < 1 or (max_words is not None and max_words < least):
        raise ConfigError(
            f"recall: no caption has {min_words} to {max_words} words; expected 1 <= min_words <= max_words"
        )
