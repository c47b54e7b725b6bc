"""MVBench: 20 tasks of temporal understanding with 200 questions each (Li et al. 2024)."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.datasets.base import inside
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError, first_ten
from videochat_r1.evaluation.benchmarks.annotation_rows import read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Source
from videochat_r1.evaluation.benchmarks.video_r1 import ACCURACY_DEFINITION, VIDEO_R1_ACCURACY, VideoR1Benchmark
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.text import listing

logger = logging.getLogger(__name__)

TVQA_FPS = 3.0


class Part(NamedTuple):
    """Where the videos of a task lie, and whether its rows name the clip to watch."""

    folder: str
    clipped: bool = False
    frames: bool = False


TASKS = {
    "action_sequence": Part("star/Charades_v1_480", clipped=True),
    "action_prediction": Part("star/Charades_v1_480", clipped=True),
    "action_antonym": Part("ssv2_video"),
    "fine_grained_action": Part("Moments_in_Time_Raw/videos"),
    "unexpected_action": Part("FunQA_test/test"),
    "object_existence": Part("clevrer/video_validation"),
    "object_interaction": Part("star/Charades_v1_480", clipped=True),
    "object_shuffle": Part("perception/videos"),
    "moving_direction": Part("clevrer/video_validation"),
    "action_localization": Part("sta/sta_video", clipped=True),
    "scene_transition": Part("scene_qa/video"),
    "action_count": Part("perception/videos"),
    "moving_count": Part("clevrer/video_validation"),
    "moving_attribute": Part("clevrer/video_validation"),
    "state_change": Part("perception/videos"),
    "fine_grained_pose": Part("nturgbd"),
    "character_order": Part("perception/videos"),
    "egocentric_navigation": Part("vlnqa"),
    "episodic_reasoning": Part("tvqa/frames_fps3_hq", clipped=True, frames=True),
    "counterfactual_inference": Part("clevrer/video_validation"),
}
"""Task -> its place in the authors' `video` folder, by the names of their annotation files."""


class MVBench(VideoR1Benchmark):
    """`json/<task>.json`; annotations may be that folder, its parent, or one task's file, or Video-R1's JSON, of whole videos."""

    name = "mvbench"
    video_r1_file = "eval_mvbench.json"
    video_r1_columns = ("task", "task_type")
    num_samples: ClassVar = {ALL: 4000}
    definitions: ClassVar = {
        "accuracy": "unweighted mean of the accuracies of the 20 tasks (Li et al. 2024; paper, Table 1, Avg)",
        OFFICIAL_ACCURACY: "the same mean, an answer being right if its first word is part of the right letter in brackets or "
        "holds it, be it an opening bracket alone (MVBench's own check)",
        VIDEO_R1_ACCURACY: f"{ACCURACY_DEFINITION}; every question weighs the same",
    }

    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `<task>/<video>_<row of the task's file>`."""
        files = _files(source.annotations)
        if source.annotations.is_dir() and len(files) < len(TASKS):
            missing = sorted(TASKS.keys() - {file.stem for file in files})
            logger.warning(
                "%s has %d of MVBench's 20 tasks, and accuracy is the mean of those; without %s",
                source.annotations,
                len(files),
                first_ten(missing),
            )
        for file in files:
            name = file.stem
            for number, row in enumerate(read_rows(file)):
                video = _video(row, TASKS[name], source.videos)
                options = [text.strip() for text in row.options("candidates")]
                yield Sample(
                    id=f"{name}/{PurePosixPath(row.text('video')).stem}_{number}",
                    task="multi_choice_qa",
                    media=video,
                    query=row.text("question").strip(),
                    target=ChoiceTarget(tuple(options), answer_letter_of_text(row.text("answer"), options)),
                    source=self.name,
                    extra={"task": name},
                )

    def authors_files(self, annotations: Path) -> list[Path]:
        """The tasks' files."""
        return _files(annotations)

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Every task weighs the same, however many of its questions are scored; one where the questions do not tell theirs."""
        names = [self.groups(sample).get("task", "") for sample in samples]
        sizes = {name: names.count(name) for name in set(names)}
        shares = [1.0 / sizes[name] for name in names]
        return {**super().weights(samples), **dict.fromkeys(("accuracy", OFFICIAL_ACCURACY, "parse_rate"), shares)}

    def groups(self, sample: Sample) -> dict[str, str]:
        """By task."""
        task = sample.extra.get("task") or sample.extra.get("task_type")
        return {} if task is None else {"task": task}

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the first word, without full stops, is part of `(a)` if A is right, or holds it; no word is no answer."""
        word, right = text.strip().lower().split(" ")[0], f"({target.answer.lower()})"
        return word != "" and (word.replace(".", "") in right or right in word)


def answer_letter_of_text(answer: str, options: Sequence[str]) -> str:
    """The letter of the option that the answer spells out: `A` may be an option's text, not its letter."""
    if answer.strip() in options:
        return LETTERS[list(options).index(answer.strip())]
    return answer_letter(answer, options)


def _files(annotations: Path) -> list[Path]:
    """The tasks' files that are there, in the order of `TASKS`."""
    if annotations.is_file():
        if annotations.stem not in TASKS:
            raise DataError(f"{annotations} is none of MVBench's tasks {', '.join(TASKS)}")
        return [annotations]
    folder = annotations / "json" if (annotations / "json").is_dir() else annotations
    files = [folder / f"{name}.json" for name in TASKS]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == len(files):
        raise DataError(f"{folder} has none of MVBench's files, such as {missing[0]}. It holds {listing(folder)}")
    return [file for file in files if file.is_file()]


def _video(row: Row, part: Part, videos: Path | None) -> Video:
    path = f"{part.folder}/{inside(row.text('video'), row.where)}"
    start, end = (row.number("start"), row.number("end")) if part.clipped else (None, None)
    if not part.frames:
        return Video(path=path, start=start, end=end)
    folder = None if videos is None else videos / path
    names = sorted(entry.name for entry in folder.glob("*.jpg")) if folder is not None and folder.is_dir() else []
    if not names:
        return Video(path=path, start=start, end=end)
    times = tuple(index / TVQA_FPS for index in range(len(names)))
    return Video(frames=tuple(f"{path}/{name}" for name in names), frame_times=times, start=start, end=end)
