"""LongVideoBench, validation split: questions that refer to a moment of a long video (Wu et al. 2024)."""

from collections.abc import Iterator
from typing import ClassVar

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.datasets.base import inside, is_file
from videochat_r1.errors import DataError, keys_shown
from videochat_r1.evaluation.benchmarks.annotation_rows import columns, read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, ChoiceBenchmark, Source
from videochat_r1.evaluation.benchmarks.subtitles import SubtitleFiles, quote, read_json_subtitles
from videochat_r1.parsing import option_texts
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video

_ABSENT = "N/A"


class LongVideoBench(ChoiceBenchmark):
    """Rows of `lvb_val.json` or its Parquet (`option0`...); videos and subtitles by the paths that the rows name."""

    name = "longvideobench"
    num_samples: ClassVar = {ALL: 1337}
    takes_subtitles = True

    def questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are the benchmark's own, else `<video>_<number of the question on that video>`."""
        count: dict[str, int] = {}
        subtitles = SubtitleFiles(read_json_subtitles)
        for row in read_rows(source.annotations):
            video_id = row.text("video_id")
            place = count[video_id] = count.get(video_id, -1) + 1
            options = option_texts(_candidates(row))
            extra = columns(row, "duration_group", "question_category", "topic_category")
            yield Sample(
                id=row.text("id") if "id" in row.values else f"{video_id}_{place}",
                task="multi_choice_qa",
                media=Video(path=row.text("video_path")),
                query=_with_subtitles(row, source, subtitles),
                target=ChoiceTarget(options, LETTERS[row.index("correct_choice", len(options))]),
                duration=row.number("duration") if row.values.get("duration") is not None else None,
                source=self.name,
                extra=extra,
            )
        subtitles.warn()


def _candidates(row: Row) -> list[str]:
    """The options; the Parquet fills up to five with `N/A`."""
    if "candidates" in row.values:
        return row.options("candidates")
    options = [row.values.get(f"option{index}") for index in range(5)]
    found = [option for option in options if isinstance(option, str) and option != _ABSENT]
    if not found:
        raise DataError(f"{row.where}: neither 'candidates' nor 'option0', ...; found {keys_shown(row.values)}")
    return found


def _with_subtitles(row: Row, source: Source, subtitles: SubtitleFiles) -> str:
    question = row.text("question").strip()
    if source.subtitles is None or row.values.get("subtitle_path") is None:
        return question
    path = source.subtitles / inside(row.text("subtitle_path"), row.where)
    if not is_file(path):
        raise DataError(f"{row.where}: its subtitles {path} do not exist")
    offset = row.number("starting_timestamp_for_subtitles") if "starting_timestamp_for_subtitles" in row.values else 0.0
    return quote(subtitles.lines(path, offset=offset), question, source.subtitle_chars)
