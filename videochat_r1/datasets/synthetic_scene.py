"""Scenes of coloured shapes that appear, move and leave: exact truth for every question, drawn as pixels."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from videochat_r1.geometry import Box, Span

SOURCE = "synthetic"
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 40, 40),
    "green": (40, 190, 60),
    "blue": (60, 90, 235),
    "yellow": (235, 215, 50),
}
SHAPES = ("square", "circle", "triangle")
BACKGROUND = (24, 24, 28)
TIME_STEP = 0.5
"""Seconds: spans begin and end on this grid."""


@dataclass(frozen=True, slots=True)
class Actor:
    """One shape: what it looks like, when it can be seen and where it is.

    Args:
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        visible: from the first frame that shows it to the first that does not, in seconds.
        size: width and height as a share of the frame, at the first way point.
        times: seconds of the way points, rising.
        centres: (x, y) at each way point, in [0, 1]; straight lines between.
        grown: size at the last way point as a share of that at the first; it changes evenly.
    """

    shape: str
    colour: str
    visible: Span
    size: float
    times: tuple[float, ...]
    centres: tuple[tuple[float, float], ...]
    grown: float = 1.0

    @property
    def name(self) -> str:
        """What questions call it, e.g. `red square`."""
        return f"{self.colour} {self.shape}"

    def centre(self, time: float) -> tuple[float, float]:
        """(x, y) at a moment; before the first way point and after the last it stays there."""
        x = np.interp(time, self.times, [centre[0] for centre in self.centres])
        y = np.interp(time, self.times, [centre[1] for centre in self.centres])
        return float(x), float(y)

    def size_at(self, time: float) -> float:
        """Width and height at a moment, as a share of the frame."""
        return self.size * float(np.interp(time, (self.times[0], self.times[-1]), (1.0, self.grown)))

    def reversed(self, duration: float) -> "Actor":
        """The same backwards in a video of so many seconds."""
        return replace(
            self,
            visible=Span(duration - self.visible.end, duration - self.visible.start),
            size=self.size * self.grown,
            times=tuple(duration - time for time in self.times[::-1]),
            centres=self.centres[::-1],
            grown=1.0 / self.grown,
        )

    def box(self, time: float) -> Box:
        """The box around it at a moment, whether visible or not."""
        x, y = self.centre(time)
        half = self.size_at(time) / 2
        return Box(x - half, y - half, x + half, y + half)


@dataclass(frozen=True, slots=True)
class Scene:
    """A video before it is drawn.

    Args:
        duration: seconds.
        actors: who is in it; later ones are drawn over earlier ones.
        picture_seconds: how long each picture stays, which is that of the middle of its time; 0 for a new one at every
            instant.
    """

    duration: float
    actors: tuple[Actor, ...]
    picture_seconds: float = 0.0

    def reversed(self) -> "Scene":
        """The same backwards. Where pictures stay for a share of the duration, it shows exactly the same ones."""
        return replace(self, actors=tuple(actor.reversed(self.duration) for actor in self.actors))

    def events(self) -> list[tuple[Span, str]]:
        """What happens and when, in order of time: the truth that a caption should tell."""
        events = [(actor.visible, f"a {actor.name} is visible") for actor in self.actors]
        return sorted(events)

    def draw(self, times: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
        """(T, side, side, 3) RGB frames at the given seconds."""
        frames = np.empty((len(times), side, side, 3), dtype=np.uint8)
        frames[:] = BACKGROUND
        if self.picture_seconds:
            times = (np.floor(times / self.picture_seconds) + 0.5) * self.picture_seconds
        for frame, time in zip(frames, times, strict=True):
            for actor in self.actors:
                if actor.visible.start <= time < actor.visible.end:
                    _draw(frame, actor.shape, COLOURS[actor.colour], actor.box(float(time)))
        return frames


def events_scene(rng: np.random.Generator, shortest: float, longest: float) -> Scene:
    """One or two shapes that appear, one after the other, drift and leave; at most one of each shape and colour.

    Durations and spans are multiples of `TIME_STEP`; a span lasts from 1 s to 0.6 of the video.
    """
    duration = _on_grid(rng.uniform(shortest, longest))
    names = _names(rng)
    while True:
        actors = [_actor(rng, *name, _span(rng, duration), duration, 2) for name in names]
        starts = {actor.visible.start for actor in actors}
        if len(starts) == len(actors) and _apart(actors, duration):
            return Scene(duration, tuple(actors))


def tracking_scene(rng: np.random.Generator, num_boxes: int) -> Scene:
    """One or two shapes in view throughout, moving along one or two straight lines; half a second per box."""
    duration = num_boxes * TIME_STEP
    names = _names(rng)
    while True:
        num_points = [int(rng.integers(2, 4)) for _ in names]
        actors = [
            _actor(rng, *name, Span(0.0, duration), duration, n) for name, n in zip(names, num_points, strict=True)
        ]
        if _apart(actors, duration):
            return Scene(duration, tuple(actors))


def _names(rng: np.random.Generator) -> list[tuple[str, str]]:
    """(shape, colour) of one or two actors."""
    number = int(rng.integers(1, 3))
    shapes, colours = rng.permutation(SHAPES)[:number], rng.permutation(list(COLOURS))[:number]
    return [(str(shape), str(colour)) for shape, colour in zip(shapes, colours, strict=True)]


def _actor(rng: np.random.Generator, shape: str, colour: str, visible: Span, duration: float, num_points: int) -> Actor:
    size = float(rng.uniform(0.25, 0.42))
    times = tuple(float(time) for time in np.linspace(0.0, duration, num_points))
    points = rng.uniform(size / 2, 1.0 - size / 2, (num_points, 2))
    return Actor(shape, colour, visible, size, times, tuple((float(x), float(y)) for x, y in points))


def _span(rng: np.random.Generator, duration: float) -> Span:
    length = _on_grid(rng.uniform(1.0, 0.6 * duration))
    start = _on_grid(rng.uniform(0.0, duration - length))
    return Span(start, start + length)


def _on_grid(seconds: float) -> float:
    return round(seconds / TIME_STEP) * TIME_STEP


def _apart(actors: list[Actor], duration: float) -> bool:
    """Whether no actor ever hides much of another."""
    if len(actors) < 2:
        return True
    times = np.linspace(0.0, duration, 17)
    first, second = (np.array([actor.centre(float(time)) for time in times]) for actor in actors)
    nearest = float(np.abs(first - second).max(axis=1).min())
    return nearest > 0.35 * (actors[0].size + actors[1].size)


def _draw(frame: NDArray[np.uint8], shape: str, colour: tuple[int, int, int], box: Box) -> None:
    """Paint one shape into the frame, with edges smoothed over one pixel."""
    side = frame.shape[0]
    x0, y0, x1, y1 = (value * side for value in box)
    left, top = max(0, int(x0)), max(0, int(y0))
    right, bottom = min(side, int(np.ceil(x1))), min(side, int(np.ceil(y1)))
    x = np.arange(left, right)[None, :] + 0.5
    y = np.arange(top, bottom)[:, None] + 0.5
    # Signed distance to the outline in pixels, positive inside.
    inside_box = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))
    if shape == "circle":
        distance = (x1 - x0) / 2 - np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2)
    elif shape == "triangle":
        slope = (x1 - x0) / (2 * (y1 - y0))
        distance = np.minimum(y1 - y, (slope * (y - y0) - np.abs(x - (x0 + x1) / 2)) / np.hypot(1.0, slope))
    else:
        distance = inside_box
    cover = np.clip(distance + 0.5, 0.0, 1.0)[..., None]
    patch = frame[top:bottom, left:right]
    patch[:] = (patch * (1.0 - cover) + np.asarray(colour) * cover + 0.5).astype(np.uint8)
