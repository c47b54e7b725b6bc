"""A tiny model, tiny videos and a mixed corpus for tests of training.

As a program, `python -m tests.tiny_runs RUNS`: each run of the JSON list trains in a child of its own, which sends itself
SIGKILL at the checkpoint of step `kill.step`, before or after it is marked complete; prints the signals they died of.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from videochat_r1.training.start import keep_vllm_out

if __name__ == "__main__":
    keep_vllm_out()

from videochat_r1.datasets.manifest import write_manifest
from videochat_r1.geometry import Box, Span
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.rollout_file import read_rollouts
from videochat_r1.grpo.run import load_rewards
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.sample import BoxesTarget, ChoiceTarget, GroundedChoiceTarget, Pictures, Sample, SpanTarget, Video
from videochat_r1.second_look.question import Reading
from videochat_r1.training import checkpoint
from videochat_r1.video.frames import VideoBudget


def write_video(path: Path, *, seconds: float, fps: int, size: int = 56, seed: int = 0) -> None:
    """A few seconds of coloured noise as H.264."""
    frames = np.random.default_rng(seed).integers(0, 255, (int(seconds * fps), size, size, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def make_corpus(folder: Path, count: int = 12) -> list[Sample]:
    """`count` samples of three tasks over four videos of different lengths and rates."""
    videos = []
    for index, (seconds, fps) in enumerate([(2.0, 8), (3.0, 10), (2.5, 6), (4.0, 8)]):
        path = folder / f"{index}.mp4"
        if not path.exists():
            write_video(path, seconds=seconds, fps=fps, seed=index)
        videos.append((Video(path=str(path)), seconds))
    samples = []
    for index in range(count):
        video, seconds = videos[index % len(videos)]
        if index % 3 == 0:
            target = SpanTarget(Span(0.5, 1.5), seconds)
            samples.append(Sample(f"g{index}", "temporal_grounding", video, f"event {index}", target, seconds, "toy"))
        elif index % 3 == 1:
            boxes = BoxesTarget((Box(0.1, 0.1, 0.5, 0.5),) * 8)
            samples.append(Sample(f"t{index}", "tracking", video, f"object {index}", boxes, seconds, "toy"))
        else:
            choice = GroundedChoiceTarget(("red", "blue"), "A", (Span(0.0, 1.0),), seconds)
            samples.append(Sample(f"q{index}", "grounded_qa", video, f"question {index}", choice, seconds, "toy"))
    return samples


def make_picture_corpus(folder: Path, count: int = 4) -> list[Sample]:
    """`count` questions about one picture and about two, in turn, of three pictures of different sizes."""
    paths = []
    for index, (width, height) in enumerate([(70, 50), (60, 90), (100, 40)]):
        paths.append(folder / f"{index}.png")
        if not paths[-1].exists():
            noise = np.random.default_rng(index).integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(noise).save(paths[-1])
    target = ChoiceTarget(("red", "blue"), "A")
    samples = []
    for index in range(count):
        shown = Pictures(tuple(str(paths[(index + more) % 3]) for more in range(1 + index % 2)))
        samples.append(Sample(f"p{index}", "multi_choice_qa", shown, f"question {index}", target, source="toy"))
    return samples


def write_train_manifest(folder: Path, count: int = 12, pictures: int = 0) -> None:
    """`train.jsonl` of the corpus and so many questions about pictures, files relative to the folder."""
    samples = [*make_corpus(folder, count), *make_picture_corpus(folder, pictures)]
    local = [replace(sample, media=sample.media.moved(lambda path: Path(path).name)) for sample in samples]
    write_manifest(folder / "train.jsonl", local)


class Source:
    """Samples in an order that depends on the epoch alone."""

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples

    def samples(self, epoch: int) -> list[Sample]:
        order = np.random.default_rng(epoch).permutation(len(self._samples))
        return [self._samples[index] for index in order]


def chatty_parse_reward(completions, sample_id, **columns):
    """Something that varies between the completions of an untrained model, so that groups carry a gradient."""
    return [(sum(map(ord, text)) % 97) / 97 for text in completions]


def by_letters(completion, sample, look):
    """In place of `looks.read`, as an untrained model names no clues: its letters decide, some of them alike, a third none at all."""
    number = sum(map(ord, completion))
    return Reading(None, () if number % 3 == 0 else (Span(0.2 + 0.5 * (number % 2), 1.1),))


def logged_rollouts(folder: Path) -> list[dict]:
    """The completions of a run's log, each with what its group says."""
    groups = list(read_rollouts(folder / "rollouts.jsonl"))
    return [{**group, **rollout} for group in groups for rollout in group["rollouts"]]


DEFAULTS = {
    "use_cpu": True,
    "bf16": False,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "prompts_per_step": 2,
    "max_completion_length": 6,
    "loss_type": "grpo",
    "beta": 0.04,
    "learning_rate": 1e-3,
    "max_steps": 2,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "seed": 7,
}


def make_trainer(
    folder: Path,
    *,
    samples=None,
    peft_config=None,
    callbacks=(),
    freeze=False,
    family="qwen2_5_vl",
    prompting=None,
    **overrides,
):
    """A trainer over the toy corpus; model and videos are made on first use of the folder. `prompting` is the builder's."""
    model_path = folder / f"model_{family}"
    if not model_path.exists():
        build_tiny(model_path, hidden=64, layers=2, vision_hidden=32, family=family)
    entries = overrides.pop("reward_entries", None) or [
        *({"name": name} for name in ("format", "iou", "accuracy")),
        {"name": f"{__name__}:chatty_parse_reward"},
    ]
    args = VideoGRPOConfig(**{**DEFAULTS, "output_dir": str(folder / "run"), **overrides})
    rewards, args.reward_weights = load_rewards(entries, bonuses=args.bonuses())
    processor = load_processor(model_path)
    budget = VideoBudget(fps=3.0, max_frames=16, min_pixels=28 * 28, max_pixels=56 * 56)
    model = load_model(model_path, dtype=torch.float32)
    if freeze:
        model.model.visual.requires_grad_(False)
    return VideoGRPOTrainer(
        model,
        args=args,
        processor=processor,
        builder=PromptBuilder(processor, load_config(model_path), budget, **(prompting or {})),
        source=Source(samples if samples is not None else make_corpus(folder)),
        reward_funcs=rewards,
        callbacks=list(callbacks),
        peft_config=peft_config,
    )


def main() -> None:
    """One process for all runs, because importing the libraries takes longer than training."""
    signals = []
    for run in json.loads(sys.argv[1]):
        child = os.fork()
        if child == 0:
            trainer = make_trainer(Path(run["folder"]), **run["overrides"])
            _arm(trainer, run["kill"]["step"], run["kill"]["when"])
            trainer.train()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        signals.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
    print(json.dumps(signals))


def _arm(trainer: VideoGRPOTrainer, step: int, when: str) -> None:
    """Die at the checkpoint of `step`, before or after it is marked complete."""
    original = checkpoint.mark_complete

    def deadly(folder: Path, at: int, state: dict) -> None:
        if at == step and when == "before_marker":
            os.kill(os.getpid(), signal.SIGKILL)
        original(folder, at, state)
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.mark_complete = deadly


if __name__ == "__main__":
    main()
