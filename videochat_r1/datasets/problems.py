"""What can be wrong with a published sample, by kind. The kinds overlap: one span can be of several."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from videochat_r1.datasets.base import REPEATS
from videochat_r1.datasets.got10k_sequence import NUM_BOXES
from videochat_r1.errors import shown
from videochat_r1.geometry import Box, Span
from videochat_r1.parsing import same_text
from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS
from videochat_r1.parsing.plain import bounded
from videochat_r1.parsing.words import words
from videochat_r1.sample import (
    LETTERS,
    BoxesTarget,
    CaptionTarget,
    ChoiceTarget,
    GroundedChoiceTarget,
    LabelTarget,
    NumberTarget,
    Sample,
    SpanTarget,
    TextTarget,
)
from videochat_r1.tasks import TASKS
from videochat_r1.text import REPLACEMENT

KINDS = {
    "reversed_span": "a span ends before it starts",
    "empty_span": "a span ends where it starts",
    "start_past_end": "a span starts after the end of the video",
    "end_past_duration": "a span ends after the end of the video",
    "negative_start": "a span starts before the video",
    "whole_video_span": "a span covers the whole video: start <= 0 and end >= duration",
    "no_span": "a question that should have clue spans has none",
    "unknown_duration": "no file says how long the video is",
    "bad_duration": "a duration that is not a positive, finite number of seconds",
    "non_finite_number": "a span or box with an infinite or NaN number",
    "duplicate_options": "two options with the same text, whatever the case and spacing",
    "empty_option": "an option without text",
    "answer_not_among_options": "the answer is none of the options",
    "empty_query": "no sentence, question or object name",
    "empty_caption": "a true caption without text",
    "empty_event": "a caption's event without text",
    "empty_answer": f"a true answer without a word, or of more than {MAX_ANSWER_CHARS:,} characters",
    "unreadable_number": "a true answer that is not one number",
    "unfit_response": "a response to learn that is empty, or not an answer (after a thought or without one) that can be read",
    "no_source": "no name of the set that the row is from; that of its folder is taken",
    "wrong_box_count": f"a sequence with other than {NUM_BOXES} boxes",
    "empty_box": "a box without area, or with its corners swapped",
    "box_outside_frame": "a box that leaves the frame",
    "absent_object": "the object is out of sight in one of the chosen frames",
    "few_frames": f"a sequence with fewer than {NUM_BOXES} frames",
    "boxes_not_in_groundtruth": "released boxes that are on no frames of the sequence's groundtruth.txt",
    "bad_annotation": "an annotation file of the sequence cannot be read",
    "bad_labels": "a sequence's absence.label or cover.label is not one whole number per frame",
    "broken_character": "text with U+FFFD, which stands for half a character or one that was lost earlier",
    "duplicate_id": "an id that another row has too; a number such as `#2` was put behind it",
    "duplicate_row": "the same video or pictures, question and truth once more",
    "ambiguous_query": "the same video or pictures, and question once more, with another truth",
    "missing_video": "the video file, or one of the frames, is not there (counted per video)",
    "undecodable_video": "the video is there but cannot be decoded (counted per video)",
    "missing_picture": "a picture is not there (counted per picture, or per set of them)",
    "undecodable_picture": "a picture is there but cannot be read (counted per picture, or per set of them)",
}
"""Kind -> what it means. Span and box kinds count spans and boxes, video kinds count videos, the others samples."""

UNREAD = ("missing_video", "missing_picture", "bad_annotation")
"""Kinds that leave nothing of a sample to look at, where its own annotations have them."""


class Problem(NamedTuple):
    """One finding: `detail` shows the values at fault."""

    kind: str
    sample_id: str
    detail: str


def problems_of(sample: Sample) -> list[Problem]:
    """Everything wrong with the annotation of one sample; videos and other rows are not looked at."""
    extra = list(_extra(sample))
    if unread := [(kind, detail) for kind, detail in extra if kind in UNREAD]:
        return [Problem(kind, sample.id, detail) for kind, detail in unread]
    found = [*_query(sample), *_target(sample), *_response(sample), *_text(sample), *extra]
    return [Problem(kind, sample.id, detail) for kind, detail in found]


def span_kinds(span: Span, duration: float) -> list[str]:
    """The kinds that a span in a video of `duration` seconds is of; those about the duration need it known."""
    if not (math.isfinite(span.start) and math.isfinite(span.end)):
        return ["non_finite_number"]
    tests = {
        "reversed_span": span.end < span.start,
        "empty_span": span.end == span.start,
        "start_past_end": span.start > duration,
        "end_past_duration": span.end > duration,
        "negative_start": span.start < 0.0,
        "whole_video_span": span.start <= 0.0 and span.end >= duration and span.end > span.start,
    }
    return [kind for kind, applies in tests.items() if applies]


def box_kinds(box: Box) -> list[str]:
    """The kinds that a box is of."""
    if not all(map(math.isfinite, box)):
        return ["non_finite_number"]
    kinds = ["empty_box"] if box.x1 <= box.x0 or box.y1 <= box.y0 else []
    return kinds + (["box_outside_frame"] if min(box) < 0.0 or max(box) > 1.0 else [])


def option_kinds(options: tuple[str, ...], right: int | None) -> list[str]:
    """The kinds that a list of options with the index of the right one (None if it is none of them) is of."""
    texts = [same_text(option) for option in options]
    tests = {
        "duplicate_options": len(set(texts)) < len(texts),
        "empty_option": "" in texts,
        "answer_not_among_options": right is None,
    }
    return [kind for kind, applies in tests.items() if applies]


def right_option(target: ChoiceTarget | GroundedChoiceTarget | LabelTarget) -> int | None:
    """Index of the right option; None if the answer is none of them."""
    if isinstance(target, LabelTarget):
        return target.choices.index(target.answer) if target.answer in target.choices else None
    letters = LETTERS[: len(target.options)]
    return letters.index(target.answer) if len(target.answer) == 1 and target.answer in letters else None


def _query(sample: Sample) -> Iterator[tuple[str, str]]:
    if not sample.query.strip():
        yield "empty_query", f"{sample.query!r}"


def _text(sample: Sample) -> Iterator[tuple[str, str]]:
    """The sample's texts, its id and the name of its video among them."""
    target = sample.target
    texts: list[str] = [sample.id, sample.query, sample.media.name, *getattr(target, "options", ())]
    texts += [*getattr(target, "choices", ()), getattr(target, "caption", ""), *getattr(target, "events", ())]
    texts += [target.answer] if isinstance(target, TextTarget) else []
    texts += [] if sample.response is None else [sample.response]
    if broken := [text for text in texts if REPLACEMENT in text]:
        yield "broken_character", repr(shown(broken[0]))


def _target(sample: Sample) -> Iterator[tuple[str, str]]:
    target = sample.target
    if isinstance(target, SpanTarget):
        yield from _spans((target.span,), target.duration)
    elif isinstance(target, BoxesTarget):
        yield from _boxes(target.boxes)
    elif isinstance(target, LabelTarget):
        yield from _options(target.choices, target)
    elif isinstance(target, CaptionTarget):
        yield from _caption(target)
    elif isinstance(target, ChoiceTarget | GroundedChoiceTarget):
        yield from _options(target.options, target)
    elif isinstance(target, TextTarget) and not (bounded(target.answer) and words(target.answer)):
        yield "empty_answer", repr(shown(target.answer))
    elif isinstance(target, NumberTarget) and not math.isfinite(target.value):
        yield "unreadable_number", repr(shown(target.text))
    if isinstance(target, GroundedChoiceTarget):
        yield from _spans(target.spans, target.duration)


def _response(sample: Sample) -> Iterator[tuple[str, str]]:
    if sample.response is None:
        return
    if (why := TASKS[sample.task].why_unfit(sample.response, sample.target)) is not None:
        yield "unfit_response", f"{shown(sample.response)!r} {why}"


def _spans(spans: tuple[Span, ...], duration: float) -> Iterator[tuple[str, str]]:
    if math.isnan(duration):
        yield "unknown_duration", f"{duration}"
    elif not 0.0 < duration < math.inf:
        yield "bad_duration", f"{duration:g} s"
    if not spans:
        yield "no_span", "[]"
    for span in spans:
        for kind in span_kinds(span, duration):
            yield kind, f"[{span.start:g}, {span.end:g}] of {duration:g} s"


def _boxes(boxes: tuple[Box, ...]) -> Iterator[tuple[str, str]]:
    if len(boxes) != NUM_BOXES:
        yield "wrong_box_count", f"{len(boxes)} boxes"
    for index, box in enumerate(boxes):
        for kind in box_kinds(box):
            yield kind, f"box {index}: [{', '.join(f'{value:.4g}' for value in box)}]"


def _options(
    options: tuple[str, ...], target: ChoiceTarget | GroundedChoiceTarget | LabelTarget
) -> Iterator[tuple[str, str]]:
    for kind in option_kinds(options, right_option(target)):
        yield kind, f"options {list(options)}, answer {target.answer!r}"


def _caption(target: CaptionTarget) -> Iterator[tuple[str, str]]:
    if not target.caption.strip():
        yield "empty_caption", f"{target.caption!r}"
    for index, event in enumerate(target.events):
        if not event.strip():
            yield "empty_event", f"event {index} of {len(target.events)}"


def _extra(sample: Sample) -> Iterator[tuple[str, str]]:
    extra = sample.extra
    yield from extra.get("defects", {}).items()
    if REPEATS in extra:
        yield "duplicate_id", f"the id {shown(extra[REPEATS])!r} once more"
    if any(extra.get("absent", ())):
        yield "absent_object", f"absent at the chosen frames: {list(extra['absent'])}"
    if extra.get("num_frames", NUM_BOXES) < NUM_BOXES:
        yield "few_frames", f"{extra['num_frames']} frames"
