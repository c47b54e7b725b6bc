"""Runs a model over samples in batches and scores every answer: one row per sample, failures included."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from videochat_r1.evaluation.answering.prompt_stream import stream_batches
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.progress import progress_bar
from videochat_r1.rollout.base import Rollout, RolloutEngine, SamplingSettings
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample
from videochat_r1.tasks import TASKS
from videochat_r1.training.loader import LoadedPrompt


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """One answered question.

    Args:
        id: of the sample.
        task: its task.
        source: its corpus.
        prompt: what the model read, the video as one placeholder; empty when the prompt could not be built.
        completion: what it wrote.
        parsed: JSON form of the answer that was found; None if none was.
        target: JSON form of the truth.
        scores: see `Task.scores`; all zero for a failure.
        num_tokens: of the completion.
        ended: why it did.
        problem: why the model was not asked (a video that cannot be read); None if it was.
        extra: the sample's further columns.
    """

    id: str
    task: str
    source: str
    prompt: str
    completion: str
    parsed: Any
    target: dict[str, Any]
    scores: dict[str, float | None]
    num_tokens: int
    ended: Ended | None
    problem: str | None
    extra: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The row of a samples file."""
        return asdict(self)


def evaluate(
    engine: RolloutEngine,
    builder: PromptBuilder,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    settings: SamplingSettings,
    *,
    batch_size: int = 16,
    num_workers: int = 0,
    output: Path | None = None,
    description: str = "evaluation",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """One row per sample (`ScoredSample.to_json`), in the order of the samples.

    Samples are answered task by task, so that the completions of a batch are about equally long. What a row says does
    not depend on the batch size.

    Args:
        engine: answers prompts; one completion each.
        builder: makes prompts, the same as in training.
        tokenizer: of the model.
        samples: what to ask; ids are unique.
        settings: how to decode; temperature 0 for benchmarks.
        batch_size: prompts answered together.
        num_workers: threads that read videos ahead (each waits for a decoder); 0 reads them here.
        output: JSONL file that every row is appended to as soon as it is known.
        description: of the progress bar.
        progress: whether to show it.
    """
    by_task = sorted(samples, key=lambda sample: sample.task)
    rows: dict[str, dict[str, Any]] = {}
    with progress_bar(total=len(samples), desc=description, unit="sample", disable=not progress) as bar:
        for _, of_task in groupby(by_task, lambda sample: sample.task):
            for batch in stream_batches(builder, list(of_task), num_workers, size=batch_size):
                answered = [row.to_json() for row in answer(engine, tokenizer, batch, settings)]
                rows.update({prompt.sample.id: row for prompt, row in zip(batch, answered, strict=True)})
                if output is not None:
                    append_rows(output, answered)
                bar.update(len(batch))
    return [rows[sample.id] for sample in samples]


def answer(
    engine: RolloutEngine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[LoadedPrompt],
    settings: SamplingSettings,
) -> list[ScoredSample]:
    """The scored answers to loaded prompts; one that could not be built scores zero and keeps its reason."""
    asked = [prompt.inputs for prompt in prompts if prompt.inputs is not None]
    noise = [[_noise_seed(prompt.sample)] for prompt in prompts if prompt.inputs is not None]
    greedy = settings.temperature == 0
    groups = (
        engine.generate(asked, num_generations=1, settings=settings, noise_seeds=None if greedy else noise)
        if asked
        else []
    )
    rollouts = iter([rollout for group in groups for rollout in group])
    return [
        score(prompt, next(rollouts) if prompt.inputs is not None else None, tokenizer, settings) for prompt in prompts
    ]


def score(
    prompt: LoadedPrompt, rollout: Rollout | None, tokenizer: PreTrainedTokenizerBase, settings: SamplingSettings
) -> ScoredSample:
    """What an answer is worth; `rollout` is None for a prompt that could not be built."""
    sample = prompt.sample
    task = TASKS[sample.task]
    shown = prompt.inputs
    if shown is None or rollout is None:
        completion = ""
    else:
        completion = shown.judged(completion_text(rollout, tokenizer, settings))
    parsed = task.parse(completion, sample.target)
    return ScoredSample(
        id=sample.id,
        task=sample.task,
        source=sample.source,
        prompt="" if shown is None else shown.text,
        completion=completion,
        parsed=task.parsed_to_json(parsed),
        target=task.target_to_json(sample.target),
        scores=dict(task.scores(parsed, sample.target)),
        num_tokens=0 if rollout is None else len(rollout.completion_ids),
        ended=prompt.ended if rollout is None else rollout.ended,
        problem=prompt.problem,
        extra=dict(sample.extra),
    )


def completion_text(rollout: Rollout, tokenizer: PreTrainedTokenizerBase, settings: SamplingSettings) -> str:
    """What a rollout says, without the token that ends it."""
    return tokens_text(rollout.completion_ids, tokenizer, settings)


def tokens_text(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase, settings: SamplingSettings) -> str:
    """What drawn tokens say; where the last character is not complete, U+FFFD stands for it."""
    ids = [token for token in tokens if token not in settings.eos_token_ids]
    return str(tokenizer.decode(ids, skip_special_tokens=False)) if ids else ""


def append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add one JSON line per row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _noise_seed(sample: Sample) -> int:
    """63 bits that depend on the sample alone, so that batches do not matter when answers are sampled."""
    name = f"{sample.source}/{sample.id}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
