"""Seconds that `eval` takes for several questions a video: shared, each question apart, and lmms-eval's own Qwen2.5-VL.

    python benchmarks/eval_speed.py [--preset cpu|debug] [--threads N] [--lmms-eval FOLDER] [--json]

(a) `shared`     as `eval` does it: a video is read, encoded and prefilled once for the questions of a batch
(b) `apart`      the same code where every prompt stands alone; frames are decoded once here too
(c) `lmms-eval`  its model `qwen2_5_vl`, fed the same frames and texts, at batch sizes 1 and that of (a), of which the faster
                 counts; in the environment FOLDER, which is made (uv, some 6 GB) where there is none

One random model, greedy, fp32, equally many new tokens (ends cannot be drawn). Every way has a process of its own. Counted is all
from the first file to the last answer, model and imports loaded, after one video as a warm-up.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from videochat_r1.training.start import keep_vllm_out

keep_vllm_out()

from one_step.workload import Preset, budget, build_model, frame_side, write_video  # noqa: E402

from videochat_r1.evaluation.answering import prompt_stream  # noqa: E402
from videochat_r1.evaluation.answering.answerer import Answerer  # noqa: E402
from videochat_r1.evaluation.answering.options import RunOptions  # noqa: E402
from videochat_r1.geometry import Span  # noqa: E402
from videochat_r1.modeling.prompt_tree import PromptBranch  # noqa: E402
from videochat_r1.rollout import transformers_engine  # noqa: E402
from videochat_r1.sample import Sample, SpanTarget, Video  # noqa: E402
from videochat_r1.training.loader import load_prompt  # noqa: E402

LMMS_EVAL = "lmms-eval==0.7.3"
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Load:
    """What is asked: `videos` videos and one more for the warm-up, `questions` about each, `batch` prompts at a time."""

    sizes: Preset
    videos: int
    questions: int = 4
    batch: int = 8


_MODEL = (("hidden", 256), ("layers", 6), ("vision_hidden", 128), ("vision_layers", 4))
LOADS = {
    "cpu": Load(Preset(frames=32, tokens=11, new_tokens=16, steps=1, sizes=_MODEL), videos=6),
    "debug": Load(Preset(frames=4, tokens=4, new_tokens=4, steps=1, sizes=(("hidden", 64), ("layers", 2))), videos=2),
}
"""`debug` says nothing: it only tries everything, on the smallest sizes."""


def prepare(folder: Path, load: Load) -> None:
    """Write model, videos and questions."""
    build_model(folder / "model", load.sizes)
    side = frame_side(folder, load.sizes)
    for video in range(load.videos + 1):
        write_video(folder / f"{video}.mp4", load.sizes, side, seed=video)
    asked = [
        {"video": str(folder / f"{video}.mp4"), "text": f"When does the square of question {question} turn red?"}
        for video in range(load.videos + 1)
        for question in range(load.questions)
    ]
    questions = {
        "model": str(folder / "model"),
        "asked": asked,
        "warm_up": load.questions,
        "pixels": side**2,
        "frames": load.sizes.frames,
        "new_tokens": load.sizes.new_tokens,
        "batches": [1, load.batch],
    }
    (folder / "questions.json").write_text(json.dumps(questions))


def measure(folder: Path, load: Load, *, share: bool) -> dict[str, Any]:
    """Seconds of this project's answers, and what was answered."""
    asked = json.loads((folder / "questions.json").read_text())
    if not share:
        prompt_stream.load_prompts = lambda builder, samples: [load_prompt(builder, sample) for sample in samples]
        transformers_engine.plant = lambda prompts: tuple(
            PromptBranch(0, prompt.num_tokens - 1, (index,)) for index, prompt in enumerate(prompts)
        )
    options = RunOptions(
        model=str(folder / "model"),
        dtype="float32",
        video=budget(folder, load.sizes),
        max_new_tokens=load.sizes.new_tokens,
        batch_size=load.batch,
        # Read here: threads of their own would start decoders of their own, after the warm-up's.
        workers=0,
    )
    answerer = Answerer(options, torch.device("cpu"), templates={"temporal_grounding": "{query}"})
    answerer.sampling = replace(answerer.sampling, eos_token_ids=())
    duration = load.sizes.frames / 2
    target = SpanTarget(Span(0.5, duration / 2), duration)
    samples = [
        Sample(str(index), "temporal_grounding", Video(path=each["video"]), each["text"], target, duration)
        for index, each in enumerate(asked["asked"])
    ]
    seconds, predictions = 0.0, []
    for part in (samples[: asked["warm_up"]], samples[asked["warm_up"] :]):
        begin = time.perf_counter()
        predictions = [
            prediction
            for batch in prompt_stream.stream_batches(answerer.builder, part, options.workers, size=load.batch)
            for prediction in answerer.answer(batch)
        ]
        seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "answers": [prediction.completion for prediction in predictions],
        "prompt_tokens": sorted({prediction.extra["num_prompt_tokens"] for prediction in predictions}),
        "new_tokens": sorted({prediction.extra["num_tokens"] for prediction in predictions}),
    }


def lmms_python(folder: Path) -> str:
    """The Python of lmms-eval's environment, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv") or str(_HERE.parent / ".cache" / "uv" / "bin" / "uv")
        if not Path(uv).exists():
            raise SystemExit("--lmms-eval needs uv to make an environment: pip install uv")
        release = [f"{name}=={module.__version__.split('+')[0]}" for name, module in (("torch", torch),)]
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        command = [uv, "pip", "install", "--quiet", "--python", str(python), LMMS_EVAL, "decord", "torchvision"]
        subprocess.run([*command, *release], check=True)
    return str(python)


def run(load: Load, name: str, threads: int, lmms_eval: Path | None) -> dict[str, Any]:
    """All ways, one after the other."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), load)
        for way in ("shared", "apart"):
            found[way] = _child([sys.executable, __file__, "--preset", name, "--measure", way, folder], threads)
        if lmms_eval is not None:
            found["lmms-eval"] = _child([lmms_python(lmms_eval), str(_HERE / "lmms_answers.py"), folder], threads)
    if found["shared"]["answers"] != found["apart"]["answers"]:
        raise SystemExit("shared and apart give different answers")
    asked = load.videos * load.questions
    if lmms_eval is not None:
        pairs = zip(found["shared"]["answers"], found["lmms-eval"]["answers"], strict=True)
        found["lmms-eval"]["same_answers"] = sum(ours == theirs for ours, theirs in pairs)
    ratios = {f"vs_{way}": found[way]["seconds"] / found["shared"]["seconds"] for way in found if way != "shared"}
    return {
        "ratios": ratios,
        "ways": {way: {**result, "questions_per_second": asked / result["seconds"]} for way, result in found.items()},
        "questions": asked,
        "questions_per_video": load.questions,
        "threads": threads,
    }


def _child(command: list[str], threads: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed, see above")
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(LOADS), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--lmms-eval", type=Path, metavar="FOLDER", help="also measure lmms-eval, installed there")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    load = LOADS[arguments.preset]
    if arguments.measure:
        way, folder = arguments.measure
        print(json.dumps(measure(Path(folder), load, share=way == "shared")))
        return
    result = run(load, arguments.preset, arguments.threads, arguments.lmms_eval)
    print(f"{result['questions']} questions, {load.questions} a video, {result['threads']} threads")
    for way, found in result["ways"].items():
        tokens = f"P {found['prompt_tokens']}, new {found['new_tokens']}"
        same = f", {found['same_answers']} answers as shared" if "same_answers" in found else ""
        print(
            f"{way:10} {found['seconds']:8.2f} s {found['questions_per_second']:8.2f} questions a second, {tokens}{same}"
        )
    for name, ratio in result["ratios"].items():
        print(f"{name:14} {ratio:6.2f}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
