"""Scores that a judge gives: asked about all answers at once; what it cannot tell is unscored, never 0 and never left out silently."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.benchmarks.base import Benchmark, Judgement
from videochat_r1.judge import Judge, JudgeConfig, UnscoredError
from videochat_r1.judge.prompts import PROMPT_VERSION
from videochat_r1.progress import progress_bar

logger = logging.getLogger(__name__)

NO_JUDGE = "no judge was named"
Ask = Callable[[Judge], Awaitable[Judgement]]


def judge_answers(asked: Sequence[Ask], config: JudgeConfig | None) -> list[Judgement]:
    """One judgement for each, in their order; without a judge all are unscored.

    Raises:
        ConfigError, JudgeError: the judge cannot be used.
    """
    if config is None or not asked:
        return [Judgement(None, unscored=NO_JUDGE)] * len(asked)
    return asyncio.run(_judge_all(asked, config))


def check_judge(benchmark: Benchmark, config: JudgeConfig | None, *, required: bool) -> None:
    """See that a judge is named where one is needed, and that it answers, before anything is spent on the rest.

    Args:
        benchmark: to be scored.
        config: the judge that was named.
        required: whether a wholly judged benchmark without a judge is refused; else its answers are written and stay unscored.

    Raises:
        ConfigError: none is named, or one that nobody asks.
        JudgeError: it cannot be used.
    """
    if config is None:
        if benchmark.judged and required and not benchmark.partly_judged:
            raise ConfigError(
                f"a judge scores the captions of {benchmark.name}: name one with --judge YAML (docs/judge.md)"
            )
        if benchmark.judged:
            which = "that only a judge can score or read are" if benchmark.partly_judged else "of the model are"
            logger.warning("no --judge: the answers %s left out until --rescore DIR --judge YAML", which)
        return
    if not benchmark.judged:
        raise ConfigError(f"benchmark {benchmark.name} is scored without a judge; leave --judge out")

    async def check() -> None:
        async with Judge(config) as judge:
            await judge.check()

    asyncio.run(check())


def judge_record(config: JudgeConfig) -> dict[str, Any]:
    """What a verdict depends on, for result files."""
    return {
        "model": config.model,
        "prompt_version": PROMPT_VERSION,
        "base_url": config.base_url,
        "temperature": config.temperature,
        "decoy": config.decoy,
    }


def judge_settings(config: JudgeConfig) -> dict[str, Any]:
    """The whole configuration as JSON, so that a result can be scored again; the key itself is in none of it."""
    return {**dataclasses.asdict(config), "extra_body": dict(config.extra_body)}


async def _judge_all(asked: Sequence[Ask], config: JudgeConfig) -> list[Judgement]:
    async with Judge(config) as judge:
        await judge.check()
        with progress_bar(total=len(asked), desc=f"judged by {config.model}", unit="answer") as bar:

            async def one(ask: Ask) -> Judgement:
                try:
                    return await ask(judge)
                except UnscoredError as error:
                    return Judgement(None, unscored=error.reason)
                finally:
                    bar.update()

            return await asyncio.gather(*map(one, asked))
