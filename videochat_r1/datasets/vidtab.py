"""VidTAB quality assessment: the official list (`1378.mp4 0`), or the released JSON with its instructions."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from videochat_r1.datasets.annotation_files import Row, kind
from videochat_r1.datasets.base import Corpus, Request
from videochat_r1.errors import DataError
from videochat_r1.parsing import parse_choice
from videochat_r1.sample import LabelTarget, Sample, Video
from videochat_r1.text import parse_json, read_text

CHOICES = ("low quality", "high quality")
"""Labels 0 and 1 of the official lists."""
QUESTION = "How good does this video look, in its making and in its picture quality?"
"""What the official lists, which only number the classes, are asked with."""

_LINE = re.compile(r"(\S.*?)\s+(\d+)")
_LIST = re.compile(r"\[([^\[\]]*)\]")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_REQUEST = re.compile(r"[^.?!]*\[[^\[\]]*\][^.?!]*[.?!]?\s*$")


class VidTABQuality(Corpus):
    """Videos are named by the annotations. The paper trains on the 100-shot list."""

    name = "vidtab_quality"
    tasks = ("quality_assessment",)

    def parse(self, request: Request) -> Iterator[Sample]:
        """One sample per video; ids are the videos' names without their file type."""
        text = read_text(request.annotations)
        if text.lstrip().startswith(("{", "[")):
            value = parse_json(text, request.annotations)
            if not isinstance(value, list):
                raise DataError(
                    f"{request.annotations}: vidtab_quality expected a list of {{video, instruction, answer}}, "
                    f"found {kind(value)}"
                )
            named = ((f"{request.annotations}, row {number}", entry) for number, entry in enumerate(value, start=1))
            for row in Row.all_of(named):
                yield _released(row)
            return
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield _official(line.strip(), f"{request.annotations}, line {number}")


def _official(line: str, where: str) -> Sample:
    match = _LINE.fullmatch(line)
    if match is None or match[2] not in ("0", "1"):
        raise DataError(
            f"{where}: expected '<video> <label>' with label 0 ({CHOICES[0]}) or 1 ({CHOICES[1]}), or for the whole file "
            f"a list of {{video, instruction, answer}}; found {line[:80]!r}"
        )
    return _sample(match[1], QUESTION, LabelTarget(CHOICES, CHOICES[int(match[2])]))


def _released(row: Row) -> Sample:
    instruction = row.text("instruction")
    choices = choices_in(instruction)
    if len(choices) < 2:
        raise DataError(
            f"{row.where}: 'instruction' should name its choices as ['low quality', 'high quality'], "
            f"found {instruction[:120]!r}"
        )
    answer = row.text("answer").strip()
    label = parse_choice(answer, choices)
    question = _REQUEST.sub("", instruction).strip()
    return _sample(row.text("video"), question or QUESTION, LabelTarget(choices, label or answer))


def choices_in(instruction: str) -> tuple[str, ...]:
    """The quoted texts of the last bracketed list in an instruction."""
    lists = _LIST.findall(instruction)
    return tuple((a or b).strip() for a, b in _QUOTED.findall(lists[-1])) if lists else ()


def _sample(video: str, question: str, target: LabelTarget) -> Sample:
    stem = str(PurePosixPath(video).with_suffix("")) if PurePosixPath(video).name else video
    return Sample(
        id=stem,
        task="quality_assessment",
        media=Video(path=video),
        query=question,
        target=target,
        source=VidTABQuality.name,
    )
