"""The videos of the miniature: those of training, others like them, and others that differ in one respect each.

In domain is what `data synthesize` draws: shapes on a dark ground in videos of 4 to 8 s. Out of domain (`shifted`) are equal
parts of `SHIFTS`, each of which changes one thing; `long` are videos longer than any in training, asked about at half the
frame rate. The start learns from the split `start`, everything after it from `train`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videochat_r1.datasets.manifest import read_manifest, write_manifest
from videochat_r1.datasets.synthetic import CORPORA, Split, VideoKind, write_split
from videochat_r1.datasets.synthetic_questions import event_samples
from videochat_r1.datasets.synthetic_scene import BACKGROUND, Scene, events_scene
from videochat_r1.sample import LETTERS, CaptionTarget, ChoiceTarget, GroundedChoiceTarget, Sample, Video

SEED = 1
"""Not that of the quickstart's videos, which the start has learned from before."""
GROUND = (96, 104, 120)
SMALLER = 0.6
LONGER = (8.5, 10.0)
LONG = (9.0, 14.0)
LAST = "Which colour appears last?"
THOUGHTFUL = "miniature.thoughts:ThoughtfulGrounding"

DrawScene = Callable[[np.random.Generator, float, float], Scene]


@dataclass(frozen=True, slots=True)
class PaleScene(Scene):
    """The same on a lighter ground."""

    def draw(self, times: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
        """See `Scene.draw`."""
        frames = Scene.draw(self, times, side)
        frames[(frames == np.asarray(BACKGROUND)).all(axis=-1)] = GROUND
        return frames


def pale(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """On a lighter ground."""
    scene = events_scene(rng, shortest, longest)
    return PaleScene(scene.duration, scene.actors)


def small(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """Shapes smaller than any in training."""
    scene = events_scene(rng, shortest, longest)
    return replace(scene, actors=tuple(replace(actor, size=SMALLER * actor.size) for actor in scene.actors))


def crowded(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """One shape more than in training allowed, of a colour and form of its own, which nobody asks about."""
    scene = events_scene(rng, shortest, longest)
    used = {word for actor in scene.actors for word in (actor.shape, actor.colour)}
    while True:
        other = events_scene(rng, scene.duration, scene.duration).actors[0]
        if not used & {other.shape, other.colour}:
            return replace(scene, actors=(*scene.actors, other))


def longer(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """Videos longer than any in training."""
    return events_scene(rng, *LONGER)


SHIFTS: Mapping[str, DrawScene] = {
    "pale": pale,
    "small": small,
    "crowded": crowded,
    "longer": longer,
    "worded": events_scene,
}
"""What is other than in training -> a video of it; `worded` asks for a shape by its colour alone."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Videos of each kind: of the start's training, of all other training, and of every evaluation."""

    start: int
    train: int
    evaluation: int


def questions(scene: Scene, video: Video, name: str, rng: np.random.Generator, every_shape: bool) -> Iterator[Sample]:
    """About a video with events: grounding, at once and with a thought; which colour appears last, with a clue and without; which
    appears first, without; and a caption of one sentence for each shape."""
    ordered = sorted(scene.actors, key=lambda actor: actor.visible.start)
    events = tuple(f"A {actor.name} appears." for actor in ordered)
    for sample in event_samples(scene, video, name, rng, every_shape):
        target = sample.target
        if isinstance(target, CaptionTarget):
            yield replace(sample, query="Describe.", target=CaptionTarget(" ".join(events), events))
        elif isinstance(target, GroundedChoiceTarget):
            options, last = target.options, ordered[-1]
            right = LETTERS[options.index(last.colour)]
            grounded = GroundedChoiceTarget(options, right, (last.visible,), scene.duration)
            asked = replace(sample, id=f"{name}-last", query=LAST, target=grounded)
            yield asked
            yield replace(asked, id=f"{name}-last-letter", task="multi_choice_qa", target=ChoiceTarget(options, right))
            first = ChoiceTarget(options, target.answer)
            yield replace(sample, id=f"{name}-first-letter", task="multi_choice_qa", target=first)
        else:
            yield from (sample, _thoughtful(sample))


def by_colour(scene: Scene, video: Video, name: str, rng: np.random.Generator, every_shape: bool) -> Iterator[Sample]:
    """Grounding of `the red is visible`, at once and with a thought."""
    for sample in event_samples(scene, video, name, rng, every_shape):
        if sample.task == "temporal_grounding":
            asked = replace(sample, query=" ".join(word for word in sample.query.split() if word not in _FORMS))
            yield from (asked, _thoughtful(asked))


def _thoughtful(sample: Sample) -> Sample:
    return replace(sample, id=f"{sample.id}-thought", task=THOUGHTFUL)


_FORMS = ("square", "circle", "triangle")


SORTS: Mapping[str, Callable[[Sample], bool]] = {
    "grounding": lambda sample: sample.task == "temporal_grounding",
    "thinking": lambda sample: sample.task == THOUGHTFUL,
    "tracking": lambda sample: sample.task == "tracking",
    "clues": lambda sample: sample.task == "grounded_qa",
    "letters": lambda sample: sample.task == "multi_choice_qa" and sample.query == LAST,
    "captions": lambda sample: sample.task == "captioning",
    "general": lambda sample: sample.task == "multi_choice_qa" and sample.query != LAST,
}
"""What is asked -> its samples; each has a manifest of its own, `<split>_<sort>.jsonl`."""


def write_corpora(folder: Path, sizes: Sizes) -> None:
    """Write what is not there yet: the splits `start`, `train`, `eval`, `shifted` and `long`."""
    track = CORPORA["grounding"]["track"]
    usual = {"events": VideoKind(events_scene, questions, captions=True), "track": track}
    shifts = {
        name: VideoKind(draw, by_colour if name == "worded" else questions, captions=True)
        for name, draw in SHIFTS.items()
    }
    splits = [
        (Split("start", sizes.start), usual),
        (Split("train", sizes.train), usual),
        (Split("eval", sizes.evaluation), usual),
        (Split("shifted", max(1, sizes.evaluation // len(SHIFTS))), shifts),
        (Split("long", sizes.evaluation, durations=LONG), {"events": usual["events"]}),
    ]
    for split, kinds in splits:
        if not (folder / f"{split.name}_{list(SORTS)[-1]}.jsonl").is_file():
            write_split(folder, split, kinds, seed=SEED, workers=1, progress=True)
            parts = [read_manifest(folder / f"{split.name}{part}.jsonl") for part in ("", "_captions")]
            samples = [sample for part in parts for sample in part]
            for name, belongs in SORTS.items():
                write_manifest(folder / f"{split.name}_{name}.jsonl", filter(belongs, samples))


def read_sort(folder: Path, split: str, sort: str) -> list[Sample]:
    """The samples of one sort."""
    return read_manifest(folder / f"{split}_{sort}.jsonl", folder)
