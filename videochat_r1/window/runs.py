"""What the folders are that a window is opened for, and where the files lie that they show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.scoring.results import RESULTS, SAMPLES, read_results
from videochat_r1.grpo.rollout_file import ROLLOUTS, group_of
from videochat_r1.options import read_yaml, untyped
from videochat_r1.provenance import RESOLVED_CONFIG
from videochat_r1.text import listing, load_json
from videochat_r1.training.metrics_file import METRICS, MetricsReader
from videochat_r1.window.index import Index
from videochat_r1.window.media import Folders

_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Run:
    """A training run or a scored benchmark.

    Args:
        name: of its folder, told apart from the others' where they have the same.
        kind: `training` or `evaluation`.
        folder: of the run.
        index: of its groups; those of an evaluation have one answer each.
        folders: where what it shows is looked for.
        metrics: what training logged; nothing of an evaluation.
        results: what an evaluation's `results.json` holds.
    """

    name: str
    kind: str
    folder: Path
    index: Index
    folders: Folders
    metrics: MetricsReader
    results: Mapping[str, Any] | None = None


def open_runs(outputs: Sequence[Path], videos: Sequence[Path]) -> list[Run]:
    """The runs in these folders or below them.

    Args:
        outputs: each a run's folder, its `rollouts.jsonl`, or a folder of several runs.
        videos: folders to look for videos in, before those that the runs name.

    Raises:
        ConfigError: a folder is not there, or holds no run.
        DataError: a result of an evaluation is damaged.
    """
    for folder in videos:
        if not folder.is_dir():
            raise ConfigError(f"the folder {folder} of --videos does not exist")
    logs = [log for output in outputs for log in logs_of(output)]
    names = _names([log.parent for log in dict.fromkeys(logs)])
    return [_open(log, name, videos) for log, name in zip(dict.fromkeys(logs), names, strict=True)]


def logs_of(output: Path) -> list[Path]:
    """The logs of an output, its own or those below; at least one."""
    if output.name in (ROLLOUTS, SAMPLES) and output.is_file():
        return [output]
    if not output.is_dir():
        raise ConfigError(f"{output} is no folder of a run; its folder holds: {listing(output.parent)}")
    found = list(_below(output, _DEEPEST))
    if not found:
        raise ConfigError(
            f"{output} holds no {ROLLOUTS} of a GRPO run and no {RESULTS} of `videochat-r1 eval`, nor does a folder in it: "
            f"{listing(output)}"
        )
    return found


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """The logs of a folder, or those of the folders in it; what a run keeps below its own is no run."""
    # One that has begun has drawn nothing yet, and supervised training never will.
    if any((folder / name).is_file() for name in (ROLLOUTS, METRICS, RESOLVED_CONFIG)):
        yield folder / ROLLOUTS
    elif (folder / RESULTS).is_file() and (folder / SAMPLES).is_file():
        yield folder / SAMPLES
    elif depth:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from _below(inner, depth - 1)


def _open(log: Path, name: str, videos: Sequence[Path]) -> Run:
    folder = log.parent
    metrics = MetricsReader(_own(folder, METRICS))
    if log.name == SAMPLES:
        results = read_results(folder)
        roots = [*videos, *_evaluated(results["settings"])]
        return Run(name, "evaluation", folder, Index(log, _SampleLines(results)), Folders(roots), metrics, results)
    return Run(
        name, "training", folder, Index(log, whole_group), Folders([*videos, folder, *_trained_on(folder)]), metrics
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names; where several have the same, with those above that tell them apart."""

    def name(parts: Sequence[str]) -> str:
        depth = 1
        while depth < len(parts) and sum(other[-depth:] == parts[-depth:] for other in resolved) > 1:
            depth += 1
        return "/".join(parts[-depth:]).lstrip("/")

    resolved = [folder.resolve().parts for folder in folders]
    return [name(parts) for parts in resolved]


def _trained_on(folder: Path) -> Iterator[Path]:
    """The videos folders of a run's recipe."""
    config = _own(folder, RESOLVED_CONFIG)
    if not config.is_file():
        return
    data = untyped(read_yaml(config, "the recipe of a run")).get("data")
    if not isinstance(data, dict):
        return
    root = Path(str(data.get("data_root") or "."))
    for entry in data.get("mixture") or ():
        yield from (
            root / str(entry[key])
            for key in ("videos", "annotations")
            if entry.get(key) and _is_folder(root / str(entry[key]))
        )


def _evaluated(settings: Mapping[str, Any]) -> Iterator[Path]:
    """The videos folder of a benchmark's run."""
    for key in ("videos", "annotations"):
        if settings.get(key) and _is_folder(Path(str(settings[key]))):
            yield Path(str(settings[key]))


def recorded_settings(run: Run) -> Mapping[str, Any] | None:
    """What a run was made with: `resolved_config.yaml`, or the settings of a result; None where a training run left none."""
    if run.results is not None:
        return dict(run.results["settings"])
    config = _own(run.folder, RESOLVED_CONFIG)
    return untyped(read_yaml(config, "the recipe of a run")) if config.is_file() else None


def _own(folder: Path, name: str) -> Path:
    """A file of a run; of the quickstart's run it lies in the folder of its training."""
    inner = folder / "checkpoints" / "grpo" / name
    return inner if inner.is_file() else folder / name


def _is_folder(path: Path) -> bool:
    return path.is_dir()


def whole_group(line: bytes) -> dict[str, Any] | None:
    """A line of `rollouts.jsonl` that has all that is counted; None for another, whoever wrote it."""
    group = group_of(line)
    if group is None or not (isinstance(group.get("task"), str) and isinstance(group.get("sample_id"), str)):
        return None
    rollouts = group["rollouts"]
    return group if all(isinstance(one, dict) and isinstance(one.get("rewards"), dict) for one in rollouts) else None


class _SampleLines:
    """Reads a line of an evaluation's `samples.jsonl` as a group of one rollout, whose rewards are its scores."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self._benchmark, self._headline = results["benchmark"], results.get("headline")

    def __call__(self, line: bytes) -> dict[str, Any] | None:
        try:
            row = load_json(line.decode("utf-8"))
        except ValueError:
            return None
        if not isinstance(row, dict) or not {"id", "task", "target"} <= row.keys():
            return None
        scores = row.get("scores") or {}
        rollout = {
            "completion": row.get("completion"),
            "parsed": row.get("parsed"),
            "rewards": scores,
            "reward": scores.get(self._headline),
            "num_tokens": row.get("num_tokens"),
            "ended": row.get("ended") or row.get("failure"),
            "problem": row.get("reason") or row.get("unscored") or row.get("failure"),
            "verdicts": row.get("verdicts"),
            "looks": (row.get("clue_perception") or {}).get("passes"),
        }
        shown = {key: row[key] for key in ("video", "video_parts", "images") if key in row}
        about = {
            "step": 0,
            "sample_id": row["id"],
            "task": row["task"],
            "source": self._benchmark,
            "prompt": row.get("query"),
        }
        return {**about, **shown, "target": row["target"], "rollouts": [rollout]}
