"""A manifest of the samples that a model answers neither too well nor too badly, from its rollouts or results."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videochat_r1.datasets.base import UniqueIds
from videochat_r1.datasets.manifest import sample_from_json, sidecar, write_manifest
from videochat_r1.datasets.mend import mend
from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.reports.summary import aligned
from videochat_r1.outputs import refuse_to_replace
from videochat_r1.sample import Sample
from videochat_r1.selection.choice import at_most, reasons_against
from videochat_r1.selection.conditions import Condition
from videochat_r1.selection.measured import Line, Measured, line_at, measure

OVER_MAX = "over --max"
_KEYS = ("id", "task", "query", "target", "duration", "source", "response")


@dataclass(frozen=True, slots=True)
class Request:
    """What to select.

    Args:
        sources: see `measure`.
        conditions: at least one.
        output: the manifest, `FILE.jsonl`.
        limit: most samples; None for all that hold.
        by_video: whether the questions about a video stay together.
        seed: of the draw where there are more than the limit.
        videos: folder that paths in the manifest start from; None for the one that holds all files.
        overwrite: replace files that are there.
    """

    sources: Sequence[Path]
    conditions: Sequence[Condition]
    output: Path
    limit: int | None = None
    by_video: bool = False
    seed: int = 0
    videos: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What became of every sample.

    Args:
        kept: task -> samples in the manifest.
        left_out: task -> reason -> samples.
        ranges: of each condition's value what was measured and what was kept, in words.
        videos: folder that paths in the manifest start from.
    """

    kept: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]]
    ranges: Sequence[str]
    videos: Path

    def to_text(self) -> str:
        """The counts as a table, a row a task, and below it the ranges."""
        total: Counter[str] = sum((Counter(each) for each in self.left_out.values()), Counter())
        reasons = list(total)
        tasks = list(self.left_out)
        rows = [["", "measured", "kept", *reasons]]
        for name, kept, why in [
            *((task, self.kept.get(task, 0), self.left_out[task]) for task in tasks),
            *([("all", sum(self.kept.values()), total)] if len(tasks) > 1 else []),
        ]:
            counts = [kept + sum(why.values()), kept, *(why.get(reason, 0) for reason in reasons)]
            rows.append([name, *(f"{count:,}" for count in counts)])
        return "\n".join([aligned(rows), *self.ranges])


def select(request: Request, *, progress: bool = False) -> Selection:
    """Measure, choose, write the manifest and beside it `<name>.meta.json`; nothing is written where nothing is kept.

    Of every kept sample `extra` has the measured values, by the conditions' columns, and `answers`, how many there were. Targets are
    mended as those of every manifest are.

    Raises:
        ConfigError, DataError: see `measure`; or the files are there.
    """
    if not request.overwrite:
        files = (request.output, sidecar(request.output, "meta.json"))
        refuse_to_replace(files, "name another --output, or replace them with --overwrite")
    measured = measure(request.sources, request.conditions, progress=progress)
    against = reasons_against(measured, request.conditions, by_video=request.by_video)
    samples: dict[int, Sample] = {}
    for place, one in enumerate(measured):
        if place not in against:
            sample, changes = mend(_sample(line_at(one.place), one, request.conditions))
            if sample is None:
                against[place] = changes[0].kind
            else:
                samples[place] = sample
    if request.limit is not None:
        units: dict[object, list[tuple[int, str, str]]] = defaultdict(list)
        for place, sample in samples.items():
            units[measured[place].shows if request.by_video else place].append((place, sample.task, sample.id))
        kept = at_most(units.values(), request.limit, request.seed)
        against |= dict.fromkeys(samples.keys() - kept, OVER_MAX)
        samples = {place: sample for place, sample in samples.items() if place in kept}
    root = _root(request.videos, list(samples.values()))
    selection = _summary(measured, against, request.conditions, root)
    if samples:
        unique = UniqueIds()
        relative = [unique(_below(sample, root)) for sample in samples.values()]
        write_manifest(request.output, relative, meta=_meta(request, selection))
    return selection


def _sample(line: Line, measured: Measured, conditions: Sequence[Condition]) -> Sample:
    """The sample of a line, its files as the line names them, the measured values among its `extra`."""
    row = {key: line.row[key] for key in _KEYS if line.row.get(key) is not None}
    parts = line.row.get("video_parts") or {}
    shown = {key: line.row[key] for key in ("images",) if line.row.get(key)}
    if not shown:
        shown = {"video": parts if "frames" in parts else {"path": line.row.get("video"), **parts}}
    values = {each.column: measured.value(each) for each in conditions if each.is_about(measured.task)}
    told = {column: value for column, value in values.items() if value is not None}
    extra = {**told, "answers": measured.answers}
    return sample_from_json({**row, **shown, "id": str(row["id"]), "extra": extra}, str(line.place))


def _root(videos: Path | None, samples: Sequence[Sample]) -> Path:
    """The folder that the manifest's paths start from."""
    if videos is not None:
        return videos.absolute()
    folders = {Path(path).absolute().parent for sample in samples for path in sample.media.files}
    return Path(os.path.commonpath(folders)) if folders else Path.cwd()


def _below(sample: Sample, root: Path) -> Sample:
    def relative(path: str) -> str:
        whole = Path(path).absolute()
        if not whole.is_relative_to(root):
            raise ConfigError(
                f"{path} of sample {sample.id!r} does not lie below --videos {root}: name a folder above it"
            )
        return whole.relative_to(root).as_posix()

    return replace(sample, media=sample.media.moved(relative))


def _summary(
    measured: Sequence[Measured], against: Mapping[int, str], conditions: Sequence[Condition], root: Path
) -> Selection:
    kept: Counter[str] = Counter()
    left_out: dict[str, Counter[str]] = {one.task: Counter() for one in measured}
    for place, one in enumerate(measured):
        if place in against:
            left_out[one.task][against[place]] += 1
        else:
            kept[one.task] += 1
    ranges = []
    for condition in conditions:
        values = {
            place: value
            for place, one in enumerate(measured)
            if condition.is_about(one.task) and (value := one.value(condition)) is not None
        }
        within = [value for place, value in values.items() if place not in against]
        ranges.append(f"{condition.label}: {_range(list(values.values()))} measured, {_range(within)} kept")
    return Selection(kept, left_out, ranges, root)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}" if values else "none"


def _meta(request: Request, selection: Selection) -> dict[str, Any]:
    return {
        "selected_from": [str(source) for source in request.sources],
        "keep": [condition.text for condition in request.conditions],
        "max": request.limit,
        "by_video": request.by_video,
        "seed": request.seed,
        "videos": str(selection.videos),
        "tasks": dict(selection.kept),
        "left_out": {task: dict(reasons) for task, reasons in selection.left_out.items() if reasons},
    }
