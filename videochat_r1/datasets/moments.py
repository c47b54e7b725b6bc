"""Sentences grounded in videos, as `{video id: {duration, timestamps, sentences}}`: ActivityNet Captions and others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videochat_r1.datasets.annotation_files import Row, kind
from videochat_r1.datasets.base import VideoFinder
from videochat_r1.errors import DataError, shown
from videochat_r1.geometry import Span
from videochat_r1.sample import Sample, SpanTarget, Video

FORM = "{video id: {duration, timestamps: [[start, end], ...], sentences: [...]}}"


def moment_sample(
    corpus: str, video_id: str, index: int, file_name: str, sentence: str, span: Span, duration: float
) -> Sample:
    """One sentence of one video; its id is the video's with the number of the sentence within the video, from 0.

    Sentences are stripped: many of ActivityNet's begin with a space.
    """
    return Sample(
        id=f"{video_id}_{index}",
        task="temporal_grounding",
        media=Video(path=file_name),
        query=sentence.strip(),
        target=SpanTarget(span, duration),
        duration=duration,
        source=corpus,
    )


def read_moments(value: Any, path: Path, corpus: str, find: VideoFinder) -> Iterator[Sample]:
    """The samples of a parsed file of the form above, in file order.

    Raises:
        DataError: another form, a missing key, or a number of sentences other than that of timestamps.
    """
    if not isinstance(value, dict):
        raise DataError(f"{path}: {corpus} expected {FORM}, found {kind(value)}")
    rows = Row.all_of((f"{path}, video {shown(video_id)!r}", entry) for video_id, entry in value.items())
    for video_id, row in zip(value, rows, strict=True):
        duration, spans, sentences = row.number("duration"), row.spans("timestamps"), row.texts("sentences")
        if len(spans) != len(sentences):
            raise DataError(
                f"{row.where}: {len(spans)} timestamps with {len(sentences)} sentences; each needs the other"
            )
        file_name = find(video_id)
        for index, (span, sentence) in enumerate(zip(spans, sentences, strict=True)):
            yield moment_sample(corpus, video_id, index, file_name, sentence, span, duration)
