"""What training both looks brings where one look cannot know the answer: GRPO over one look and over two, for equally long.

    python benchmarks/second_look.py [--output outputs/second_look] [--seeds 3] [--json]

A tiny Qwen2.5-VL is trained from random weights, with the project's SFT, until it names clues (`benchmarks/episodes/` says what
the videos show and how it is trained). From there GRPO goes on over one look or over
two, `second_look` being all that differs, and every model is asked about videos that it has not seen: once with the true clues
of the training questions (`clues`), once with their answers alone (`answers`), as most question corpora have them. Both ways get
equally many seconds: `pace` trains them in turns and counts the processor's seconds of an update, and the two looks get as many
updates as fit in those of one. Each part (the start, the pace, and a training of one kind, way and seed) is done once and kept in
the output folder under its name: the same command goes on where it was interrupted, and `--parts` does only those named.
"""

import argparse
import itertools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from episodes.asking import Condition, evaluate
from episodes.scenes import write_samples
from episodes.start import CLUES, make_start
from intervals import interval, percent
from kept import once
from numpy.typing import NDArray

from videochat_r1.datasets.annotation_files import read_json
from videochat_r1.datasets.manifest import read_manifest, write_manifest
from videochat_r1.evaluation.reports.drawing import Series, line_charts_file
from videochat_r1.geometry import Span
from videochat_r1.outputs import write_lines
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.quickstart.training import Workshop
from videochat_r1.sample import Sample, Video
from videochat_r1.second_look.question import TASK
from videochat_r1.training.metrics_file import METRICS, MetricsReader
from videochat_r1.video.cache import FrameCache

RECIPES = Path(__file__).resolve().parent / "episodes"
WAYS: dict[str, tuple[str, ...]] = {"one": ("--second_look", "null"), "two": ()}
"""Looks that are trained -> flags beside the recipe."""
KNOWN: dict[str, tuple[str, ...]] = {"clues": (), "answers": ("--mixture.0.manifest", "answers.jsonl")}
"""What is known of the questions that are trained -> flags beside the recipe."""
START, PACE = "start", "pace"
START_SEED = 1
"""Of the videos and of SFT. Whether a start has begun to find the clues is up to chance: this one has, and has not finished."""
ARMS = {
    "start, one look": (START, "first"),
    "start, two looks": (START, "accuracy"),
    "(i) one look": ("one", "first"),
    "(ii) one look trained, two taken": ("one", "accuracy"),
    "(iii) two looks trained": ("two", "accuracy"),
}
"""Name -> what is asked, and whose answer counts: the first look's, or the one that stands."""
GAINS = (
    ("(iii) two looks trained", "(ii) one look trained, two taken"),
    ("(iii) two looks trained", "start, two looks"),
    ("(ii) one look trained, two taken", "start, two looks"),
)
COLOURS = {"one": "before", "two": "after"}
CURVES = {
    "IoU of first clues": {"one": "rewards/iou/mean", "two": "looks/1/rewards/iou/mean"},
    "accuracy of last answers": dict.fromkeys(WAYS, "rewards/accuracy/mean"),
}
"""Title -> looks that are trained -> name in `metrics.jsonl`, where the reward applies."""
NUM_RESAMPLES = 4000

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Training:
    """One part: what is known of the questions, looks to train, with one seed."""

    known: str
    way: str
    seed: int

    @property
    def name(self) -> str:
        """Of the part, and of its file and folder."""
        return f"{self.known}-{self.way}-{self.seed}"


def true_span(sample: Sample, clues: Sequence[Span], duration: float) -> list[Span]:
    """What a perfect first look would name."""
    return list(TASK.target_of(sample).spans)


class Bench:
    """The parts and what they leave in the output folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._output: Path = arguments.output
        self._cache = FrameCache(memory_bytes=1 << 30)
        seeds = range(arguments.seeds)
        self.trainings = [Training(known, way, seed) for known in KNOWN for seed in seeds for way in WAYS]

    def run(self, parts: Sequence[str]) -> None:
        """Do the named parts that are not done yet, and those that they need; all without names."""
        data, sizes = self._output / "data", {"train": self._arguments.num_train, "eval": self._arguments.num_eval}
        for split, count in sizes.items():
            if not (data / f"{split}.jsonl").is_file():
                samples = write_samples(data, split, count, seed=START_SEED, one_side=split == "eval")
                named = [replace(sample, media=Video(path=Path(str(sample.video.path)).name)) for sample in samples]
                write_manifest(data / f"{split}.jsonl", named)
                if split == "train":
                    write_manifest(data / "answers.jsonl", [without_clues(sample) for sample in named])
        train, asked = (read_manifest(data / f"{split}.jsonl", data) for split in sizes)
        wanted: dict[str, Callable[[], dict[str, Any]]] = {
            START: lambda: self._start(train, asked),
            PACE: self._pace,
            **{t.name: lambda t=t: self._train(t, asked) for t in self.trainings},  # type: ignore[misc]
        }
        for part, do in wanted.items():
            if not parts or part in (START, PACE, *parts):
                once(self.file(part), do)

    def file(self, part: str) -> Path:
        """What a part found."""
        return self._output / "parts" / f"{part}.json"

    @property
    def _model(self) -> Path:
        return self._output / "checkpoints" / START / "model"

    def _start(self, train: Sequence[Sample], asked: Sequence[Sample]) -> dict[str, Any]:
        begin = time.process_time()
        make_start(
            train,
            self._model.parent,
            self._cache,
            letter_updates=self._arguments.letter_updates,
            updates=self._arguments.sft_updates,
            seed=START_SEED,
        )
        return {"seconds": time.process_time() - begin, **self._answers(START, self._model, asked)}

    def _pace(self) -> dict[str, Any]:
        """Way to train -> seconds of an update, of short trainings in turns."""
        seconds = dict.fromkeys(WAYS, 0.0)
        for _ in range(self._arguments.pace_rounds):
            for way in WAYS:
                seconds[way] += self._grpo(Training("clues", way, 0), PACE, self._arguments.pace_updates)
        updates = self._arguments.pace_rounds * self._arguments.pace_updates
        return {way: value / updates for way, value in seconds.items()}

    def _train(self, training: Training, asked: Sequence[Sample]) -> dict[str, Any]:
        pace = read_json(self.file(PACE))
        of_one = self._arguments.updates if training.known == "clues" else self._arguments.answers_updates
        updates = round(of_one * pace["one"] / pace[training.way])
        seconds = self._grpo(training, training.name, updates)
        model = self._output / "checkpoints" / training.name
        metrics = MetricsReader(model / METRICS)
        metrics.read_on()
        curves = {
            title: [[step * pace[training.way], value] for step, value in metrics.values[names[training.way]].items()]
            for title, names in CURVES.items()
            if names[training.way] in metrics.values
        }
        return {
            "updates": updates,
            "seconds": seconds,
            "curves": curves,
            **self._answers(training.name, model, asked),
        }

    def _grpo(self, training: Training, part: str, updates: int) -> float:
        """Train from the start; returns the processor's seconds, which the machine's other work does not bend."""
        folder = self._output / "checkpoints" / part
        # What an interrupted training has logged would be added to.
        shutil.rmtree(folder, ignore_errors=True)
        flags = ("--max_steps", str(updates), *WAYS[training.way], *KNOWN[training.known])
        options = QuickstartOptions(output=self._output, recipes=RECIPES, seed=training.seed, grpo_flags=flags)
        workshop = Workshop(options, self._cache)
        workshop.read_videos(self._model, read_manifest(options.data / "train.jsonl", options.data), "videos")
        begin = time.process_time()
        workshop.train_grpo(self._model, folder)
        return time.process_time() - begin

    def _answers(self, part: str, model: Path, asked: Sequence[Sample]) -> dict[str, Any]:
        rows = evaluate(model, asked, Condition(CLUES), f"{part}, two looks")
        shown = evaluate(model, asked, Condition(CLUES, true_span), f"{part}, true clues")
        right = {name: [row[name] for row in rows] for name in ("first", "accuracy", "clue_iou")}
        return {"right": {**right, "shown": [row["accuracy"] for row in shown]}}

    def summary(self) -> dict[str, Any]:
        """What is known of the questions -> what the parts that are done found: of each arm, and how much more right one is than
        another."""
        return {known: self._found(known) for known in KNOWN}

    def _found(self, known: str) -> dict[str, Any]:
        done = {t: read_json(self.file(t.name)) for t in self.trainings if self.file(t.name).is_file()}
        of_way = {way: [found for t, found in done.items() if (t.known, t.way) == (known, way)] for way in WAYS}
        of_way[START] = [read_json(self.file(START))]
        result: dict[str, Any] = {"arms": {}, "gains": {}}
        for arm, (way, answer) in ARMS.items():
            if found := of_way[way]:
                columns = {"accuracy": answer, "clue_iou": "clue_iou", "with true clues": "shown"}
                result["arms"][arm] = {
                    **{title: interval(values_of(found, name), NUM_RESAMPLES) for title, name in columns.items()},
                    "by seed": values_of(found, answer).mean(axis=1).tolist(),
                    "updates": found[0].get("updates"),
                    "seconds": [one["seconds"] for one in found],
                }
        for after, before in GAINS:
            found_after, found_before = of_way[ARMS[after][0]], of_way[ARMS[before][0]]
            count = min(len(found_after), len(found_before)) if ARMS[before][0] != START else len(found_after)
            if count:
                values = values_of(found_after[:count], ARMS[after][1])
                result["gains"][f"{after} - {before}"] = interval(
                    values - values_of(found_before[:count], ARMS[before][1]), NUM_RESAMPLES
                )
        return result

    def picture(self) -> str:
        """SVG: what rollouts earned over the seconds of training, each way's seeds together."""
        charts: dict[str, list[Series]] = {}
        for known, title, way in itertools.product(KNOWN, CURVES, WAYS):
            parts = [self.file(t.name) for t in self.trainings if (t.known, t.way) == (known, way)]
            found = [read_json(part)["curves"] for part in parts if part.is_file()]
            curves = [one[title] for one in found if title in one]
            if curves:
                mean = [(at[0][0], float(np.mean([value for _, value in at]))) for at in zip(*curves, strict=True)]
                series = Series(f"{way} trained", COLOURS[way], mean, window=5)
                charts.setdefault(f"{title}, {known} known", []).append(series)
        return line_charts_file(charts, x_label="seconds of a core")


def without_clues(sample: Sample) -> Sample:
    """The question where nobody knows the part of the video that answers it."""
    return replace(sample, target=replace(TASK.target_of(sample), spans=()))


def values_of(found: Sequence[dict[str, Any]], name: str) -> Values:
    """(seeds, videos) means over the questions about each video, of which there are two."""
    return np.array([one["right"][name] for one in found], dtype=np.float64).reshape(len(found), -1, 2).mean(axis=2)


def as_table(summary: dict[str, Any]) -> str:
    """Markdown, in percent."""
    heads = ("trained with known", "", "accuracy", "by seed", "IoU of first clues", "accuracy at true clues", "updates")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for known, name, arm in [(known, *item) for known, found in summary.items() for item in found["arms"].items()]:
        cells = (
            known,
            name,
            percent(arm["accuracy"]),
            ", ".join(f"{100 * value:.1f}" for value in arm["by seed"]),
            percent(arm["clue_iou"]),
            percent(arm["with true clues"]),
            str(arm["updates"] or ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    gains = [
        f"{known} known, {name}: {percent(values, '+')}"
        for known, found in summary.items()
        for name, values in found["gains"].items()
    ]
    return "\n".join([*lines, "", *gains])


def main() -> None:
    """Do what is not done yet, and print what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/second_look"))
    parser.add_argument("--num-train", type=int, default=256, help="training videos, of six questions each")
    parser.add_argument("--num-eval", type=int, default=150, help="held-out videos, of two questions each")
    parser.add_argument("--letter-updates", type=int, default=500, help="of SFT, on letters alone")
    parser.add_argument("--sft-updates", type=int, default=1200, help="of SFT, on answers with clues")
    parser.add_argument("--updates", type=int, default=400, help="of GRPO over one look; two get as many as fit")
    parser.add_argument("--answers-updates", type=int, default=800, help="the same with answers alone, which tell less")
    parser.add_argument("--pace-updates", type=int, default=10, help="of each short training that tells the pace")
    parser.add_argument("--pace-rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=(), metavar="NAME", help="e.g. answers-two-0; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    known = [START, PACE, *(training.name for training in bench.trainings)]
    if unknown := sorted(set(arguments.parts) - set(known)):
        parser.error(f"no parts {', '.join(unknown)}; there are {', '.join(known)}")
    bench.run(arguments.parts)
    summary = bench.summary()
    write_lines(arguments.output / "summary.json", [json.dumps(summary, indent=2)])
    (arguments.output / "curves.svg").write_text(bench.picture(), encoding="utf-8")
    print(json.dumps(summary) if arguments.json else as_table(summary))


if __name__ == "__main__":
    main()
