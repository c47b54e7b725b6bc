"""Subtitle files as text for a prompt."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videochat_r1.datasets.annotation_files import kind
from videochat_r1.errors import DataError
from videochat_r1.text import parse_json, read_text

_RANGE = re.compile(r"\s*(\S+)\s*-->\s*(\S+)")
_MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


class Subtitle(NamedTuple):
    """One line of speech, in seconds from the start of the video."""

    start: float
    end: float
    text: str


def read_srt(path: Path) -> list[Subtitle]:
    """The lines of a SubRip file in order, without markup and empty ones.

    Raises:
        DataError: a time that cannot be read.
    """
    lines: list[Subtitle] = []
    for block in re.split(r"\n\s*\n", read_text(path).replace("\r\n", "\n")):
        rows = block.strip().split("\n")
        place = next((index for index, row in enumerate(rows) if "-->" in row), None)
        if place is None:
            continue
        times = _RANGE.match(rows[place])
        if times is None:
            raise DataError(f"{path}: expected 'HH:MM:SS,mmm --> HH:MM:SS,mmm', found {rows[place][:60]!r}")
        words = plain(" ".join(rows[place + 1 :]))
        if words:
            lines.append(Subtitle(seconds(times[1], path), seconds(times[2], path), words))
    return lines


def read_json_subtitles(path: Path, offset: float = 0.0) -> list[Subtitle]:
    """The lines of LongVideoBench's JSON: `{"start", "end", "line"}` with clock times, or `{"timestamp": [s, e], "text"}`.

    Args:
        path: the file.
        offset: time of the source video at which the benchmark's clip begins, taken off every time.

    Raises:
        DataError: another form.
    """
    value = parse_json(read_text(path), path)
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of subtitles, found {kind(value)}")
    lines: list[Subtitle] = []
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: expected an object, found {kind(row)}")
        if "timestamp" in row and isinstance(row["timestamp"], list):
            start, end = [*row["timestamp"], None][:2]
            words = row.get("text")
        else:
            start, end, words = row.get("start"), row.get("end"), row.get("line")
        if start is None or not isinstance(words, str):
            raise DataError(
                f"{path}, line {number}: expected start, end, line or timestamp, text; found {json.dumps(row)[:80]}"
            )
        begin = seconds(start, path)
        finish = begin if end is None else seconds(end, path)
        lines.append(Subtitle(begin - offset, finish - offset, plain(words)))
    return [line for line in lines if line.text]


def seconds(value: str | float, path: Path) -> float:
    """Seconds of a number or a clock time (`01:02:03,456`, `02:03.4`)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        fields = [float(field) for field in str(value).replace(",", ".").split(":")]
    except ValueError as error:
        raise DataError(f"{path}: {value!r} is no time") from error
    return sum(field * 60.0**power for power, field in enumerate(reversed(fields)))


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
