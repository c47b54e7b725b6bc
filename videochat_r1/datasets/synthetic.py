"""The synthetic corpus: H.264 videos of coloured shapes whose truth is known exactly, with training and evaluation manifests.

Temporal grounding and grounded QA ask about videos in which shapes appear and leave; tracking follows a shape through a
short clip. A video depends on (seed, split, number) alone, so any number of threads writes the same corpus.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from videochat_r1.datasets.manifest import write_manifest
from videochat_r1.datasets.synthetic_captions import caption_sample
from videochat_r1.datasets.synthetic_scene import COLOURS, Scene, events_scene, tracking_scene
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.geometry import Box
from videochat_r1.outputs import refuse_to_replace
from videochat_r1.progress import progress_bar
from videochat_r1.sample import LETTERS, BoxesTarget, GroundedChoiceTarget, Sample, SpanTarget, Video

SOURCE = "synthetic"
NUM_BOXES = 8
FRAMES_PER_SECOND = 8
SIDE = 112

_X264 = {"preset": "ultrafast", "crf": "20", "g": str(2 * FRAMES_PER_SECOND)}


@dataclass(frozen=True, slots=True)
class Split:
    """A part of the corpus: `<name>.jsonl`.

    Args:
        name: of the manifest.
        num_videos: videos of each kind, with events and for tracking.
        durations: shortest and longest video with events, in seconds.
        every_shape: ground and track each shape of a video; False asks one question of each task per video, so that
            samples of one task are independent.
    """

    name: str
    num_videos: int
    durations: tuple[float, float] = (4.0, 8.0)
    every_shape: bool = False


def write_corpus(
    output: str | Path,
    *,
    num_train: int,
    num_eval: int,
    num_eval_longer: int = 0,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write `videos/*.mp4` and the manifests `train.jsonl`, `eval.jsonl` and, if asked for, `eval_longer.jsonl`. Beside each lies
    one of captions of its videos with events, `train_captions.jsonl` and so on.

    Each number counts videos with events, and as many for tracking. Video paths are relative to `output`. In
    `eval_longer` videos with events last 10 to 14 s instead of 4 to 8.

    Returns:
        Samples per manifest, those of captions not counted.

    Raises:
        ConfigError: a number below zero, nothing to write, or a file that is there and not to be overwritten.
        DataError: the folder cannot be written to, or the disk is full.
    """
    splits = [
        Split("train", num_train, every_shape=True),
        Split("eval", num_eval),
        Split("eval_longer", num_eval_longer, durations=(10.0, 14.0)),
    ]
    if min(split.num_videos for split in splits) < 0 or not any(split.num_videos for split in splits):
        raise ConfigError(
            f"expected numbers of videos, not all 0, got num_train={num_train}, num_eval={num_eval}, "
            f"num_eval_longer={num_eval_longer}"
        )
    if seed < 0:
        raise ConfigError(f"a seed is 0 or more, got {seed}")
    folder = Path(output)
    if not overwrite:
        names = [folder / name for split in splits for name in files_of(split)]
        refuse_to_replace(names, "name another --output, or replace them with --overwrite")
    try:
        return {
            split.name: write_split(folder, split, seed=seed, workers=workers, progress=progress)
            for split in splits
            if split.num_videos
        }
    except OSError as error:
        raise DataError(f"the corpus cannot be written to {output}: {error.strerror or error}") from error


def files_of(split: Split) -> list[str]:
    """The files of a split, relative to the corpus's folder; none for a split without videos."""
    if not split.num_videos:
        return []
    stems = [split.name, f"{split.name}_captions"]
    manifests = [f"{stem}.{ending}" for stem in stems for ending in ("jsonl", "meta.json")]
    return manifests + [_video_name(split, *job) for job in _jobs(split)]


def write_split(output: Path, split: Split, *, seed: int, workers: int, progress: bool) -> int:
    """Write the videos and the manifests of one split; returns its number of samples without captions."""
    (output / "videos").mkdir(parents=True, exist_ok=True)
    jobs = _jobs(split)

    def write_one(job: tuple[str, int]) -> tuple[list[Sample], list[Sample]]:
        kind, number = job
        name = _video_name(split, kind, number)
        rng = np.random.default_rng([seed, *split.name.encode(), *kind.encode(), number])
        scene = events_scene(rng, *split.durations) if kind == "events" else tracking_scene(rng, NUM_BOXES)
        write_video(output / name, scene)
        video, stem = Video(path=name), f"{split.name}-{kind}-{number:05d}"
        if kind == "track":
            return list(tracking_samples(scene, video, stem, rng, split.every_shape)), []
        captions = [caption_sample(scene, video, stem, SOURCE)]
        return list(event_samples(scene, video, stem, rng, split.every_shape)), captions

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        rows = pool.map(write_one, jobs)
        bar = progress_bar(rows, total=len(jobs), desc=f"videos of {split.name}", unit="video", disable=not progress)
        written = list(bar)
    samples = [sample for row, _ in written for sample in row]
    captions = [sample for _, row in written for sample in row]
    meta = {"corpus": SOURCE, "split": split.name, "seed": seed, "num_videos": len(jobs)}
    write_manifest(output / f"{split.name}_captions.jsonl", captions, meta=meta)
    return write_manifest(output / f"{split.name}.jsonl", samples, meta=meta)


def _jobs(split: Split) -> list[tuple[str, int]]:
    return [(kind, number) for kind in ("events", "track") for number in range(split.num_videos)]


def _video_name(split: Split, kind: str, number: int) -> str:
    return f"videos/{split.name}_{kind}_{number:05d}.mp4"


def write_video(path: Path, scene: Scene) -> None:
    """Draw the scene and encode it as H.264 in MP4."""
    num_frames = round(scene.duration * FRAMES_PER_SECOND)
    frames = scene.draw(np.arange(num_frames) / FRAMES_PER_SECOND, SIDE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND), options=_X264)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in _video_frames(frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _video_frames(frames: NDArray[np.uint8]) -> Iterator[av.VideoFrame]:
    for image in frames:
        yield av.VideoFrame.from_ndarray(image, format="rgb24")


def event_samples(
    scene: Scene, video: Video, name: str, rng: np.random.Generator, every_shape: bool
) -> Iterator[Sample]:
    """Grounding, and one grounded question, about a video with events."""
    shared: dict[str, Any] = {"media": video, "duration": scene.duration, "source": SOURCE, "extra": _extra(scene)}
    for index in _asked(scene, rng, every_shape):
        actor = scene.actors[index]
        yield Sample(
            id=f"{name}-when-{index}",
            task="temporal_grounding",
            query=f"the {actor.name} is visible",
            target=SpanTarget(actor.visible, scene.duration),
            **shared,
        )
    first = min(scene.actors, key=lambda actor: actor.visible.start)
    options = tuple(sorted(COLOURS))
    yield Sample(
        id=f"{name}-first",
        task="grounded_qa",
        query="Which colour appears first?",
        target=GroundedChoiceTarget(options, LETTERS[options.index(first.colour)], (first.visible,), scene.duration),
        **shared,
    )


def tracking_samples(
    scene: Scene, video: Video, name: str, rng: np.random.Generator, every_shape: bool
) -> Iterator[Sample]:
    """Boxes at `NUM_BOXES` evenly spaced instants, rounded to 0.01."""
    times = [scene.duration * place / NUM_BOXES for place in range(NUM_BOXES)]
    for index in _asked(scene, rng, every_shape):
        actor = scene.actors[index]
        yield Sample(
            id=f"{name}-track-{index}",
            task="tracking",
            media=video,
            query=f"the {actor.name}",
            target=BoxesTarget(tuple(_rounded(actor.box(time)) for time in times)),
            duration=scene.duration,
            source=SOURCE,
            extra=_extra(scene),
        )


def _asked(scene: Scene, rng: np.random.Generator, every_shape: bool) -> Sequence[int]:
    """Which shapes a question is put about."""
    return range(len(scene.actors)) if every_shape else [int(rng.integers(len(scene.actors)))]


def _rounded(box: Box) -> Box:
    return Box(*(round(value, 2) for value in box))


def _extra(scene: Scene) -> dict[str, Any]:
    """What is known of the whole video, for breakdowns and captions."""
    events = [{"span": list(span), "text": text} for span, text in scene.events()]
    return {"num_shapes": len(scene.actors), "events": events}
