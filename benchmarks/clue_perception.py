"""What clue-perception brings where the first pass cannot know the answer: one pass, two passes, two passes with random clues.

    python benchmarks/clue_perception.py [--output outputs/clue_perception] [--json]

A tiny model is trained to answer with clues and is asked about videos that it has not seen; `benchmarks/episodes/` says what
they show. `random clues` are spans as long as the model's own, anywhere in the video; `true clues` are the annotation's.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from episodes.asking import Condition, evaluate
from episodes.scenes import QUESTIONS, write_samples
from episodes.start import CLUES, make_start

from videochat_r1.evaluation.metrics.score_table import ScoreTable
from videochat_r1.geometry import Span
from videochat_r1.sample import Sample
from videochat_r1.second_look.question import TASK
from videochat_r1.video.cache import FrameCache

_CACHE_BYTES = 1 << 30


def random_span(sample: Sample, clues: Sequence[Span], duration: float) -> list[Span]:
    """A span as long as the clues together, anywhere in the video; the same for a question in every run."""
    length = min(sum(clue.length for clue in clues), duration)
    start = float(np.random.default_rng([*sample.id.encode()]).uniform(0.0, duration - length))
    return [Span(start, start + length)]


def true_span(sample: Sample, clues: Sequence[Span], duration: float) -> list[Span]:
    """What a perfect first pass would name."""
    return list(TASK.target_of(sample).spans)


CONDITIONS = {
    "one pass": Condition(None),
    "two passes": Condition(CLUES),
    "two passes, random clues": Condition(CLUES, random_span),
    "two passes, true clues": Condition(CLUES, true_span),
}


def summarise(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Condition -> kind -> accuracy with its bootstrap interval, and that of the gain over one pass."""
    result: dict[str, Any] = {}
    for name, rows in found.items():
        result[name] = {"tokens": float(np.mean([row["num_tokens"] for row in rows]))}
        for kind in (*QUESTIONS, "all"):
            chosen = [i for i, row in enumerate(rows) if kind in ("all", row["kind"])]
            pairs = [(rows[i]["accuracy"], found["one pass"][i]["accuracy"]) for i in chosen]
            table = ScoreTable.of([{"accuracy": now, "gain": now - before} for now, before in pairs])
            intervals = table.intervals(2000, 0)
            means = table.means()
            result[name][kind] = {
                "num_questions": len(chosen),
                **{metric: [means[metric], *(intervals[metric] or ())] for metric in ("accuracy", "gain")},
            }
    result["clue_mIoU"] = float(np.mean([row["clue_iou"] for row in found["one pass"]]))
    return result


def as_table(result: dict[str, Any]) -> str:
    """Markdown: accuracy in percent, 95 % bootstrap intervals of all questions."""
    counts = [result["one pass"][kind]["num_questions"] for kind in (*QUESTIONS, "all")]
    heads = [f"{kind} ({count})" for kind, count in zip((*QUESTIONS, "all"), counts, strict=True)]
    lines = [f"| | {' | '.join(heads)} | gain over one pass | video tokens |", "|---|" + "---|" * 5]
    for name in CONDITIONS:
        row = result[name]
        cells = [_percent(row[kind]["accuracy"]) for kind in (*QUESTIONS, "all")]
        gain = "" if name == "one pass" else _percent(row["all"]["gain"], sign="+")
        lines.append(f"| {name} | {' | '.join(cells)} | {gain} | {row['tokens']:.0f} |")
    return "\n".join([*lines, "", f"mIoU of the first pass's clues: {result['clue_mIoU']:.3f}"])


def _percent(values: Sequence[float], sign: str = "") -> str:
    mean, *interval = (f"{100 * value:{sign}.1f}" for value in values)
    return f"{mean} [{', '.join(interval)}]" if interval else mean


def main() -> None:
    """Make the corpus, train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/clue_perception"))
    parser.add_argument("--train-videos", type=int, default=256)
    parser.add_argument("--eval-videos", type=int, default=200)
    parser.add_argument("--letter-steps", type=int, default=500, help="updates on letters alone")
    parser.add_argument("--steps", type=int, default=1200, help="updates on answers with clues")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    output, seed = arguments.output, arguments.seed
    train_samples = write_samples(output / "videos", "train", arguments.train_videos, seed=seed, one_side=False)
    eval_samples = write_samples(output / "videos", "eval", arguments.eval_videos, seed=seed, one_side=True)
    cache = FrameCache(memory_bytes=_CACHE_BYTES)
    model = make_start(
        train_samples, output, cache, letter_updates=arguments.letter_steps, updates=arguments.steps, seed=seed
    )
    trained = time.perf_counter()
    found = {name: evaluate(model, eval_samples, condition, name) for name, condition in CONDITIONS.items()}
    result = summarise(found)
    result["seconds"] = {"corpus and training": trained - begin, "answers": time.perf_counter() - trained}
    (output / "answers.json").write_text(json.dumps(found) + "\n")
    (output / "summary.json").write_text(json.dumps({**result, **vars(arguments)}, default=str, indent=2) + "\n")
    print(json.dumps(result) if arguments.json else as_table(result))


if __name__ == "__main__":
    main()
