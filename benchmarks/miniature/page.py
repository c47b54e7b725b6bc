"""What the miniature found, as Markdown tables and as pictures for light and dark ground."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from intervals import interval, percent
from miniature.claims import MARGIN, PARTS, Asked, Claim, Verdict, difference, numbers, verdict

from videochat_r1.evaluation.reports.drawing import COLOURS, escaped

Found = Callable[[Asked], Sequence[Sequence[float]]]
"""Values of a number, a row for each seed that is done (of the start, always the same); no rows where there is none."""

VERDICT_COLOURS: Mapping[Verdict, str] = {
    "holds here": COLOURS["truth"],
    "does not hold here": COLOURS["before"],
    "cannot be told at this size": COLOURS["blind"],
}
_STYLE = (
    "<style>text { fill: #808894; font: 12px system-ui, sans-serif } .title { font-size: 14px; font-weight: 600 } "
    ".axis { stroke: #808894; stroke-opacity: 0.35 } .band { fill: #808894; fill-opacity: 0.12 }</style>"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim and what was found.

    Args:
        claim: of the paper.
        mean: of the difference, a share.
        low: of its 95 % interval.
        high: of it.
        seeds: that it is of.
        verdict: on the claim.
    """

    claim: Claim
    mean: float
    low: float
    high: float
    seeds: int
    verdict: Verdict


def findings(part: str, found: Found) -> list[tuple[Claim, Finding | None]]:
    """Every claim of a part; None where one of its numbers is not there yet."""
    result: list[tuple[Claim, Finding | None]] = []
    for claim in PARTS[part].claims:
        after, before = found(claim.after), found(claim.before)
        finding = None
        if after and before:
            values = difference(after, before)
            mean, low, high = interval(values)
            finding = Finding(claim, mean, low, high, len(values), verdict(claim.expects, low, high))
        result.append((claim, finding))
    return result


def table(part: str, found: Found) -> str:
    """A part's claims, and below them the numbers that they are made of; differences in points, numbers in percent."""
    lines = [f"| the paper's claim | the paper | difference there | here, 95 % interval | verdict |\n{'|---' * 5}|"]
    for claim, finding in findings(part, found):
        there = "" if claim.gain is None else f"{claim.gain:+.1f}"
        here = "not measured" if finding is None else percent((finding.mean, finding.low, finding.high), "+")
        if finding is not None and finding.seeds < 3:
            here += f" ({finding.seeds} seed{'s' * (finding.seeds > 1)})"
        lines.append(f"| {claim.says} | {claim.paper} | {there} | {here} | {finding.verdict if finding else ''} |")
    lines += ["", f"| model | asked | metric | here | by seed |\n{'|---' * 5}|"]
    for number in numbers(part):
        if rows := found(number):
            values = np.asarray(rows, dtype=np.float64)
            seeds = ", ".join(dict.fromkeys(f"{100 * value:.1f}" for value in values.mean(axis=1)))
            here = percent(interval(values))
            lines.append(f"| {number.arm} | {number.asked} | {number.metric} | {here} | {seeds} |")
    return "\n".join(lines)


def picture(part: str, found: Found) -> str:
    """A part's claims as an SVG file: differences here with their intervals, the paper's as rings, less than `MARGIN` shaded."""
    entries = findings(part, found)
    label, width, row, head, foot = 360, 860, 26, 40, 44
    measured = [value for _, f in entries if f for value in (100 * f.low, 100 * f.high)]
    there = [claim.gain for claim, _ in entries if claim.gain is not None]
    most = max(map(abs, [*measured, *there, 5.0])) * 1.1
    height = head + row * len(entries) + foot

    def at(points: float) -> float:
        return label + (points + most) / (2 * most) * (width - label - 12)

    bottom = height - foot
    parts = [_STYLE, f'<text class="title" x="8" y="20">{escaped(PARTS[part].title)}</text>']
    band = at(100 * MARGIN) - at(-100 * MARGIN)
    parts.append(
        f'<rect class="band" x="{at(-100 * MARGIN):.1f}" y="{head}" width="{band:.1f}" height="{bottom - head}"/>'
    )
    for tick in _ticks(most):
        x = at(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{head}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:+g}</text>')
    for index, (claim, finding) in enumerate(entries):
        y = head + row * (index + 0.5)
        parts.append(f'<text x="{label - 10}" y="{y + 4:.1f}" text-anchor="end">{escaped(claim.says)}</text>')
        if claim.gain is not None:
            ring = f'stroke="{COLOURS["third"]}" stroke-width="2" fill="none"'
            parts.append(f'<circle cx="{at(claim.gain):.1f}" cy="{y:.1f}" r="5" {ring}/>')
        if finding is not None:
            colour = VERDICT_COLOURS[finding.verdict]
            low, mean, high = (at(100 * value) for value in (finding.low, finding.mean, finding.high))
            parts.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2.5"/>'
                f'<circle cx="{mean:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
            )
    parts.append(_key(height - 8))
    svg = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escaped(PARTS[part].title)}">{svg}</svg>\n'
    )


def _key(y: float) -> str:
    x, parts = 8.0, []
    for name, colour in [*VERDICT_COLOURS.items(), ("the paper", COLOURS["third"])]:
        style = f'fill="none" stroke="{colour}" stroke-width="2"' if name == "the paper" else f'fill="{colour}"'
        parts.append(f'<circle cx="{x + 5:.1f}" cy="{y - 4:.1f}" r="4.5" {style}/>')
        parts.append(f'<text x="{x + 15:.1f}" y="{y:.1f}">{escaped(name)}</text>')
        x += 36 + 6.5 * len(name)
    parts.append(f'<text x="852" y="{y:.1f}" text-anchor="end">difference in points</text>')
    return "".join(parts)


def _ticks(most: float) -> list[float]:
    step = next(step for step in (2.0, 5.0, 10.0, 20.0, 50.0) if 4 * step >= most or step == 50.0)
    count = int(most // step)
    return [step * number for number in range(-count, count + 1)]
