"""Charades-STA: the official text (`AO8RW 0.0 6.9##a sentence`), or the released JSON."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from videochat_r1.datasets.base import Corpus, Request, VideoFinder, inside, is_file
from videochat_r1.datasets.durations import durations_in, read_durations
from videochat_r1.datasets.moments import FORM, moment_sample, read_moments
from videochat_r1.errors import DataError
from videochat_r1.geometry import Span
from videochat_r1.sample import Sample
from videochat_r1.text import parse_json, read_text

NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)"
LINE = re.compile(rf"(\S+)\s+({NUMBER})\s+({NUMBER})\s*##(.*)", re.IGNORECASE)


class CharadesSTA(Corpus):
    """Videos are `<id>.mp4`. The text format carries no durations: see `_durations`."""

    name = "charades_sta"
    tasks = ("temporal_grounding",)

    def parse(self, request: Request) -> Iterator[Sample]:
        """One sample per query; ids are `<video>_<number of the query within the video>`, the same in both formats."""
        text = read_text(request.annotations)
        find = VideoFinder(request.videos)
        if text.lstrip().startswith(("{", "[")):
            yield from read_moments(parse_json(text, request.annotations), request.annotations, self.name, find)
            return
        lines = list(_lines(text, request.annotations))
        durations = _durations(request, {line.video_id: find(line.video_id) for line in lines})
        seen: Counter[str] = Counter()
        for line in lines:
            duration, index = durations[line.video_id], seen[line.video_id]
            yield moment_sample(
                self.name, line.video_id, index, find(line.video_id), line.sentence, line.span, duration
            )
            seen[line.video_id] += 1


class _Line(NamedTuple):
    video_id: str
    span: Span
    sentence: str


def _lines(text: str, path: Path) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise DataError(
                f"{path}, line {number}: expected '<video> <start> <end>##<sentence>', or for the whole file {FORM}; "
                f"found {line[:80]!r}"
            )
        video_id, start, end, sentence = match.groups()
        yield _Line(video_id, Span(float(start), float(end)), sentence)


def _durations(request: Request, file_names: Mapping[str, str]) -> dict[str, float]:
    """Seconds per video: from the named table, else from tables beside the annotations, else from the video files."""
    folder = request.annotations.parent
    table = durations_in(folder) if request.durations is None else read_durations(request.durations)
    left = {video: name for video, name in file_names.items() if video not in table}
    known: dict[str, float | None] = {**table, **_probed(request, left)}
    unknown = [video for video in file_names if known.get(video) is None]
    if unknown and not request.allow_unknown_durations:
        raise DataError(
            f"{request.annotations} carries no durations, and none is known for {len(unknown)} of {len(file_names)} "
            f"videos: {', '.join(unknown[:5])}... Name Charades' own CSV (columns id, length) as durations or put it "
            f"into {folder}, or give the folder of the videos"
        )
    return {video: math.nan if (seconds := known.get(video)) is None else seconds for video in file_names}


def _probed(request: Request, file_names: Mapping[str, str]) -> dict[str, float | None]:
    if request.videos is None or request.probe_durations is None:
        return {}
    paths = {
        video: request.videos / inside(name, f"{request.annotations}, video {video!r}")
        for video, name in file_names.items()
    }
    there = {video: path for video, path in paths.items() if is_file(path)}
    return dict(zip(there, request.probe_durations(list(there.values())), strict=True))
