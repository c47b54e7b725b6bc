"""Subtitle files as text for a prompt."""

import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videochat_r1.datasets.annotation_files import kind
from videochat_r1.errors import DataError, counted, first_ten
from videochat_r1.text import parse_json, read_text

logger = logging.getLogger(__name__)

_RANGE = re.compile(r"\s*(\S+)\s*-->\s*(\S+)")
_CLOCK = re.compile(r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9}(?:[.,]\d*)?)", re.ASCII)
_MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
# Blocks of WebVTT, which some files are in spite of their name.
_NO_CUE = ("WEBVTT", "NOTE", "STYLE", "REGION")


class Subtitle(NamedTuple):
    """One line of speech, in seconds from the start of the video."""

    start: float
    end: float
    text: str


class Subtitles(NamedTuple):
    """The lines of a file in order, and how many more it has that cannot be read."""

    lines: list[Subtitle]
    num_unreadable: int = 0


class SubtitleFiles:
    """The subtitle files of a benchmark; what cannot be read of them is left out, and `warn` says so.

    Args:
        read: the lines of a file.
    """

    def __init__(self, read: Callable[..., Subtitles]) -> None:
        self._read = read
        self._unreadable: dict[Path, str] = {}
        self._num_left_out: dict[Path, int] = {}

    def lines(self, path: Path, **options: float) -> list[Subtitle]:
        """The lines of a file; none if nothing in it can be read, or nothing is said."""
        try:
            found = self._read(path, **options)
        except DataError as error:
            self._unreadable[path] = str(error)
            return []
        if found.num_unreadable:
            self._num_left_out[path] = found.num_unreadable
        return found.lines

    def warn(self) -> None:
        """Log which files could not be read, and which only in part."""
        if self._unreadable:
            logger.warning(
                "%s cannot be read, questions on their videos are asked without: %s; the first: %s",
                counted(len(self._unreadable), "subtitle file"),
                first_ten([path.name for path in self._unreadable]),
                next(iter(self._unreadable.values())),
            )
        if self._num_left_out:
            logger.warning(
                "%s without a readable time or text left out, in %s",
                counted(sum(self._num_left_out.values()), "subtitle"),
                first_ten([path.name for path in self._num_left_out]),
            )


def read_srt(path: Path) -> Subtitles:
    """The lines of a SubRip file, without markup and empty ones.

    Raises:
        DataError: the file is no text, or text without any subtitle.
    """
    blocks = [
        block.strip().split("\n") for block in re.split(r"\n[^\S\n]*\n", read_text(path, empty=True)) if block.strip()
    ]
    found = [_srt_line(rows) for rows in blocks if not rows[0].startswith(_NO_CUE)]
    if found and not any(found):
        raise DataError(f"{path} holds no subtitle 'HH:MM:SS,mmm --> HH:MM:SS,mmm', but {blocks[0][0][:60]!r}")
    return _subtitles(found)


def read_json_subtitles(path: Path, offset: float = 0.0) -> Subtitles:
    """The lines of LongVideoBench's JSON: `{"start", "end", "line"}` with clock times, or `{"timestamp": [s, e], "text"}`.

    Args:
        path: the file.
        offset: time of the source video at which the benchmark's clip begins, taken off every time.

    Raises:
        DataError: the file is no text or no list, or a list without any subtitle.
    """
    text = read_text(path, empty=True)
    value = parse_json(text, path) if text.strip() else []
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of subtitles, found {kind(value)}")
    found = [_json_line(row, offset) for row in value]
    if found and not any(found):
        raise DataError(f"{path}: expected start, end, line or timestamp, text; found {kind(value[0])}")
    return _subtitles(found)


def seconds(value: Any) -> float | None:
    """Seconds of a number or a clock time (`01:02:03,456`, `02:03.4`); None for what is neither."""
    if isinstance(value, str):
        clock = _CLOCK.fullmatch(value.strip())
        if clock is None:
            return None
        hours, minutes, rest = (float((field or "0").replace(",", ".")) for field in clock.groups())
        return 3600.0 * hours + 60.0 * minutes + rest
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def plain(words: str) -> str:
    """The text without markup and with single spaces."""
    return " ".join(_MARKUP.sub(" ", words).split())


def quote(lines: Sequence[Subtitle], question: str, max_chars: int) -> str:
    """The question with the subtitles before it; of too many, lines evenly spread over the video are kept.

    A line that repeats the one before it (scrolling captions) is written once.
    """
    texts = [line.text for index, line in enumerate(lines) if index == 0 or line.text != lines[index - 1].text]
    total = sum(len(text) + 1 for text in texts)
    if total > max_chars:
        kept = max(1, int(len(texts) * max_chars / total))
        texts = [texts[index * len(texts) // kept] for index in range(kept)]
    if not texts:
        return question
    return "What is said in the video:\n" + "\n".join(texts) + f"\n\n{question}"


def _subtitles(found: Sequence[Subtitle | None]) -> Subtitles:
    return Subtitles([line for line in found if line is not None and line.text], found.count(None))


def _srt_line(rows: Sequence[str]) -> Subtitle | None:
    """The subtitle of a block; None without a readable time."""
    place = next((index for index, row in enumerate(rows) if "-->" in row), None)
    times = None if place is None else _RANGE.match(rows[place])
    if place is None or times is None:
        return None
    start, end = seconds(times[1]), seconds(times[2])
    return None if start is None or end is None else Subtitle(start, end, plain(" ".join(rows[place + 1 :])))


def _json_line(row: Any, offset: float) -> Subtitle | None:
    """The subtitle of a row; None without a readable start or text."""
    if not isinstance(row, dict):
        return None
    if isinstance(row.get("timestamp"), list):
        times, words = row["timestamp"], row.get("text")
    else:
        times, words = [row.get("start"), row.get("end")], row.get("line")
    start = seconds(times[0]) if times else None
    end = seconds(times[1]) if len(times) > 1 and times[1] is not None else start
    if start is None or end is None or not isinstance(words, str):
        return None
    return Subtitle(start - offset, end - offset, plain(words))
