"""The quickstart from corpus to report: what it does, in order, and what it writes."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from videochat_r1.datasets.annotation_files import read_json
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.synthetic import write_corpus
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.rollout_file import ROLLOUTS
from videochat_r1.outputs import OwnedFolder, refuse_to_replace, write_lines
from videochat_r1.provenance import git_commit, package_versions
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.quickstart.report import REWARD_CURVES, write_report
from videochat_r1.quickstart.summary import Comparison, Rows, blind_answers
from videochat_r1.quickstart.training import SFT_STAGES, TrainingRun, Workshop, save_half
from videochat_r1.sample import Sample

logger = logging.getLogger(__name__)

CORPUS_SEED = 0
SPLITS = ("train", "eval", "eval_longer")

_RESULTS = ("checkpoints", "samples", "summary.json", "details.json", ROLLOUTS, "report.html", REWARD_CURVES)


class Quickstart:
    """One run."""

    def __init__(self, options: QuickstartOptions) -> None:
        self.options = options
        self.seconds: dict[str, float] = {}
        self._workshop = Workshop(options)
        self._folder = OwnedFolder(options.output, "quickstart", ("data", *_RESULTS))

    def run(self) -> dict[str, Any]:
        """Do everything; returns what `summary.json` holds.

        What an earlier run has left in the output folder is replaced; its corpus is used again if it is the same.

        Raises:
            ConfigError: the shipped start is missing, the folder has files of the same names that no quickstart wrote,
                or the results of a finished run that are not to be overwritten.
        """
        start = self.options.start or self.options.shipped_start
        if not self.options.from_scratch and not (start / "config.json").is_file():
            raise ConfigError(f"{start} holds no model; --from-scratch trains the start instead")
        self._folder.refuse_foreign()
        if not self.options.overwrite:
            finished = [self.options.output / "summary.json"]
            refuse_to_replace(finished, "name another --output, or replace that finished run with --overwrite")
        if self._folder.claim():
            logger.info("what an earlier run has left in %s is replaced", self.options.output)
            self._folder.remove(_RESULTS)
        try:
            return self._run()
        finally:
            self._folder.release()

    def _run(self) -> dict[str, Any]:
        begin = time.perf_counter()
        with self._timed("corpus"):
            self._write_corpus()
        samples = {split: self._samples(split) for split in SPLITS if self._manifest(split).is_file()}
        models = {"sft": self._start(samples["train"])}
        with self._timed("read_videos"):
            self._workshop.read_videos(models["sft"], samples["train"] + samples["eval"], "decoding videos")
        rows = {"sft": self._answer("sft", models["sft"], samples["eval"])}
        runs = {"grpo": self._train_grpo(models["sft"])}
        models["grpo"] = runs["grpo"].folder
        rows["grpo"] = self._answer("grpo", models["grpo"], samples["eval"])
        if self.options.compare:
            runs["sft_continued"] = self._continue_sft(models["sft"], runs["grpo"].seconds)
            models["sft_continued"] = runs["sft_continued"].folder
            rows["sft_continued"] = self._answer("sft_continued", models["sft_continued"], samples["eval"])
        comparison = Comparison(blind_answers(samples["train"], samples["eval"]), rows)
        summary: dict[str, Any] = {"tasks": comparison.tasks()}
        if self.options.compare:
            summary["longer_videos"] = self._on_longer_videos(samples, models)
        details = self._details(comparison, runs)
        with self._timed("report"):
            write_report(self.options.output, summary, details, samples["eval"], rows)
        self.seconds["total"] = time.perf_counter() - begin
        summary["seconds"] = {name: round(value, 1) for name, value in self.seconds.items()}
        _write_json(self.options.output / "details.json", details)
        _write_json(self.options.output / "summary.json", summary)
        return summary

    # --- data -------------------------------------------------------------------------------------------------------

    def _write_corpus(self) -> None:
        """Write the corpus, unless a complete one of the same sizes is there."""
        longer = self.options.num_eval if self.options.compare else 0
        sizes = [self.options.num_train, self.options.num_eval, longer, CORPUS_SEED]
        stamp = self.options.data / "complete.json"
        if stamp.is_file() and read_json(stamp) == sizes:
            logger.info("%s is complete and used again", self.options.data)
            return
        self._folder.remove(["data"])
        write_corpus(
            self.options.data,
            num_train=self.options.num_train,
            num_eval=self.options.num_eval,
            num_eval_longer=longer,
            seed=CORPUS_SEED,
            workers=max(2, torch.get_num_threads()),
        )
        _write_json(stamp, sizes)

    def _manifest(self, split: str) -> Path:
        return self.options.data / f"{split}.jsonl"

    def _samples(self, split: str) -> list[Sample]:
        return read_manifest(self._manifest(split), self.options.data)

    # --- models -----------------------------------------------------------------------------------------------------

    def _start(self, train: list[Sample]) -> Path:
        """The model that GRPO begins with: shipped, given, or trained now."""
        if not self.options.from_scratch:
            return self.options.start or self.options.shipped_start
        return self.make_start(train)

    def make_start(self, train: list[Sample]) -> Path:
        """Random weights, then the stages of SFT, then rounded to the 16 bits that the shipped start has."""
        model = self.options.checkpoints / "init"
        self._workshop.make_init(model, train)
        with self._timed("read_training_videos"):
            self._workshop.read_videos(model, train, "decoding training videos")
        with self._timed("sft"):
            for recipe in SFT_STAGES:
                model = self._workshop.train_sft(recipe, model, self.options.checkpoints / recipe).folder
        save_half(model, self.options.checkpoints / "sft")
        return self.options.checkpoints / "sft"

    def _train_grpo(self, start: Path) -> TrainingRun:
        with self._timed("grpo"):
            run = self._workshop.train_grpo(start, self.options.checkpoints / "grpo")
        (run.folder / ROLLOUTS).replace(self.options.output / ROLLOUTS)
        return run

    def _continue_sft(self, start: Path, seconds: float) -> TrainingRun:
        with self._timed("sft_continued"):
            return self._workshop.continue_sft(start, self.options.checkpoints / "sft_continued", seconds)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _answer(self, name: str, model_folder: Path, samples: list[Sample], split: str = "eval") -> Rows:
        """Greedy answers of a model, also written to `samples/<split>_<name>.jsonl`."""
        with self._timed(f"{split}_{name}"):
            return self._workshop.answer(
                model_folder,
                samples,
                output=self.options.output / "samples" / f"{split}_{name}.jsonl",
                description=f"answering {split}: {name}",
            )

    def _on_longer_videos(self, samples: Mapping[str, list[Sample]], models: Mapping[str, Path]) -> dict[str, Any]:
        """The same comparison on videos longer than any in training (of the tasks that ask about time)."""
        asked = [sample for sample in samples["eval_longer"] if sample.task != "tracking"]
        rows = {name: self._answer(name, folder, asked, "eval_longer") for name, folder in models.items()}
        return Comparison(blind_answers(samples["train"], asked), rows).tasks()

    def _details(self, comparison: Comparison, runs: Mapping[str, TrainingRun]) -> dict[str, Any]:
        """What else a reader needs to judge or repeat the run."""
        return {
            "num_samples": {
                task: sum(row["task"] == task for row in comparison.rows["sft"]) for task in comparison.blind
            },
            "blind_answers": {
                task: {"name": blind.name, "candidates": blind.candidates} for task, blind in comparison.blind.items()
            },
            "training": {
                name: {"num_steps": run.num_steps, "seconds": round(run.seconds, 1)} for name, run in runs.items()
            },
            "from_scratch": self.options.from_scratch,
            "seed": self.options.seed,
            "num_threads": torch.get_num_threads(),
            "versions": package_versions(),
            "git_commit": git_commit(),
        }

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin


def _write_json(path: Path, value: Any) -> None:
    write_lines(path, [json.dumps(value, indent=2)])
