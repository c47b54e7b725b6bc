"""Videos of three episodes, and questions that their coarse frames cannot answer.

Every video holds three episodes of three seconds. In each a white bar stands on another side, a colour flashes for half a
second between two instants of the coarse rate, and a small sign has stripes too fine for the coarse resolution. Questions name
the side: a coarse look can find the episode and not the answer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from videochat_r1.datasets.synthetic import SIDE, write_video
from videochat_r1.datasets.synthetic_scene import BACKGROUND, COLOURS, Scene
from videochat_r1.geometry import Span
from videochat_r1.sample import LETTERS, GroundedChoiceTarget, Sample, Video
from videochat_r1.second_look.question import TASK
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
COARSE_SIDE = 28
COARSE = VideoBudget(fps=1.0, max_frames=64, total_pixels=64 * 784, min_pixels=784, max_pixels=784, isolation="none")
"""One token per pair of frames: 8 for a video."""
_WHITE = (235, 235, 235)


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
