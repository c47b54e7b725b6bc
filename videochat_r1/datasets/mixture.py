"""Several corpora as one order of samples: a pure function of (seed, epoch), the same on every process and on resume."""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.base import DurationProbe
from videochat_r1.datasets.curriculum import Sampling
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.mend import Mended, mend_all, nothing_left
from videochat_r1.datasets.question_order import questions_together
from videochat_r1.errors import ConfigError, DataError, counted
from videochat_r1.options import check_keys
from videochat_r1.sample import Media, Pictures, Sample, Video

_SHOWN: Mapping[str, type[Media]] = {"video": Video, "images": Pictures}


@dataclass(frozen=True, slots=True)
class MixtureEntry:
    """One corpus of a mixture, as a recipe lists it.

    Args:
        dataset: name in `CORPORA`, read from `annotations`; its targets are mended for training.
        manifest: JSONL of samples instead, as `data prepare` writes; taken as it is.
        annotations: file or folder in one of the corpus's formats.
        videos: folder of the videos.
        task: which of the corpus's tasks, or which of the manifest's samples; None for the default, or for all.
        shows: `video` or `images`: only samples that show a video, or pictures; None for both.
        weight: how often the corpus is drawn relative to its size. 1: every sample once per epoch. 0.5: half of them,
            the other half in the next epoch. 2: every sample twice.
        max_samples: at most this many samples, drawn by seed once for the whole run.
        queries_per_video: at most this many samples of each video, drawn by seed once for the whole run; or "all".
        questions_together: up to so many samples that show the same come together in an epoch's order, in slices of the largest
            number of any entry, so that a micro-batch computes what they show once (docs/training.md).
        durations: file or folder with durations, for formats that carry none.

    Raises:
        ConfigError: fields that contradict each other, or a value out of range.
    """

    dataset: str | None = None
    manifest: str | None = None
    annotations: str | None = None
    videos: str | None = None
    task: str | None = None
    shows: Literal["video", "images"] | None = None
    weight: float = 1.0
    max_samples: int | None = None
    queries_per_video: int | Literal["all"] = "all"
    questions_together: int = 1
    durations: str | None = None

    def __post_init__(self) -> None:
        if (self.dataset is None) == (self.manifest is None):
            raise ConfigError(f"a mixture entry names either a dataset or a manifest: {self.label}")
        if (self.dataset is None) != (self.annotations is None):
            raise ConfigError(f"mixture entry {self.label}: annotations belong to a dataset, and a dataset needs them")
        if self.manifest is not None and self.durations is not None:
            raise ConfigError(f"mixture entry {self.label}: a manifest carries its durations")
        for name in ("dataset", "manifest", "annotations", "videos", "task", "durations"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"mixture entry {self.label}: {name} should be text, got {value!r}")
        if not _is_number(self.weight) or not 0.0 < self.weight < math.inf:
            raise ConfigError(f"mixture entry {self.label}: weight should be a positive number, got {self.weight!r}")
        if self.shows not in (None, *_SHOWN):
            raise ConfigError(f"mixture entry {self.label}: shows should be video, images or null, got {self.shows!r}")
        for name, words in (("max_samples", [None]), ("queries_per_video", ["all"]), ("questions_together", [])):
            value = getattr(self, name)
            if value not in words and not (type(value) is int and value > 0):
                wanted = " or ".join(["a positive whole number", *("null" if word is None else word for word in words)])
                raise ConfigError(f"mixture entry {self.label}: {name} should be {wanted}, got {value!r}")
        if self.queries_per_video != "all" and self.queries_per_video < self.questions_together:
            raise ConfigError(
                f"mixture entry {self.label}: questions_together {self.questions_together} cannot be, as queries_per_video "
                f"{self.queries_per_video} leaves fewer of a video: raise that, or lower questions_together"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MixtureEntry":
        """The entry of a YAML mapping.

        Raises:
            ConfigError: no mapping, or an unknown key, naming the nearest valid one.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"a mixture entry should be a mapping of options, got {values!r}")
        check_keys(values, [field.name for field in dataclasses.fields(cls)], where="a mixture entry")
        return cls(**values)

    @property
    def label(self) -> str:
        """What logs and messages call the entry."""
        parts = (self.dataset or self.manifest, *filter(None, (self.task, self.shows)))
        return "/".join(map(str, parts))


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """How many samples an entry has after each step.

    Args:
        label: the entry.
        tasks: task -> samples left after all steps.
        read: as published.
        chosen: as published, at most `queries_per_video` of each video.
        usable: the same after mending.
        kept: the same after `max_samples`.
        per_epoch: drawn in the first epoch.
        dropped: kind of problem -> samples that mending dropped.
    """

    label: str
    tasks: dict[str, int]
    read: int
    chosen: int
    usable: int
    kept: int
    per_epoch: int
    dropped: dict[str, int]


class Mixture:
    """The samples of all entries.

    Args:
        entries: corpora, read at once.
        seed: decides every draw and the order; the same on all processes.
        root: folder that relative paths of the entries start from.
        sampling: how samples follow each other.
        probe_durations: asks video files for their durations where no table gives them.

    Raises:
        ConfigError: no entry, or an unknown dataset or task.
        DataError: annotations that cannot be read, or of which nothing can be trained on, or samples without the column of
            `sampling`.
    """

    def __init__(
        self,
        entries: Sequence[MixtureEntry],
        seed: int,
        *,
        root: str | Path | None = None,
        sampling: Sampling | None = None,
        probe_durations: DurationProbe | None = None,
    ) -> None:
        if not entries:
            raise ConfigError("a mixture needs at least one entry")
        self.entries = tuple(entries)
        self.seed = seed
        self.sampling = sampling or Sampling()
        loaded = [self._load(index, Path(root or "."), probe_durations) for index in range(len(entries))]
        self._pools = [samples for samples, _ in loaded]
        self.summaries = tuple(summary for _, summary in loaded)

    def samples(self, epoch: int) -> list[Sample]:
        """The samples of one epoch in their order: a function of the entries, the seed and the epoch alone."""
        if epoch < 0:
            raise ConfigError(f"an epoch is counted from 0, got {epoch}")
        places = [
            (index, position)
            for index, pool in enumerate(self._pools)
            for position in draw(len(pool), self.entries[index].weight, epoch, f"{self.seed}/{index}")
        ]
        drawn, key = [self._pools[index][position] for index, position in places], f"{self.seed}/epoch {epoch}"
        if self.questions_together == 1:
            order = list(range(len(drawn)))
            random.Random(key).shuffle(order)
        else:
            limits = [self.entries[index].questions_together for index, _ in places]
            shown = [sample.media for sample in drawn]
            order = questions_together(shown, places, limits, self.questions_together, key)
        return [drawn[index] for index in self.sampling.order(drawn, order, self.questions_together)]

    @property
    def questions_together(self) -> int:
        """The largest number that any entry asks for."""
        return max(entry.questions_together for entry in self.entries)

    def describe(self) -> str:
        """The counts of every entry, for logs."""
        totals = [("as published", "chosen"), ("after mending", "usable"), ("per epoch", "per_epoch")]
        lines = [_sum_line([getattr(s, name) for s in self.summaries], words) for words, name in totals]
        return "\n".join([*lines, *(_entry_line(e, s) for e, s in zip(self.entries, self.summaries, strict=True))])

    def _load(self, index: int, root: Path, probe: DurationProbe | None) -> tuple[list[Sample], EntrySummary]:
        entry = self.entries[index]
        published = _read(entry, root, probe)
        # A manifest was mended when it was written.
        mended = Mended(published, []) if entry.manifest is not None else mend_all(published)
        usable = mended.samples
        if not usable:
            raise nothing_left(mended, len(published), f"mixture entry {entry.label}")
        chosen = choose_queries(usable, entry.queries_per_video, self.seed)
        kept = cap(chosen, entry.max_samples, f"{self.seed}/{index}")
        self.sampling.check(kept, f"mixture entry {entry.label}")
        tasks = [sample.task for sample in kept]
        summary = EntrySummary(
            label=entry.label,
            tasks={task: tasks.count(task) for task in dict.fromkeys(tasks)},
            read=len(published),
            chosen=len(choose_queries(published, entry.queries_per_video, self.seed)),
            usable=len(chosen),
            kept=len(kept),
            per_epoch=len(draw(len(kept), entry.weight, 0, "")),
            dropped=mended.counts("dropped"),
        )
        return kept, summary


def choose_queries(samples: list[Sample], per_video: int | Literal["all"], seed: int) -> list[Sample]:
    """At most `per_video` samples of each video (or of the same pictures), drawn by the seed and the samples' ids, in the order they came in."""
    if per_video == "all":
        return samples
    of_video: dict[tuple[str, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        of_video.setdefault(sample.media.key, []).append(index)
    chosen: set[int] = set()
    for indices in of_video.values():
        generator = random.Random(f"{seed}/{samples[indices[0]].id}")
        chosen.update(generator.sample(indices, min(per_video, len(indices))))
    return [sample for index, sample in enumerate(samples) if index in chosen]


def cap(samples: list[Sample], limit: int | None, key: str) -> list[Sample]:
    """At most `limit` of the samples, drawn by `key`, in the order they came in."""
    if limit is None or limit >= len(samples):
        return samples
    chosen = random.Random(f"{key}/cap").sample(range(len(samples)), limit)
    return [samples[index] for index in sorted(chosen)]


def draw(size: int, weight: float, epoch: int, key: str) -> list[int]:
    """The positions of a pool of `size` that an epoch draws.

    Epochs cut an endless row of permutations of the pool into pieces of weight * size: no sample comes a second time
    before every other has come once, whatever the weight.
    """
    begin, end = (math.floor(edge * weight * size + 0.5) for edge in (epoch, epoch + 1))
    positions: list[int] = []
    for round_number in range(begin // size, -(-end // size)):
        order = list(range(size))
        random.Random(f"{key}/round {round_number}").shuffle(order)
        first = round_number * size
        positions += order[max(begin - first, 0) : end - first]
    return positions


def _read(entry: MixtureEntry, root: Path, probe: DurationProbe | None) -> list[Sample]:
    def under(path: str | None) -> Path | None:
        return None if path is None else root / path

    if entry.manifest is not None:
        samples = read_manifest(root / entry.manifest, under(entry.videos))
    else:
        assert entry.dataset is not None and entry.annotations is not None
        samples = CORPORA[entry.dataset].read(
            root / entry.annotations,
            under(entry.videos),
            task=entry.task,
            durations=under(entry.durations),
            probe_durations=probe,
            allow_unknown_durations=True,
        )
    kind = None if entry.shows is None else _SHOWN[entry.shows]
    wanted = [s for s in samples if entry.task in (None, s.task) and (kind is None or isinstance(s.media, kind))]
    if not wanted and (entry.task or entry.shows):
        tasks = sorted({sample.task for sample in samples})
        what = f"{f' of the task {entry.task!r}' if entry.task else ''}{f' that shows {entry.shows}' if entry.shows else ''}"
        raise DataError(f"{root / str(entry.manifest or entry.annotations)} has no sample{what}; it has {tasks}")
    return wanted


def _sum_line(counts: list[int], words: str) -> str:
    terms = f" = {' + '.join(f'{count:,}' for count in counts)}" if len(counts) > 1 else ""
    return f"{counted(sum(counts), 'sample')} {words}{terms}"


def _entry_line(entry: MixtureEntry, summary: EntrySummary) -> str:
    steps = [f"{summary.read:,} read"]
    if entry.queries_per_video != "all":
        steps.append(f"{summary.chosen:,} with queries_per_video {entry.queries_per_video}")
    if summary.dropped:
        reasons = ", ".join(f"{count:,} {kind}" for kind, count in summary.dropped.items())
        steps.append(f"{summary.usable:,} after mending (dropped {reasons})")
    if entry.max_samples is not None:
        steps.append(f"{summary.kept:,} with max_samples {entry.max_samples}")
    if entry.weight != 1.0:
        steps.append(f"{summary.per_epoch:,} per epoch with weight {entry.weight:g}")
    tasks = ", ".join(f"{task} {count:,}" for task, count in summary.tasks.items())
    return f"  {summary.label}: {', '.join(steps)}: {tasks}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
