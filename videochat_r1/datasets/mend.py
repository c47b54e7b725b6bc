"""Targets for training: published ones clipped to the video and the frame; those that no answer can earn are dropped."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from videochat_r1.datasets.base import has_type
from videochat_r1.datasets.problems import UNREAD, Problem, box_kinds, problems_of, span_kinds
from videochat_r1.errors import DataError
from videochat_r1.geometry import Span
from videochat_r1.sample import BoxesTarget, GroundedChoiceTarget, Sample, SpanTarget

FATAL = (
    *UNREAD,
    "empty_query",
    "unknown_duration",
    "bad_duration",
    "no_span",
    "answer_not_among_options",
    "empty_caption",
    "empty_event",
    "empty_answer",
    "unreadable_number",
    "unfit_response",
    "wrong_box_count",
    "few_frames",
    "boxes_not_in_groundtruth",
)
"""Problems of a sample that leave nothing to learn from."""
NO_FRAMES = "no frames were found for the folder"
FATAL_SPAN = ("non_finite_number", "reversed_span", "start_past_end", "empty_span")
FATAL_BOX = ("non_finite_number", "empty_box")


class Change(NamedTuple):
    """What was done to a sample: `action` is `dropped`, `clipped`, or `span dropped` (the sample keeps others)."""

    sample_id: str
    action: str
    kind: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """A row of a manifest's list of changes."""
        return {"id": self.sample_id, "action": self.action, "kind": self.kind, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Mended:
    """Samples fit for training, and everything that was changed on the way."""

    samples: list[Sample]
    changes: list[Change]

    def counts(self, action: str) -> dict[str, int]:
        """Kind -> number of changes with that action."""
        kinds = [change.kind for change in self.changes if change.action == action]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def mend_all(samples: Iterable[Sample]) -> Mended:
    """`mend` over a corpus."""
    results = [mend(sample) for sample in samples]
    kept = [sample for sample, _ in results if sample is not None]
    return Mended(kept, [change for _, changes in results for change in changes])


def nothing_left(mended: Mended, num_published: int, where: str) -> DataError:
    """The error for a corpus of which no sample can be trained on."""
    dropped = mended.counts("dropped")
    hint = ""
    if "unknown_duration" in dropped:
        hint = ". Name a table of durations (columns id, length), or let `videochat-r1 data prepare` ask the videos for them"
    elif any(change.detail.startswith(NO_FRAMES) for change in mended.changes):
        hint = ". The boxes belong to frames of the sequences' folders: give the folder that their paths start from as videos"
    elif {"missing_video", "missing_picture"} & set(dropped):
        hint = ". Is the videos folder the one that the annotations' paths start from?"
    return DataError(f"{where}: no sample of {num_published:,} can be trained on; dropped by kind: {dropped}{hint}")


def mend(sample: Sample) -> tuple[Sample | None, list[Change]]:
    """The sample with a target that an answer can earn, or None when there is no such target.

    Spans and boxes are clipped to [0, duration] and to the frame. Reversed, empty and non-finite ones, and spans that
    start past the end, are dropped: with the sample, or alone where a question has further clue spans.
    """
    fatal = [problem for problem in problems_of(sample) if problem.kind in FATAL]
    if not fatal:
        fatal = _uncounted_frames(sample)
    if fatal:
        return None, [Change(sample.id, "dropped", fatal[0].kind, fatal[0].detail)]
    target = sample.target
    if isinstance(target, SpanTarget):
        return _with_spans(sample, (target.span,), target.duration, lambda spans: replace(target, span=spans[0]))
    if isinstance(target, GroundedChoiceTarget):
        return _with_spans(sample, target.spans, target.duration, lambda spans: replace(target, spans=spans))
    if isinstance(target, BoxesTarget):
        return _with_boxes(sample, target)
    return sample, []


def clip_span(span: Span, duration: float) -> tuple[Span | None, str | None]:
    """The part of a span inside the video and the kind of problem met; None when nothing of the span can be earned."""
    kinds = span_kinds(span, duration)
    fatal = [kind for kind in FATAL_SPAN if kind in kinds]
    if fatal:
        return None, fatal[0]
    clipped = span.clipped(duration)
    if clipped.length == 0.0:
        return None, "empty_span"
    return clipped, None if clipped == span else next(k for k in ("end_past_duration", "negative_start") if k in kinds)


def _with_spans(
    sample: Sample, spans: tuple[Span, ...], duration: float, build: Callable[[tuple[Span, ...]], Any]
) -> tuple[Sample | None, list[Change]]:
    kept: list[Span] = []
    changes: list[Change] = []
    for span in spans:
        clipped, kind = clip_span(span, duration)
        detail = f"[{span.start:g}, {span.end:g}] of {duration:g} s"
        if clipped is not None:
            kept.append(clipped)
        if kind is not None:
            changes.append(Change(sample.id, "span dropped" if clipped is None else "clipped", kind, detail))
    if not kept:
        return None, [Change(sample.id, "dropped", changes[0].kind, changes[0].detail)]
    return (replace(sample, target=build(tuple(kept))) if changes else sample), changes


def _with_boxes(sample: Sample, target: BoxesTarget) -> tuple[Sample | None, list[Change]]:
    for index, box in enumerate(target.boxes):
        # A box that lies wholly beside the frame is empty once clipped.
        kinds = box_kinds(box) + (box_kinds(box.normalised()) if all(map(math.isfinite, box)) else [])
        fatal = [kind for kind in FATAL_BOX if kind in kinds]
        if fatal:
            return None, [Change(sample.id, "dropped", fatal[0], f"box {index}: {list(box)}")]
    clipped = tuple(box.normalised() for box in target.boxes)
    if clipped == target.boxes:
        return sample, []
    changes = [
        Change(sample.id, "clipped", "box_outside_frame", f"box {index}: {list(box)}")
        for index, (box, inside) in enumerate(zip(target.boxes, clipped, strict=True))
        if box != inside
    ]
    return replace(sample, target=BoxesTarget(clipped)), changes


def _uncounted_frames(sample: Sample) -> list[Problem]:
    """A tracking sample whose boxes belong to frames of a folder that could not be looked into."""
    if not isinstance(sample.target, BoxesTarget):
        return []
    path = sample.video.path
    if path and not has_type(path):
        return [Problem("missing_video", sample.id, f"{NO_FRAMES} {path}")]
    return []
