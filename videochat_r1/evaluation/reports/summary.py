"""Results as text: one benchmark beside its baselines, several beside the paper's Table 1."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from videochat_r1.errors import counted
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.rollout.ended import shares_in_words


class Column(NamedTuple):
    """A column of the paper's Table 1: where its number is found in results."""

    benchmark: str
    heading: str
    metric: str
    task: str | None = None
    group: tuple[str, str] | None = None
    """(breakdown, group) where the paper reports a part of the benchmark."""


TABLE_1 = (
    Column("charades_sta", "mIoU", "mIoU"),
    Column("charades_sta", "R@0.5", "R1@0.5"),
    Column("charades_sta", "R@0.7", "R1@0.7"),
    Column("activitynet", "mIoU", "mIoU"),
    Column("activitynet", "R@0.5", "R1@0.5"),
    Column("activitynet", "R@0.7", "R1@0.7"),
    Column("nextgqa", "mIoU", "union_mIoU", task="grounded_qa"),
    Column("nextgqa", "acc", "accuracy", task="grounded_qa"),
    Column("got10k", "Overlap", "overlap"),
    Column("got10k", "R@0.5", "R@0.5"),
    Column("videomme", "Short-Avg", "accuracy", group=("duration", "short")),
    Column("mvbench", "Avg", "accuracy"),
    Column("perception_test", "Val", "accuracy"),
)
"""Columns in the paper's order."""

HEADINGS = {
    "charades_sta": "Charades-STA",
    "activitynet": "ActivityNet",
    "nextgqa": "NExTGQA",
    "got10k": "GoT",
    "videomme": "VideoMME",
    "mvbench": "MVBench",
    "perception_test": "PerceptionTest",
}

PAPER: dict[str, tuple[float | None, ...]] = {
    "Qwen2.5-VL-7B": (29.0, 24.2, 11.1, 21.1, 15.8, 7.5, 15.4, 59.5, 12.6, 1.1, 71.3, 66.9, 69.1),
    "+SFT Charades-STA": (46.3, 45.0, 25.3, 20.6, 16.7, 7.9, *[None] * 7),
    "+SFT GoT": (*[None] * 8, 41.8, 29.5, 59.2, 58.6, 58.5),
    "+SFT NExTGQA": (*[None] * 6, 28.2, 64.8, None, None, 60.1, 59.2, 60.7),
    "VideoChat-R1": (60.8, 71.7, 50.2, 36.6, 33.4, 17.7, 32.4, 70.6, 43.8, 38.2, 72.2, 67.9, 70.0),
    "VideoChat-R1-thinking": (59.9, 70.6, 47.2, 35.5, 33.3, 16.7, 36.1, 69.2, 43.3, 33.9, 74.2, 66.2, 69.6),
}
"""Table 1 of the paper (arXiv 2504.06958), in percent; None where it has no number."""


def result_table(results: Mapping[str, Any]) -> str:
    """One benchmark: every metric in percent with its 95 % interval, the baselines beside it, failures and breakdowns below."""
    name, task, count = results["benchmark"], results["task"], results["num_samples"]
    head = f"{name} ({task}): {counted(count, 'sample')}, {results['num_failed']:,} failed"
    if results["failures"]:
        kinds = [f"{kind} {found['count']:,}" for kind, found in results["failures"].items()]
        head += f" ({', '.join(kinds)})"
    if "ended" in results:
        head += f"\nended: {shares_in_words(results['ended'])}"
    if "num_unscored" in results:
        head += "\n" + _judged(results)
    subset = results["settings"].get("subset", "all")
    published = BENCHMARKS[name].num_samples.get(subset) if name in BENCHMARKS.shipped else None
    limited = results["settings"].get("limit") is not None
    if published not in (None, count) and not limited:
        head += f"\nnote: the published benchmark has {published:,} samples"
    baselines = {key: means for key, means in results["baselines"].items() if means is not None}
    rows = [["", "result", "95 % interval", *baselines]]
    for metric, value in results["metrics"].items():
        interval = results["ci95"].get(metric)
        shown = "" if interval is None else f"[{percent(interval[0])}, {percent(interval[1])}]"
        others = [percent(means.get(metric)) for means in baselines.values()]
        rows.append([metric, percent(value), shown, *others])
    lines = [head, aligned(rows)]
    for key, means in results["baselines"].items():
        note = results["baseline_notes"].get(key)
        if means is None and note:
            lines.append(f"{key}: none, {note}")
    for breakdown, groups in results["by"].items():
        lines.append(_breakdown(breakdown, groups, results["headline"]))
    return "\n".join(lines)


def paper_table(ours: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The layout of the paper's Table 1 with its rows, and ours below; `-` where there is no number.

    Below stands what a reader could mistake: numbers of the first samples only, and columns that several results would fill.

    Args:
        ours: name of a row -> the results that its numbers are taken from.
    """
    results = [one for row in ours.values() for one in row]
    used = [column for column in TABLE_1 if any(one["benchmark"] == column.benchmark for one in results)] or TABLE_1
    places = [TABLE_1.index(column) for column in used]
    groups = [HEADINGS[column.benchmark] for column in used]
    first = ["", *(group if place == 0 or groups[place - 1] != group else "" for place, group in enumerate(groups))]
    rows = [first, ["", *(column.heading for column in used)]]
    paper = {row: [values[place] for place in places] for row, values in PAPER.items()}
    rows += [[row, *map(_one_digit, values)] for row, values in paper.items() if any(v is not None for v in values)]
    notes: dict[str, None] = {}
    for name, found in ours.items():
        candidates = [_candidates(column, found) for column in used]
        rows.append([name, *(percent(values[0][1] if values else None, digits=1) for values in candidates)])
        notes |= dict.fromkeys(note for values in candidates for note in _notes(name, values))
    return "\n".join([aligned(rows), *notes])


def _candidates(column: Column, results: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], float]]:
    """The results that have the column's number, with it."""
    found = []
    for one in results:
        if one["benchmark"] != column.benchmark or column.task not in (None, one["task"]):
            continue
        # The paper's numbers are without subtitles.
        if one.get("settings", {}).get("subtitles") is not None:
            continue
        means = one["metrics"] if column.group is None else one["by"].get(column.group[0], {}).get(column.group[1], {})
        if (value := means.get(column.metric)) is not None:
            found.append((one, value))
    return found


def _notes(name: str, candidates: Sequence[tuple[Mapping[str, Any], float]]) -> list[str]:
    if not candidates:
        return []
    (first, value), *others = candidates
    notes = []
    if (limit := first.get("settings", {}).get("limit")) is not None:
        notes.append(f"note: {name}: {first['benchmark']} is of the first {counted(limit, 'sample')} only")
    if any(other != value for _, other in others):
        notes.append(
            f"note: {name}: {len(candidates)} results of {first['benchmark']} differ, the table has the first: "
            + ", ".join(str(one.get("folder", "?")) for one, _ in candidates)
        )
    return notes


def _judged(results: Mapping[str, Any]) -> str:
    """Who judged, what it could not tell, and what nobody read who was to."""
    judge = results["judge"]
    reasons = "; ".join(f"{found['count']:,} for: {reason}" for reason, found in results["unscored"].items())
    left_out = f"{results['num_unscored']:,} unscored, left out of the means" + (f" ({reasons})" if reasons else "")
    if unread := results.get("unread"):
        count = sum(found["count"] for found in unread.values())
        left_out += f"; {count:,} that only a judge can read by the authors' rule were not read ({'; '.join(unread)})"
    return f"judge: {judge['model']}, prompts {judge['prompt_version']}; {left_out}" if judge else left_out


def _breakdown(name: str, groups: Mapping[str, Mapping[str, float | None]], metric: str) -> str:
    parts = [f"{group} {percent(means.get(metric))} ({means['num_samples']:,})" for group, means in groups.items()]
    return f"{metric} by {name}: {', '.join(parts)}"


def percent(value: float | None, digits: int = 2) -> str:
    """`-` for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _one_digit(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns side by side, the first `left` of them to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
