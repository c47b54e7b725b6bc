"""The result of a benchmark as text, beside its baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.errors import counted
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.rollout.ended import shares_in_words


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
        rows.append([with_known(metric, results), percent(value), shown, *others])
    lines = [head, aligned(rows)]
    for key, means in results["baselines"].items():
        note = results["baseline_notes"].get(key)
        if means is None and note:
            lines.append(f"{key}: none, {note}")
    for breakdown, groups in results["by"].items():
        lines.append(_breakdown(breakdown, groups, results["headline"]))
    return "\n".join(lines)


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


def with_known(metric: str, results: Mapping[str, Any]) -> str:
    """The metric's name; where nobody knows the truth of some samples, with the number of the others."""
    known = results.get("num_known", {}).get(metric)
    return metric if known is None else f"{metric} (of {known:,})"


def percent(value: float | None, digits: int = 2) -> str:
    """`-` for None."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


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
