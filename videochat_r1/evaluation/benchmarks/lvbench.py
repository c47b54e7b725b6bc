"""LVBench: four options about videos of an hour (Wang et al. 2024)."""

import re
from collections.abc import Iterator
from typing import ClassVar

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.datasets.base import VideoFinder
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import columns, read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, ChoiceBenchmark, Groups, Source
from videochat_r1.parsing import option_texts
from videochat_r1.sample import ChoiceTarget, Sample, Video

_OPTION = re.compile(r"^[ \t]*(?=\([A-Z]\))", re.MULTILINE)


class LVBench(ChoiceBenchmark):
    """`video_info.meta.jsonl`: a video a line, with its questions, whose options stand below them. Videos are `<key>.mp4`."""

    name = "lvbench"
    num_samples: ClassVar = {ALL: 1549}
    definitions: ClassVar = {
        "accuracy": "share of questions answered with the right option; a question counts in each of its categories (Wang et al. 2024, Overall)",
        OFFICIAL_ACCURACY: "the same, the answer being the first character of the first word before the first closing bracket, of what stands "
        "behind an opening one where there is one (LVBench's answer_util.py); answers that are missing are wrong here, and left out there",
    }

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `uid`."""
        find = VideoFinder(source.videos)
        for video in read_rows(source.annotations):
            asked = [
                (f"{video.where}, question {place}", value) for place, value in enumerate(video.items("qa"), start=1)
            ]
            for row in Row.all_of(asked):
                yield _sample(row, video, find)

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the first character that the authors' rule leaves is the letter."""
        head = text.strip().partition(")")[0].strip()
        if "(" in head:
            head = head.split("(")[1].strip()
        return head[:1] == target.answer

    def groups(self, sample: Sample) -> Groups:
        """By the categories, of which a question may have several, and by the genre of the video."""
        return {name: sample.extra[name] for name in ("question_type", "type") if name in sample.extra}


def _sample(row: Row, video: Row, find: VideoFinder) -> Sample:
    question, *options = _OPTION.split(row.text("question"))
    if not options:
        raise DataError(f"{row.where}: 'question' has no option, expected lines `(A) ...` below it")
    texts = option_texts(options)
    return Sample(
        id=str(row.get("uid")),
        task="multi_choice_qa",
        media=Video(path=find(video.text("key"))),
        query=question.strip(),
        target=ChoiceTarget(texts, answer_letter(row.text("answer"), texts)),
        source=LVBench.name,
        extra={
            "question_type": tuple(row.texts("question_type")),
            **columns(video, "type"),
            **columns(row, "time_reference"),
        },
    )
