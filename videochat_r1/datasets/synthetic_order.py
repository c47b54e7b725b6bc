"""Videos whose questions only the order of their frames answers: which event came first, which way, growing or shrinking.

Every video has a twin that shows the same pictures backwards and has the other answer. So whatever looks at the frames
without their order, or at none, is right about exactly one of the two. That holds for two frames a second and multiples of it.
"""

from collections.abc import Callable, Iterator

import numpy as np

from videochat_r1.datasets.synthetic_scene import COLOURS, SHAPES, SOURCE, TIME_STEP, Actor, Scene
from videochat_r1.geometry import Span
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video

LEAST_WAY = 0.3
"""Share of the frame that a shape moves to the side at least."""
GROWTH = (1.7, 2.4)
SMALL = (0.2, 0.3)
"""Sizes of a shape before it has grown; as a share of the frame."""


def first_scene(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """Two still shapes of one kind in two colours, each seen for a second or more, one after the other."""
    num_steps = _num_steps(rng, shortest, longest)
    lengths = rng.integers(2, num_steps // 2, 2)
    slack = num_steps - int(lengths.sum())
    before = int(rng.integers(0, slack + 1))
    between = int(rng.integers(0, slack - before + 1))
    starts = (before, before + int(lengths[0]) + between)
    shape = str(rng.choice(SHAPES))
    colours = rng.permutation(list(COLOURS))[:2]
    actors = [
        _actor(rng, shape, str(colour), Span(start * TIME_STEP, (start + int(length)) * TIME_STEP))
        for colour, start, length in zip(colours, starts, lengths, strict=True)
    ]
    return Scene(num_steps * TIME_STEP, tuple(actors), picture_seconds=TIME_STEP)


def way_scene(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """A shape that moves to one side, evenly, from the first picture to the last."""
    duration = _num_steps(rng, shortest, longest) * TIME_STEP
    size = float(rng.uniform(0.25, 0.4))
    y = float(rng.uniform(size / 2, 1.0 - size / 2))
    start, end = 0.0, 0.0
    while abs(start - end) < LEAST_WAY:
        start, end = (float(x) for x in rng.uniform(size / 2, 1.0 - size / 2, 2))
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
    actor = Actor(shape, colour, Span(0.0, duration), size, (0.0, duration), ((start, y), (end, y)))
    return Scene(duration, (actor,), picture_seconds=TIME_STEP)


def size_scene(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """A shape that grows or shrinks in its place, evenly, from the first picture to the last."""
    duration = _num_steps(rng, shortest, longest) * TIME_STEP
    growth = float(rng.uniform(*GROWTH))
    small = float(rng.uniform(*SMALL))
    x, y = (float(value) for value in rng.uniform(small * growth / 2, 1.0 - small * growth / 2, 2))
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
    actor = Actor(shape, colour, Span(0.0, duration), small, (0.0, duration), ((x, y), (x, y)), growth)
    scene = Scene(duration, (actor,), picture_seconds=TIME_STEP)
    return scene.reversed() if rng.integers(2) else scene


ORDER_SCENES: dict[str, Callable[[np.random.Generator, float, float], Scene]] = {
    "first": first_scene,
    "way": way_scene,
    "size": size_scene,
}
"""What a question is about -> the scene that it is asked about."""


def order_samples(
    scene: Scene, video: Video, name: str, rng: np.random.Generator, every_shape: bool
) -> Iterator[Sample]:
    """The one question that fits the scene."""
    asks, query, options, right = _question(scene)
    yield Sample(
        id=name,
        task="multi_choice_qa",
        media=video,
        query=query,
        target=ChoiceTarget(options, LETTERS[options.index(right)]),
        duration=scene.duration,
        source=SOURCE,
        extra={"asks": asks},
    )


def _question(scene: Scene) -> tuple[str, str, tuple[str, ...], str]:
    """What it is about, its words, the options and the right one."""
    actor = scene.actors[0]
    if len(scene.actors) > 1:
        first = min(scene.actors, key=lambda actor: actor.visible.start)
        return "first", "Which colour comes first?", tuple(sorted(a.colour for a in scene.actors)), first.colour
    if actor.grown != 1.0:
        return "size", "Does the shape grow or shrink?", ("grow", "shrink"), "grow" if actor.grown > 1.0 else "shrink"
    right = "right" if actor.centres[-1][0] > actor.centres[0][0] else "left"
    return "way", "Does the shape move left or right?", ("left", "right"), right


def _actor(rng: np.random.Generator, shape: str, colour: str, visible: Span) -> Actor:
    size = float(rng.uniform(0.3, 0.45))
    x, y = (float(value) for value in rng.uniform(size / 2, 1.0 - size / 2, 2))
    return Actor(shape, colour, visible, size, (visible.start,), ((x, y),))


def _num_steps(rng: np.random.Generator, shortest: float, longest: float) -> int:
    """An even number of pictures, so that two frames a second, taken in pairs, show all of them."""
    return 2 * int(rng.integers(round(shortest / TIME_STEP / 2), round(longest / TIME_STEP / 2) + 1))
