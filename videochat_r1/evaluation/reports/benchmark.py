"""`report.html` of a scored benchmark: numbers, histogram, best and worst samples with frames. No torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from videochat_r1.datasets.base import is_file
from videochat_r1.errors import VideoError
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.evaluation.reports.drawing import Lane, film_strip, histogram, legend, time_line
from videochat_r1.evaluation.reports.page import cards, example, page, paragraph, section, table
from videochat_r1.evaluation.reports.summary import percent, with_known
from videochat_r1.geometry import Box, Span
from videochat_r1.outputs import write_lines
from videochat_r1.rollout.ended import shares_in_words
from videochat_r1.sample import (
    LETTERS,
    BoxesTarget,
    CaptionTarget,
    ChoiceTarget,
    GroundedChoiceTarget,
    LabelTarget,
    NumberTarget,
    Pictures,
    Sample,
    SpanTarget,
    TextTarget,
)
from videochat_r1.text import whole
from videochat_r1.video.decode import SamplingRequest
from videochat_r1.video.probe import probe
from videochat_r1.video.process import decode_in_process, read_in_process

REPORT = "report.html"
_EXAMPLES = 6
_STRIP_FRAMES = 8
_FRAME_WIDTH = 160
_DECODE_SECONDS = 20.0
_TEXT_CHARS = 1500
_ID_CHARS = 100
_HISTOGRAM_BINS = 20

Row = Mapping[str, Any]


def write_report(folder: Path, results: Mapping[str, Any], rows: Sequence[Row], samples: Sequence[Sample]) -> None:
    """Write `folder/report.html`: self-contained, opens offline.

    Args:
        folder: of the result.
        results: what `results.json` holds.
        rows: what `samples.jsonl` holds.
        samples: of the rows, in their order; one whose video cannot be read is shown without frames.
    """
    headline, settings = results["headline"], results["settings"]
    drawn = BENCHMARKS[results["benchmark"]].distributions(results["task"])
    # Examples are ranked by the headline, those of equal ones by what is drawn.
    ranked_by = tuple(dict.fromkeys((headline, *drawn)))
    scored = [row for row in rows if row["scores"] is not None]
    failed = f"{results['num_failed']:,} of {results['num_samples']:,} failed"
    if "num_unscored" in results:
        failed += f", {results['num_unscored']:,} unscored"
    if "ended" in results:
        failed += f"; ended: {shares_in_words(results['ended'])}"
    made = str(settings.get("model") or settings.get("predictions") or "scored answers")
    if commit := settings.get("git_commit"):
        made += f", by commit {commit}"
    sections = [
        cards([(headline, percent(results["metrics"].get(headline)), f"{_interval(results, headline)}; {failed}")]),
        section(
            "Metrics", _metrics(results), "In percent, with bootstrap intervals, beside answers that ignore the video."
        ),
        section("Definitions", _notes(results)),
        _distributions(
            {name: [_score(row, name) for row in scored if row["scores"].get(name, 0.0) is not None] for name in drawn}
        ),
        *(section(f"By {name.replace('_', ' ')}", _groups(groups)) for name, groups in results["by"].items()),
    ]
    if results["failures"]:
        sections.append(section("Failures", _failures(results["failures"]), "Each counts 0."))
    if results.get("unscored"):
        sections.append(section("Unscored", _failures(results["unscored"]), "Left out of all means."))
    if results.get("unread"):
        note = "Answers that only a judge can read by the authors' rule; their official scores are those without one."
        sections.append(section("Unread", _failures(results["unread"]), note))
    sections.append(section("Settings", _settings(settings)))
    for heading, chosen in _choose(rows, ranked_by).items():
        shown = "".join(_example(samples[i], rows[i], ranked_by) for i in chosen)
        if shown:
            sections.append(section(heading, legend({"truth": "truth", "answer": "after"}) + shown))
    title = f"{results['benchmark']}: {results['task']}"
    write_lines(folder / REPORT, [whole(page(title, made, sections))])


# --- numbers --------------------------------------------------------------------------------------------------------


def _metrics(results: Mapping[str, Any]) -> str:
    baselines = {name: means for name, means in results["baselines"].items() if means is not None}
    names = list(results["metrics"])
    rows = [
        [
            with_known(name, results),
            percent(value),
            _interval(results, name),
            *(percent(means.get(name)) for means in baselines.values()),
        ]
        for name, value in results["metrics"].items()
    ]
    header = ["metric", "result", "95 % interval", *(name.replace("_", " ") for name in baselines)]
    strong = [names.index(results["headline"])] if results["headline"] in names else []
    return table(header, rows, strong=strong)


def _notes(results: Mapping[str, Any]) -> str:
    definitions = table(["metric", "definition"], list(results["definitions"].items()), text_columns=range(2))
    notes = "".join(
        paragraph(f"{name.replace('_', ' ')}: {note}", soft=True) for name, note in results["baseline_notes"].items()
    )
    return definitions + notes


def _distributions(columns: Mapping[str, Sequence[float]]) -> str:
    """Metric -> its value per sample; nothing where there are none."""
    charts = [
        histogram(f"{name} per sample", {"samples": scores}, {"samples": "after"}, bins=_HISTOGRAM_BINS)
        for name, scores in columns.items()
        if scores
    ]
    return section("Distribution", "".join(charts)) if charts else ""


def _groups(groups: Mapping[str, Mapping[str, Any]]) -> str:
    names = [name for name in next(iter(groups.values())) if name != "num_samples"]
    rows = [
        [group, f"{means['num_samples']:,}", *(percent(means[name]) for name in names)]
        for group, means in groups.items()
    ]
    return table(["", "samples", *names], rows)


def _failures(failures: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            kind,
            f"{found['count']:,}",
            ", ".join(map(_cut_id, found["first"])) + ", …" * (found["count"] > len(found["first"])),
        ]
        for kind, found in failures.items()
    ]
    return table(["kind", "samples", "first"], rows, text_columns=(0, 2))


def _settings(settings: Mapping[str, Any]) -> str:
    flat: list[list[str]] = []
    for name, value in settings.items():
        nested = value.items() if isinstance(value, dict) else [("", value)]
        flat += [[f"{name} {key}".strip(), str(item)] for key, item in nested]
    return table(["setting", "value"], flat, text_columns=range(2))


def _cut_id(name: str) -> str:
    return name if len(name) <= _ID_CHARS else f"{name[:_ID_CHARS]}…"


def _interval(results: Mapping[str, Any], name: str) -> str:
    interval = results["ci95"].get(name)
    return "" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


# --- examples -------------------------------------------------------------------------------------------------------


def _choose(rows: Sequence[Row], ranked_by: Sequence[str]) -> dict[str, list[int]]:
    """Heading -> indices of samples; of equally good ones, some from everywhere in the benchmark."""
    answered = [index for index, row in enumerate(rows) if row["failure"] is None and row["scores"] is not None]
    failed = [index for index, row in enumerate(rows) if row["failure"] is not None]
    ranks = [tuple(_score(row, name) for name in ranked_by) for row in rows]
    best = _topmost(answered, [tuple(-score for score in rank) for rank in ranks])
    taken = set(best)
    worst = _topmost([index for index in answered if index not in taken], ranks)
    return {"Best samples": best, "Worst samples": worst, "Failed samples": _spread(failed)}


def _topmost(indices: Sequence[int], order: Sequence[tuple[float, ...]]) -> list[int]:
    """The indices that come first in `order`; where many share the first place, some from everywhere."""
    ranked = sorted(indices, key=lambda index: order[index])
    first = [index for index in ranked if order[index] == order[ranked[0]]]
    return _spread(first) if len(first) >= _EXAMPLES else ranked[:_EXAMPLES]


def _spread(indices: Sequence[int]) -> list[int]:
    """At most `_EXAMPLES` of the indices, evenly spaced."""
    count = min(_EXAMPLES, len(indices))
    return [indices[place * len(indices) // count] for place in range(count)]


def _example(sample: Sample, row: Row, ranked_by: Sequence[str]) -> str:
    shown = ", ".join(f"{name} {_score(row, name):.2f}" for name in ranked_by)
    failure = f", {row['failure']}" if row["failure"] else ""
    texts = {"question": _end(sample.query), "truth": _end(_truth(sample, row["target"]))}
    if row["completion"] is not None:
        texts["completion"] = _end(row["completion"])
    if row.get("reason"):
        texts["reason"] = str(row["reason"])
    return example(f"{_cut_id(sample.id)} ({shown}{failure})", texts, _pictures(sample, row))


def _end(text: str) -> str:
    """The last part of a text; blank ones as Python writes them, so that there is something to see."""
    if not text.strip():
        return repr(text[:_TEXT_CHARS])
    return text if len(text) <= _TEXT_CHARS else f"… {text[-_TEXT_CHARS:]}"


def _score(row: Row, metric: str) -> float:
    """0.0 for an unscored row, which is shown nowhere as scored, and where the truth is not known."""
    return float((row["scores"] or {}).get(metric) or 0.0)


def _truth(sample: Sample, target: Mapping[str, Any]) -> str:
    """The target's JSON form in words; as JSON where it is of another kind than this project's."""
    kind = sample.target
    if isinstance(kind, CaptionTarget):
        return str(target["caption"])
    if isinstance(kind, ChoiceTarget | GroundedChoiceTarget):
        options = [f"({letter}) {text}" for letter, text in zip(LETTERS, target["options"], strict=False)]
        return f"{target['answer']} of {', '.join(options)}"
    if isinstance(kind, LabelTarget | TextTarget | NumberTarget):
        return str(target["answer"])
    if isinstance(kind, SpanTarget):
        return f"{target['span'][0]:g} to {target['span'][1]:g} s"
    return f"{len(target['boxes'])} boxes" if isinstance(kind, BoxesTarget) else json.dumps(target, ensure_ascii=False)


def _pictures(sample: Sample, row: Row) -> list[str]:
    frames, duration = _frames(sample)
    target = row["target"]
    if isinstance(sample.target, BoxesTarget):
        return [] if frames is None else [film_strip(frames, _boxes(sample.target, row["parsed"], len(frames)))]
    strip = [] if frames is None else [film_strip(frames, width=min(960, 110 + 240 * len(frames)))]
    if isinstance(sample.target, SpanTarget):
        spans = [target["span"]]
    else:
        spans = target["spans"] or [] if isinstance(sample.target, GroundedChoiceTarget) else []
    length = target.get("duration") or duration
    if not spans or not length or not float(length) > 0.0:
        return strip
    lanes = [Lane("truth", "truth", _spans(spans)), Lane("answer", "after", _answered_spans(row["parsed"]))]
    return [*strip, time_line(lanes, float(length))]


def _answered_spans(parsed: Any) -> list[Span]:
    if parsed is None:
        return []
    return _spans(parsed["spans"] if isinstance(parsed, dict) else [parsed])


def _spans(values: Sequence[Sequence[float]]) -> list[Span]:
    return [Span(float(start), float(end)) for start, end in values]


def _boxes(target: BoxesTarget, parsed: Any, num_frames: int) -> list[list[tuple[Box, str]]]:
    """Per frame the true box and the answered one; an answer for every frame of the sequence is not drawn."""
    answered = parsed if parsed is not None and len(parsed) <= len(target.boxes) else []
    drawn: list[list[tuple[Box, str]]] = [[(box, "truth")] for box in target.boxes[:num_frames]]
    for boxes, box in zip(drawn, answered, strict=False):
        if box is not None:
            boxes.append((Box(*box), "after"))
    return drawn


def _frames(sample: Sample) -> tuple[NDArray[np.uint8] | None, float | None]:
    """(T, H, W, 3) small frames of the sample's clip and its seconds, or its pictures; None for what cannot be read."""
    media = sample.media
    if not is_file(Path(media.files[0])):
        return None, None
    try:
        if isinstance(media, Pictures):
            return np.stack(
                [_fitted(read_in_process(path, _DECODE_SECONDS)) for path in media.paths[:_STRIP_FRAMES]]
            ), None
        if isinstance(sample.target, BoxesTarget) and media.frames:
            # One box belongs to each of these.
            times: tuple[float, ...] = media.frame_times[:_STRIP_FRAMES]
        else:
            duration = probe(media, timeout_seconds=_DECODE_SECONDS).duration
            times = tuple(duration * (place + 0.5) / _STRIP_FRAMES for place in range(_STRIP_FRAMES))
        plan, images = decode_in_process(SamplingRequest(media, times=times), _DECODE_SECONDS)
        small = [_small(image) for image in images]
    except VideoError:
        return None, None
    return np.stack([small[index] for index in plan.image_of]), plan.duration


def _fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Within the size of a frame, so that pictures of all shapes stand side by side."""
    return np.asarray(ImageOps.pad(PillowImage.fromarray(image), (_FRAME_WIDTH, 3 * _FRAME_WIDTH // 4), color="white"))


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * _FRAME_WIDTH / image.shape[1]))
    return np.asarray(PillowImage.fromarray(np.ascontiguousarray(image)).resize((_FRAME_WIDTH, height)))
