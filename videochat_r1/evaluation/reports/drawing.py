"""Pictures of a report as inline SVG and images: curves, histograms, time lines and film strips.

Colours are the names of `COLOURS`.
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from videochat_r1.geometry import Box, Span

COLOURS = {
    "truth": "#2a9d5c",
    "before": "#e08a1e",
    "after": "#2f6fde",
    "third": "#9a5fd0",
    "blind": "#8a8f98",
}
"""Name -> colour; readable on light and on dark ground, and told apart without red against green."""
# Of a label's letters, roughly.
_CHARACTER_WIDTH = 6.5
_FILE_STYLE = (
    "<style>text { fill: #808894; font: 11px system-ui, sans-serif } .title { font-size: 14px; font-weight: 600 } "
    ".axis { stroke: #808894; stroke-opacity: 0.35 }</style>"
)


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart: points of rising x, drawn faintly, and their moving mean over `window` points, drawn boldly."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    window: int = 1


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of a time line."""

    name: str
    colour: str
    spans: Sequence[Span]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    low: float = 0.0,
    high: float = 1.0,
    size: tuple[int, int] = (325, 205),
) -> str:
    """A chart of lines over one x axis, y from `low` to `high`; each line is named in the key above it."""
    names = {line.name: line.colour for line in series}
    parts = _lines(series, x_label, low, high, size)
    return f"<h3>{escaped(title)}</h3>{legend(names)}" + _svg(*size, parts, title)


def line_charts_file(
    charts: Mapping[str, Sequence[Series]], *, x_label: str, size: tuple[int, int] = (325, 205)
) -> str:
    """Charts side by side, y from 0 to 1, as the text of an SVG file with titles and keys in it, for light and dark ground alike."""
    (width, height), head = size, 40
    parts = [_FILE_STYLE]
    for index, (title, series) in enumerate(charts.items()):
        parts.append(f'<g transform="translate({index * width} {head})">')
        parts.append(f'<text class="title" x="34" y="-22">{escaped(title)}</text>')
        x = 34.0
        for line in series:
            parts.append(f'<rect x="{x:.1f}" y="-13" width="9" height="9" rx="2" fill="{COLOURS[line.colour]}"/>')
            parts.append(f'<text x="{x + 13:.1f}" y="-4">{escaped(line.name)}</text>')
            x += 30 + _CHARACTER_WIDTH * len(line.name)
        parts += [*_lines(series, x_label, 0.0, 1.0, size), "</g>"]
    svg = _svg(width * len(charts), head + height, parts, ", ".join(charts))
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _lines(series: Sequence[Series], x_label: str, low: float, high: float, size: tuple[int, int]) -> list[str]:
    """Axes and lines of a chart."""
    width, height = size
    left, right, top, bottom = 34, 8, 10, 34
    x_values = [x for line in series for x, _ in line.points] or [0.0, 1.0]
    x_low, x_high = min(x_values), max(max(x_values), min(x_values) + 1e-9)

    def place(x: float, y: float) -> str:
        px = left + (x - x_low) / (x_high - x_low) * (width - left - right)
        py = height - bottom - (min(max(y, low), high) - low) / (high - low) * (height - top - bottom)
        return f"{px:.1f},{py:.1f}"

    parts = []
    for step in range(5):
        y = low + (high - low) * step / 4
        py = place(x_low, y).split(",")[1]
        parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{py}" y2="{py}"/>')
        parts.append(f'<text x="{left - 5}" y="{float(py) + 4:.1f}" text-anchor="end">{y:.2g}</text>')
    for x in _ticks(x_low, x_high):
        px = float(place(x, low).split(",")[0])
        parts.append(_tick(f"{x:g}", px, height - bottom + 15, left, width))
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 3}" text-anchor="middle">{escaped(x_label)}</text>'
    )
    for line in series:
        for points, opacity, stroke in ((line.points, 0.25, 1.0), (_moving_mean(line.points, line.window), 1.0, 2.2)):
            path = " ".join(place(x, y) for x, y in points)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{COLOURS[line.colour]}" stroke-width="{stroke}" '
                f'stroke-opacity="{opacity}" stroke-linejoin="round"/>'
            )
    return parts


def histogram(title: str, values: Mapping[str, Sequence[float]], colours: Mapping[str, str], *, bins: int = 10) -> str:
    """Shares of values per bin of [0, 1], the groups' bars side by side.

    Args:
        title: of the chart.
        values: group -> values in [0, 1].
        colours: group -> name of a colour.
        bins: of equal width.
    """
    width, height, left, bottom, top = 348, 190, 42, 34, 10
    shares = {
        name: np.histogram(column, bins=bins, range=(0.0, 1.0))[0] / max(1, len(column))
        for name, column in values.items()
    }
    highest = max((float(share.max()) for share in shares.values()), default=0.0) or 1.0
    slot = (width - left - 8) / bins
    bar = slot * 0.86 / max(1, len(shares))
    parts = []
    for group, (name, share) in enumerate(shares.items()):
        for index, value in enumerate(share):
            tall = float(value) / highest * (height - top - bottom)
            x = left + index * slot + slot * 0.07 + group * bar
            parts.append(
                f'<rect x="{x:.1f}" y="{height - bottom - tall:.1f}" width="{bar:.1f}" height="{tall:.1f}" '
                f'fill="{COLOURS[colours[name]]}"><title>{escaped(name)}: {float(value):.1%}</title></rect>'
            )
    parts.append(f'<line class="axis" x1="{left}" x2="{width - 8}" y1="{height - bottom}" y2="{height - bottom}"/>')
    for tick in range(0, 11, 2):
        x = left + tick / 10 * (width - left - 8)
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 15}" text-anchor="middle">{tick / 10:g}</text>')
    parts.append(f'<text x="{left - 5}" y="{top + 6}" text-anchor="end">{highest:.0%}</text>')
    return f"<h3>{escaped(title)}</h3>{legend(dict(colours))}" + _svg(width, height, parts, title)


def time_line(lanes: Sequence[Lane], duration: float, *, width: int = 960, label_width: int = 110) -> str:
    """Rows of spans over one axis of seconds; a film strip of the same width and label width stands on the same axis."""
    row, axis = 18, 20
    height = row * len(lanes) + axis
    scale = (width - label_width) / max(duration, 1e-9)
    parts = []
    for index, lane in enumerate(lanes):
        y = index * row
        parts.append(f'<text x="{label_width - 8}" y="{y + 13}" text-anchor="end">{escaped(lane.name)}</text>')
        parts.append(f'<line class="axis" x1="{label_width}" x2="{width}" y1="{y + row / 2}" y2="{y + row / 2}"/>')
        for span in (span.clipped(duration) for span in lane.spans):
            x, wide = label_width + span.start * scale, max(span.length * scale, 1.5)
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{wide:.1f}" height="{row - 6}" rx="3" fill="{COLOURS[lane.colour]}">'
                f"<title>{escaped(lane.name)}: {span.start:g} to {span.end:g} s</title></rect>"
            )
    for second in _ticks(0.0, duration, at_most=12):
        x = label_width + second * scale
        parts.append(_tick(f"{second:g} s", x, height - 5, label_width, width))
    return _svg(width, height, parts, "time line")


def film_strip(
    frames: NDArray[np.uint8],
    boxes: Sequence[Sequence[tuple[Box, str]]] = (),
    *,
    width: int = 960,
    label_width: int = 110,
    gap: float = 2.0,
) -> str:
    """Frames side by side, with boxes drawn.

    Args:
        frames: (T, H, W, 3) RGB.
        boxes: per frame, boxes (in fractions of the frame) with the names of their colours; empty for none at all.
        width: of the whole strip.
        label_width: empty space at the left, so that the strip lines up with a `time_line`.
        gap: between frames.
    """
    slot = (width - label_width) / max(1, len(frames))
    side = slot - gap
    height = side * frames.shape[1] / frames.shape[2] if len(frames) else 0.0
    parts = []
    for index, frame in enumerate(frames):
        x = label_width + index * slot
        parts.append(
            f'<image class="frame" x="{x:.1f}" y="0" width="{side:.1f}" height="{height:.1f}" href="{data_uri(frame)}"/>'
        )
        # The truth on top, and dashed, so that a box which is exactly right shows through it.
        drawn = sorted(boxes[index] if index < len(boxes) else (), key=lambda entry: entry[1] == "truth")
        places = [(_place(box, x, side, height), colour) for box, colour in drawn]
        # A white edge lets every box be seen on an object of its own colour.
        parts += [f'<rect {place} stroke="#ffffff" stroke-width="4"/>' for place, _ in places]
        for place, colour in places:
            dashes = ' stroke-dasharray="5 3"' if colour == "truth" else ""
            parts.append(f'<rect {place} stroke="{COLOURS[colour]}" stroke-width="2"{dashes}/>')
    return _svg(width, math.ceil(height), parts, "frames")


def _place(box: Box, x: float, side: float, height: float) -> str:
    """Attributes of a box in a frame that begins at `x`."""
    shown = box.normalised()
    return (
        f'x="{x + shown.x0 * side:.1f}" y="{shown.y0 * height:.1f}" '
        f'width="{(shown.x1 - shown.x0) * side:.1f}" height="{(shown.y1 - shown.y0) * height:.1f}" fill="none"'
    )


def data_uri(image: NDArray[np.uint8]) -> str:
    """An RGB image as the text of a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escaped(label)}">{"".join(parts)}</svg>'
    )


def _tick(text: str, x: float, y: float, left: float, right: float) -> str:
    """A label below a place of the axis, moved inwards where it would leave the picture."""
    half = 0.5 * _CHARACTER_WIDTH * len(text)
    anchor, at = ("end", right) if x + half > right else ("start", left) if x - half < left else ("middle", x)
    return f'<text x="{at:.1f}" y="{y}" text-anchor="{anchor}">{escaped(text)}</text>'


def _ticks(low: float, high: float, at_most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`."""
    span = max(high - low, 1e-9)
    for power in range(-3, 9):
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            if span / step <= at_most:
                first = math.ceil(low / step - 1e-9)
                return [round(n * step, 6) for n in range(first, math.floor(high / step + 1e-9) + 1)]
    return [low, high]


def _moving_mean(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Each y replaced by the mean of the up to `window` points around it."""
    half = window // 2
    ys = [y for _, y in points]
    return [(x, float(np.mean(ys[max(0, index - half) : index + half + 1]))) for index, (x, _) in enumerate(points)]


def legend(names: Mapping[str, str]) -> str:
    """Name -> colour, as a line of keys."""
    keys = "".join(
        f'<span class="key"><i style="background:{COLOURS[colour]}"></i>{escaped(name)}</span>'
        for name, colour in names.items()
    )
    return f'<p class="soft">{keys}</p>'


def escaped(value: str) -> str:
    """Text as markup that shows it."""
    return html.escape(value, quote=True)
