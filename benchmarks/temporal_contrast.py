"""What T-GRPO brings where only the order of frames tells the answer: GRPO with and without `temporal_contrast`.

    python benchmarks/temporal_contrast.py [--output outputs/temporal_contrast] [--seeds 3] [--json]

A tiny Qwen2.5-VL is trained from random weights, with the project's SFT, on the questions of `data synthesize --kind order`
until it answers better than by chance. From there GRPO goes on, with and without the bonus, with advantages divided by the
group's deviation or not, and every model is asked about videos that it has not seen, in order and with their frames shuffled.
Recipes: `benchmarks/order/`. Each part (the start, and a training of one kind and seed) is done once and kept in the output
folder under its name: the same command goes on where it was interrupted, and `--parts` does only those named.
"""

import argparse
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from intervals import percent
from kept import once
from numpy.typing import NDArray

from videochat_r1.datasets.annotation_files import read_json
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.synthetic import write_corpus
from videochat_r1.evaluation.metrics.bootstrap import bootstrap_interval
from videochat_r1.grpo.rollout_file import ROLLOUTS, read_rollouts
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_config, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.outputs import write_lines
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.quickstart.training import Workshop
from videochat_r1.sample import Sample
from videochat_r1.video.cache import FrameCache

RECIPES = Path(__file__).resolve().parent / "order"
WAYS = {"GRPO": "null", "T-GRPO": "release"}
"""Way to train -> `temporal_contrast`."""
SCALES = ("group", "none")
"""Values of `scale_rewards`."""
CONDITIONS = ("ordered", "shuffled")
START = "start"
CHANGED = 0.01

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Training:
    """One part: a way to train, with one seed."""

    scale: str
    way: str
    seed: int

    @property
    def name(self) -> str:
        """Of the part, and of its file and folder."""
        return f"{self.way.lower()}-{self.scale}-{self.seed}"


class ShuffledBuilder(PromptBuilder):
    """Shows the frames of each video in another order, which depends on the sample alone."""

    def build(self, sample: Sample) -> PromptInputs:
        """See `PromptBuilder.build`."""
        return self.shuffled(super().build(sample), zlib.crc32(sample.id.encode()))


class Bench:
    """The parts and what they leave in the output folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._output: Path = arguments.output
        self._cache = FrameCache(memory_bytes=1 << 30)
        self.trainings = [
            Training(scale, way, seed) for seed in range(arguments.seeds) for scale in arguments.scales for way in WAYS
        ]

    def run(self, parts: Sequence[str]) -> None:
        """Do the named parts that are not done yet; all without names."""
        data = self._output / "data"
        if not (data / "eval.jsonl").is_file():
            sizes = {"num_train": self._arguments.num_train, "num_eval": self._arguments.num_eval}
            write_corpus(data, corpus="order", overwrite=True, **sizes)
        train, asked = (read_manifest(data / f"{split}.jsonl", data) for split in ("train", "eval"))
        once(self.file(START), lambda: self._start(train, asked))
        for training in self.trainings:
            if not parts or training.name in parts:
                once(self.file(training.name), partial(self._train, training, asked))

    def file(self, part: str) -> Path:
        """What a part found."""
        return self._output / "parts" / f"{part}.json"

    def _start(self, train: Sequence[Sample], asked: Sequence[Sample]) -> dict[str, Any]:
        workshop = self._workshop(0, sft=("--max_steps", str(self._arguments.sft_updates)))
        begin = time.perf_counter()
        init = self._output / "checkpoints" / "init"
        workshop.make_init(init, train)
        run = workshop.train_sft("sft", init, self._output / "checkpoints" / START)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, **self._answers(START, workshop, run.folder, asked)}

    def _train(self, training: Training, asked: Sequence[Sample]) -> dict[str, Any]:
        flags = {
            "temporal_contrast": WAYS[training.way],
            "scale_rewards": training.scale,
            "max_steps": self._arguments.updates,
        }
        workshop = self._workshop(
            training.seed, grpo=tuple(word for name, value in flags.items() for word in (f"--{name}", str(value)))
        )
        folder = self._output / "checkpoints" / training.name
        run = workshop.train_grpo(self._output / "checkpoints" / START, folder)
        found = {"seconds": run.seconds, "bonus": bonus_paid(folder / ROLLOUTS, training.scale)}
        return {**found, **self._answers(training.name, workshop, folder, asked)}

    def _answers(self, part: str, workshop: Workshop, model: Path, asked: Sequence[Sample]) -> dict[str, Any]:
        """What each question asks, and whether the model was right about the videos in order and shuffled."""
        usual = workshop.builder(self._output / "checkpoints" / START if part != START else model)
        shuffled = ShuffledBuilder(
            load_processor(model),
            load_config(model),
            usual.budget,
            layout=usual.layout,
            templates=usual.templates,
            load=self._cache.load,
        )
        right = {}
        for condition, builder in zip(CONDITIONS, (usual, shuffled), strict=True):
            rows = workshop.answer(model, asked, builder=builder, description=f"{part}, {condition}")
            right[condition] = [row["scores"]["accuracy"] for row in rows]
        return {"asks": [sample.extra["asks"] for sample in asked], "right": right}

    def _workshop(self, seed: int, *, grpo: tuple[str, ...] = (), sft: tuple[str, ...] = ()) -> Workshop:
        options = QuickstartOptions(output=self._output, recipes=RECIPES, seed=seed, grpo_flags=grpo, sft_flags=sft)
        return Workshop(options, self._cache)

    def summary(self) -> dict[str, Any]:
        """What all parts that are done found: of the start, of each way to train, and of the bonus."""
        done = {t: read_json(self.file(t.name)) for t in self.trainings if self.file(t.name).is_file()}
        result: dict[str, Any] = {START: described([read_json(self.file(START))])}
        for scale in self._arguments.scales:
            of_way = {way: [found for t, found in done.items() if (t.scale, t.way) == (scale, way)] for way in WAYS}
            for way, found in of_way.items():
                if found:
                    result[f"{way}, scale_rewards {scale}"] = described(found)
            seeds = [
                (done[before], done[after])
                for before in done
                if before.way == "GRPO" and before.scale == scale and (after := replace(before, way="T-GRPO")) in done
            ]
            if seeds:
                result[f"T-GRPO - GRPO, scale_rewards {scale}"] = gain(seeds)
        return result


def bonus_paid(rollouts: Path, scale: str) -> dict[str, float] | None:
    """Of the groups with a correct rollout, the share in which the bonus was paid, and the share in which it changed an advantage
    by more than `CHANGED`; None where it was switched off."""
    paid, changed = [], []
    for group in read_rollouts(rollouts):
        rewards = [rollout["rewards"] for rollout in group["rollouts"]]
        bonus = np.array([one.get("temporal", np.nan) for one in rewards], dtype=np.float64)
        if np.isfinite(bonus).all() and any(one["accuracy"] for one in rewards):
            without = np.array([one["format"] + one["accuracy"] for one in rewards])
            paid.append(bonus.any())
            changed.append(np.abs(_advantages(without + bonus, scale) - _advantages(without, scale)).max() > CHANGED)
    return {"paid": float(np.mean(paid)), "changed": float(np.mean(changed))} if paid else None


def _advantages(rewards: Values, scale: str) -> Values:
    """TRL's, of one group."""
    centred = rewards - rewards.mean()
    return centred / (rewards.std(ddof=1) + 1e-4) if scale == "group" else centred


def described(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracies of one way over its seeds; see `interval`."""
    asks = found[0]["asks"]
    entry: dict[str, Any] = {}
    for condition in CONDITIONS:
        values = np.array([one["right"][condition] for one in found])
        entry[condition] = interval(values)
        entry[f"{condition}, by seed"] = values.mean(axis=1).tolist()
        entry[f"{condition}, by question"] = {
            name: float(values[:, [a == name for a in asks]].mean()) for name in dict.fromkeys(asks)
        }
    bonus = [one["bonus"] for one in found if one.get("bonus") is not None]
    means = {name: float(np.mean([one[name] for one in bonus])) for name in bonus[0]} if bonus else None
    return {**entry, "bonus": means, "seconds": [one["seconds"] for one in found]}


def gain(seeds: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Accuracies after minus before, of trainings with equal seeds."""
    entry: dict[str, Any] = {}
    for condition in CONDITIONS:
        values = np.array(
            [np.subtract(after["right"][condition], before["right"][condition]) for before, after in seeds]
        )
        entry[condition] = interval(values)
        entry[f"{condition}, by seed"] = values.mean(axis=1).tolist()
    return entry


def interval(values: Values) -> list[float]:
    """Mean of (seeds, questions) and its 95 % bootstrap interval over pairs of twin videos.

    It says how far other questions would move the mean, not how far other seeds would.
    """
    twins = values.mean(axis=0).reshape(-1, 2).mean(axis=1)
    return [float(twins.mean()), *bootstrap_interval(twins.tolist())]


def as_table(summary: dict[str, Any]) -> str:
    """Markdown, in percent."""
    heads = ("", "ordered", "by seed", "shuffled", "bonus paid", "advantages changed")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, entry in summary.items():
        sign = "+" if " - " in name else ""
        bonus = entry.get("bonus") or {}
        cells = (
            percent(entry["ordered"], sign),
            ", ".join(f"{100 * value:{sign}.1f}" for value in entry["ordered, by seed"]),
            percent(entry["shuffled"], sign),
            *(f"{100 * bonus[key]:.0f} %" if bonus else "" for key in ("paid", "changed")),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Do what is not done yet, and print what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/temporal_contrast"))
    parser.add_argument("--num-train", type=int, default=400, help="training videos of each of the three kinds")
    parser.add_argument("--num-eval", type=int, default=200, help="held-out videos of each kind, an even number")
    parser.add_argument("--sft-updates", type=int, default=140)
    parser.add_argument("--updates", type=int, default=240, help="of GRPO")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=SCALES, help="values of scale_rewards")
    parser.add_argument("--parts", nargs="+", default=(), metavar="NAME", help="e.g. t-grpo-none-0; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    known = [training.name for training in bench.trainings]
    if unknown := sorted(set(arguments.parts) - {START, *known}):
        parser.error(f"no parts {', '.join(unknown)}; there are {START}, {', '.join(known)}")
    bench.run(arguments.parts)
    summary = bench.summary()
    write_lines(arguments.output / "summary.json", [json.dumps(summary, indent=2)])
    print(json.dumps(summary) if arguments.json else as_table(summary))


if __name__ == "__main__":
    main()
