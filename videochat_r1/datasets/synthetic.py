"""The synthetic corpora: H.264 videos of coloured shapes whose truth is known exactly, with training and evaluation manifests.

A video depends on (seed, split, kind, number) alone, so any number of threads writes the same corpus.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from videochat_r1.datasets.manifest import write_manifest
from videochat_r1.datasets.synthetic_order import ORDER_SCENES, order_samples
from videochat_r1.datasets.synthetic_questions import NUM_BOXES, event_samples, tracking_samples
from videochat_r1.datasets.synthetic_scene import SOURCE, Scene, events_scene, tracking_scene
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.outputs import refuse_to_replace
from videochat_r1.progress import progress_bar
from videochat_r1.sample import Sample, Video
from videochat_r1.tasks.captioning import Captioning

FRAMES_PER_SECOND = 8
SIDE = 112

_X264 = {"preset": "ultrafast", "crf": "20", "g": str(2 * FRAMES_PER_SECOND)}
# Every frame by itself and equally fine, so that equal pictures stay equal wherever they stand.
_X264_FRAME_BY_FRAME = {"preset": "ultrafast", "qp": "18", "g": "1"}


@dataclass(frozen=True, slots=True)
class VideoKind:
    """One kind of video.

    Args:
        scene: draws one; given the generator and the shortest and longest duration in seconds.
        samples: (scene, video, stem of the ids, generator, whether to ask about every shape) -> the questions about it.
        captions: whether requests for captions are among them.
        twins: whether each scene is shown twice, in the videos 2 k and 2 k + 1, the second time backwards.
    """

    scene: Callable[[np.random.Generator, float, float], Scene]
    samples: Callable[[Scene, Video, str, np.random.Generator, bool], Iterable[Sample]]
    captions: bool = False
    twins: bool = False


CORPORA: dict[str, dict[str, VideoKind]] = {
    "grounding": {
        "events": VideoKind(events_scene, event_samples, captions=True),
        "track": VideoKind(lambda rng, *_: tracking_scene(rng, NUM_BOXES), tracking_samples),
    },
    "order": {name: VideoKind(draw, order_samples, twins=True) for name, draw in ORDER_SCENES.items()},
}
"""Name of a corpus -> its kinds of videos."""


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a corpus: `<name>.jsonl`.

    Args:
        name: of the manifest.
        num_videos: videos of each kind.
        durations: shortest and longest video, in seconds, where the kind leaves it open.
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
    corpus: str = "grounding",
    num_train: int,
    num_eval: int,
    num_eval_longer: int = 0,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write `videos/*.mp4` and the manifests `train.jsonl`, `eval.jsonl` and, if asked for, `eval_longer.jsonl`. Beside each lies
    one of captions where the corpus has them, `train_captions.jsonl` and so on.

    Each number counts videos of each kind. Video paths are relative to `output`. In `eval_longer` videos last 10 to 14 s
    instead of 4 to 8.

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
    folder, kinds = Path(output), CORPORA[corpus]
    if not overwrite:
        names = [folder / name for split in splits for name in files_of(split, kinds)]
        refuse_to_replace(names, "name another --output, or replace them with --overwrite")
    try:
        return {
            split.name: write_split(folder, split, kinds, seed=seed, workers=workers, progress=progress)
            for split in splits
            if split.num_videos
        }
    except OSError as error:
        raise DataError(f"the corpus cannot be written to {output}: {error.strerror or error}") from error


def files_of(split: Split, kinds: Mapping[str, VideoKind]) -> list[str]:
    """The files of a split, relative to the corpus's folder; none for a split without videos."""
    if not split.num_videos:
        return []
    manifests = [f"{stem}.{ending}" for stem in _manifests(split, kinds) for ending in ("jsonl", "meta.json")]
    return manifests + [_video_name(split, *job) for job in _jobs(split, kinds)]


def write_split(
    output: Path, split: Split, kinds: Mapping[str, VideoKind], *, seed: int, workers: int, progress: bool
) -> int:
    """Write the videos and the manifests of one split; returns its number of samples without captions."""
    (output / "videos").mkdir(parents=True, exist_ok=True)
    jobs = _jobs(split, kinds)

    def write_one(job: tuple[str, int]) -> list[Sample]:
        name, number = job
        kind, path = kinds[name], _video_name(split, *job)
        scene_number, is_backwards = divmod(number, 2) if kind.twins else (number, False)
        rng = np.random.default_rng([seed, *split.name.encode(), *name.encode(), scene_number])
        scene = kind.scene(rng, *split.durations)
        scene = scene.reversed() if is_backwards else scene
        write_video(output / path, scene)
        return list(kind.samples(scene, Video(path=path), f"{split.name}-{name}-{number:05d}", rng, split.every_shape))

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        rows = pool.map(write_one, jobs)
        bar = progress_bar(rows, total=len(jobs), desc=f"videos of {split.name}", unit="video", disable=not progress)
        samples = [sample for row in bar for sample in row]
    meta = {"corpus": SOURCE, "split": split.name, "seed": seed, "num_videos": len(jobs)}
    questions, *captions = _manifests(split, kinds)
    for stem in captions:
        write_manifest(output / f"{stem}.jsonl", _captions(samples, wanted=True), meta=meta)
    return write_manifest(output / f"{questions}.jsonl", _captions(samples, wanted=False), meta=meta)


def _manifests(split: Split, kinds: Mapping[str, VideoKind]) -> list[str]:
    """Stems of the manifests: that of the questions, and where there are captions theirs."""
    return [split.name] + [f"{split.name}_captions"] * any(kind.captions for kind in kinds.values())


def _captions(samples: Sequence[Sample], *, wanted: bool) -> list[Sample]:
    return [sample for sample in samples if (sample.task == Captioning.name) == wanted]


def _jobs(split: Split, kinds: Mapping[str, VideoKind]) -> list[tuple[str, int]]:
    return [(kind, number) for kind in kinds for number in range(split.num_videos)]


def _video_name(split: Split, kind: str, number: int) -> str:
    return f"videos/{split.name}_{kind}_{number:05d}.mp4"


def write_video(path: Path, scene: Scene) -> None:
    """Draw the scene and encode it as H.264 in MP4; equal pictures of a scene whose pictures stay decode to equal frames."""
    num_frames = round(scene.duration * FRAMES_PER_SECOND)
    frames = scene.draw(np.arange(num_frames) / FRAMES_PER_SECOND, SIDE)
    with av.open(str(path), "w") as container:
        options = _X264_FRAME_BY_FRAME if scene.picture_seconds else _X264
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND), options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in _video_frames(frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _video_frames(frames: NDArray[np.uint8]) -> Iterator[av.VideoFrame]:
    for image in frames:
        yield av.VideoFrame.from_ndarray(image, format="rgb24")
