"""Tables of papers with their published numbers, and the results of models beside them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from videochat_r1.errors import counted
from videochat_r1.evaluation.benchmarks.base import ALL
from videochat_r1.evaluation.benchmarks.video_r1 import VIDEO_R1_ACCURACY
from videochat_r1.evaluation.reports.summary import aligned, percent

Results = Mapping[str, Any]
"""What a `results.json` holds."""
NOT_RUN = "not run"


class Column(NamedTuple):
    """A column of a table: where its number is found in results."""

    benchmark: str
    heading: str
    metric: str
    task: str | None = None
    group: tuple[str, str] | None = None
    """(breakdown, group) where the paper reports a part of the benchmark."""


class PaperTable(NamedTuple):
    """A table as published.

    Args:
        columns: in the paper's order; those that it does not have come last.
        published: name of a row and most frames of its videos (None where the paper does not tell) -> its values in percent,
            None where the paper has no number.
        by_frames: whether rows are told apart by their frames.
    """

    columns: tuple[Column, ...]
    published: Mapping[tuple[str, int | None], tuple[float | None, ...]]
    by_frames: bool = False


HEADINGS = {
    "charades_sta": "Charades-STA",
    "activitynet": "ActivityNet",
    "nextgqa": "NExTGQA",
    "got10k": "GoT",
    "videomme": "VideoMME",
    "mvbench": "MVBench",
    "perception_test": "PerceptionTest",
    "lvbench": "LVBench",
    "mlvu": "MLVU",
    "vsi_bench": "VSI-Bench",
    "videommmu": "VideoMMMU",
    "mmvu": "MMVU",
    "tempcompass": "TempCompass",
}

_VIDEOCHAT_R1 = PaperTable(
    (
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
        Column("lvbench", "Overall", "accuracy"),
        Column("mlvu", "M-Avg", "M-Avg"),
    ),
    {
        (name, None): (*values, None, None)
        for name, values in {
            "Qwen2.5-VL-7B": (29.0, 24.2, 11.1, 21.1, 15.8, 7.5, 15.4, 59.5, 12.6, 1.1, 71.3, 66.9, 69.1),
            "+SFT Charades-STA": (46.3, 45.0, 25.3, 20.6, 16.7, 7.9, *[None] * 7),
            "+SFT GoT": (*[None] * 8, 41.8, 29.5, 59.2, 58.6, 58.5),
            "+SFT NExTGQA": (*[None] * 6, 28.2, 64.8, None, None, 60.1, 59.2, 60.7),
            "VideoChat-R1": (60.8, 71.7, 50.2, 36.6, 33.4, 17.7, 32.4, 70.6, 43.8, 38.2, 72.2, 67.9, 70.0),
            "VideoChat-R1-thinking": (59.9, 70.6, 47.2, 35.5, 33.3, 16.7, 36.1, 69.2, 43.3, 33.9, 74.2, 66.2, 69.6),
        }.items()
    },
)
"""Table 1 of VideoChat-R1 (arXiv 2504.06958), and two benchmarks of long videos that it has not."""

_VIDEO_R1 = PaperTable(
    (
        Column("vsi_bench", "acc+MRA", "average_video_r1"),
        Column("videommmu", "acc", VIDEO_R1_ACCURACY),
        Column("mmvu", "mc", VIDEO_R1_ACCURACY),
        Column("mvbench", "acc", VIDEO_R1_ACCURACY),
        Column("tempcompass", "acc", VIDEO_R1_ACCURACY),
        Column("videomme", "no subs", VIDEO_R1_ACCURACY),
    ),
    {
        ("GPT-4o", None): (34.0, 61.2, 75.4, None, None, 71.9),
        ("Qwen2.5-VL-7B (CoT)", 16): (27.7, 47.8, 59.2, 57.4, 72.2, 53.1),
        ("Qwen2.5-VL-7B-SFT", 16): (31.8, 47.4, 61.3, 59.4, 69.2, 52.8),
        ("Video-R1-7B", 16): (34.6, 49.8, 64.2, 62.7, 72.6, 57.4),
        ("Qwen2.5-VL-7B (CoT)", 32): (30.1, 48.1, 60.0, 59.0, 72.6, 56.6),
        ("Qwen2.5-VL-7B-SFT", 32): (33.3, 49.4, 63.5, 60.5, 69.9, 55.4),
        ("Video-R1-7B", 32): (35.8, 52.3, 63.8, 63.9, 73.2, 59.3),
        ("Qwen2.5-VL-7B (CoT)", 64): (31.4, 50.4, 60.0, 59.2, 72.9, 59.6),
        ("Qwen2.5-VL-7B-SFT", 64): (34.8, 49.4, 61.6, 60.6, 70.0, 58.8),
        ("Video-R1-7B", 64): (37.1, 52.4, 63.8, 64.8, 73.2, 61.4),
    },
    by_frames=True,
)
"""The main table of Video-R1 (arXiv 2503.21776), of its 7B models."""

TABLES: Mapping[str, PaperTable] = {"videochat_r1": _VIDEOCHAT_R1, "video_r1": _VIDEO_R1}


def paper_table(table: PaperTable, ours: Mapping[str, Sequence[Results]]) -> str:
    """The table with the published rows, and ours below those of as many frames; `-` where there is no number.

    Below stands what a reader could mistake: numbers of a part of the samples, and columns that several results would fill.

    Args:
        table: one of `TABLES`.
        ours: name of a row -> the results that its numbers are taken from. Where rows are told apart by their frames, each has one
            for every number of frames that the paper or a result has.
    """
    headings = [HEADINGS[column.benchmark] for column in table.columns]
    first = [heading if place == 0 or headings[place - 1] != heading else "" for place, heading in enumerate(headings)]
    lead = ["", ""] if table.by_frames else [""]
    second = [column.heading for column in table.columns]
    rows = [[*lead, *first], [*lead[:-1], "frames" if table.by_frames else "", *second]]
    notes: dict[str, None] = {}
    for frames, part in _by_frames(table, ours):
        shown = [str(frames) if frames is not None else "-"] if table.by_frames else []
        for (name, of_frames), values in table.published.items():
            if of_frames == frames:
                rows.append([name, *shown, *("-" if value is None else f"{value:.1f}" for value in values)])
        for name, found in part.items():
            cells = [_cell(column, found) for column in table.columns]
            rows.append([name, *shown, *cells])
            notes |= dict.fromkeys(note for column in table.columns for note in _notes(name, column, found))
    return "\n".join([aligned(rows), *notes])


def _by_frames(
    table: PaperTable, ours: Mapping[str, Sequence[Results]]
) -> Iterator[tuple[int | None, Mapping[str, Sequence[Results]]]]:
    """Frames of a block of rows -> our results in it; one block where frames do not tell rows apart."""
    if not table.by_frames:
        yield None, ours
        return
    columns = {column.benchmark for column in table.columns}
    split: dict[int | None, dict[str, list[Results]]] = {}
    for name, found in ours.items():
        for one in found:
            if one["benchmark"] in columns:
                split.setdefault(_frames(one), {}).setdefault(name, []).append(one)
    published = {frames for _, frames in table.published}
    for frames in sorted({*published, *split}, key=lambda frames: frames or 0):
        expected: dict[str, list[Results]] = (
            {name: [] for name in ours} if frames in published and frames is not None else {}
        )
        yield frames, {**expected, **split.get(frames, {})}


def _frames(results: Results) -> int | None:
    """Most frames of a video that the model saw; None of a prediction file."""
    video = results.get("settings", {}).get("video")
    return video.get("max_frames") if isinstance(video, dict) else None


def _cell(column: Column, results: Sequence[Results]) -> str:
    values = [value for _, value in _candidates(column, results)]
    if values:
        return percent(values[0], digits=1)
    return "-" if any(_is_of(column, one) for one in results) else NOT_RUN


def _is_of(column: Column, results: Results) -> bool:
    """Whether results are of the column's benchmark as the papers run it, which is without subtitles."""
    is_its = results["benchmark"] == column.benchmark and column.task in (None, results["task"])
    return is_its and results.get("settings", {}).get("subtitles") is None


def _candidates(column: Column, results: Sequence[Results]) -> list[tuple[Results, float]]:
    """The results that have the column's number, with it."""
    found = []
    for one in results:
        if not _is_of(column, one):
            continue
        means = one["metrics"] if column.group is None else one["by"].get(column.group[0], {}).get(column.group[1], {})
        if (value := means.get(column.metric)) is not None:
            found.append((one, value))
    return found


def _notes(name: str, column: Column, results: Sequence[Results]) -> list[str]:
    candidates = _candidates(column, results)
    if not candidates:
        return []
    (first, value), *others = candidates
    settings, notes = first.get("settings", {}), []
    if (limit := settings.get("limit")) is not None:
        notes.append(f"note: {name}: {first['benchmark']} is of the first {counted(limit, 'sample')} only")
    if column.group is None and (subset := settings.get("subset", ALL)) != ALL:
        notes.append(f"note: {name}: {first['benchmark']} is of its subset {subset}")
    if any(other != value for _, other in others):
        notes.append(
            f"note: {name}: {len(candidates)} results of {first['benchmark']} differ, the table has the first: "
            + ", ".join(str(one.get("folder", "?")) for one, _ in candidates)
        )
    return notes
