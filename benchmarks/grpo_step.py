"""One GRPO step, three ways, in one run on one model and machine: seconds, tokens, memory, and that they agree.

    python benchmarks/grpo_step.py [--preset cpu_short|cpu_long|gpu_7b] [--json]

(a) `trl`       TRL's own GRPOTrainer, fed every second frame as an image: an image fills a whole temporal patch, so that
                the prompts have equally many tokens (asserted)
(b) `repeated`  this project's trainer with `share_prompt: false`
(c) `shared`    this project's trainer

All with the same weights, threads, precision, prompts, completion lengths (forced) and without gradient checkpointing.
Ratios are medians of steps after one warm-up step.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

from videochat_r1.training.start import keep_vllm_out

keep_vllm_out()

from datasets import Dataset  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from videochat_r1.geometry import Span  # noqa: E402
from videochat_r1.grpo.config import VideoGRPOConfig  # noqa: E402
from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix  # noqa: E402
from videochat_r1.grpo.trainer import VideoGRPOTrainer  # noqa: E402
from videochat_r1.modeling.inputs import PromptInputs  # noqa: E402
from videochat_r1.modeling.load import load_config, load_model, load_processor  # noqa: E402
from videochat_r1.modeling.prompts import PromptBuilder  # noqa: E402
from videochat_r1.modeling.tiny import build_tiny  # noqa: E402
from videochat_r1.sample import Sample, SpanTarget, Video  # noqa: E402
from videochat_r1.video.frames import VideoBudget, load_frames  # noqa: E402

PHASES = {
    "_generate_single_turn": "rollout",
    "_get_per_token_logps_and_entropies": "logps",
    "training_step": "step",
}
"""Methods that TRL's trainer and this project's both have -> what the table calls the time in them."""


@dataclass(frozen=True)
class Preset:
    """Sizes of one comparison. P prompt tokens follow from frames and side."""

    hidden: int
    layers: int
    vision_hidden: int
    vision_layers: int
    frames: int
    side: int
    new_tokens: int
    steps: int
    generations: int = 8
    beta: float = 0.04
    device: str = "cpu"


PRESETS = {
    "cpu_short": Preset(256, 6, 128, 4, frames=16, side=224, new_tokens=64, steps=5),
    "cpu_long": Preset(256, 6, 128, 4, frames=64, side=308, new_tokens=200, steps=3),
}


class Timed:
    """Adds up the seconds spent in the methods of `PHASES`; put before a trainer class."""

    seconds: defaultdict[str, float]

    @contextmanager
    def _timing(self, phase: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            _synchronize()
            self.seconds[phase] += time.perf_counter() - begin


def _timed(name: str, phase: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The same method computes the reference (no gradient) and the policy, whose time is part of the loss.
        label = "loss" if phase == "logps" and torch.is_grad_enabled() else phase
        with self._timing(label):
            return getattr(super(Timed, self), name)(*args, **kwargs)

    return method


for _name, _phase in PHASES.items():
    setattr(Timed, _name, _timed(_name, _phase))


class TimedTRL(Timed, GRPOTrainer):
    """(a)"""


class TimedVideo(Timed, VideoGRPOTrainer):
    """(b) and (c)"""


class OneSample:
    """The same sample again and again."""

    def __init__(self, sample: Sample, count: int) -> None:
        self._samples = [sample] * count

    def samples(self, epoch: int) -> list[Sample]:
        """Whatever the epoch."""
        return self._samples


def varied_reward(completions: list[Any], **columns: Any) -> list[float]:
    """Differs between completions, so that every step has a gradient."""
    return [(sum(map(ord, str(completion))) % 97) / 97 for completion in completions]


def prepare(folder: Path, preset: Preset) -> tuple[Path, Sample]:
    """Model folder and a sample whose video has exactly the preset's frames."""
    model = folder / "model"
    build_tiny(
        model,
        hidden=preset.hidden,
        layers=preset.layers,
        vision_hidden=preset.vision_hidden,
        vision_layers=preset.vision_layers,
    )
    path = folder / "video.mp4"
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(2))
        stream.width = stream.height = preset.side
        stream.pix_fmt = "yuv420p"
        for _ in range(preset.frames):
            small = generator.integers(0, 255, (14, 14, 3), dtype=np.uint8)
            picture = np.asarray(Image.fromarray(small).resize((preset.side, preset.side)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    duration = preset.frames / 2
    target = SpanTarget(Span(1.0, duration / 2), duration)
    return model, Sample("bench", "temporal_grounding", Video(path=str(path)), "the square is red", target, duration)


def budget(preset: Preset) -> VideoBudget:
    """Frames as they are in the file."""
    area = preset.side**2
    return VideoBudget(fps=2.0, max_frames=preset.frames, min_pixels=area, max_pixels=area, total_pixels=area * 1000)


def common_options(preset: Preset, folder: Path) -> dict[str, Any]:
    """What all three trainers share."""
    return {
        "output_dir": str(folder / "out"),
        "use_cpu": preset.device == "cpu",
        "bf16": preset.device != "cpu",
        "gradient_checkpointing": False,
        "per_device_train_batch_size": preset.generations,
        "num_generations": preset.generations,
        "max_completion_length": preset.new_tokens,
        "beta": preset.beta,
        "loss_type": "grpo",
        "learning_rate": 1e-6,
        "max_steps": preset.steps + 1,
        "logging_steps": 1000,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
    }


def video_trainer(model: Path, sample: Sample, preset: Preset, folder: Path, *, share_prompt: bool) -> TimedVideo:
    """(b) or (c), told never to end a completion early."""
    processor = load_processor(model)
    trainer = TimedVideo(
        load_model(model, dtype=torch.float32),
        args=VideoGRPOConfig(**common_options(preset, folder), share_prompt=share_prompt, log_rollouts=False),
        processor=processor,
        builder=PromptBuilder(processor, load_config(model), budget(preset)),
        source=OneSample(sample, preset.steps + 2),
        reward_funcs=[varied_reward],
    )
    sampling = trainer._sampling
    never = (*sampling.suppressed_token_ids, *sampling.eos_token_ids)
    trainer._sampling = replace(sampling, suppressed_token_ids=never, eos_token_ids=())
    return trainer


def trl_trainer(model: Path, sample: Sample, preset: Preset, folder: Path, num_tokens: int) -> TimedTRL:
    """(a), with filler words so that its prompt has exactly as many tokens, whatever images add around themselves."""
    processor = load_processor(model)
    processor.image_processor.size = {"shortest_edge": preset.side**2, "longest_edge": preset.side**2}
    frames = load_frames(sample.video, budget(preset)).pixels[::2]
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]

    def length(words: int) -> int:
        content = [{"type": "image", "image": image} for image in images]
        message = [{"role": "user", "content": [*content, {"type": "text", "text": "a" + " a" * words}]}]
        encoded = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=True, return_dict=True)
        return len(encoded["input_ids"][0])

    # A word may be one or two tokens: step up until it fits exactly.
    words = next((n for n in range(400) if length(n) == num_tokens), None)
    if words is None:
        raise SystemExit(f"no filler gives TRL's prompt {num_tokens} tokens (it has {length(0)} without)")
    rows = {"prompt": [[{"role": "user", "content": "a" + " a" * words}]] * (preset.steps + 2)}
    dataset = Dataset.from_dict(rows)
    dataset = dataset.add_column("images", [images] * len(dataset))
    args = GRPOConfig(**common_options(preset, folder), generation_kwargs={"min_new_tokens": preset.new_tokens})
    return TimedTRL(
        load_model(model, dtype=torch.float32),
        reward_funcs=[varied_reward],
        args=args,
        train_dataset=dataset,
        processing_class=processor,
    )


def run_steps(trainer: Any) -> list[dict[str, float]]:
    """Seconds per phase of every step but the first."""
    steps: list[dict[str, float]] = []
    trainer.seconds = defaultdict(float)
    original = trainer.training_step

    def step(*args: Any, **kwargs: Any) -> Any:
        trainer.seconds = defaultdict(float)
        begin = time.perf_counter()
        result = original(*args, **kwargs)
        waited = trainer._metrics["train"].get("time/video_wait", [0.0])
        trainer.seconds["decode"] = waited[-1] if waited else 0.0
        trainer.seconds["total"] = time.perf_counter() - begin
        steps.append(dict(trainer.seconds))
        return result

    trainer.training_step = step
    trainer.train()
    return steps[1:]


def medians(steps: list[dict[str, float]]) -> dict[str, float]:
    """Per phase; `loss and update` is what is left of a step."""
    names = ("decode", "rollout", "logps", "total")
    result = {name: statistics.median(step.get(name, 0.0) for step in steps) for name in names}
    result["loss and update"] = result["total"] - result["decode"] - result["rollout"] - result["logps"]
    return result


def logp_inputs(model: Path, sample: Sample, preset: Preset) -> tuple[PreTrainedModel, PromptInputs, torch.Tensor]:
    """A model with fused head, a prompt and random completions."""
    processor = load_processor(model)
    policy = load_model(model, dtype=torch.float32).to(preset.device)
    install_shared_prefix(policy)
    add_fused_lm_head(policy, outputs=("log_probs", "entropy"))
    prompt = PromptBuilder(processor, load_config(model), budget(preset)).build(sample).to(preset.device)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 200, (preset.generations, preset.new_tokens), generator=generator).to(preset.device)
    return policy, prompt, ids


def logps(policy: PreTrainedModel, prompt: PromptInputs, ids: torch.Tensor, *, share: bool) -> torch.Tensor:
    """(G, C) by one forward."""
    rows = ([prompt] * len(ids), ids, torch.ones_like(ids))
    return completion_logps(policy, *rows, share_prompt=share, compute_entropy=False, pad_token_id=0)[0]


def gradient(policy: PreTrainedModel, values: torch.Tensor) -> torch.Tensor:
    """Of a loss with a weight of its own for each row, over all weights in one vector."""
    policy.zero_grad()
    weights = torch.linspace(-1.0, 1.0, len(values), device=values.device)
    (values * weights[:, None]).mean().backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


def compare_logps(model: Path, sample: Sample, preset: Preset) -> dict[str, float]:
    """Times and largest differences of shared against repeated log-probabilities."""
    policy, prompt, ids = logp_inputs(model, sample, preset)
    results: dict[bool, tuple[torch.Tensor, torch.Tensor]] = {}
    seconds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for round_number in range(1 + (preset.steps if preset.new_tokens < 100 else 1)):
        for share in (True, False):
            begin = time.perf_counter()
            values = logps(policy, prompt, ids, share=share)
            results[share] = (values.detach(), gradient(policy, values))
            _synchronize()
            both = time.perf_counter() - begin
            begin = time.perf_counter()
            with torch.no_grad():
                logps(policy, prompt, ids, share=share)
            _synchronize()
            if round_number:
                seconds["fwd_bwd", share].append(both)
                seconds["fwd", share].append(time.perf_counter() - begin)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    (shared, shared_gradient), (repeated, repeated_gradient) = results[True], results[False]
    return {
        "logp_fwd_bwd": median["fwd_bwd", False] / median["fwd_bwd", True],
        "logp_fwd": median["fwd", False] / median["fwd", True],
        "seconds_fwd_bwd_shared": median["fwd_bwd", True],
        "seconds_fwd_shared": median["fwd", True],
        "max_logp_difference": float((shared - repeated).abs().max()),
        "relative_gradient_difference": float((shared_gradient - repeated_gradient).norm() / repeated_gradient.norm()),
    }


def extra_memory(model: Path, sample: Sample, preset: Preset, *, share: bool) -> float:
    """MiB that one forward and backward needs beyond what was in use before; meaningful once per process."""
    policy, prompt, ids = logp_inputs(model, sample, preset)
    gradient(policy, logps(policy, prompt, ids[:1, :2], share=share))  # buffers that stay, gradients among them
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gradient(policy, logps(policy, prompt, ids, share=share))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory_ratio(name: str) -> dict[str, float]:
    """Each way in a process of its own, as a process's peak never falls."""
    megabytes = {}
    for way in ("repeated", "shared"):
        command = [sys.executable, __file__, "--preset", name, "--memory-of", way]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        megabytes[way] = float(output.splitlines()[-1])
    return {
        "memory": megabytes["repeated"] / max(megabytes["shared"], 1.0),
        "extra_mib_repeated": megabytes["repeated"],
        "extra_mib_shared": megabytes["shared"],
    }


def run_preset(name: str) -> dict[str, Any]:
    """Everything about one preset."""
    preset = PRESETS[name]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        model, sample = prepare(folder, preset)
        processor = load_processor(model)
        prompt = PromptBuilder(processor, load_config(model), budget(preset)).build(sample)
        _say(f"{name}: P = {prompt.num_tokens}, G = {preset.generations}, C = {preset.new_tokens}")
        agreement = compare_logps(model, sample, preset)
        memory = memory_ratio(name)
        times = {}
        for way in ("shared", "repeated", "trl"):
            _say(f"{name}: timing {way}")
            if way == "trl":
                trainer: Any = trl_trainer(model, sample, preset, folder, prompt.num_tokens)
            else:
                trainer = video_trainer(model, sample, preset, folder, share_prompt=way == "shared")
            times[way] = medians(run_steps(trainer))
    completion_tokens = preset.generations * preset.new_tokens
    return {
        "ratios": {
            "step_vs_trl": times["trl"]["total"] / times["shared"]["total"],
            "step_vs_repeated": times["repeated"]["total"] / times["shared"]["total"],
            "logp_fwd_bwd": agreement["logp_fwd_bwd"],
            "logp_fwd": agreement["logp_fwd"],
            "memory": memory["memory"],
        },
        "seconds": times,
        "prompt_tokens": prompt.num_tokens,
        "tokens_per_logp_forward": {
            "repeated": preset.generations * prompt.num_tokens + completion_tokens,
            "shared": prompt.num_tokens + completion_tokens,
        },
        "agreement": agreement,
        "memory": memory,
        "threads": torch.get_num_threads(),
    }


def print_table(name: str, result: dict[str, Any]) -> None:
    """For people."""
    columns = ("total", "decode", "rollout", "logps", "loss and update")
    print(f"\n{name}: P = {result['prompt_tokens']}, {result['threads']} threads; seconds per step (medians)")
    print(f"{'':10}" + "".join(f"{column:>17}" for column in columns))
    for way, times in result["seconds"].items():
        print(f"{way:10}" + "".join(f"{times[column]:17.2f}" for column in columns))
    for key, value in result["ratios"].items():
        print(f"{key:18} {value:6.2f}")
    tokens = result["tokens_per_logp_forward"]
    print(f"tokens per log-probability forward: {tokens['repeated']:,} repeated, {tokens['shared']:,} shared")
    print(
        f"shared against repeated: log-probabilities within {result['agreement']['max_logp_difference']:.1e}, "
        f"gradients within a relative {result['agreement']['relative_gradient_difference']:.1e}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="default: both CPU presets")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--memory-of", choices=("shared", "repeated"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        with tempfile.TemporaryDirectory() as directory:
            preset = PRESETS[arguments.preset]
            print(extra_memory(*prepare(Path(directory), preset), preset, share=arguments.memory_of == "shared"))
        return
    names = [arguments.preset] if arguments.preset else ["cpu_short", "cpu_long"]
    results = {name: run_preset(name) for name in names}
    for name, result in results.items():
        print_table(name, result)
    if arguments.json:
        print(json.dumps({"presets": results}))


if __name__ == "__main__":
    main()
