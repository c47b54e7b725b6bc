"""Training manifests: JSONL with one sample a row, and beside it where the rows come from and what was changed."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videochat_r1.datasets.annotation_files import Row, kind, number, read_json_lines
from videochat_r1.datasets.base import Corpus, Request, check_sample, count_media, count_sorts, with_root
from videochat_r1.datasets.mend import Change, Mended, mend_all, nothing_left
from videochat_r1.datasets.problems import Problem
from videochat_r1.errors import ConfigError, DataError, keys_shown, shown
from videochat_r1.outputs import refuse_to_replace, write_lines
from videochat_r1.sample import Media, Pictures, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.text import read_text

SAMPLE_KEYS = ("id", "task", "video", "images", "query", "target", "duration", "source", "extra", "response")
VIDEO_KEYS = ("path", "frames", "frame_times", "start", "end")


def sample_to_json(sample: Sample) -> dict[str, Any]:
    """The JSON form of a sample; its target is the public form of its task."""
    return {
        "id": sample.id,
        "task": sample.task,
        **_media_to_json(sample.media),
        "query": sample.query,
        "target": TASKS[sample.task].target_to_json(sample.target),
        "duration": sample.duration,
        "source": sample.source,
        "extra": dict(sample.extra),
        **({} if sample.response is None else {"response": sample.response}),
    }


def sample_from_json(value: Any, where: str) -> Sample:
    """Inverse of `sample_to_json`; `duration`, `source`, `extra` and `response` may be left out.

    Raises:
        DataError: naming `where` and the key that is missing, unknown or wrong.
    """
    row = Row.of(value, where)
    unknown = set(row.values) - set(SAMPLE_KEYS)
    if unknown:
        raise DataError(f"{where}: unknown keys {keys_shown(unknown)}; a sample has {list(SAMPLE_KEYS)}")
    extra = row.values.get("extra") or {}
    duration = row.values.get("duration")
    target = Row.of(row.get("target"), f"{where}, 'target'").values
    try:
        task = TASKS[row.text("task")]
        sample = Sample(
            id=row.text("id"),
            task=row.text("task"),
            media=_media_from_json(row),
            query=row.text("query"),
            target=task.target_from_json(target),
            duration=None if duration is None else number(duration, f"{where}, 'duration'"),
            source=row.text("source") if "source" in row.values else "",
            extra=Row.of(extra, f"{where}, 'extra'").values,
            response=None if row.values.get("response") is None else row.text("response"),
        )
        truth = task.target_of(sample)
        if sample.response is not None and (why := task.why_unfit(sample.response, truth)) is not None:
            raise DataError(f"'response' {why}: {shown(sample.response)!r}")
    except (ConfigError, DataError) as error:
        raise DataError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
    return sample


def write_manifest(path: Path, samples: Iterable[Sample], *, meta: Mapping[str, Any] | None = None) -> int:
    """Write the samples as JSONL and `meta` as `<name>.meta.json`; returns the number of rows.

    Paths must be relative to the videos folder that the reader will name. Each file appears whole or not at all.

    Raises:
        DataError: a path that leaves the videos folder, a repeated id, or a number that JSON cannot hold.
    """
    ids: set[str] = set()

    def lines() -> Iterator[str]:
        for sample in samples:
            where = f"sample {shown(sample.id)!r}"
            check_sample(sample, where)
            if sample.id in ids:
                raise DataError(f"{where} occurs twice; ids are unique within a manifest")
            ids.add(sample.id)
            try:
                yield json.dumps(sample_to_json(sample), ensure_ascii=False, allow_nan=False)
            except (ValueError, TypeError) as error:
                raise DataError(f"{where} cannot be written as JSON: {error}") from error

    write_lines(path, lines())
    if meta is not None:
        text = json.dumps({"num_samples": len(ids), **meta}, indent=2, ensure_ascii=False)
        write_lines(sidecar(path, "meta.json"), [text])
    return len(ids)


def read_manifest(path: str | Path, videos: str | Path | None = None) -> list[Sample]:
    """The samples of a manifest, their paths joined to `videos`; None leaves them relative.

    Raises:
        DataError: naming the line that is not a sample, repeats an id, or has a path that leaves the videos folder.
    """
    path = Path(path)
    root = None if videos is None else Path(videos)
    samples: list[Sample] = []
    ids: set[str] = set()
    for where, value in read_json_lines(read_text(path, "a manifest"), path):
        sample = sample_from_json(value, where)
        check_sample(sample, where)
        if sample.id in ids:
            raise DataError(f"{where}: the id {shown(sample.id)!r} occurs twice")
        ids.add(sample.id)
        samples.append(with_root(sample, root))
    return samples


def prepare(
    corpus: Corpus,
    request: Request,
    output: Path,
    *,
    unusable: Callable[[Sequence[Sample]], list[Problem]] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a training manifest of a corpus; returns what `<name>.meta.json` says.

    `<name>.changes.jsonl` lists every sample that was dropped or clipped, with the kind of its problem.

    Args:
        corpus: reader of the annotations.
        request: what to read.
        output: the manifest, `FILE.jsonl`.
        unusable: finds, of samples with joined paths and one per video (or set of pictures), those whose files cannot be
            used; all samples that show the same are dropped.
        overwrite: replace files that are there.

    Raises:
        ConfigError: one of the files is there.
        DataError: the annotations cannot be read, or no sample is left.
    """
    if not overwrite:
        files = (output, sidecar(output, "meta.json"), sidecar(output, "changes.jsonl"))
        refuse_to_replace(files, "name another --output, or replace them with --overwrite")
    published = list(corpus.relative(request))
    mended = mend_all(published)
    if unusable is not None:
        root = corpus.videos_root(request.annotations, request.videos)
        mended = _without(mended, lambda samples: unusable([with_root(sample, root) for sample in samples]))
    if not mended.samples:
        raise nothing_left(mended, len(published), str(request.annotations))
    meta = {
        "corpus": corpus.name,
        "task": request.task,
        "annotations": request.annotations.name,
        "sha256": source_hash(corpus, request.annotations),
        "num_published": len(published),
        "num_samples": len(mended.samples),
        **count_media(mended.samples),
        **count_sorts(mended.samples),
        "dropped": mended.counts("dropped"),
        "clipped": mended.counts("clipped"),
        "spans_dropped": mended.counts("span dropped"),
    }
    rows = (json.dumps(change.to_json(), ensure_ascii=False) for change in mended.changes)
    write_lines(sidecar(output, "changes.jsonl"), rows)
    write_manifest(output, mended.samples, meta=meta)
    return meta


def source_hash(corpus: Corpus, annotations: Path) -> str:
    """SHA-256 over the names and contents of the annotation files."""
    digest = hashlib.sha256()
    for file in corpus.files(annotations):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as content:
            while piece := content.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def sidecar(path: Path, ending: str) -> Path:
    """The file beside a manifest: `train.jsonl` -> `train.<ending>`."""
    return path.with_name(f"{path.stem}.{ending}")


def _without(mended: Mended, unusable: Callable[[list[Sample]], list[Problem]]) -> Mended:
    """Drop every sample of the videos and pictures that `unusable` finds."""
    shown_by: dict[tuple[str, ...], list[Sample]] = {}
    for sample in mended.samples:
        shown_by.setdefault(sample.media.key, []).append(sample)
    key_of = {samples[0].id: key for key, samples in shown_by.items()}
    bad = {key_of[problem.sample_id]: problem for problem in unusable([samples[0] for samples in shown_by.values()])}
    changes = [
        Change(sample.id, "dropped", problem.kind, problem.detail)
        for key, problem in bad.items()
        for sample in shown_by[key]
    ]
    dropped = {change.sample_id for change in changes}
    earlier = [change for change in mended.changes if change.sample_id not in dropped]
    return Mended([sample for sample in mended.samples if sample.id not in dropped], earlier + changes)


def _media_to_json(media: Media) -> dict[str, Any]:
    if isinstance(media, Pictures):
        return {"images": list(media.paths)}
    value: dict[str, Any] = (
        {"path": media.path}
        if media.path is not None
        else {"frames": list(media.frames), "frame_times": list(media.frame_times)}
    )
    return {"video": value | {key: at for key, at in (("start", media.start), ("end", media.end)) if at is not None}}


def _media_from_json(row: Row) -> Media:
    given = [key for key in ("video", "images") if row.values.get(key) is not None]
    if len(given) != 1:
        found = " and ".join(map(repr, given)) or keys_shown(row.values)
        raise DataError(f"{row.where}: a sample shows either a 'video' or a list of 'images'; found {found}")
    if given == ["images"]:
        return row.pictures("images")
    return _video_from_json(Row.of(row.get("video"), f"{row.where}, 'video'"))


def _video_from_json(row: Row) -> Video:
    unknown = set(row.values) - set(VIDEO_KEYS)
    if unknown:
        raise DataError(f"{row.where}: unknown keys {keys_shown(unknown)}; a video has {list(VIDEO_KEYS)}")
    start, end = (None if row.values.get(key) is None else row.number(key) for key in ("start", "end"))
    if "path" in row.values:
        return Video(path=row.text("path"), start=start, end=end)
    frames = row.items("frames")
    for frame in frames:
        if not isinstance(frame, str):
            raise DataError(f"{row.where}: 'frames' should hold paths, found {kind(frame)}")
    times = [number(time, f"{row.where}, 'frame_times'") for time in row.items("frame_times")]
    return Video(frames=tuple(frames), frame_times=tuple(times), start=start, end=end)
