"""Scoring without a model: a prediction file, or a finished run once more."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videochat_r1.errors import ConfigError, DataError, counted
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.evaluation.benchmarks.base import SUBTITLE_CHARS, Benchmark, Source
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.judged import check_judge, judge_settings
from videochat_r1.evaluation.scoring.predictions import Prediction, match, read_predictions
from videochat_r1.evaluation.scoring.results import (
    RESULTS,
    RUN_SETTINGS,
    SAMPLES,
    read_results,
    refuse_foreign,
    write_results,
)
from videochat_r1.evaluation.scoring.settings import environment, hash_files, refuse_changes, source_settings
from videochat_r1.judge import JudgeConfig
from videochat_r1.parsing.box_units import BoxFormat
from videochat_r1.sample import Sample

logger = logging.getLogger(__name__)

SOURCE_KEYS = ("benchmark", "task", "subset", "limit", "annotations_sha256", "subtitles", "subtitle_chars")
"""Settings that decide which questions are asked: equal for all answers in a folder."""
_RENAMED: Mapping[str, BoxFormat] = {"native_absolute": "pixels"}
"""Box formats of results that earlier versions recorded."""


def score_predictions(
    benchmark_name: str,
    source: Source,
    predictions: Path,
    output: Path,
    options: ScoringOptions,
    *,
    limit: int | None = None,
    train_annotations: Path | None = None,
) -> dict[str, Any]:
    """Score a prediction file and write the result; returns what `results.json` holds.

    Raises:
        ConfigError: the output folder holds a result of other questions, or of a model run; a judge is missing.
        JudgeError: the judge cannot be used.
        DataError: annotations or predictions are malformed, or do not belong together. Nothing is written then.
    """
    benchmark = BENCHMARKS[benchmark_name]
    samples = benchmark.load(source)
    wanted, answers = _matched(benchmark, samples, limit, predictions, options.judge)
    settings = {
        "mode": "predictions",
        **source_settings(benchmark, source, limit),
        "predictions": str(predictions.resolve()),
        "predictions_sha256": hash_files([predictions]),
        **scoring_settings(options, train_annotations),
        **environment(),
    }
    refuse_foreign(output)
    if (output / RUN_SETTINGS).is_file():
        raise ConfigError(f"{output} holds the answers of a model; name another --output for {predictions}")
    if (output / RESULTS).is_file():
        refuse_changes(read_results(output)["settings"], settings, ("mode", *SOURCE_KEYS), output)
    check_judge(benchmark, options.judge, required=True)
    evaluation = score_answers(benchmark, wanted, answers, options, read_train(benchmark, source, train_annotations))
    return write_results(output, evaluation, settings, wanted)


def rescore(
    folder: Path,
    output: Path,
    options: ScoringOptions | None,
    *,
    annotations: Path | None = None,
    train_annotations: Path | None = None,
) -> dict[str, Any]:
    """Score the answers of a finished run again and write the result; returns what `results.json` holds.

    Args:
        folder: of the run.
        output: where the result goes, the same folder or another.
        options: None for those of the run.
        annotations: where the annotations lie now; None for where they were.
        train_annotations: None for those of the run.

    Raises:
        ConfigError, JudgeError: a judge is missing, or cannot be used; or the output folder holds something else.
        DataError: there is no finished run, or the annotations have changed since and were not named anew.
    """
    settings = read_results(folder)["settings"]
    benchmark = BENCHMARKS[settings["benchmark"]]
    source = recorded_source(settings, annotations)
    if annotations is None and hash_files(benchmark.files(source.annotations)) != settings["annotations_sha256"]:
        raise DataError(
            f"{source.annotations} is not there or has changed since {folder} was scored; name the annotations to score "
            "with: --annotations PATH"
        )
    samples = benchmark.load(source)
    options = recorded_options(settings) if options is None else options
    wanted, answers = _matched(benchmark, samples, settings["limit"], folder / SAMPLES, options.judge)
    if output.resolve() != folder.resolve():
        refuse_foreign(output)
        if (output / RUN_SETTINGS).is_file():
            raise ConfigError(f"{output} holds the answers of another model; name another --output for {folder}")
        if (output / RESULTS).is_file():
            refuse_changes(read_results(output)["settings"], settings, ("mode", *SOURCE_KEYS), output)
    check_judge(benchmark, options.judge, required=True)
    train = train_annotations or _path(settings.get("train_annotations"))
    evaluation = score_answers(benchmark, wanted, answers, options, read_train(benchmark, source, train))
    renewed = {
        **settings,
        **source_settings(benchmark, source, settings["limit"]),
        **scoring_settings(options, train),
        "rescored_with": environment(),
    }
    return write_results(output, evaluation, renewed, wanted)


def _matched(
    benchmark: Benchmark, samples: Sequence[Sample], limit: int | None, file: Path, judge: JudgeConfig | None
) -> tuple[Sequence[Sample], list[Prediction]]:
    """The samples to score, and their answers. Without a judge those that take one are left out where they have none.

    Raises:
        DataError: the predictions are malformed, or do not fit the samples.
    """
    wanted, predictions = samples[:limit], read_predictions(file)
    if judge is None and benchmark.partly_judged:
        given = {one.id for one in predictions}
        answered = [one for one in wanted if one.id in given or not benchmark.is_judged(one)]
        if answered and (count := len(wanted) - len(answered)):
            logger.warning(
                "%s that only a judge can score and that have no answer are left out", counted(count, "question")
            )
            wanted = answered
    return wanted, match(predictions, [one.id for one in wanted], [one.id for one in samples], str(file))


def read_train(benchmark: Benchmark, source: Source, annotations: Path | None) -> list[Sample] | None:
    """The training split of the benchmark's corpus; None if it is not named."""
    if annotations is None:
        return None
    return benchmark.load(Source(annotations, task=source.task, durations=source.durations))


def scoring_settings(options: ScoringOptions, train_annotations: Path | None) -> dict[str, Any]:
    """What decides how answers become numbers."""
    judge = {} if options.judge is None else {"judge": judge_settings(options.judge)}
    return {
        **judge,
        "untagged": options.untagged,
        "box_format": options.box_format,
        "bootstrap": options.bootstrap,
        "bootstrap_seed": options.seed,
        "train_annotations": None if train_annotations is None else str(train_annotations.resolve()),
    }


def recorded_options(settings: Mapping[str, Any]) -> ScoringOptions:
    """The options of a recorded result."""
    judge = settings.get("judge")
    return ScoringOptions(
        settings["untagged"],
        _RENAMED.get(settings["box_format"], settings["box_format"]),
        settings["bootstrap"],
        settings["bootstrap_seed"],
        None if judge is None else JudgeConfig.from_dict(judge, "the judge of the recorded run"),
    )


def recorded_source(settings: Mapping[str, Any], annotations: Path | None = None) -> Source:
    """Where the questions of a recorded result came from, with the annotations moved if named."""
    videos = _path(settings.get("videos"))
    subtitles = _path(settings.get("subtitles"))
    if subtitles is not None and not subtitles.is_dir():
        raise ConfigError(f"the subtitles folder {subtitles} of the recorded run is gone")
    return Source(
        annotations or Path(settings["annotations"]),
        # Scoring needs no pixels, but GOT-10k's dense truth may lie beside them.
        videos if videos is not None and videos.is_dir() else None,
        task=settings["task"],
        subset=settings["subset"],
        subtitles=subtitles,
        subtitle_chars=settings.get("subtitle_chars") or SUBTITLE_CHARS,
        durations=_path(settings.get("durations")),
    )


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
