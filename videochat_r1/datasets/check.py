"""The report of a corpus: how many videos, pictures and samples, and every problem by kind, those of files included."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videochat_r1.datasets.base import count_media, count_sorts, is_there
from videochat_r1.datasets.parallel import ask_all
from videochat_r1.datasets.problems import KINDS, UNREAD, Problem, problems_of
from videochat_r1.errors import counted, shown
from videochat_r1.sample import Media, Pictures, Sample, Target

MediaProbe = Callable[[Media], str | None]
"""Why a video or one of several pictures cannot be decoded, or None; must come back for any file, hanging ones included."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `data check` says. `problems` has the kinds that occur, in the order of `KINDS`; `sorts` is of `count_sorts`."""

    dataset: str
    num_videos: int
    num_samples: int
    num_pictures: int
    problems: dict[str, list[Problem]]
    sorts: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The public form: `{"dataset", "num_videos", "num_samples", "problems": {kind: count}}`; `num_pictures` where there are any,
        `tasks` and `sources` where there are several."""
        counts = {kind: len(found) for kind, found in self.problems.items()}
        return {
            "dataset": self.dataset,
            "num_videos": self.num_videos,
            **({"num_pictures": self.num_pictures} if self.num_pictures else {}),
            "num_samples": self.num_samples,
            **self.sorts,
            "problems": counts,
        }

    def to_text(self, examples: int = 3) -> str:
        """The report for people, with the first examples of each kind."""
        pictures = [counted(self.num_pictures, "picture")] if self.num_pictures else []
        counts = [counted(self.num_videos, "video"), *pictures, counted(self.num_samples, "sample")]
        lines = [f"{self.dataset}: {', '.join(counts)}"]
        if not self.num_samples:
            return f"{lines[0]}: the annotations are empty"
        if not self.problems:
            lines[0] += ", no problems"
        lines += self._sorts_to_text()
        for kind, found in self.problems.items():
            lines.append(f"  {len(found):>7,}  {kind}: {KINDS[kind]}")
            lines += [
                f"           {shown(problem.sample_id)}: {shown(problem.detail, 300)}" for problem in found[:examples]
            ]
        return "\n".join(lines)

    def _sorts_to_text(self) -> list[str]:
        """A line of each task, and of each source with its tasks."""
        lines = [f"  {count:>7,}  {task}" for task, count in self.sorts.get("tasks", {}).items()]
        for source, tasks in self.sorts.get("sources", {}).items():
            by_task = ", ".join(f"{task} {count:,}" for task, count in tasks.items())
            lines.append(f"  {sum(tasks.values()):>7,}  from {shown(source)}: {by_task}")
        return lines


def check_samples(
    samples: Sequence[Sample],
    dataset: str,
    *,
    look_for_files: bool = False,
    probe: MediaProbe | None = None,
    workers: int = 4,
    progress: bool = False,
) -> Report:
    """All problems of a corpus.

    Args:
        samples: with published targets; with joined video paths where videos are looked for.
        dataset: name to print.
        look_for_files: report files that are not there.
        probe: decodes every video and picture that is there.
        workers: probes under way at once.
        progress: show a bar on stderr while probing.
    """
    found = [problem for sample in samples for problem in problems_of(sample)]
    found += _repeated_rows(samples)
    first = {sample.media.key: sample for sample in reversed(samples)}
    if look_for_files:
        absent = {problem.sample_id for problem in found if problem.kind in UNREAD}
        missing = missing_files(sample for sample in first.values() if sample.id not in absent)
        found += missing
        if probe is not None:
            absent |= {problem.sample_id for problem in missing}
            present = [sample for sample in first.values() if sample.id not in absent]
            found += undecodable(present, probe, workers=workers, progress=progress)
    counts = {"num_pictures": 0, **count_media(samples)}
    problems = _by_kind(found, [sample.id for sample in samples])
    return Report(dataset, **counts, num_samples=len(samples), problems=problems, sorts=count_sorts(samples))


def missing_files(samples: Iterable[Sample]) -> list[Problem]:
    """The samples whose video file, or one of whose frames or pictures, is not there."""
    problems = []
    for sample in samples:
        absent = next((path for path in sample.media.files if not is_there(Path(path))), None)
        if absent is not None:
            problems.append(_file_problem(sample, "missing", absent))
    return problems


def undecodable(
    samples: Sequence[Sample], probe: MediaProbe, *, workers: int = 4, progress: bool = False
) -> list[Problem]:
    """The samples whose video or pictures `probe` cannot decode; `workers` are asked at once, with a bar on stderr if wanted."""
    shown_media = [sample.media for sample in samples]
    reasons = ask_all(probe, shown_media, workers=workers, progress=progress, description="decoding")
    return [
        _file_problem(sample, "undecodable", reason)
        for sample, reason in zip(samples, reasons, strict=True)
        if reason is not None
    ]


def _file_problem(sample: Sample, what: str, detail: str) -> Problem:
    kind = "picture" if isinstance(sample.media, Pictures) else "video"
    return Problem(f"{what}_{kind}", sample.id, detail)


def _repeated_rows(samples: Sequence[Sample]) -> list[Problem]:
    first: dict[tuple[str, ...], str] = {}
    targets: dict[tuple[str, ...], set[Target]] = defaultdict(set)
    problems = []
    for sample in samples:
        row = (*sample.media.key, sample.query, _options_of(sample))
        if row in first:
            kind = "duplicate_row" if sample.target in targets[row] else "ambiguous_query"
            problems.append(Problem(kind, sample.id, f"{shown(sample.query)!r}, like {shown(first[row])}"))
        first.setdefault(row, sample.id)
        targets[row].add(sample.target)
    return problems


def _options_of(sample: Sample) -> str:
    """Questions are the same only with the same options."""
    return repr(getattr(sample.target, "options", ()))


def _by_kind(found: list[Problem], order: list[str]) -> dict[str, list[Problem]]:
    position = {sample_id: index for index, sample_id in enumerate(order)}
    problems: dict[str, list[Problem]] = {kind: [] for kind in KINDS}
    for problem in sorted(found, key=lambda problem: position[problem.sample_id]):
        problems[problem.kind].append(problem)
    return {kind: listed for kind, listed in problems.items() if listed}
