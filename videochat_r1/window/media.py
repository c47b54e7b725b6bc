"""The files that a run's groups show, and none but those below the folders that the window was opened for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

_LIST = re.compile(r"(.+) \(\+(\d+) frames\)")
"""As `Video.name` tells a video of image files: the first, and how many more."""
_MEDIA = {
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
    """

    kind: str
    name: str
    files: tuple[Path, ...]
    problem: str | None


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
        """What a group shows, of the keys `video` or `images` of its line."""
        pictures = group.get("images")
        if isinstance(pictures, list) and pictures and all(isinstance(path, str) for path in pictures):
            return self._shown("pictures", pictures[0], [self.find(path) for path in pictures])
        name = group.get("video")
        if not isinstance(name, str) or not name:
            return Shown("video", "", (), "the log does not say what was shown")
        listed = _LIST.fullmatch(name)
        if listed is None:
            return self._shown("video", name, [self.find(name)])
        first = self.find(listed[1])
        return self._shown("frames", listed[1], [first] if first is None else _from(first, int(listed[2]) + 1))

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
    return _MEDIA.get(file.suffix.lower())


def _from(first: Path, count: int) -> list[Path]:
    """So many image files of a folder in order of their names, from the first."""
    names = sorted(path for path in first.parent.iterdir() if path.suffix.lower() == first.suffix.lower())
    return names[names.index(first) :][:count]
