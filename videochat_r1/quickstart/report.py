"""The quickstart's `report.html`: what was learned, how the rewards rose, and what the models say about single videos."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videochat_r1.evaluation.reports.drawing import (
    Lane,
    Series,
    film_strip,
    legend,
    line_chart,
    line_charts_file,
    time_line,
)
from videochat_r1.evaluation.reports.page import cards, example, grid, page, section, table
from videochat_r1.geometry import Box, Span
from videochat_r1.grpo.rollout_file import ROLLOUTS, read_rollouts
from videochat_r1.quickstart.summary import COLUMNS, Rows, flat_metrics
from videochat_r1.sample import Sample
from videochat_r1.video.frames import VideoBudget, load_frames

MODEL_COLOURS = {"sft": "before", "grpo": "after", "sft_continued": "third"}
REWARD_COLOURS = {"format": "blind", "iou": "after", "accuracy": "truth"}
TASK_TITLES = {
    "temporal_grounding": "Temporal grounding",
    "tracking": "Tracking",
    "grounded_qa": "Grounded QA",
}

REWARD_CURVES = "rewards.svg"

_SMOOTHED_STEPS = 21

# What a mean over samples is called of a single one.
_OF_ONE = {"mIoU": "IoU"}

# The videos as they are, at the rate at which the model sees them.
_SHOWN = VideoBudget(fps=2.0, total_pixels=1 << 24, min_pixels=1, max_pixels=112 * 112, isolation="none")


def write_report(
    output: Path,
    summary: Mapping[str, Any],
    details: Mapping[str, Any],
    samples: Sequence[Sample],
    rows: Mapping[str, Rows],
) -> None:
    """Write `output/report.html`, and its reward curves as `output/rewards.svg`.

    Args:
        output: the run's folder, which holds `rollouts.jsonl`.
        summary: what `summary.json` will hold.
        details: what `details.json` will hold.
        samples: the held-out samples.
        rows: model -> its answers to them, in the same order.
    """
    title = "VideoChat-R1 quickstart: a tiny model learns from video with GRPO"
    steps, threads = details["training"]["grpo"], details["num_threads"]
    subtitle = (
        f"{steps['num_steps']} GRPO updates in {steps['seconds']:.0f} s on {threads} CPU thread{'s' * (threads > 1)}, "
        f"seed {details['seed']}; {min(details['num_samples'].values())} held-out samples per task."
    )
    curves = _curves(output / ROLLOUTS)
    (output / REWARD_CURVES).write_text(line_charts_file(curves, x_label="update"), encoding="utf-8")
    sections = [
        _headlines(summary["tasks"]),
        section("Results", _results(summary["tasks"]), _results_note(details)),
        section(
            "Rewards while training",
            grid([line_chart(title, series, x_label="update") for title, series in curves.items()]),
            "Mean over the rollouts of each update (faint), and over the updates around it (bold).",
        ),
    ]
    if "longer_videos" in summary:
        note = (
            "Videos of a length that no model was trained on; numbers it never had to write cannot be expected of it."
        )
        sections.append(section("Longer videos", _results(summary["longer_videos"]), note))
    for task in summary["tasks"]:
        indices = [index for index, sample in enumerate(samples) if sample.task == task]
        chosen = _chosen(indices, rows, summary["tasks"][task]["headline"])
        body = "".join(_example(note, samples[index], {m: r[index] for m, r in rows.items()}) for note, index in chosen)
        truth = "truth (dashed)" if task == "tracking" else "truth"
        colours = {truth: "truth", **{COLUMNS[model]: MODEL_COLOURS[model] for model in rows}}
        sections.append(section(TASK_TITLES[task], legend(colours) + body))
    sections.append(section("How it was made", _settings(details)))
    (output / "report.html").write_text(page(title, subtitle, sections), encoding="utf-8")


# --- numbers --------------------------------------------------------------------------------------------------------


def _headlines(tasks: Mapping[str, Any]) -> str:
    values = []
    for task, entry in tasks.items():
        metric = entry[entry["headline"]]
        low, high = metric["ci95"]
        meaning = (
            f"{entry['headline']}, SFT to GRPO: {metric['grpo'] - metric['sft']:+.3f}, "
            f"95 % interval {low:+.3f} to {high:+.3f}; without looking: {metric['blind']:.3f}"
        )
        values.append((TASK_TITLES[task], f"{metric['sft']:.3f} → {metric['grpo']:.3f}", meaning))
    return cards(values)


def _results(tasks: Mapping[str, Any]) -> str:
    metrics = flat_metrics(tasks)
    models = [name for name in COLUMNS if any(name in values for _, _, values in metrics)]
    rows = [
        [
            TASK_TITLES[task],
            metric,
            *(f"{values[model]:.3f}" for model in models),
            f"{values['grpo'] - values['sft']:+.3f}",
            "{:+.3f} to {:+.3f}".format(*values["ci95"]),
        ]
        for task, metric, values in metrics
    ]
    strong = [index for index, (task, metric, _) in enumerate(metrics) if metric == tasks[task]["headline"]]
    header = ["task", "metric", *(COLUMNS[model] for model in models), "GRPO - SFT", "95 % interval"]
    return table(header, rows, text_columns=range(2), strong=strong)


def _results_note(details: Mapping[str, Any]) -> str:
    blind = "; ".join(f"{TASK_TITLES[task]}: {entry['name']}" for task, entry in details["blind_answers"].items())
    return (
        "Headline metrics are bold. The interval is a paired bootstrap of GRPO minus SFT over held-out samples. "
        f"Blind is the best answer that ignores the video, chosen on the training set ({blind})."
    )


def _curves(rollouts: Path) -> dict[str, list[Series]]:
    """Title of a task -> a line for each reward: its mean over each update's rollouts of that task."""
    values: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for group in read_rollouts(rollouts):
        for rollout in group["rollouts"]:
            for name, value in rollout["rewards"].items():
                if value is not None:
                    values[group["task"]][name][group["step"]].append(value)
    return {
        TASK_TITLES.get(task, task): [
            Series(
                name,
                REWARD_COLOURS.get(name, "third"),
                [(float(step), float(np.mean(column))) for step, column in sorted(steps.items())],
                _SMOOTHED_STEPS,
            )
            for name, steps in rewards.items()
        ]
        for task, rewards in sorted(values.items())
    }


def _settings(details: Mapping[str, Any]) -> str:
    rows = [[f"{name}: updates", str(run["num_steps"])] for name, run in details["training"].items()]
    rows += [[f"{name}: seconds", f"{run['seconds']:.1f}"] for name, run in details["training"].items()]
    rows += [["SFT start", "trained in this run" if details["from_scratch"] else "given"]]
    rows += [["commit", str(details["git_commit"])]]
    rows += [[name, version] for name, version in details["versions"].items()]
    return table(["what", "value"], rows, text_columns=range(2))


# --- examples -------------------------------------------------------------------------------------------------------


def _chosen(indices: Sequence[int], rows: Mapping[str, Rows], metric: str) -> list[tuple[str, int]]:
    """Samples to show, with the reason: the most gained, the most lost, and two in the middle of the order by gain."""
    gain = {i: rows["grpo"][i]["scores"][metric] - rows["sft"][i]["scores"][metric] for i in indices}
    order = sorted(indices, key=lambda index: gain[index])
    middle = len(order) // 2
    picks = [
        ("most gained", order[-1]),
        ("typical", order[middle]),
        ("typical", order[middle - 1]),
        ("most lost", order[0]),
    ]
    seen: set[int] = set()
    return [(note, index) for note, index in picks if not (index in seen or seen.add(index))]  # type: ignore[func-returns-value]


def _example(note: str, sample: Sample, answers: Mapping[str, Mapping[str, Any]]) -> str:
    shown = load_frames(sample.video, _SHOWN, factor=1)
    frames: NDArray[np.uint8] = shown.pixels.permute(0, 2, 3, 1).numpy()
    target = next(iter(answers.values()))["target"]
    scores = ", ".join(
        f"{COLUMNS[model]} {_OF_ONE.get(name, name)} {value:.2f}"
        for model, answer in answers.items()
        for name, value in answer["scores"].items()
        if name in ("mIoU", "overlap", "accuracy")
    )
    texts = {COLUMNS[model]: answer["completion"] for model, answer in answers.items()}
    if "boxes" in target:
        lanes = {"truth": target["boxes"]} | {model: answer["parsed"] or [] for model, answer in answers.items()}
        pictures = [film_strip(frames, _boxes_per_frame(lanes, len(frames)))]
    else:
        spans = [Lane("truth", "truth", _spans(target))]
        spans += [Lane(COLUMNS[m], MODEL_COLOURS[m], _spans(answer["parsed"])) for m, answer in answers.items()]
        pictures = [film_strip(frames), time_line(spans, float(sample.duration or shown.duration))]
    question = sample.query
    if "options" in target:
        options = ", ".join(f"({letter}) {text}" for letter, text in zip("ABCDEFGH", target["options"], strict=False))
        question = f"{question} {options}; right: {target['answer']}"
    return example(f"{question} ({note}: {scores})", texts, pictures)


def _spans(value: Any) -> list[Span]:
    """Spans in the JSON form of a target or an answer of a task about time."""
    if value is None:
        return []
    if isinstance(value, dict):
        pairs = [value["span"]] if "span" in value else value["spans"]
    else:
        pairs = [value]
    return [Span(float(start), float(end)) for start, end in pairs]


def _boxes_per_frame(lanes: Mapping[str, Sequence[Any]], num_frames: int) -> list[list[tuple[Box, str]]]:
    """For each frame the boxes of truth and models, with colours."""
    colours = {"truth": "truth", **MODEL_COLOURS}
    return [
        [(Box(*boxes[index]), colours[name]) for name, boxes in lanes.items() if index < len(boxes) and boxes[index]]
        for index in range(num_frames)
    ]
