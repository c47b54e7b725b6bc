"""Video-MME: multiple-choice questions on short, medium and long videos (Fu et al. 2024)."""

from collections.abc import Iterator
from typing import ClassVar

from videochat_r1.datasets.base import VideoFinder, is_file
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import columns, read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, ChoiceBenchmark, Source
from videochat_r1.evaluation.benchmarks.subtitles import SubtitleFiles, quote, read_srt
from videochat_r1.evaluation.benchmarks.video_r1 import ACCURACY_DEFINITION, VIDEO_R1_ACCURACY, VideoR1Benchmark
from videochat_r1.parsing import option_texts
from videochat_r1.sample import ChoiceTarget, Sample, Video
from videochat_r1.text import listing


class VideoMME(VideoR1Benchmark):
    """Rows of the authors' Parquet or its JSON, or Video-R1's JSON; videos `<videoID>.mp4`, subtitles `<videoID>.srt`. The paper uses `short`."""

    name = "videomme"
    num_samples: ClassVar = {ALL: 2700, "short": 900, "medium": 900, "long": 900}
    takes_subtitles = True
    video_r1_file = "eval_videomme.json"
    video_r1_columns = ("duration", "domain", "sub_category", "task_type")
    definitions: ClassVar = {**ChoiceBenchmark.definitions, VIDEO_R1_ACCURACY: ACCURACY_DEFINITION}

    def video_r1_subset(self, sample: Sample) -> str | None:
        """By the video's length."""
        return sample.extra.get("duration")

    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are the benchmark's `question_id`."""
        find, subtitles = VideoFinder(source.videos), SubtitleFiles(read_srt)
        if source.subtitles is not None and not any(source.subtitles.glob("*.srt")):
            raise DataError(f"{source.subtitles} holds no <videoID>.srt, but {listing(source.subtitles)}")
        for row in read_rows(source.annotations):
            length = row.text("duration")
            if source.subset not in (ALL, length):
                continue
            options = option_texts(row.options("options"))
            yield Sample(
                id=row.text("question_id"),
                task="multi_choice_qa",
                media=Video(path=find(row.text("videoID"))),
                query=_with_subtitles(row.text("question").strip(), row.text("videoID"), source, subtitles),
                target=ChoiceTarget(options, answer_letter(row.text("answer"), options)),
                source=self.name,
                extra={"duration": length, **columns(row, "domain", "sub_category", "task_type")},
            )
        subtitles.warn()


def _with_subtitles(question: str, video_id: str, source: Source, subtitles: SubtitleFiles) -> str:
    """A video without a subtitle file has no speech; its question stays as it is."""
    path = None if source.subtitles is None else source.subtitles / f"{video_id}.srt"
    if path is None or not is_file(path):
        return question
    return quote(subtitles.lines(path), question, source.subtitle_chars)
