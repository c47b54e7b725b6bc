"""The vision tower on one video: transformers' own loop over windows against segments of equal length in one call.

    python benchmarks/vision_tower.py [--preset cpu_long] [--threads N]

On model and video of a preset of `grpo_step.py`. A step of the shared prompt runs the tower forward for the rollout and for
the reference, and forward and backward for the policy. Medians of five, the two ways in turn.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import torch
from one_step.workload import PRESETS, prepare, the_prompts

from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_model
from videochat_r1.modeling.vision_segments import install_batched_segments

_TIMES = 5


def main() -> None:
    """Print seconds of both ways, and what a step of the shared prompt spends in the tower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu_long", choices=[name for name in PRESETS if name.startswith("cpu")])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    preset = PRESETS[options.preset]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, preset)
        (prompt, *_) = the_prompts(folder, preset)
        path = next(each for each in folder.iterdir() if (each / "config.json").exists())
        loop = load_model(path, dtype=torch.float32).model.visual
    batched = copy.deepcopy(loop)
    install_batched_segments(batched)
    towers = {"loop": loop, "batched": batched}
    (video,) = prompt.media
    print(f"{options.preset}: grid {video.grid}, {options.threads} threads")
    medians = {}
    for what, backward in (("forward", False), ("forward and backward", True)):
        seconds = {name: [] for name in towers}
        for _ in range(_TIMES):
            for name, tower in towers.items():
                seconds[name].append(_once(tower, prompt, backward))
        medians[what] = {name: statistics.median(values) for name, values in seconds.items()}
        print(f"{what:22}" + "".join(f"  {name} {value:.3f} s" for name, value in medians[what].items()))
    step = {name: 2 * medians["forward"][name] + medians["forward and backward"][name] for name in towers}
    print(f"{'in a step':22}" + "".join(f"  {name} {value:.2f} s" for name, value in step.items()))


def _once(tower: torch.nn.Module, prompt: PromptInputs, backward: bool) -> float:
    begin = time.perf_counter()
    with torch.set_grad_enabled(backward):
        (video,) = prompt.media
        features = tower(video.patches, grid_thw=torch.tensor([video.grid])).pooler_output
        if backward:
            features.sum().backward()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
