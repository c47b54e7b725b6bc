"""The files that a run's groups show, and none but those below the folders that the window was opened for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from videochat_r1.grpo.tally import is_number

MEDIA = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".wmv": "video/x-ms-wmv",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".ts": "video/mp2t",
    ".3gp": "video/3gpp",
    ".ogv": "video/ogg",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
"""Ending -> type of what is served; nothing else is, so that no annotation file or checkpoint can be asked for."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a group shows.

    Args:
        kind: `video` (one file), `frames` (a video of image files) or `pictures`.
        name: of the first file, without its folders.
        files: where they are; empty where they were not found, or may not be served.
        problem: why, in words for the page; None if there is none.
        frame_times: of image files, the seconds of each.
        start, end: of a clip, whose own time begins at `start` seconds of the file; None for the file's.
    """

    kind: str
    name: str
    files: tuple[Path, ...]
    problem: str | None
    frame_times: tuple[float, ...] = ()
    start: float | None = None
    end: float | None = None


class Folders:
    """Finds files as logs name them.

    Args:
        roots: folders that may be served from; those given by the user first. A file may also lie below one of them under the
            last parts of the path that a log names, as a run that was copied from another machine has it.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self.roots = tuple(dict.fromkeys(root.resolve() for root in roots))

    def find(self, recorded: str) -> Path | None:
        """The file of a recorded path; None if none of the folders has it or it is no video and no picture."""
        try:
            parts = PurePath(recorded).parts
            candidates = [Path(recorded)]
            candidates += [root.joinpath(*parts[-count:]) for root in self.roots for count in range(len(parts), 0, -1)]
            # Links are followed first: one that leads out of the folders leads nowhere.
            for candidate in candidates:
                file = candidate.resolve()
                if media_type(file) is not None and self._holds(file) and file.is_file():
                    return file
        except (OSError, ValueError):  # a name that no file can have
            return None
        return None

    def shown(self, group: Mapping[str, Any]) -> Shown:
        """What a group shows, of the keys `video`, `video_parts` and `images` of its line."""
        pictures = group.get("images")
        if isinstance(pictures, list) and pictures and all(isinstance(path, str) for path in pictures):
            return self._shown("pictures", pictures[0], [self.find(path) for path in pictures])
        name, parts = group.get("video"), group.get("video_parts")
        if not isinstance(name, str) or not name:
            return Shown("video", "", (), "the log does not say what was shown")
        parts = parts if isinstance(parts, dict) else {}
        start, end = (float(at) if is_number(at := parts.get(key)) else None for key in ("start", "end"))
        frames, times = parts.get("frames"), parts.get("frame_times")
        if not isinstance(frames, list) or not isinstance(times, list):
            return replace(self._shown("video", name, [self.find(name)]), start=start, end=end)
        pairs = [(path, at) for path, at in zip(frames, times, strict=False) if isinstance(path, str) and is_number(at)]
        shown = self._shown("frames", name, [self.find(path) for path, _ in pairs] or [None])
        return replace(shown, frame_times=tuple(float(at) for _, at in pairs), start=start, end=end)

    def _shown(self, kind: str, name: str, found: Sequence[Path | None]) -> Shown:
        files = tuple(file for file in found if file is not None)
        problem = None
        if len(files) < len(found):
            problem = "the file is not in the folders that this window may show; --videos DIR names one that has it"
        return Shown(kind, PurePath(name).name, files if problem is None else (), problem)

    def _holds(self, file: Path) -> bool:
        return any(file.is_relative_to(root) for root in self.roots)


def media_type(file: Path) -> str | None:
    """The type by which a file is served; None for one that is not."""
    return MEDIA.get(file.suffix.lower())
