"""Perception Test, validation split, multiple-choice questions with three options (Patraucean et al. 2023)."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from videochat_r1.datasets.annotation_files import Row, kind
from videochat_r1.datasets.base import VideoFinder
from videochat_r1.errors import DataError, shown
from videochat_r1.evaluation.benchmarks.annotation_rows import columns, read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, ChoiceBenchmark, Source
from videochat_r1.parsing import option_texts
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.text import parse_json, read_text


class PerceptionTest(ChoiceBenchmark):
    """The authors' JSON (video id -> metadata and questions), or one row per question as mirrors have it."""

    name = "perception_test"
    num_samples: ClassVar = {ALL: 19140}

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `<video>_<id of the question within the video>`."""
        find = VideoFinder(source.videos)
        path = source.annotations
        text = "" if path.is_dir() or path.suffix.lower() in (".parquet", ".jsonl") else read_text(path)
        if not text.lstrip().startswith("{"):
            for row in read_rows(path):
                yield self._sample(row, row.text("video_name"), str(row.get("question_id")), find)
            return
        entries = parse_json(text, path)
        if not isinstance(entries, Mapping):
            raise DataError(f"{path}: expected video ids with their questions, found {kind(entries)}")
        videos = Row.all_of((f"{path}, video {shown(video_id)!r}", entry) for video_id, entry in entries.items())
        asked = [
            (video_id, f"{video.where} question {number}", value)
            for video_id, video in zip(entries, videos, strict=True)
            for number, value in enumerate(video.items("mc_question"))
        ]
        rows = Row.all_of((where, value) for _, where, value in asked)
        for (video_id, _, _), row in zip(asked, rows, strict=True):
            yield self._sample(row, video_id, str(row.get("id")), find)

    def groups(self, sample: Sample) -> dict[str, str]:
        """By area and kind of reasoning; the tags are too many to print."""
        return {name: sample.extra[name] for name in ("area", "reasoning") if name in sample.extra}

    def _sample(self, row: Row, video_id: str, question_id: str, find: VideoFinder) -> Sample:
        options = option_texts(row.options("options"))
        return Sample(
            id=f"{video_id}_{question_id}",
            task="multi_choice_qa",
            media=Video(path=find(video_id)),
            query=row.text("question").strip(),
            target=ChoiceTarget(options, LETTERS[row.index("answer_id", len(options))]),
            source=self.name,
            extra=columns(row, "area", "reasoning", "tag"),
        )
