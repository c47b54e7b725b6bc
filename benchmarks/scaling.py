"""How the cost of log-probabilities grows with completions (G), prompt (P) and completion length (C), and whether as predicted.

    python benchmarks/scaling.py [--output FOLDER] [--model small|debug] [--G 2,4,8,16] [--P 550,...] [--C 50,...] [--threads N] [--json]

Forward and backward of a group, prompt shared and prompt repeated, are timed in turns on the model of `grpo_step.py`'s CPU presets.
The prediction of the shared cost is

    seconds = a (tokens) + b (pairs) + c (video patches) + d,    pairs = P^2/2 + G (P C + C^2/2),    tokens = P + G C

with rates a, b, c >= 0 and a constant d >= 0 found by non-negative least squares on the points where P or C varies; the points
where G varies, but for the one they have in common, have no say in it, so they test it. The repeated cost gets the same with G
times the patches, pairs G (P + C)^2 / 2 and tokens G (P + C). Prints the largest deviation as G goes up and whether it is
within 20 %, and draws `scaling.svg` and `scaling.png`.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from videochat_r1.training.start import keep_vllm_out

keep_vllm_out()

from matplotlib import pyplot as plt  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix  # noqa: E402
from videochat_r1.modeling.families import family_of  # noqa: E402
from videochat_r1.modeling.inputs import Medium, PromptInputs, placeholder_spans  # noqa: E402
from videochat_r1.modeling.load import load_model, load_processor  # noqa: E402
from videochat_r1.modeling.positions import mrope_positions  # noqa: E402
from videochat_r1.modeling.tiny import build_tiny  # noqa: E402

LIMIT = 0.2
MODELS = {
    "small": {"hidden": 256, "layers": 6, "vision_hidden": 128, "vision_layers": 4},
    "debug": {"hidden": 64, "layers": 2},
}
TEXT_TOKENS = 30
FRAME = 8
"""Rows and columns of a frame in tokens; P is made of whole frames and the text."""


@dataclass(frozen=True, slots=True)
class Point:
    """Sizes of a group: G, P (as near as whole frames allow) and C."""

    completions: int
    prompt: int
    length: int

    @property
    def steps(self) -> int:
        """Pairs of frames."""
        return max(1, round((self.prompt - TEXT_TOKENS) / FRAME**2))

    @property
    def tokens(self) -> int:
        """P as it is."""
        return self.steps * FRAME**2 + TEXT_TOKENS

    def terms(self, shared: bool) -> list[float]:
        """What the rates of the prediction multiply, in thousands and millions, so that the fit is well conditioned."""
        prompt, length, patches = self.tokens, self.length, 4 * self.steps * FRAME**2
        if shared:
            tokens = prompt + self.completions * length
            pairs = prompt**2 / 2 + self.completions * (prompt * length + length**2 / 2)
        else:
            tokens = self.completions * (prompt + length)
            pairs = self.completions * (prompt + length) ** 2 / 2
            patches *= self.completions
        return [tokens / 1e3, pairs / 1e6, patches / 1e3, 1.0]


def the_prompt(model: PreTrainedModel, video_token: int, point: Point) -> PromptInputs:
    """Random text around a random video."""
    generator = torch.Generator().manual_seed(0)
    grid = (point.steps, 2 * FRAME, 2 * FRAME)
    text = torch.randint(10, 200, (TEXT_TOKENS,), generator=generator)
    half = TEXT_TOKENS // 2
    ids = torch.cat([text[:half], torch.full((point.steps * FRAME**2,), video_token), text[half:]])
    patches = torch.randn(4 * point.steps * FRAME**2, 3 * 2 * 14 * 14, generator=generator)
    video = Medium("video", patches, grid, 2, tuple(frame / 2 for frame in range(2 * point.steps)), 2.0)
    pieces = family_of(model.config).pieces(video, model.config)
    spans = placeholder_spans(ids == video_token, [video])
    return PromptInputs(ids, mrope_positions(ids == video_token, pieces), (video,), "", spans=spans)


def measure(model: PreTrainedModel, video_token: int, point: Point, repeats: int) -> dict[bool, float]:
    """Median seconds of forward and backward, shared (True) and repeated (False), in turns after a warm-up."""
    prompt = the_prompt(model, video_token, point)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(10, 200, (point.completions, point.length), generator=generator)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(1 + repeats):
        for share in (True, False):
            model.zero_grad()
            begin = time.perf_counter()
            logps, _ = completion_logps(
                model,
                [prompt] * point.completions,
                ids,
                torch.ones_like(ids),
                share_prompt=share,
                compute_entropy=False,
                pad_token_id=0,
            )
            logps.mean().backward()
            if number:
                seconds[share].append(time.perf_counter() - begin)
    return {share: statistics.median(times) for share, times in seconds.items()}


def fit(points: Sequence[Point], seconds: Sequence[float], *, shared: bool) -> np.ndarray:
    """The rates, none below 0, that come closest in relative error."""
    terms = np.array([point.terms(shared) for point in points]) / np.array(seconds)[:, None]
    best, least = np.zeros(terms.shape[1]), np.inf
    # With so few rates, the best of all sets of rates that are not 0 is found by trying each.
    for count in range(1, terms.shape[1] + 1):
        for chosen in map(list, itertools.combinations(range(terms.shape[1]), count)):
            found, *_ = np.linalg.lstsq(terms[:, chosen], np.ones(len(terms)), rcond=None)
            error = float(np.square(terms[:, chosen] @ found - 1).sum())
            if (found >= 0).all() and error < least:
                best = np.zeros(terms.shape[1])
                best[chosen], least = found, error
    return best


def predict(rates: np.ndarray, point: Point, *, shared: bool) -> float:
    """Seconds by the formula."""
    return float(rates @ np.array(point.terms(shared)))


def sweeps_of(arguments: argparse.Namespace) -> dict[str, list[Point]]:
    """Axis -> points along it; the other two sizes are in the middle of their lists, G at 8 or its nearest."""
    values = {axis: [int(part) for part in getattr(arguments, axis).split(",")] for axis in "GPC"}
    middle = {axis: sorted(numbers)[len(numbers) // 2] for axis, numbers in values.items()}
    middle["G"] = min(values["G"], key=lambda number: abs(number - 8))
    return {
        axis: [Point(*({**middle, axis: number}[name] for name in "GPC")) for number in sorted(numbers)]
        for axis, numbers in values.items()
    }


def draw(sweeps: dict[str, list[Point]], seconds: Any, rates: dict[bool, np.ndarray], folder: Path) -> None:
    """One panel per axis: measured as points, predicted as lines."""
    mpl.rcParams["svg.hashsalt"] = "scaling"
    names = {"G": "completions G", "P": "prompt tokens P", "C": "completion tokens C"}
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for panel, (axis, points) in zip(panels, sweeps.items(), strict=True):
        xs = [{"G": point.completions, "P": point.tokens, "C": point.length}[axis] for point in points]
        for shared, label, colour in ((False, "repeated", "#e08a1e"), (True, "shared", "#2f6fde")):
            panel.plot(xs, [seconds[point][shared] for point in points], "o", color=colour, label=f"{label}, measured")
            panel.plot(
                xs,
                [predict(rates[shared], point, shared=shared) for point in points],
                "-",
                color=colour,
                alpha=0.6,
                label=f"{label}, formula",
            )
        sizes = {"G": points[0].completions, "P": points[0].tokens, "C": points[0].length}
        panel.set_title(", ".join(f"{name} = {size}" for name, size in sizes.items() if name != axis), fontsize=10)
        panel.set_xlabel(names[axis])
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds, forward and backward")
    panels[0].legend(fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "scaling.svg", metadata={"Date": None})
    figure.savefig(folder / "scaling.png", dpi=120)
    plt.close(figure)


def main() -> None:
    """Parse arguments, measure, fit, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/scaling"), help="folder of the plots")
    parser.add_argument("--model", choices=list(MODELS), default="small")
    parser.add_argument("--G", default="2,4,8,16")
    parser.add_argument("--P", default="500,1000,1500,2000,3000")
    parser.add_argument("--C", default="25,50,100,200,400")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sweeps = sweeps_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        build_tiny(folder, **MODELS[arguments.model])
        model, processor = load_model(folder, dtype=torch.float32), load_processor(folder)
    add_fused_lm_head(model)
    install_shared_prefix(model)
    video_token = processor.tokenizer.convert_tokens_to_ids(processor.video_token)

    seconds: dict[Point, dict[bool, float]] = {}
    print(f"{'G':>4}{'P':>7}{'C':>6}{'shared s':>11}{'repeated s':>12}{'ratio':>8}")
    for point in dict.fromkeys(point for points in sweeps.values() for point in points):
        seconds[point] = measure(model, video_token, point, arguments.repeats)
        shared, repeated = seconds[point][True], seconds[point][False]
        sizes = f"{point.completions:4}{point.tokens:7}{point.length:6}"
        print(f"{sizes}{shared:11.3f}{repeated:12.3f}{repeated / shared:8.1f}", flush=True)

    fitted = [*dict.fromkeys([*sweeps["P"], *sweeps["C"]])]
    rates = {share: fit(fitted, [seconds[point][share] for point in fitted], shared=share) for share in (True, False)}
    deviations = {}
    for share, way in ((True, "shared"), (False, "repeated")):
        off = [predict(rates[share], point, shared=share) / seconds[point][share] - 1 for point in sweeps["G"]]
        deviations[way] = dict(zip([point.completions for point in sweeps["G"]], off, strict=True))
        worst = max(map(abs, off))
        verdict = "within" if worst <= LIMIT else "NOT within"
        per_size = ", ".join(f"G {size}: {value:+.0%}" for size, value in deviations[way].items())
        print(f"{way}: formula against measurement as G grows: {per_size}; {verdict} {LIMIT:.0%}")
    draw(sweeps, seconds, rates, arguments.output)
    print(f"drawn: {arguments.output / 'scaling.svg'}, {arguments.output / 'scaling.png'}")
    if arguments.json:
        rows = [{**asdict(point), "shared": both[True], "repeated": both[False]} for point, both in seconds.items()]
        print(json.dumps({"points": rows, "deviation_over_G": deviations, "threads": arguments.threads}))


if __name__ == "__main__":
    main()
