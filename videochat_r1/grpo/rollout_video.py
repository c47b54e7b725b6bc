"""A group of rollouts as a video to be looked at anywhere: what was shown, boxes on it, and below it truth and answers over time."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.ImageColor import getrgb

from videochat_r1.errors import VideoError
from videochat_r1.geometry import Box, box_iou
from videochat_r1.grpo.drawable import answer_of, number_of, plain_question, truth_of
from videochat_r1.sample import Video
from videochat_r1.video.frames import Frames, VideoBudget, load_frames
from videochat_r1.video.mp4 import write_mp4
from videochat_r1.video.pictures import read_image

_WIDTH, _ROW, _GUTTER = 480, 18, 96
_MOST_ROWS = 16
_BUDGET = VideoBudget(fps=4.0, max_frames=96, min_pixels=240 * 240, max_pixels=480 * 360, total_pixels=96 * 480 * 360)
_GROUND, _TEXT, _LINE = "#15181c", "#e8eaed", "#3a4048"
_TRUTH, _ABOVE, _BELOW = "#2a9d5c", "#4f88ea", "#e08a1e"
"""Of the truth, and of answers above and below their group's mean."""
_SECONDS_OF_PICTURES = 2.0


def write_rollout_video(group: Mapping[str, Any], file: Path) -> None:
    """Write an MP4 of a line of `rollouts.jsonl`.

    Raises:
        VideoError: what was shown cannot be read.
    """
    frames, times, duration = _shown(group)
    rows = _rows(group)
    last = max(float(times[-1]), duration - 0.05)
    shown = (
        [*zip(frames, times, strict=True), (frames[-1], last)] if last > times[-1] else zip(frames, times, strict=True)
    )
    images = ((_drawn(frame, time, duration, rows), Fraction(time).limit_denominator(1000)) for frame, time in shown)
    write_mp4(file, images, longest_side=1920)


def caption_of(group: Mapping[str, Any]) -> str:
    """What stands beside the video, in words."""
    about = f"update {group['step']}, {group['task']}, {group['sample_id']}"
    told = [f"{_told(one.get('reward'))}  {str(one.get('completion'))[:200]}" for one in _ranked(group)]
    return "\n".join([about, plain_question(str(group.get("prompt") or ""))[:300], *told])


def _shown(group: Mapping[str, Any]) -> tuple[list[Image.Image], list[float], float]:
    """Images of one width, the seconds of each from the clip's start, and the clip's length."""
    pictures = group.get("images")
    if isinstance(pictures, list) and pictures:
        pixels = [read_image(str(path)) for path in pictures]
        times = [_SECONDS_OF_PICTURES * place for place in range(len(pixels))]
        return [_wide(image) for image in pixels], times, _SECONDS_OF_PICTURES * len(pixels)
    if not group.get("video"):
        raise VideoError("the log does not say what was shown")
    parts = group.get("video_parts") or {}
    frames = tuple(parts.get("frames") or ())
    video = Video(
        path=None if frames else str(group["video"]),
        frames=frames,
        frame_times=tuple(parts.get("frame_times") or ()),
        start=parts.get("start"),
        end=parts.get("end"),
    )
    seen: Frames = load_frames(video, _BUDGET, factor=2)
    images = [_wide(seen.pixels[place].permute(1, 2, 0).numpy()) for place in range(seen.num_frames)]
    return images, list(seen.timestamps[: seen.num_frames]), seen.duration


def _wide(image: Any) -> Image.Image:
    """At the width of the video, in proportion, but no higher than wide."""
    height, width = image.shape[:2]
    size = _WIDTH, min(round(_WIDTH * height / width), _WIDTH)
    return Image.fromarray(image).resize(size)


def _ranked(group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(group["rollouts"], key=lambda one: -(number_of(one.get("reward")) or 0.0))


def _rows(group: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(label, colour, what is drawn) of the truth and of the answers, the best first."""
    target = group["target"]
    rows: list[tuple[str, str, Mapping[str, Any]]] = [("truth", _TRUTH, truth_of(target))]
    for one in _ranked(group)[:_MOST_ROWS]:
        answer = answer_of(one.get("parsed"), target) or {"text": "no answer could be read"}
        label = f"#{(one.get('generation') or 0) + 1}  {_told(one.get('reward'))}"
        rows.append((label, _BELOW if (number_of(one.get("advantage")) or 0.0) < 0 else _ABOVE, answer))
    return rows


def _told(reward: Any) -> str:
    value = number_of(reward)
    return "–" if value is None else f"{value:.2f}"


def _drawn(
    frame: Image.Image, time: float, duration: float, rows: Sequence[tuple[str, str, Mapping[str, Any]]]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One image of the video, (H, W, 3)."""
    top = frame.height + 8
    image = Image.new("RGB", (_WIDTH, (top + len(rows) * _ROW + 9) // 2 * 2), _GROUND)
    image.paste(frame, (0, 0))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for place, (label, colour, shown) in reversed(list(enumerate(rows))):
        y = top + place * _ROW
        draw.text((6, y + 2), label, _TEXT, font)
        draw.line((_GUTTER, y + _ROW / 2, _WIDTH - 6, y + _ROW / 2), _LINE)
        for left, right, share in [*_bars(shown, duration), *_cells(shown, rows[0][2])]:
            blend = tuple(
                round(share * a + (1 - share) * b) for a, b in zip(getrgb(colour), getrgb(_GROUND), strict=True)
            )
            draw.rounded_rectangle((left, y + 3, max(right, left + 2), y + _ROW - 4), 2, blend)
        if told := shown.get("choice") or shown.get("text"):
            draw.text((_GUTTER + 4, y + 2), str(told)[:60].replace("\n", " "), _TEXT, font)
        if box := _box_at(shown.get("boxes"), time / duration):
            x0, y0, x1, y1 = (value * frame.size[side % 2] for side, value in enumerate(box))
            corners = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
            draw.rectangle(corners, outline=colour, width=3 if place == 0 else 2)
    if any(shown.get("spans") or shown.get("boxes") for _, _, shown in rows):
        head = _across(time, duration)
        draw.line((head, top, head, top + len(rows) * _ROW), _TEXT)
    return np.asarray(image)


def _bars(shown: Mapping[str, Any], duration: float) -> Iterator[tuple[float, float, float]]:
    """Left, right and how strong."""
    for span in shown.get("spans") or ():
        yield _across(min(span), duration), _across(max(span), duration), 1.0


def _cells(shown: Mapping[str, Any], truth: Mapping[str, Any]) -> Iterator[tuple[float, float, float]]:
    """The same of boxes, the better they overlap the true ones the stronger."""
    pairs = list(zip(truth.get("boxes") or (), shown.get("boxes") or (), strict=False))
    for place, (true, answered) in enumerate(pairs):
        if true is not None and answered is not None:
            share = box_iou(Box(*true), Box(*answered))
            yield _across(place, len(pairs)) + 1, _across(place + 1, len(pairs)) - 1, 0.1 + 0.9 * share


def _across(time: float, duration: float) -> float:
    return _GUTTER + (_WIDTH - 6 - _GUTTER) * min(max(time / duration, 0.0), 1.0)


def _box_at(boxes: Sequence[Any] | None, share: float) -> Sequence[float] | None:
    return boxes[min(int(share * len(boxes)), len(boxes) - 1)] if boxes else None
