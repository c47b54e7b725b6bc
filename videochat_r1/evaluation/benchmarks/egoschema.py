"""EgoSchema: five options about three minutes of first-person video; the 500 questions with public answers (Mangalam et al. 2023)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from videochat_r1.datasets.annotation_files import Row, kind, read_json
from videochat_r1.datasets.base import VideoFinder
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, ChoiceBenchmark, Source
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.text import listing

QUESTIONS, ANSWERS = "questions.json", "subset_answers.json"
OPTIONS = tuple(f"option {number}" for number in range(5))
"""Their keys, and what stands for their texts where there are none."""


class EgoSchema(ChoiceBenchmark):
    """`questions.json` and `subset_answers.json` beside it: one of the two, or their folder. Videos are `<q_uid>.mp4`.

    Answers can be scored with `subset_answers.json` alone; options are then known by their letters.
    """

    name = "egoschema"
    num_samples: ClassVar = {ALL: 500}
    definitions: ClassVar = {
        "accuracy": "share of the questions with public answers that are answered with the right option (Mangalam et al. 2023)",
        OFFICIAL_ACCURACY: "the same, an answer being the number of an option from 0 to 4, as the authors' server takes it, or else its first "
        "capital letter of an option",
    }

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question that has an answer; ids are `q_uid`."""
        asked, answers = (_folder_of(source.annotations) / name for name in (QUESTIONS, ANSWERS))
        truths = _truths(answers)
        find = VideoFinder(source.videos)
        if not asked.is_file():
            if source.videos is not None:
                raise DataError(f"a model cannot be asked without {asked}; beside it lies {listing(asked.parent)}")
            for uid, truth in truths.items():
                yield _sample(uid, "", OPTIONS, truth, find)
            return
        for row in read_rows(asked):
            uid = row.text("q_uid")
            if uid in truths:
                options = tuple(row.text(key).strip() for key in OPTIONS)
                yield _sample(uid, row.text("question").strip(), options, truths[uid], find)

    def files(self, annotations: Path) -> list[Path]:
        """Both files, as far as they are there."""
        files = [_folder_of(annotations) / name for name in (QUESTIONS, ANSWERS)]
        return [file for file in files if file.is_file()] or files

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the text is the option's number, or names its letter."""
        word = text.strip()
        if word.isascii() and word.isdigit():
            return word == str(LETTERS.index(target.answer))
        return super().is_officially_right(text, target)


def _folder_of(annotations: Path) -> Path:
    """The folder in which both files lie."""
    return annotations if annotations.is_dir() else annotations.parent


def _truths(path: Path) -> dict[str, int]:
    """`q_uid` -> number of the right option."""
    values: Any = read_json(path)
    if not isinstance(values, Mapping):
        raise DataError(f"{path}: expected the numbers of right options by q_uid, found {kind(values)}")
    rows = Row.of(values, str(path))
    return {uid: rows.index(uid, len(OPTIONS)) for uid in values}


def _sample(uid: str, question: str, options: tuple[str, ...], truth: int, find: VideoFinder) -> Sample:
    return Sample(
        id=uid,
        task="multi_choice_qa",
        media=Video(path=find(uid)),
        query=question,
        target=ChoiceTarget(options, LETTERS[truth]),
        source=EgoSchema.name,
    )
