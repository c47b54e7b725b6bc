"""Runs a benchmark with a model: shards over processes, goes on after a kill, and scores when every question is answered."""

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from videochat_r1.datasets.base import is_file
from videochat_r1.errors import DataError
from videochat_r1.evaluation.answering.answerer import Answerer, pick_device
from videochat_r1.evaluation.answering.options import RunOptions, identity
from videochat_r1.evaluation.answering.passes import CluePerception
from videochat_r1.evaluation.answering.prompt_stream import group_by_video, shard_of, stream_batches
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.evaluation.benchmarks.base import Benchmark, Source
from videochat_r1.evaluation.running.folder import AnswerWriter, RunFolder
from videochat_r1.evaluation.scoring.answers import ScoringOptions, check_boxes, in_fractions, score_answers
from videochat_r1.evaluation.scoring.files import read_train, scoring_settings
from videochat_r1.evaluation.scoring.judged import check_judge
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.evaluation.scoring.results import write_results
from videochat_r1.evaluation.scoring.settings import environment, source_settings
from videochat_r1.modeling.families import family_of
from videochat_r1.progress import progress_bar
from videochat_r1.sample import Media, Sample
from videochat_r1.second_look.question import TASK as CLUE_TASK
from videochat_r1.second_look.question import clue_question

logger = logging.getLogger(__name__)


def run_benchmark(
    name: str,
    source: Source,
    options: RunOptions,
    output: Path,
    scoring: ScoringOptions,
    *,
    limit: int | None = None,
    train_annotations: Path | None = None,
    shard: tuple[int, int] | None = None,
) -> dict[str, Any] | None:
    """Answer this process's share of the open questions; score once no question is open in any shard.

    Args:
        name: of the benchmark.
        source: of its questions and videos.
        options: model, prompt, decoding.
        output: folder of the run.
        scoring: how answers become numbers.
        limit: only the first samples.
        train_annotations: training split, for a baseline.
        shard: (index, count); None for torchrun's rank and world size, (0, 1) without torchrun.

    Returns:
        What `results.json` holds; None while other shards have open questions.

    Raises:
        ConfigError: the folder holds answers of other settings, or settings that cannot work.
        DataError: annotations are malformed, or none of the videos is there.
        DivergedError: the model's weights, or what it computes, are NaN or infinite.
        JudgeError: the judge cannot be used.
    """
    benchmark = BENCHMARKS[name]
    check_judge(benchmark, scoring.judge, required=False)
    if scoring.box_format == "native":
        scoring = replace(scoring, box_format=family_of(options.config()).box_convention)
    check_boxes(benchmark, scoring)
    index, count = shard or (int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    device = pick_device(options.device)
    samples = benchmark.load(source)[:limit]
    if options.clue_perception is not None:
        for sample in samples:
            clue_question(sample)
    train = read_train(benchmark, source, train_annotations)
    settings = {
        "mode": "run",
        **source_settings(benchmark, source, limit),
        **options.settings(device),
        **scoring_settings(scoring, train_annotations),
    }
    folder = RunFolder(output)
    folder.refuse_others(settings, identity(settings))
    answered = folder.answers()
    share = shard_of(samples, index, count)
    to_ask = [sample for sample in share if _is_open(answered.get(sample.id), retry_failed=options.retry_failed)]
    begin = partial(folder.begin, settings, identity(settings), environment())
    if to_ask:
        check_videos(samples)
        with folder.writer(index, count) as writer:
            answerer = Answerer(
                options,
                device,
                templates=None if options.prompt is None else {_task_asked(samples[0], options): options.prompt},
                box_format=scoring.box_format,
            )
            asked = to_ask if options.clue_perception is None else [clue_question(sample) for sample in to_ask]
            # A mistake in the template should not wait for the first video.
            answerer.builder.render(asked[0])
            # Only a run that can answer claims the folder: a wrong model must not stand in the way of the right one.
            begin()
            title = name if count == 1 else f"{name} {index}/{count}"
            _answer_all(answerer, benchmark, to_ask, asked, writer, options, scoring, title)
        answered = folder.answers()
    else:
        begin()
    num_open = sum(sample.id not in answered for sample in samples)
    if num_open:
        logger.info("shard %d of %d is done; %d of %d samples are open in other shards, the last of which will write the "
                    "result", index, count, num_open, len(samples))  # fmt: skip
        return None
    evaluation = score_answers(benchmark, samples, [answered[sample.id] for sample in samples], scoring, train)
    first, *later = folder.recorded()["environments"]
    return write_results(output, evaluation, {**settings, **first, "later_environments": later}, samples)


def _answer_all(
    answerer: Answerer,
    benchmark: Benchmark,
    samples: Sequence[Sample],
    asked: Sequence[Sample],
    writer: AnswerWriter,
    options: RunOptions,
    scoring: ScoringOptions,
    title: str,
) -> None:
    """Ask every sample (as `asked` has it) and write every answer as soon as its batch is done; a bar shows the time left."""
    clues, by_id = options.clue_perception, {sample.id: sample for sample in samples}
    headline = "parse_rate" if any(map(benchmark.is_judged, samples)) else benchmark.headline(samples[0].task)
    total, done = 0.0, 0
    show = os.environ.get("LOCAL_RANK", "0") == "0"
    with ExitStack() as stack:
        answer = answerer.answer
        if clues is not None:
            passes = CluePerception(answerer, clues, workers=options.workers, untagged=scoring.untagged)
            answer = stack.enter_context(passes).answer
        bar = stack.enter_context(progress_bar(total=len(samples), desc=title, unit="sample", disable=not show))
        for batch in stream_batches(answerer.builder, asked, options.workers, size=options.batch_size):
            predictions = answer(batch)
            writer.add(predictions)
            for prediction in predictions:
                total += _score(benchmark, by_id[prediction.id], prediction, scoring, headline)
            done += len(batch)
            bar.update(len(batch))
            bar.set_postfix_str(f"{headline} {100 * total / done:.1f}")


def _task_asked(sample: Sample, options: RunOptions) -> str:
    """The task whose prompt a template replaces."""
    return sample.task if options.clue_perception is None else CLUE_TASK.name


def _score(
    benchmark: Benchmark, sample: Sample, prediction: Prediction, scoring: ScoringOptions, headline: str
) -> float:
    if prediction.completion is None:
        return 0.0
    completion = in_fractions(prediction.completion, prediction, scoring)
    parsed = benchmark.parse(completion, sample, untagged=scoring.untagged)
    return benchmark.score(parsed, sample).get(headline) or 0.0


def check_videos(samples: Sequence[Sample]) -> None:
    """Warn of videos and pictures that are not there: their questions will count as failures.

    Raises:
        DataError: none is there, which is a wrong folder and no result.
    """
    videos = [group[0].media for group in group_by_video(samples)]
    missing = [video.name for video in videos if not _is_there(video)]
    if len(missing) == len(videos):
        raise DataError(
            f"none of the {len(videos):,} videos is there, for example {missing[0]}. Is --videos the folder that the "
            "annotations' paths start from?"
        )
    if missing:
        logger.warning("%d of %d videos are not there, for example %s", len(missing), len(videos), missing[0])


def _is_there(media: Media) -> bool:
    return is_file(Path(media.files[0]))


def _is_open(answer: Prediction | None, *, retry_failed: bool) -> bool:
    return answer is None or (retry_failed and answer.completion is None)
