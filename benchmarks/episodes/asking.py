"""Asks a model about episodes, in one look or several."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from episodes.scenes import COARSE
from episodes.start import TEMPLATES
from tqdm import tqdm

from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.evaluation.answering.passes import CluePerception
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.geometry import Span, span_set_iou
from videochat_r1.sample import Sample
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.question import TASK
from videochat_r1.training.loader import load_prompt


class Condition(NamedTuple):
    """How to look again, if at all, and at what instead of the clues."""

    clues: ClueOptions | None
    look_at: Callable[..., Sequence[Span]] | None = None


def evaluate(
    model: Path, samples: Sequence[Sample], condition: Condition, description: str, *, batch_size: int = 32
) -> list[dict[str, Any]]:
    """Per question: kind, accuracy of the answer that stands and of the first look's, IoU of the first look's clue, video tokens of
    all looks."""
    options = RunOptions(str(model), video=COARSE, prompt_layout="text_first", max_new_tokens=32, dtype="float32")
    answerer = Answerer(options, torch.device("cpu"), templates=TEMPLATES)
    rows: list[dict[str, Any]] = []
    with CluePerception(answerer, condition.clues, look_at=condition.look_at) as passes:
        for begin in tqdm(range(0, len(samples), batch_size), desc=description, unit="batch"):
            batch = [load_prompt(answerer.builder, sample) for sample in samples[begin : begin + batch_size]]
            rows += [_row(p.sample, one) for p, one in zip(batch, passes.answer(batch), strict=True)]
    return rows


def _row(sample: Sample, prediction: Prediction) -> dict[str, Any]:
    target = TASK.target_of(sample)
    record = prediction.extra["clue_perception"]
    passes = record["passes"]
    answer = passes[record["answered_by"]]["answer"]
    return {
        "id": sample.id,
        "kind": sample.extra["kind"],
        "accuracy": float(answer == target.answer),
        "first": float(passes[0]["answer"] == target.answer),
        "clue_iou": span_set_iou([Span(*clue) for clue in passes[0]["clues"]], target.spans),
        "num_tokens": sum(one["saw"]["num_tokens"] for one in passes),
        "num_passes": len(passes),
    }
