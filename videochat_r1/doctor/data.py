"""The data of a recipe: whether every corpus can be read, and the first videos and pictures of each found and decoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videochat_r1.datasets.mixture import Mixture, MixtureEntry
from videochat_r1.doctor.flops import VideoGrid
from videochat_r1.doctor.report import Section
from videochat_r1.errors import ConfigError, DataError, VideoError, counted
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.progress import progress_bar
from videochat_r1.recipe import DataArguments
from videochat_r1.sample import Media, Sample, Video
from videochat_r1.video.frames import VideoBudget, frame_size
from videochat_r1.video.probe import probe
from videochat_r1.video.sampling import TEMPORAL_PATCH, time_grid
from videochat_r1.video.stills import load_pictures

FACTOR = 28


@dataclass(frozen=True, slots=True)
class DataFindings:
    """The section, how many samples an epoch has, and the tokens of every video and set of pictures that was decoded."""

    section: Section
    samples_per_epoch: int
    video_tokens: list[int]
    tasks: tuple[str, ...]


def check_data(data: DataArguments, seed: int, *, num_videos: int, progress: bool = False) -> DataFindings:
    """Reads every entry of the mixture by itself, so that one report names all that is wrong.

    Args:
        data: of the resolved recipe.
        seed: of the recipe; it decides which samples come first.
        num_videos: how many videos, or sets of pictures, of each entry are looked for and decoded.
        progress: show a bar on stderr.
    """
    section = Section("data", {"data_root": data.data_root})
    total, tokens, tasks = 0, list[int](), Counter[str]()
    if not data.mixture:
        section.problem("the recipe lists no data", "add at least one entry under `mixture`")
    for number, values in enumerate(data.mixture or []):
        try:
            entry = MixtureEntry.from_dict(values)  # type: ignore[arg-type]
            mixture = Mixture([entry], seed=seed, root=Path(data.data_root))
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
        tokens += _check_files(section, entry.label, samples, data, num_videos, progress)
    section.facts["samples per epoch"] = total
    return DataFindings(section, total, tokens, tuple(tasks))


def _check_files(
    section: Section, label: str, samples: Sequence[Sample], data: DataArguments, limit: int, progress: bool
) -> list[int]:
    """Tokens of the first `limit` distinct videos or sets of pictures; what is missing or broken becomes problems."""
    shown = list({sample.media.key: sample.media for sample in samples}.values())
    looked_at = shown[:limit]
    kinds = {"videos" if isinstance(media, Video) else "pictures": None for media in shown}
    what = " and ".join(kinds)
    missing, broken, tokens = list[str](), list[str](), list[int]()
    for media in progress_bar(looked_at, desc=f"{what} of {label}", unit="file", disable=not progress, leave=False):
        absent = next((path for path in media.files if not _is_file(path)), None)
        if absent is not None:
            missing.append(absent)
            continue
        try:
            tokens.append(_tokens(media, data))
        except VideoError as error:
            broken.append(str(error))
    section.facts[f"  {what} of {label}"] = (
        f"{len(tokens)} of the first {len(looked_at)} (of {len(shown):,}) are there and decode"
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
    return tokens


def _is_file(path: str) -> bool:
    """False also for what lies in a folder that this user may not look into."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _tokens(media: Media, data: DataArguments) -> int:
    """Tokens of what a sample shows. Raises VideoError."""
    budget = data.budget()
    if not isinstance(media, Video):
        stills = load_pictures(
            media, data.picture_budget().limits(FAMILIES[DEFAULT_FAMILY].picture_pixels), factor=FACTOR
        )
        return sum(still.pixels[0].numel() // FACTOR**2 for still in stills)
    info = probe(media, backend=budget.backend, timeout_seconds=budget.timeout_seconds)
    if media.frames:
        return tokens_of_frames(min(len(media.frames), budget.max_frames), info.width, info.height, budget)
    return tokens_of_clip(info.duration, info.width, info.height, budget)


def tokens_of_clip(duration: float, width: int, height: int, budget: VideoBudget) -> int:
    """Video tokens of a clip: frames / 2 x height / 28 x width / 28 after sampling and resizing."""
    return grid_of_clip(duration, width, height, budget).tokens


def grid_of_clip(duration: float, width: int, height: int, budget: VideoBudget) -> VideoGrid:
    """The same, along each axis."""
    grid = time_grid(duration, budget.fps, budget.min_frames, budget.max_frames)
    return _grid_of_frames(len(grid.times), width, height, budget)


def tokens_of_frames(num_frames: int, width: int, height: int, budget: VideoBudget) -> int:
    """Video tokens of so many frames of that original size; an odd last frame fills a pair of its own."""
    return _grid_of_frames(num_frames, width, height, budget).tokens


def _grid_of_frames(num_frames: int, width: int, height: int, budget: VideoBudget) -> VideoGrid:
    steps = -(-num_frames // TEMPORAL_PATCH)
    resized_width, resized_height = frame_size(width, height, steps * TEMPORAL_PATCH, budget, FACTOR)
    return VideoGrid(steps, resized_height // FACTOR, resized_width // FACTOR)
