"""What clue-perception brings where the first pass cannot know the answer: one pass, two passes, two passes with random clues.

    python benchmarks/clue_perception.py [--output outputs/clue_perception] [--json]

Every video holds three episodes of three seconds. In each a white bar stands on another side, a colour flashes for half a
second between two instants of the coarse rate, and a small sign has stripes too fine for the coarse resolution. Questions name
the side: the coarse pass can find the episode and not the answer. A tiny Qwen2.5-VL is trained from random weights with the
project's SFT, on coarse videos and on closer looks at the right episode, roughly cut; then it is asked about videos it has not
seen. `random clues` are spans as long as the model's own, anywhere in the video; `true clues` are the annotation's.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from videochat_r1.datasets.synthetic import SIDE, write_video
from videochat_r1.datasets.synthetic_scene import BACKGROUND, COLOURS, Scene
from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.evaluation.answering.passes import CluePerception
from videochat_r1.evaluation.metrics.score_table import ScoreTable
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.geometry import Span, span_set_iou
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.sample import LETTERS, ChoiceTarget, GroundedChoiceTarget, Sample, Video
from videochat_r1.second_look.next_look import NextLook, next_look
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.question import TASK
from videochat_r1.sft import VideoSFTConfig, VideoSFTTrainer
from videochat_r1.training.loader import load_prompt
from videochat_r1.training.run import save_final
from videochat_r1.video.cache import FrameCache
from videochat_r1.video.frames import VideoBudget

DURATION = 16
NUM_EPISODES = 3
EPISODE_SECONDS = 3
SIDES = ("left", "right", "top", "bottom")
SIGNS = ("across", "down", "rising", "falling")
QUESTIONS = {
    "flash": ("Which colour flashes while the bar is {side}?", tuple(sorted(COLOURS))),
    "sign": ("How do stripes run while the bar is {side}?", SIGNS),
}
TEMPLATE = "{query}\n{options}"
TEMPLATES = {"grounded_qa": TEMPLATE, "multi_choice_qa": TEMPLATE}
HIDDEN = 128
COARSE_SIDE = 28
COARSE = VideoBudget(fps=1.0, max_frames=64, total_pixels=64 * 784, min_pixels=784, max_pixels=784, isolation="none")
"""One token per pair of frames: 8 for a video."""
CLUES = ClueOptions(resolution_boost=3.0, fps_boost=2.0, padding=1.0)
_WHITE = (235, 235, 235)
_CACHE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Episode:
    """Where the bar stands, and what else there is to see meanwhile."""

    span: Span
    side: str
    colour: str
    sign: str
    flash: Span


@dataclass(frozen=True)
class EpisodeScene(Scene):
    """A video before it is drawn."""

    episodes: tuple[Episode, ...] = ()

    def draw(self, times: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
        """(T, side, side, 3) RGB frames at the given seconds; `side` is 112."""
        frames = np.empty((len(times), side, side, 3), dtype=np.uint8)
        frames[:] = BACKGROUND
        for frame, at in zip(frames, times, strict=True):
            for episode in self.episodes:
                if episode.span.start <= at < episode.span.end:
                    _draw(frame, episode, flashing=episode.flash.start <= at < episode.flash.end)
        return frames


def episode_scene(rng: np.random.Generator) -> EpisodeScene:
    """Episodes on whole seconds, at least 2 s apart; no side, colour or sign occurs twice."""
    slack = DURATION - NUM_EPISODES * EPISODE_SECONDS - 2 * (NUM_EPISODES - 1)
    gaps = np.sort(rng.integers(0, slack + 1, NUM_EPISODES))
    shuffled = [rng.permutation(names)[:NUM_EPISODES] for names in (SIDES, list(COLOURS), SIGNS)]
    episodes = []
    for number, (gap, (side, colour, sign)) in enumerate(zip(gaps, zip(*shuffled, strict=True), strict=True)):
        start = float(gap + number * (EPISODE_SECONDS + 2))
        second = start + float(rng.integers(EPISODE_SECONDS))
        span = Span(start, start + EPISODE_SECONDS)
        episodes.append(Episode(span, str(side), str(colour), str(sign), Span(second + 0.25, second + 0.75)))
    return EpisodeScene(float(DURATION), (), episodes=tuple(episodes))


def _draw(frame: NDArray[np.uint8], episode: Episode, *, flashing: bool) -> None:
    bars: dict[str, Any] = {"left": np.s_[:, :14], "right": np.s_[:, -14:], "top": np.s_[:14], "bottom": np.s_[-14:]}
    frame[bars[episode.side]] = _WHITE
    # A grating that fades out, of one coarse pixel per period: at the coarse resolution only its grey is left.
    y, x = np.mgrid[-16:16, -16:16] + 0.5
    along = {"across": y, "down": x, "rising": (x + y) / 2**0.5, "falling": (x - y) / 2**0.5}[episode.sign]
    grey = 0.5 + 0.5 * np.sin(2 * np.pi * along * COARSE_SIDE / SIDE)
    cover = np.exp(-(x**2 + y**2) / (2 * 6.0**2))[..., None]
    sign = np.asarray(BACKGROUND) * (1 - cover) + 255 * cover * grey[..., None]
    frame[24:56, 24:56] = np.round(sign).astype(np.uint8)
    if flashing:
        frame[58:94, 58:94] = COLOURS[episode.colour]


def write_samples(folder: Path, split: str, count: int, *, seed: int, one_side: bool) -> list[Sample]:
    """The videos of a split and its questions: about every side, or about one of each video."""
    folder.mkdir(parents=True, exist_ok=True)

    def write_one(number: int) -> list[Sample]:
        rng = np.random.default_rng([seed, *split.encode(), number])
        scene = episode_scene(rng)
        path = folder / f"{split}_{number:04d}.mp4"
        write_video(path, scene)
        asked = [scene.episodes[int(rng.integers(NUM_EPISODES))]] if one_side else scene.episodes
        return [_question(path, kind, episode) for episode in asked for kind in QUESTIONS]

    numbers = tqdm(range(count), desc=f"videos of {split}", unit="video")
    return [sample for number in numbers for sample in write_one(number)]


def _question(path: Path, kind: str, episode: Episode) -> Sample:
    query, options = QUESTIONS[kind]
    right = episode.colour if kind == "flash" else episode.sign
    target = GroundedChoiceTarget(options, LETTERS[options.index(right)], (episode.span,), float(DURATION))
    return Sample(
        id=f"{path.stem}-{kind}-{episode.side}",
        task=TASK.name,
        media=Video(path=str(path)),
        query=query.format(side=episode.side),
        target=target,
        duration=float(DURATION),
        extra={"kind": kind},
    )


def closer(sample: Sample, rng: np.random.Generator) -> Sample:
    """The question for a second pass: a clue that misses the episode's start and end by up to a second."""
    (span,) = TASK.target_of(sample).spans
    clue = Span(span.start + float(rng.integers(-1, 2)), span.end + float(rng.integers(-1, 2)))
    return replace(sample, id=f"{sample.id}-closer", extra={**sample.extra, "clue": clue})


def letter_only(sample: Sample) -> Sample:
    """The question answered without a clue."""
    target = TASK.target_of(sample)
    return replace(sample, task="multi_choice_qa", target=ChoiceTarget(target.options, target.answer))


class TrainingBuilder(PromptBuilder):
    """Coarse prompts, and closer looks for samples that carry a clue, as `CluePerception` makes them."""

    def build(self, sample: Sample) -> PromptInputs:
        """See `PromptBuilder.build`."""
        first = super().build(sample)
        if "clue" not in sample.extra:
            return first
        found = next_look(self, sample.video, first, [sample.extra["clue"]], CLUES, number=1, load=self._load)
        assert isinstance(found, NextLook)
        return found.inputs


class Shuffled:
    """A `SampleSource`: another order in every epoch."""

    def __init__(self, samples: Sequence[Sample], seed: int) -> None:
        self._samples, self._seed = samples, seed

    def samples(self, epoch: int) -> list[Sample]:
        """All samples."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._samples))
        return [self._samples[index] for index in order]


def make_model(samples: Sequence[Sample], folder: Path, *, seed: int) -> Path:
    """Random weights, and a tokenizer trained on the prompts and answers of the samples."""
    texts = [
        text
        for sample in samples
        for text in (
            TASK.instruction(sample, thinking=False, template=TEMPLATE),
            TASK.gold(TASK.target_of(sample), thinking=False),
        )
    ]
    build_tiny(folder, hidden=HIDDEN, texts=["user\nassistant\n", *texts], initializer_range=HIDDEN**-0.5, seed=seed)
    return folder


def train(
    samples: Sequence[Sample],
    start: Path,
    folder: Path,
    cache: FrameCache,
    *,
    steps: int,
    seed: int,
    rate: float = 1e-3,
) -> Path:
    """SFT from a model folder; returns the folder of the result."""
    processor = load_processor(start)
    builder = TrainingBuilder(
        processor, load_config(start), COARSE, layout="text_first", templates=TEMPLATES, load=cache.load
    )
    args = VideoSFTConfig(
        output_dir=str(folder),
        samples_per_step=12,
        per_device_train_batch_size=12,
        max_steps=steps,
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=50,
        weight_decay=0.0,
        adam_beta2=0.98,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=100,
        save_strategy="no",
        report_to=[],
        seed=seed,
    )
    trainer = VideoSFTTrainer(
        load_model(start, dtype=torch.float32),
        args=args,
        processor=processor,
        builder=builder,
        source=Shuffled(samples, seed),
        max_bad_video_share=0.0,
    )
    trainer.train()
    return save_final(trainer, processor, folder, merge_lora=False)


def random_span(sample: Sample, clues: Sequence[Span], duration: float) -> list[Span]:
    """A span as long as the clues together, anywhere in the video; the same for a question in every run."""
    length = min(sum(clue.length for clue in clues), duration)
    start = float(np.random.default_rng([*sample.id.encode()]).uniform(0.0, duration - length))
    return [Span(start, start + length)]


def true_span(sample: Sample, clues: Sequence[Span], duration: float) -> list[Span]:
    """What a perfect first pass would name."""
    return list(TASK.target_of(sample).spans)


CONDITIONS: dict[str, tuple[ClueOptions | None, Callable[..., Sequence[Span]] | None]] = {
    "one pass": (None, None),
    "two passes": (CLUES, None),
    "two passes, random clues": (CLUES, random_span),
    "two passes, true clues": (CLUES, true_span),
}


def evaluate(model: Path, samples: Sequence[Sample], *, batch_size: int = 32) -> dict[str, list[dict[str, Any]]]:
    """Condition -> per question: kind, accuracy, IoU of the first pass's clue, video tokens of all passes."""
    options = RunOptions(str(model), video=COARSE, prompt_layout="text_first", max_new_tokens=32, dtype="float32")
    answerer = Answerer(options, torch.device("cpu"), templates=TEMPLATES)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, (clues, look_at) in CONDITIONS.items():
        rows: list[dict[str, Any]] = []
        with CluePerception(answerer, clues, look_at=look_at) as passes:
            for begin in tqdm(range(0, len(samples), batch_size), desc=name, unit="batch"):
                batch = [load_prompt(answerer.builder, sample) for sample in samples[begin : begin + batch_size]]
                predictions = passes.answer(batch)
                rows += [_row(p.sample, one) for p, one in zip(batch, predictions, strict=True)]
        found[name] = rows
    return found


def _row(sample: Sample, prediction: Prediction) -> dict[str, Any]:
    target = TASK.target_of(sample)
    record = prediction.extra["clue_perception"]
    passes = record["passes"]
    answer = passes[record["answered_by"]]["answer"]
    return {
        "id": sample.id,
        "kind": sample.extra["kind"],
        "accuracy": float(answer == target.answer),
        "clue_iou": span_set_iou([Span(*clue) for clue in passes[0]["clues"]], target.spans),
        "num_tokens": sum(one["saw"]["num_tokens"] for one in passes),
        "num_passes": len(passes),
    }


def summarise(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Condition -> kind -> accuracy with its bootstrap interval, and that of the gain over one pass."""
    result: dict[str, Any] = {}
    for name, rows in found.items():
        result[name] = {"tokens": float(np.mean([row["num_tokens"] for row in rows]))}
        for kind in (*QUESTIONS, "all"):
            chosen = [i for i, row in enumerate(rows) if kind in ("all", row["kind"])]
            pairs = [(rows[i]["accuracy"], found["one pass"][i]["accuracy"]) for i in chosen]
            table = ScoreTable.of([{"accuracy": now, "gain": now - before} for now, before in pairs])
            intervals = table.intervals(2000, 0)
            means = table.means()
            result[name][kind] = {
                "num_questions": len(chosen),
                **{metric: [means[metric], *(intervals[metric] or ())] for metric in ("accuracy", "gain")},
            }
    result["clue_mIoU"] = float(np.mean([row["clue_iou"] for row in found["one pass"]]))
    return result


def as_table(result: dict[str, Any]) -> str:
    """Markdown: accuracy in percent, 95 % bootstrap intervals of all questions."""
    counts = [result["one pass"][kind]["num_questions"] for kind in (*QUESTIONS, "all")]
    heads = [f"{kind} ({count})" for kind, count in zip((*QUESTIONS, "all"), counts, strict=True)]
    lines = [f"| | {' | '.join(heads)} | gain over one pass | video tokens |", "|---|" + "---|" * 5]
    for name in CONDITIONS:
        row = result[name]
        cells = [_percent(row[kind]["accuracy"]) for kind in (*QUESTIONS, "all")]
        gain = "" if name == "one pass" else _percent(row["all"]["gain"], sign="+")
        lines.append(f"| {name} | {' | '.join(cells)} | {gain} | {row['tokens']:.0f} |")
    return "\n".join([*lines, "", f"mIoU of the first pass's clues: {result['clue_mIoU']:.3f}"])


def _percent(values: Sequence[float], sign: str = "") -> str:
    mean, *interval = (f"{100 * value:{sign}.1f}" for value in values)
    return f"{mean} [{', '.join(interval)}]" if interval else mean


def main() -> None:
    """Make the corpus, train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/clue_perception"))
    parser.add_argument("--train-videos", type=int, default=256)
    parser.add_argument("--eval-videos", type=int, default=200)
    parser.add_argument("--letter-steps", type=int, default=500, help="updates on letters alone")
    parser.add_argument("--steps", type=int, default=1200, help="updates on answers with clues")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    output, seed = arguments.output, arguments.seed
    train_samples = write_samples(output / "videos", "train", arguments.train_videos, seed=seed, one_side=False)
    eval_samples = write_samples(output / "videos", "eval", arguments.eval_videos, seed=seed, one_side=True)
    closer_samples = [closer(sample, np.random.default_rng([seed, n])) for n, sample in enumerate(train_samples)]
    cache = FrameCache(memory_bytes=_CACHE_BYTES)
    model = make_model(train_samples, output / "init", seed=seed)
    # Letters first and alone: next to the long text of clues their share of the loss is too small to begin with.
    letters = [letter_only(sample) for sample in closer_samples]
    model = train(letters, model, output / "letters", cache, steps=arguments.letter_steps, seed=seed)
    both = [*train_samples, *closer_samples]
    model = train(both, model, output / "model", cache, steps=arguments.steps, seed=seed)
    trained = time.perf_counter()
    found = evaluate(model, eval_samples)
    result = summarise(found)
    result["seconds"] = {"corpus and training": trained - begin, "answers": time.perf_counter() - trained}
    (output / "answers.json").write_text(json.dumps(found) + "\n")
    (output / "summary.json").write_text(json.dumps({**result, **vars(arguments)}, default=str, indent=2) + "\n")
    print(json.dumps(result) if arguments.json else as_table(result))


if __name__ == "__main__":
    main()
