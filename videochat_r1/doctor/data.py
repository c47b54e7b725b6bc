"""The data of a recipe: whether every corpus can be read, and the first videos and pictures of each found and decoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videochat_r1.datasets.curriculum import Sampling
from videochat_r1.datasets.mixture import Mixture, MixtureEntry
from videochat_r1.doctor.flops import VideoGrid
from videochat_r1.doctor.memory import ModelShape
from videochat_r1.doctor.report import Section
from videochat_r1.errors import ConfigError, DataError, VideoError, counted
from videochat_r1.progress import progress_bar
from videochat_r1.recipe import DataArguments
from videochat_r1.sample import Media, Pictures, Sample, Video
from videochat_r1.video.frames import VideoBudget, frame_size, size_within
from videochat_r1.video.probe import VideoInfo, probe
from videochat_r1.video.process import read_in_process
from videochat_r1.video.sampling import TEMPORAL_PATCH, time_grid
from videochat_r1.video.stills import READ_SECONDS


@dataclass(frozen=True, slots=True)
class DataFindings:
    """The section, how many samples an epoch has, and every video and set of pictures that was decoded (none where no model's
    shape is known)."""

    section: Section
    samples_per_epoch: int
    videos: list[VideoGrid]
    tasks: tuple[str, ...]


def check_data(
    data: DataArguments, seed: int, *, shape: ModelShape | None, num_videos: int, progress: bool = False
) -> DataFindings:
    """Reads every entry of the mixture by itself, so that one report names all that is wrong.

    Args:
        data: of the resolved recipe.
        seed: of the recipe; it decides which samples come first.
        shape: of the model that sees the videos; None where it is not known.
        num_videos: how many videos, or sets of pictures, of each entry are looked for and decoded.
        progress: show a bar on stderr.
    """
    section = Section("data", {"data_root": data.data_root})
    total, videos, tasks = 0, list[VideoGrid](), Counter[str]()
    if not data.mixture:
        section.problem("the recipe lists no data", "add at least one entry under `mixture`")
    for number, values in enumerate(data.mixture or []):
        try:
            entry = MixtureEntry.from_dict(values)  # type: ignore[arg-type]
            mixture = Mixture([entry], seed=seed, root=Path(data.data_root), sampling=Sampling.of(data.sampling))
        except (ConfigError, DataError) as error:
            section.problem(
                f"entry {number + 1}: {error}",
                "docs/data.md says what each corpus's folder holds; name the folder above it with --data (DATA)",
            )
            continue
        samples = mixture.samples(0)
        summary = mixture.summaries[0]
        total += len(samples)
        tasks.update(sample.task for sample in samples)
        section.facts[f"{number + 1} {entry.label}"] = (
            f"{counted(len(samples), 'sample')} an epoch ({summary.read:,} published, {summary.usable:,} usable)"
        )
        videos += _check_files(section, entry.label, samples, data, shape, num_videos, progress)
    section.facts["samples per epoch"] = total
    return DataFindings(section, total, videos, tuple(tasks))


def _check_files(
    section: Section,
    label: str,
    samples: Sequence[Sample],
    data: DataArguments,
    shape: ModelShape | None,
    limit: int,
    progress: bool,
) -> list[VideoGrid]:
    """The first `limit` distinct videos or sets of pictures that decode; what is missing or broken becomes problems."""
    shown = list({sample.media.key: sample.media for sample in samples}.values())
    looked_at = shown[:limit]
    kinds = {"videos" if isinstance(media, Video) else "pictures": None for media in shown}
    what = " and ".join(kinds)
    missing, broken, sound = list[str](), list[str](), list[VideoGrid | None]()
    for media in progress_bar(looked_at, desc=f"{what} of {label}", unit="file", disable=not progress, leave=False):
        absent = next((path for path in media.files if not _is_file(path)), None)
        if absent is not None:
            missing.append(absent)
            continue
        try:
            sound.append(_shown_grid(media, data, shape))
        except VideoError as error:
            broken.append(str(error))
    section.facts[f"  {what} of {label}"] = (
        f"{len(sound)} of the first {len(looked_at)} (of {len(shown):,}) are there and decode"
    )
    if missing:
        section.problem(
            f"{label}: {len(missing)} of the first {len(looked_at)} {what} are missing, such as {missing[0]}",
            f"put the {what} there (or give read access to the folders above), or correct `videos` in the recipe's mixture; `videochat-r1 data check` lists them all",
        )
    if broken:
        section.problem(
            f"{label}: {len(broken)} of the first {len(looked_at)} {what} cannot be decoded, such as {broken[0]}",
            "fetch them again; `videochat-r1 data prepare --decode` leaves out those that stay broken",
        )
    return [grid for grid in sound if grid is not None]


def _is_file(path: str) -> bool:
    """False also for what lies in a folder that this user may not look into."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _shown_grid(media: Media, data: DataArguments, shape: ModelShape | None) -> VideoGrid | None:
    """What a sample shows after sampling and resizing; None where no model's shape is known. Raises VideoError.

    Of several pictures all count as the largest.
    """
    budget = data.budget()
    if isinstance(media, Pictures):
        sizes = [read_in_process(path, READ_SECONDS).shape[1::-1] for path in media.paths]
        if shape is None:
            return None
        limits = data.picture_budget().limits(shape.family.picture_pixels)
        sides = [size_within(width, height, limits, shape.token_side) for width, height in sizes]
        width, height = max(sides, key=lambda size: size[0] * size[1])
        return VideoGrid(len(sides), height // shape.token_side, width // shape.token_side, 0)
    info = probe(media, backend=budget.backend, timeout_seconds=budget.timeout_seconds)
    return None if shape is None else grid_of(media, info, budget, shape)


def grid_of(video: Video, info: VideoInfo, budget: VideoBudget, shape: ModelShape) -> VideoGrid:
    """A video after sampling and resizing; a list of images is used whole, up to `max_frames`."""
    if video.frames:
        num_frames = min(len(video.frames), budget.max_frames)
        return _grid(num_frames, info.duration, info.width, info.height, budget, shape)
    return grid_of_clip(info.duration, info.width, info.height, budget, shape)


def grid_of_clip(duration: float, width: int, height: int, budget: VideoBudget, shape: ModelShape) -> VideoGrid:
    """A clip of so many seconds after sampling and resizing."""
    times = time_grid(duration, budget.fps, budget.min_frames, budget.max_frames).times
    return _grid(len(times), duration, width, height, budget, shape)


def _grid(
    num_frames: int, duration: float, width: int, height: int, budget: VideoBudget, shape: ModelShape
) -> VideoGrid:
    """An odd last frame fills a pair of its own."""
    steps, side = -(-num_frames // TEMPORAL_PATCH), shape.token_side
    resized_width, resized_height = frame_size(width, height, steps * TEMPORAL_PATCH, budget, side)
    times = steps * shape.family.seconds_tokens(duration)
    return VideoGrid(steps, resized_height // side, resized_width // side, times)
