"""One GRPO step, three ways, in one run on one model and machine: seconds, tokens, memory, and that they agree.

    python benchmarks/grpo_step.py [--preset cpu_short|cpu_long|gpu_7b|debug] [--threads N] [--json]

(a) `trl`       TRL's own GRPOTrainer, fed every second frame as an image: an image fills a whole temporal patch, so that
                the prompts have equally many tokens (asserted)
(b) `repeated`  this project's trainer with `share_prompt: false` (its rollout shares the prompt all the same)
(c) `shared`    this project's trainer

All with the same weights, threads, precision, prompts and completion lengths (forced). On the CPU without gradient
checkpointing; `gpu_7b` is the 7B model with random weights in bf16, which does not fit without. Every measurement has a process of
its own, so that none inherits another's memory. Figures are medians of steps after one warm-up step, and a step is all that
lies between the ends of two updates.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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

from datasets import Dataset, Features, Value  # noqa: E402
from datasets import Image as ImageFeature  # noqa: E402
from transformers import PreTrainedModel, TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from videochat_r1.doctor import flops  # noqa: E402
from videochat_r1.doctor.estimate import GPUS, gpu_named  # noqa: E402
from videochat_r1.errors import ConfigError  # noqa: E402
from videochat_r1.geometry import Span  # noqa: E402
from videochat_r1.grpo.config import VideoGRPOConfig  # noqa: E402
from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix  # noqa: E402
from videochat_r1.grpo.trainer import VideoGRPOTrainer  # noqa: E402
from videochat_r1.modeling.inputs import PromptInputs  # noqa: E402
from videochat_r1.modeling.load import (  # noqa: E402
    MODEL_CLASSES,
    load_config,
    load_model,
    load_processor,
    vision_token_ids,
)
from videochat_r1.modeling.prompts import PromptBuilder  # noqa: E402
from videochat_r1.modeling.published import published_config  # noqa: E402
from videochat_r1.modeling.tiny import build_processor, build_tiny, build_tokenizer  # noqa: E402
from videochat_r1.modeling.video_features import unwrap  # noqa: E402
from videochat_r1.sample import Sample, SpanTarget, Video  # noqa: E402
from videochat_r1.video.frames import VideoBudget, load_frames  # noqa: E402

WAYS = ("shared", "repeated", "trl")
PHASES = ("decode", "rollout", "logps", "loss", "update")
"""Columns of the table: videos read and preprocessed, and whatever is no other; completions; log-probabilities of the
reference; forward and backward of the policy; optimiser."""


@dataclass(frozen=True)
class Preset:
    """Sizes of one comparison. P prompt tokens follow from frames and side.

    Args:
        frames: of the video, two of which make a row of tokens.
        side: of a frame, in pixels.
        new_tokens: C.
        steps: measured.
        sizes: arguments of `build_tiny`; unused where `published` is given.
        published: name of a published checkpoint whose sizes the model has.
    """

    frames: int
    side: int
    new_tokens: int
    steps: int
    sizes: tuple[tuple[str, int], ...] = ()
    published: str | None = None
    generations: int = 8
    beta: float = 0.04
    device: str = "cpu"

    @property
    def on_gpu(self) -> bool:
        """bf16, gradient checkpointing, and an optimiser without state, whose moments one GPU could not hold."""
        return self.device != "cpu"

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and computation."""
        return torch.bfloat16 if self.on_gpu else torch.float32

    @property
    def grid(self) -> flops.VideoGrid:
        """The video in tokens."""
        return flops.VideoGrid(self.frames // 2, self.side // 28, self.side // 28)


_SIX_MILLION = (("hidden", 256), ("layers", 6), ("vision_hidden", 128), ("vision_layers", 4))
PRESETS = {
    "cpu_short": Preset(frames=16, side=224, new_tokens=64, steps=5, sizes=_SIX_MILLION),
    "cpu_long": Preset(frames=64, side=308, new_tokens=200, steps=3, sizes=_SIX_MILLION),
    "gpu_7b": Preset(frames=64, side=308, new_tokens=200, steps=3, published="Qwen2.5-VL-7B", device="cuda"),
    "debug": Preset(frames=4, side=112, new_tokens=6, steps=1, sizes=(("hidden", 64), ("layers", 2)), generations=3),
}
"""`debug` says nothing: it only tries everything, on the smallest sizes."""


class Timed:
    """Adds up seconds by phase; put before a trainer class."""

    seconds: defaultdict[str, float]

    @contextmanager
    def _timing(self, phase: str) -> Iterator[None]:
        _synchronize()
        begin = time.perf_counter()
        try:
            yield
        finally:
            _synchronize()
            self.seconds[phase] += time.perf_counter() - begin


_TIMED_METHODS = {
    "_generate_single_turn": "rollout",
    "_get_per_token_logps_and_entropies": "logps",
    "_prepare_inputs": "inputs",
    "training_step": "training_step",
}
"""Methods that TRL's trainer and this project's both have -> what their time is called here. Inputs hold rollout and logps."""


def _timed(name: str, phase: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        # The same method computes the reference (no gradient) and the policy, whose time is part of the loss.
        label = "policy" if phase == "logps" and torch.is_grad_enabled() else phase
        with self._timing(label):
            return getattr(super(Timed, self), name)(*args, **kwargs)

    return method


for _name, _phase in _TIMED_METHODS.items():
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


def build_model(path: Path, preset: Preset) -> None:
    """Save a model with random weights, the same for the same preset, and its processor."""
    if preset.published is None:
        build_tiny(path, **dict(preset.sizes))  # type: ignore[arg-type]
        return
    config = published_config(preset.published)
    if config is None:
        raise SystemExit(f"the sizes of {preset.published} are not known")
    processor = build_processor(build_tokenizer(), config.model_type)
    tokens = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    tokens |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    for name, token in tokens.items():
        setattr(config, name, processor.tokenizer.convert_tokens_to_ids(token))
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(preset.dtype)
    try:
        with torch.device(preset.device):
            model = MODEL_CLASSES[config.model_type](config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(path)
    processor.save_pretrained(path)


def write_video(path: Path, preset: Preset) -> None:
    """A video of exactly the preset's frames, two a second."""
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


def prepare(folder: Path, preset: Preset) -> None:
    """Write model and video into the folder, once for all measurements."""
    build_model(folder / "model", preset)
    write_video(folder / "video.mp4", preset)


def the_sample(folder: Path, preset: Preset) -> Sample:
    """A question about the video."""
    duration = preset.frames / 2
    target = SpanTarget(Span(0.5, duration / 2), duration)
    video = Video(path=str(folder / "video.mp4"))
    return Sample("bench", "temporal_grounding", video, "the square is red", target, duration)


def prompt_builder(folder: Path, preset: Preset) -> PromptBuilder:
    """For a question of a few words, and as many digits as TRL's prompt has tokens around its images."""
    template = "{query}? " + "1" * preset.frames
    processor, config = load_processor(folder / "model"), load_config(folder / "model")
    return PromptBuilder(processor, config, budget(preset), templates={"temporal_grounding": template})


def the_prompt(folder: Path, preset: Preset) -> PromptInputs:
    """That question as the model gets it."""
    return prompt_builder(folder, preset).build(the_sample(folder, preset))


def budget(preset: Preset) -> VideoBudget:
    """Frames as they are in the file."""
    area = preset.side**2
    return VideoBudget(fps=2.0, max_frames=preset.frames, min_pixels=area, max_pixels=area, total_pixels=area * 1000)


def common_options(preset: Preset, folder: Path) -> dict[str, Any]:
    """What all three trainers share."""
    return {
        "output_dir": str(folder / "out"),
        "use_cpu": not preset.on_gpu,
        "bf16": preset.on_gpu,
        "gradient_checkpointing": preset.on_gpu,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "optim": "sgd" if preset.on_gpu else "adamw_torch",
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


def video_trainer(folder: Path, preset: Preset, *, share_prompt: bool) -> TimedVideo:
    """(b) or (c), told never to end a completion early."""
    builder = prompt_builder(folder, preset)
    trainer = TimedVideo(
        load_model(folder / "model", dtype=preset.dtype),
        args=VideoGRPOConfig(**common_options(preset, folder), share_prompt=share_prompt, log_rollouts=False),
        processor=builder.processor,
        builder=builder,
        source=OneSample(the_sample(folder, preset), preset.steps + 2),
        reward_funcs=[varied_reward],
    )
    sampling = trainer._sampling
    never = (*sampling.suppressed_token_ids, *sampling.eos_token_ids)
    trainer._sampling = replace(sampling, suppressed_token_ids=never, eos_token_ids=())
    return trainer


def trl_trainer(folder: Path, preset: Preset) -> TimedTRL:
    """(a), with filler so that its prompt has exactly as many tokens, whatever images add around themselves."""
    num_tokens = the_prompt(folder, preset).num_tokens
    processor = load_processor(folder / "model")
    processor.image_processor.size = {"shortest_edge": preset.side**2, "longest_edge": preset.side**2}
    frames = load_frames(the_sample(folder, preset).media, budget(preset)).pixels[::2]
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]

    def length(text: str) -> int:
        content = [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]
        message = [{"role": "user", "content": content}]
        encoded = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=True, return_dict=True)
        return len(encoded["input_ids"][0])

    # To this tokenizer every digit is a token.
    filler = "a" + "1" * (num_tokens - length("a"))
    if length(filler) != num_tokens:
        raise SystemExit(f"TRL's prompt of {length(filler)} tokens cannot be brought to {num_tokens}")
    row = {"prompt": [{"role": "user", "content": filler}], "images": images}
    features = Features({"prompt": [{"role": Value("string"), "content": Value("string")}], "images": [ImageFeature()]})
    dataset = Dataset.from_list([row] * (preset.steps + 2), features=features)
    # TRL keeps the image token from being drawn, but not the other vision tokens, which would break the forward.
    forced = {"min_new_tokens": preset.new_tokens, "suppress_tokens": list(vision_token_ids(processor))}
    return TimedTRL(
        load_model(folder / "model", dtype=preset.dtype),
        reward_funcs=[varied_reward],
        args=GRPOConfig(**common_options(preset, folder), generation_kwargs=forced),
        train_dataset=dataset,
        processing_class=processor,
    )


class StepClock(TrainerCallback):
    """Keeps seconds and computed tokens of every step, from the end of the update before it to the end of its own."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._counts: defaultdict[str, int] = defaultdict(int)
        self.first_shape: tuple[int, ...] | None = None
        self.steps: list[dict[str, float]] = []
        self.counts: list[dict[str, int]] = []
        for model in (trainer.model, trainer.ref_model):
            if model is not None:
                inner = unwrap(trainer.accelerator.unwrap_model(model)).model
                inner.language_model.register_forward_pre_hook(self._count_tokens, with_kwargs=True)
                inner.visual.register_forward_pre_hook(self._count_patches, with_kwargs=True)

    def _count_tokens(self, module: Any, args: Any, kwargs: Any) -> None:
        shape = tuple(kwargs["inputs_embeds"].shape[:2])
        self.first_shape = self.first_shape or shape
        self._counts["tokens"] += shape[0] * shape[1]

    def _count_patches(self, module: Any, args: Any, kwargs: Any) -> None:
        self._counts["patches"] += len(args[0] if args else kwargs["hidden_states"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        self._begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the step's figures and start the next."""
        _synchronize()
        now = time.perf_counter()
        spent = self._trainer.seconds
        step = {"total": now - self._started, "rollout": spent["rollout"], "logps": spent["logps"]}
        step["loss"] = spent["training_step"] - spent["inputs"]
        step["update"] = now - self._trainer.step_ended
        step["decode"] = step["total"] - sum(step[phase] for phase in PHASES if phase != "decode")
        self.steps.append(step)
        self.counts.append(dict(self._counts))
        self._begin()

    def _begin(self) -> None:
        self._trainer.seconds = defaultdict(float)
        self._counts.clear()
        self._started = time.perf_counter()


def measure_steps(folder: Path, preset: Preset, way: str) -> dict[str, Any]:
    """Seconds by phase, tokens and memory of one way's steps."""
    if way == "trl":
        trainer: Any = trl_trainer(folder, preset)
    else:
        trainer = video_trainer(folder, preset, share_prompt=way == "shared")
    trainer.seconds = defaultdict(float)
    training_step = trainer.training_step

    def step(*args: Any, **kwargs: Any) -> Any:
        result = training_step(*args, **kwargs)
        trainer.step_ended = time.perf_counter()
        return result

    trainer.training_step = step
    clock = StepClock(trainer)
    trainer.add_callback(clock)
    with peak_memory(preset) as peak:
        trainer.train()
    prompt_tokens = the_prompt(folder, preset).num_tokens
    if way == "trl" and clock.first_shape != (preset.generations, prompt_tokens):
        raise SystemExit(f"TRL's prompts are {clock.first_shape}, expected {(preset.generations, prompt_tokens)}")
    seconds = {name: statistics.median(step[name] for step in clock.steps[1:]) for name in ("total", *PHASES)}
    return {
        "seconds": seconds,
        "computed": clock.counts[-1],
        "peak_extra_mib": peak["mib"],
        "flops": step_flops(folder, preset, prompt_tokens, way),
        "prompt_tokens": prompt_tokens,
    }


def step_flops(folder: Path, preset: Preset, prompt_tokens: int, way: str) -> float:
    """Operations of a step by the formulas of docs/performance.md, without what checkpointing computes again."""
    config = load_config(folder / "model")
    decoder, generations = flops.decoder_sizes(config), preset.generations
    sizes = (decoder, prompt_tokens, generations, preset.new_tokens)
    video = flops.vision_forward(flops.tower_sizes(config), preset.grid)
    if way == "trl":
        rollout = flops.prefill_repeated(decoder, prompt_tokens, generations) + generations * video
    else:
        rollout = flops.prefill(decoder, prompt_tokens) + video
    if way == "shared":
        forward = flops.logps_shared(*sizes) + video
    else:
        forward = flops.logps_repeated(*sizes) + generations * video
    forwards = 3 + (1 if preset.beta else 0)  # policy and its backward, reference
    return rollout + flops.decode(*sizes) + forwards * forward


@contextmanager
def peak_memory(preset: Preset) -> Iterator[dict[str, float]]:
    """MiB that what happens inside needs at most beyond what is in use before, under `mib` afterwards."""
    result: dict[str, float] = {}
    if preset.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield result
        result["mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        result["whole_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return
    # getrusage's peak would be the parent process's at first, and never falls.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident_mib("VmRSS")
    yield result
    result["mib"] = _resident_mib("VmHWM") - before


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def logp_inputs(folder: Path, preset: Preset) -> tuple[PreTrainedModel, PromptInputs, torch.Tensor]:
    """A model with fused head, a prompt and random completions."""
    policy = load_model(folder / "model", dtype=preset.dtype).to(preset.device)
    add_fused_lm_head(policy, outputs=("log_probs", "entropy"))
    install_shared_prefix(policy)
    if preset.on_gpu:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
        policy.train()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 200, (preset.generations, preset.new_tokens), generator=generator).to(preset.device)
    return policy, the_prompt(folder, preset).to(preset.device), ids


def logps(policy: PreTrainedModel, prompt: PromptInputs, ids: torch.Tensor, *, share: bool) -> torch.Tensor:
    """(G, C) by one forward."""
    rows = ([prompt] * len(ids), ids, torch.ones_like(ids))
    return completion_logps(policy, *rows, share_prompt=share, compute_entropy=False, pad_token_id=0)[0]


def backward(policy: PreTrainedModel, values: torch.Tensor) -> None:
    """Gradients of a loss with a weight of its own for each row."""
    policy.zero_grad()
    weights = torch.linspace(-1.0, 1.0, len(values), device=values.device)
    (values * weights[:, None]).mean().backward()


def gradients(policy: PreTrainedModel) -> list[torch.Tensor]:
    """Copies of them, on the CPU."""
    return [p.grad.to("cpu", copy=True) for p in policy.parameters() if p.grad is not None]


def relative_difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """Norm of the difference over norm of the second."""
    apart = sum(
        float((a.float() - b.float()).pow(2).sum(dtype=torch.float64)) for a, b in zip(ours, theirs, strict=True)
    )
    return (apart / sum(float(b.float().pow(2).sum(dtype=torch.float64)) for b in theirs)) ** 0.5


def compare_logps(folder: Path, preset: Preset) -> dict[str, float]:
    """Times and largest differences of shared against repeated log-probabilities."""
    policy, prompt, ids = logp_inputs(folder, preset)
    values: dict[bool, torch.Tensor] = {}
    found: dict[bool, list[torch.Tensor]] = {}
    seconds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for round_number in range(1 + preset.steps):
        for share in (True, False):
            begin = time.perf_counter()
            result = logps(policy, prompt, ids, share=share)
            backward(policy, result)
            _synchronize()
            both = time.perf_counter() - begin
            if round_number == 0:
                values[share], found[share] = result.detach(), gradients(policy)
            del result
            begin = time.perf_counter()
            with torch.no_grad():
                logps(policy, prompt, ids, share=share)
            _synchronize()
            if round_number:
                seconds["fwd_bwd", share].append(both)
                seconds["fwd", share].append(time.perf_counter() - begin)
    median = {key: statistics.median(times) for key, times in seconds.items()}
    return {
        "logp_fwd_bwd": median["fwd_bwd", False] / median["fwd_bwd", True],
        "logp_fwd": median["fwd", False] / median["fwd", True],
        "seconds_fwd_bwd_repeated": median["fwd_bwd", False],
        "seconds_fwd_bwd_shared": median["fwd_bwd", True],
        "seconds_fwd_repeated": median["fwd", False],
        "seconds_fwd_shared": median["fwd", True],
        "max_logp_difference": float((values[True] - values[False]).abs().max()),
        "relative_gradient_difference": relative_difference(found[True], found[False]),
    }


def extra_memory(folder: Path, preset: Preset, *, share: bool) -> dict[str, float]:
    """MiB that one forward and backward needs beyond weights and gradients."""
    policy, prompt, ids = logp_inputs(folder, preset)
    backward(policy, logps(policy, prompt, ids[:1, :2], share=share))  # buffers that stay, gradients among them
    with peak_memory(preset) as peak:
        policy.zero_grad(set_to_none=False)
        values = logps(policy, prompt, ids, share=share)
        weights = torch.linspace(-1.0, 1.0, len(values), device=values.device)
        (values * weights[:, None]).mean().backward()
    return peak


MEASUREMENTS: dict[str, Callable[[Path, Preset], Any]] = {
    "prepare": prepare,
    "agreement": compare_logps,
    "memory_shared": lambda folder, preset: extra_memory(folder, preset, share=True),
    "memory_repeated": lambda folder, preset: extra_memory(folder, preset, share=False),
    **{way: lambda folder, preset, way=way: measure_steps(folder, preset, way) for way in WAYS},
}
"""Name -> what one child process does."""


def run_preset(name: str, threads: int) -> dict[str, Any]:
    """Everything about one preset."""
    preset = PRESETS[name]
    if preset.on_gpu and not torch.cuda.is_available():
        raise SystemExit(f"{name} needs a GPU, and torch sees none here")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for measurement in MEASUREMENTS:
            print(f"{name}: {measurement}", file=sys.stderr, flush=True)
            found[measurement] = _in_child(name, measurement, folder, threads)
    steps = {way: found[way] for way in WAYS}
    total = {way: steps[way]["seconds"]["total"] for way in WAYS}
    repeated, shared = (found[f"memory_{way}"]["mib"] for way in ("repeated", "shared"))
    return {
        "ratios": {
            "step_vs_trl": total["trl"] / total["shared"],
            "step_vs_repeated": total["repeated"] / total["shared"],
            "logp_fwd_bwd": found["agreement"]["logp_fwd_bwd"],
            "logp_fwd": found["agreement"]["logp_fwd"],
            "memory": repeated / shared,
        },
        "steps": {way: {**steps[way], **rates(steps[way], preset)} for way in WAYS},
        "agreement": found["agreement"],
        "logp_extra_mib": {"repeated": repeated, "shared": shared},
        "prompt_tokens": steps["shared"]["prompt_tokens"],
        "generations": preset.generations,
        "new_tokens": preset.new_tokens,
        "device": torch.cuda.get_device_name() if preset.on_gpu else "cpu",
        "threads": threads,
        "torch": torch.__version__,
    }


def rates(step: dict[str, Any], preset: Preset) -> dict[str, float]:
    """Tokens and operations per second and, on a GPU whose peak is known, the share of it."""
    seconds = step["seconds"]["total"]
    result = {
        "completion_tokens_per_second": preset.generations * preset.new_tokens / seconds,
        "computed_tokens_per_second": step["computed"]["tokens"] / seconds,
        "teraflops": step["flops"] / seconds / 1e12,
    }
    if preset.on_gpu:
        with suppress(ConfigError):  # a GPU whose peak is not known
            result["mfu"] = result["teraflops"] / GPUS[gpu_named(torch.cuda.get_device_name())].teraflops
    return result


def _in_child(name: str, measurement: str, folder: str, threads: int) -> Any:
    command = [sys.executable, __file__, "--preset", name, "--measure", measurement, folder, "--threads", str(threads)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{name}: {measurement} failed, see above")
    return json.loads(finished.stdout.splitlines()[-1])


def print_table(name: str, result: dict[str, Any]) -> None:
    """For people."""
    print(
        f"\n{name}: P = {result['prompt_tokens']}, G = {result['generations']}, C = {result['new_tokens']}, {result['device']}, "
        f"{result['threads']} threads; medians"
    )
    columns = [*(f"{phase} s" for phase in ("total", *PHASES)), "tokens", "patches", "extra MiB", "TFLOP/s", "tokens/s"]
    print(f"{'':10}" + "".join(f"{column:>11}" for column in columns))
    for way, step in result["steps"].items():
        figures = [f"{step['seconds'][phase]:.2f}" for phase in ("total", *PHASES)]
        figures += [f"{step['computed'][kind]:,}" for kind in ("tokens", "patches")]
        figures += [f"{step['peak_extra_mib']:,.0f}", f"{step['teraflops']:.3g}"]
        figures += [f"{step['completion_tokens_per_second']:.1f}"]
        utilisation = f"  MFU {step['mfu']:.2f}" if "mfu" in step else ""
        print(f"{way:10}" + "".join(f"{figure:>11}" for figure in figures) + utilisation)
    print("tokens: computed by the language model; patches: by the vision tower; tokens/s: of completions")
    for key, value in result["ratios"].items():
        print(f"{key:18} {value:6.2f}")
    agreement, extra = result["agreement"], result["logp_extra_mib"]
    for kind in ("fwd_bwd", "fwd"):
        repeated, shared = (agreement[f"seconds_{kind}_{way}"] for way in ("repeated", "shared"))
        print(f"log-probabilities, {kind}: {repeated:.3f} s repeated, {shared:.3f} s shared")
    print(f"their extra memory: {extra['repeated']:,.0f} MiB repeated, {extra['shared']:,.0f} MiB shared")
    print(
        f"shared against repeated: log-probabilities within {agreement['max_logp_difference']:.1e}, "
        f"gradients within a relative {agreement['relative_gradient_difference']:.1e}"
    )


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), help="default: both CPU presets")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        name, folder = arguments.measure
        print(json.dumps(MEASUREMENTS[name](Path(folder), PRESETS[arguments.preset])))
        return
    names = [arguments.preset] if arguments.preset else ["cpu_short", "cpu_long"]
    results = {name: run_preset(name, arguments.threads) for name in names}
    for name, result in results.items():
        print_table(name, result)
    if arguments.json:
        print(json.dumps({"presets": results}))


if __name__ == "__main__":
    main()
