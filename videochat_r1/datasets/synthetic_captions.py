"""Captions of the synthetic videos, with the events that they tell: known exactly, so that any judge can be checked against them."""

from videochat_r1.datasets.synthetic_scene import SOURCE, Actor, Scene
from videochat_r1.sample import CaptionTarget, Sample, Video
from videochat_r1.tasks.captioning import REQUEST

LEAST_MOVE = 0.1
"""Shares of the frame: a shape that moves less on both axes is not said to move."""


def caption_sample(scene: Scene, video: Video, name: str) -> Sample:
    """The captioning question about a scene; nothing about it is drawn by chance."""
    events = caption_events(scene)
    return Sample(
        id=f"{name}-caption",
        task="captioning",
        media=video,
        query=REQUEST,
        target=CaptionTarget(" ".join(events), events),
        duration=scene.duration,
        source=SOURCE,
        extra={"num_shapes": len(scene.actors)},
    )


def caption_events(scene: Scene) -> tuple[str, ...]:
    """One sentence per event in order of time: shapes appear (unless in view from the start), move, and leave (unless in view at
    the end)."""
    timed = [event for actor in scene.actors for event in _events(actor, scene.duration)]
    return tuple(text for _, text in sorted(timed))


def _events(actor: Actor, duration: float) -> list[tuple[float, str]]:
    start, end = actor.visible
    (x0, y0), (x1, y1) = actor.centre(start), actor.centre(end)
    across, down = x1 - x0, y1 - y0
    events = []
    if start > 0.0:
        events.append((start, f"A {actor.name} appears."))
    if max(abs(across), abs(down)) >= LEAST_MOVE:
        sideways = abs(across) >= abs(down)
        way = ("right" if across > 0 else "left") if sideways else ("down" if down > 0 else "up")
        events.append(((start + end) / 2, f"The {actor.name} moves {way}."))
    if end < duration:
        events.append((end, f"The {actor.name} disappears."))
    return events
