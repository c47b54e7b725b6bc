"""Dream-1k: detailed captions of 1,000 short videos from five origins, scored with AutoDQ (Wang et al. 2024, Tarsier)."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.datasets.base import VideoFinder, check_sample, with_root
from videochat_r1.datasets.captions import read_events
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, Benchmark, Judgement, Source
from videochat_r1.evaluation.metrics.score_table import Array, Derived, harmonic_mean
from videochat_r1.judge import Judge
from videochat_r1.judge.events import event_precision, event_recall, f1_score
from videochat_r1.sample import CaptionTarget, Sample, Video
from videochat_r1.tasks.captioning import REQUEST

SUBSETS = ("movie_animation", "movie_live_action", "shorts", "stock", "youtube")
RENAMED = {"vertical_video": "shorts", "videvo": "stock"}
"""Name of a subset in the authors' second release -> in their first."""
METRICS = ("F1", "precision", "recall")
OFFICIAL_METRICS = tuple(f"{name}_official" for name in METRICS)


class Dream1k(Benchmark):
    """The authors' JSON lines, in both forms that they published; the true events come with them."""

    name = "dream1k"
    tasks = ("captioning",)
    num_samples: ClassVar = {ALL: 1000, **dict.fromkeys(SUBSETS, 200)}
    judged = True
    definitions: ClassVar = {
        "recall": "share of the true events that the caption entails; mean of the subsets' means (AutoDQ, Wang et al. 2024)",
        "precision": "share of the caption's events, as the judge extracts them, that the true caption entails; likewise",
        "F1": "harmonic mean of precision and recall as given here, of a subset or of all (paper, Table 6)",
        "F1_official": "the same, and recall_official, precision_official, with 1 on a side without events: of the true caption, "
        "of the answered one (AutoDQ's own rule)",
    }

    def read(self, source: Source) -> Iterator[Sample]:
        """One sample per row, `vid` (or `idx`) its id; videos are `<vid>.mp4`."""
        find = VideoFinder(source.videos)
        for row in read_rows(source.annotations):
            sample = _sample(row, find)
            if source.subset in (ALL, sample.extra["subset"]):
                check_sample(sample, row.where)
                yield with_root(sample, source.videos)

    def score(self, parsed: Any, sample: Sample) -> dict[str, float]:
        """What can be told without a judge."""
        return {"parse_rate": float(parsed is not None)}

    async def judge(self, judge: Judge, parsed: Any, sample: Sample) -> Judgement:
        """The two sides of AutoDQ, three questions in all.

        A caption in which the judge finds no event has precision 0, by the official rule 1; true events that the annotations
        do not give are the judge's, or the caption as one, by the official rule there is then nothing to recall: 1.
        """
        target = sample.target
        assert isinstance(target, CaptionTarget)
        if parsed is None:
            return Judgement({**dict.fromkeys((*METRICS, *OFFICIAL_METRICS), 0.0), **self.score(parsed, sample)})
        recalled, precise = await asyncio.gather(
            event_recall(judge, parsed, target.caption, target.events),
            event_precision(judge, parsed, target.caption),
        )
        shares = {"": (precise.share, recalled.share)}
        shares["_official"] = (
            precise.share if precise.events else 1.0,
            recalled.share if target.events else 1.0,
        )
        scores = self.score(parsed, sample)
        for suffix, (precision, recall) in shares.items():
            both = (f1_score(precision, recall), precision, recall)
            scores |= {f"{name}{suffix}": value for name, value in zip(METRICS, both, strict=True)}
        return Judgement(scores, {"recall": recalled.pairs, "precision": precise.pairs})

    def derived(self) -> Mapping[str, Derived]:
        """F1 is that of the means, not the mean of the samples' F1."""
        return {f"F1{suffix}": partial(_f1, suffix=suffix) for suffix in ("", "_official")}

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Every subset weighs the same, however many of its samples are scored."""
        subsets = [sample.extra["subset"] for sample in samples]
        shares = [1.0 / subsets.count(subset) for subset in subsets]
        return dict.fromkeys((*METRICS, *OFFICIAL_METRICS, "parse_rate"), shares)

    def groups(self, sample: Sample) -> dict[str, str]:
        """By subset, and by the authors' ranges of subjects, shots and events."""
        assert isinstance(sample.target, CaptionTarget)
        groups = {"subset": sample.extra["subset"], "events": _event_range(len(sample.target.events))}
        for name in ("subjects", "shots"):
            if (count := sample.extra.get(name)) is not None:
                groups[name] = "4 or more" if count >= 4 else f"{max(1, count):g}"
        return groups

    def headline(self, task: str) -> str:
        """F1, as in the paper."""
        return "F1"


def _sample(row: Row, find: VideoFinder) -> Sample:
    extra = Row.of(row.get("extra_info"), f"{row.where}, 'extra_info'")
    vid = str(row.values["vid"] if "vid" in row.values else row.get("idx"))
    subset = row.text("dataset").rpartition("/")[2]
    subset = RENAMED.get(subset, subset)
    if subset not in SUBSETS:
        raise DataError(
            f"{row.where}: 'dataset' is {row.text('dataset')!r}; expected DREAM/ and one of {(*SUBSETS, *RENAMED)}"
        )
    query, caption = _texts(row)
    return Sample(
        id=vid,
        task="captioning",
        media=Video(path=find(vid)),
        query=query.replace("<video>", "").strip() or REQUEST,
        target=CaptionTarget(caption.strip(), read_events(extra)),
        duration=extra.number("duration") if "duration" in extra.values else None,
        source=Dream1k.name,
        extra={"subset": subset, "subjects": _count(extra, "n_subjects"), "shots": _count(extra, "n_shots")},
    )


def _count(extra: Row, key: str) -> float | None:
    return None if extra.values.get(key) is None else extra.number(key)


def _texts(row: Row) -> tuple[str, str]:
    """The question and the true caption: in `text`, or in the `messages` of a chat."""
    if "text" in row.values:
        text = Row.of(row.get("text"), f"{row.where}, 'text'")
        return text.text("prompt"), text.text("response")
    found: dict[str, str] = {}
    for number, message in enumerate(row.items("messages")):
        turn = Row.of(message, f"{row.where}, 'messages'[{number}]")
        for part in turn.items("content"):
            values = Row.of(part, f"{turn.where}, 'content'").values
            if values.get("type") == "text":
                found[turn.text("role")] = str(values.get("reference") or values.get("text") or "")
    if not found.get("assistant", "").strip():
        raise DataError(f"{row.where}: 'messages' hold no true caption (an assistant's text with a `reference`)")
    return found.get("user", ""), found["assistant"]


def _f1(means: Mapping[str, Array], suffix: str) -> Array:
    return harmonic_mean(means[f"precision{suffix}"], means[f"recall{suffix}"])


def _event_range(count: int) -> str:
    return next((text for most, text in ((3, "0 to 3"), (5, "4 to 5"), (7, "6 to 7")) if count <= most), "8 or more")
