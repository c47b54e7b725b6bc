"""Questions about the synthetic videos in which shapes appear, leave and move: when, where, which came first."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from videochat_r1.datasets.synthetic_captions import caption_sample
from videochat_r1.datasets.synthetic_scene import COLOURS, SOURCE, Scene
from videochat_r1.geometry import Box
from videochat_r1.sample import LETTERS, BoxesTarget, GroundedChoiceTarget, Sample, SpanTarget, Video

NUM_BOXES = 8


def event_samples(
    scene: Scene, video: Video, name: str, rng: np.random.Generator, every_shape: bool
) -> Iterator[Sample]:
    """Grounding, one grounded question and a request for a caption, about a video with events."""
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
    yield caption_sample(scene, video, name)


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
