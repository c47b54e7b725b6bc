"""One GOT-10k sequence folder: a box for every frame, its visibility labels, and what `meta_info.ini` says."""

import configparser
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from videochat_r1.errors import DataError, shown
from videochat_r1.geometry import Box
from videochat_r1.text import read_text

NUM_BOXES = 8
ANNOTATION_FPS = 10.0
"""Frames per second of GOT-10k where `anno_fps` does not say."""

# Frames are neither a million pixels wide nor shown a million times a second.
_DIGITS_OF_A_SIZE = 7
_MOST_FPS = 1e6


@dataclass(frozen=True, slots=True)
class SequenceTruth:
    """What the annotation files of a sequence say; one entry per frame.

    Args:
        boxes: as published, corners over the frame's size; may leave [0, 1].
        absent: whether the object is out of sight; None without `absence.label`.
        cover: how much of it is visible, 0 (none) to 8 (all); None without `cover.label`.
        labels: what is wrong with the label files, whose labels are then None; "" if nothing is.
        fps: frames per second.
        meta: the other fields of `meta_info.ini`; its `object_class` names the object.
        size: width and height of the frames in pixels.
        pixels: the boxes exactly as published: left, top, width, height in pixels.
    """

    boxes: tuple[Box, ...]
    absent: tuple[int, ...] | None
    cover: tuple[int, ...] | None
    labels: str
    fps: float
    meta: Mapping[str, str]
    size: tuple[int, int]
    pixels: tuple[tuple[float, float, float, float], ...]


def read_sequence(folder: Path) -> SequenceTruth:
    """The truth of a sequence folder.

    Raises:
        DataError: `groundtruth.txt` is missing or malformed, or neither `meta_info.ini` nor the first frame tells the
            frame's size.
    """
    pixels = tuple(_pixel_boxes(folder / "groundtruth.txt"))
    meta = read_meta(folder / "meta_info.ini")
    width, height = _resolution(folder, meta)
    boxes = tuple(Box(x / width, y / height, (x + w) / width, (y + h) / height) for x, y, w, h in pixels)
    labels: dict[str, tuple[int, ...] | None] = {}
    wrong = []
    for name in ("absence.label", "cover.label"):
        try:
            labels[name] = _labels(folder / name, len(boxes))
        except DataError as error:
            wrong.append(str(error))
    absent, cover = labels.get("absence.label"), labels.get("cover.label")
    return SequenceTruth(boxes, absent, cover, "; ".join(wrong), _fps(meta, folder), meta, (width, height), pixels)


def even_indices(num_frames: int) -> tuple[int, ...]:
    """The frames of 8 evenly spaced instants from the first frame to the last, rounded half up."""
    steps = NUM_BOXES - 1
    return tuple((2 * i * (num_frames - 1) + steps) // (2 * steps) for i in range(NUM_BOXES))


def released_indices(num_frames: int) -> tuple[int, ...]:
    """The frames of the released boxes: frame 0, then 7 evenly spaced from frame 1 to the last.

    The second released box of a validation sequence is a tenth of the usual step away from the first: one frame.
    """
    steps = NUM_BOXES - 2
    last = max(num_frames - 1, 0)
    first = min(1, last)
    return (0, *(first + (2 * i * (last - first) + steps) // (2 * steps) for i in range(NUM_BOXES - 1)))


def matching_indices(boxes: Sequence[Box], truth: Sequence[Box], expected: Sequence[int]) -> tuple[int, ...] | None:
    """The frames whose true boxes are the given ones rounded to 3 digits, in order; None when a box is on no frame.

    Of several such frames the one nearest to the expected index counts.
    """
    found: list[int] = []
    for box, near in zip(boxes, expected, strict=True):
        earliest = found[-1] if found else 0
        frames = sorted(range(earliest, len(truth)), key=lambda index: abs(index - near))
        match = next((index for index in frames if _rounds_to(truth[index], box)), None)
        if match is None:
            return None
        found.append(match)
    return tuple(found)


def read_meta(path: Path) -> dict[str, str]:
    """The fields of a `meta_info.ini`; empty when there is none."""
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(path))
    except configparser.Error as error:
        reason = shown(str(error).replace("\n", " "), 200)
        raise DataError(f"{path} is not an INI file with a [METAINFO] section: {reason}") from error
    return {key: value for section in parser.sections() for key, value in parser.items(section)}


def _rounds_to(exact: Box, rounded: Box) -> bool:
    return all(abs(a - b) <= 0.000501 for a, b in zip(exact, rounded, strict=True))


def _pixel_boxes(path: Path) -> list[tuple[float, float, float, float]]:
    boxes = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            x, y, w, h = map(float, line.replace(",", " ").split())
        except ValueError as error:
            raise DataError(f"{path}, line {number}: expected 'x,y,w,h' in pixels, found {line[:60]!r}") from error
        boxes.append((x, y, w, h))
    return boxes


def _labels(path: Path, num_frames: int) -> tuple[int, ...] | None:
    if not path.is_file():
        return None
    try:
        values = [float(label) for label in read_text(path).split()]
        labels = tuple(map(int, values))
    except (ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: expected one whole number per line: {error}") from error
    if any(value != label for value, label in zip(values, labels, strict=True)):
        raise DataError(f"{path}: expected one whole number per line")
    if len(labels) != num_frames:
        raise DataError(f"{path} has {len(labels)} lines, groundtruth.txt {num_frames}; expected one per frame in both")
    return labels


def _resolution(folder: Path, meta: Mapping[str, str]) -> tuple[int, int]:
    found = re.findall(r"\d+", meta.get("resolution", ""))
    numbers = [int(digits) for digits in found if len(digits) < _DIGITS_OF_A_SIZE]
    if len(numbers) == len(found) == 2 and min(numbers) > 0:
        return numbers[0], numbers[1]
    first = folder / frame_name(0)
    try:
        with Image.open(first) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(
            f"{folder}: the size of its frames is unknown: meta_info.ini has no 'resolution: (width, height)' and "
            f"{first.name} cannot be read"
        ) from error


def _fps(meta: Mapping[str, str], folder: Path) -> float:
    if "anno_fps" not in meta:
        return ANNOTATION_FPS
    match = re.match(r"\s*(\d+(?:\.\d+)?)", meta["anno_fps"])
    if match is None or not 0.0 < float(match[1]) < _MOST_FPS:
        raise DataError(
            f"{folder / 'meta_info.ini'}: anno_fps should be like '10Hz', found {shown(meta['anno_fps'])!r}"
        )
    return float(match[1])


def frame_name(index: int) -> str:
    """File name of the frame with that index from 0; GOT-10k counts from 1."""
    return f"{index + 1:08d}.jpg"
