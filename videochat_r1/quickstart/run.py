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
from videochat_r1.file_lock import locked
from videochat_r1.grpo.rollout_file import ROLLOUTS
from videochat_r1.json_rows import read_json_rows
from videochat_r1.outputs import OwnedFolder, refuse_to_replace, write_lines
from videochat_r1.provenance import git_commit, package_versions
from videochat_r1.quickstart.begun import begun_with, why_anew
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.quickstart.report import REWARD_CURVES, write_report
from videochat_r1.quickstart.summary import Comparison, Rows, blind_answers
from videochat_r1.quickstart.training import SFT_STAGES, TrainingRun, Workshop, save_half
from videochat_r1.sample import Sample

logger = logging.getLogger(__name__)

CORPUS_SEED = 0
SPLITS = ("train", "eval", "eval_longer")

_SUMMARY = "summary.json"
_BEGUN = "begun.json"
_LOCK = "quickstart.lock"
_RESULTS = ("checkpoints", "samples", _SUMMARY, "details.json", ROLLOUTS, "report.html", REWARD_CURVES, _BEGUN)


class Quickstart:
    """One run."""

    def __init__(self, options: QuickstartOptions) -> None:
        self.options = options
        self.seconds: dict[str, float] = {}
        self._begun_with = begun_with(options)
        self._workshop = Workshop(options)
        self._folder = OwnedFolder(options.output, "quickstart", ("data", *_RESULTS))

    def run(self) -> dict[str, Any]:
        """Do everything; returns what `summary.json` holds.

        An unfinished run in the output folder goes on if it was begun with the same; else it is replaced, but for a corpus of the
        same sizes.

        Raises:
            ConfigError: the shipped start is missing, the folder has files of the same names that no quickstart wrote or the
                results of a finished run that are not to be overwritten, or another process runs there.
            KeyboardInterrupt: with how to go on.
        """
        start = self.options.start or self.options.shipped_start
        if not self.options.from_scratch and not (start / "config.json").is_file():
            raise ConfigError(f"{start} holds no model; --from-scratch trains the start instead")
        self._folder.refuse_foreign()
        if not self.options.overwrite:
            finished = [self.options.output / _SUMMARY]
            refuse_to_replace(finished, "name another --output, or replace that finished run with --overwrite")
        self._folder.claim()
        mend = "wait for it or end it, or name another --output"
        with locked(self.options.output / _LOCK, what=f"the quickstart in {self.options.output}", mend=mend):
            try:
                self._take_up()
                return self._run()
            except KeyboardInterrupt:
                raise KeyboardInterrupt("the same command goes on with this run") from None
            finally:
                self._folder.release()

    def _take_up(self) -> None:
        """Go on with an unfinished run that was begun with the same; remove anything else that is left."""
        output = self.options.output
        begun: dict[str, Any] = read_json(output / _BEGUN) if (output / _BEGUN).is_file() else {"with": None}
        why = why_anew(begun["with"], self._begun_with)
        if (output / _SUMMARY).exists():
            logger.info("the finished run in %s is replaced", output)
        elif why is None:
            logger.info("the unfinished run in %s goes on", output)
            self.seconds = begun["seconds"]
            return
        elif any((output / name).exists() for name in _RESULTS):
            logger.warning(
                "the unfinished run in %s is replaced: %s. It goes on only with the same; to keep one, name another --output "
                "for the other",
                output,
                why,
            )
        self._folder.remove(_RESULTS)

    def _run(self) -> dict[str, Any]:
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
        seconds = {**self.seconds, "total": sum(self.seconds.values())}
        summary["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
        _write_json(self.options.output / "details.json", details)
        _write_json(self.options.output / _SUMMARY, summary)
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
        if (run.folder / ROLLOUTS).exists():
            (run.folder / ROLLOUTS).replace(self.options.output / ROLLOUTS)
        return run

    def _continue_sft(self, start: Path, seconds: float) -> TrainingRun:
        with self._timed("sft_continued"):
            return self._workshop.continue_sft(start, self.options.checkpoints / "sft_continued", seconds)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _answer(self, name: str, model_folder: Path, samples: list[Sample], split: str = "eval") -> Rows:
        """Greedy answers of a model, kept in `samples/<split>_<name>.jsonl`."""
        file = self.options.output / "samples" / f"{split}_{name}.jsonl"
        if not file.is_file():
            unfinished = file.with_suffix(".tmp")
            unfinished.unlink(missing_ok=True)
            with self._timed(f"{split}_{name}"):
                self._workshop.answer(
                    model_folder, samples, output=unfinished, description=f"answering {split}: {name}"
                )
            unfinished.replace(file)
        rows = {row["id"]: row for _, row in read_json_rows(file)}
        return [rows[sample.id] for sample in samples]

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
        """Count the seconds of a stage, also of one that is interrupted."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
            _write_json(self.options.output / _BEGUN, {"with": self._begun_with, "seconds": self.seconds})


def _write_json(path: Path, value: Any) -> None:
    write_lines(path, [json.dumps(value, indent=2)])
