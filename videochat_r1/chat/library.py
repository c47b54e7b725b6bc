"""What can be talked about: videos and pictures of a folder, and those that people upload, which are removed again."""

import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from videochat_r1.errors import ConfigError, DataError, VideoError, shown, without_folders
from videochat_r1.sample import Media, Pictures, Video
from videochat_r1.video.probe import probe
from videochat_r1.video.process import close_process, read_in_process
from videochat_r1.window.media import MEDIA, media_type

Read = TypeVar("Read")

MOST_LISTED = 200
_MOST_VISITED = 50_000
_READ_SECONDS = 60.0
_LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class Item:
    """A video or a picture.

    Args:
        key: by which pages name it; cannot be guessed.
        name: for people: the file's own, below the folder that holds it.
        file: where it lies.
    """

    key: str
    name: str
    file: Path

    @property
    def kind(self) -> str:
        """`video` or `pictures`, as players know them."""
        return "pictures" if str(media_type(self.file)).startswith("image/") else "video"

    @property
    def media(self) -> Media:
        """What a model is shown."""
        return Video(path=str(self.file)) if self.kind == "video" else Pictures((str(self.file),))

    def to_json(self) -> dict[str, Any]:
        """For a list of the page."""
        return {"key": self.key, "name": self.name, "kind": self.kind}


class Library:
    """Of one window.

    Args:
        folder: whose videos and pictures may be chosen, those of its folders included; None for none.
        most_bytes: of one upload.
        most_uploads: that are kept at once; of more, those uploaded first are removed.
        most_receiving: that may come in at once.
    """

    def __init__(
        self, folder: Path | None, *, most_bytes: int = 1 << 30, most_uploads: int = 12, most_receiving: int = 3
    ) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"the folder {folder} of --videos does not exist")
        self.most_bytes = most_bytes
        self._root = None if folder is None else folder.resolve()
        self._most_uploads, self._most_receiving = most_uploads, most_receiving
        self._held = tempfile.TemporaryDirectory(prefix="videochat_r1-uploads-")
        self._keys: dict[Path, str] = {}
        self._items: dict[str, Item] = {}
        self._uploads: dict[str, Item] = {}
        self._receiving = 0
        self._lock = threading.Lock()
        # A decoder process belongs to the thread that asks it.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="library")

    def listed(self, text: str = "") -> tuple[list[Item], bool]:
        """What of the folder has this text in its name, in order of name, and whether there is more than is listed."""
        found: list[Item] = []
        if self._root is None:
            return found, False
        for file in _files(self._root):
            name = file.relative_to(self._root).as_posix()
            if text.lower() not in name.lower():
                continue
            if len(found) == MOST_LISTED:
                return found, True
            found.append(self._known(name, file))
        return found, False

    def item(self, key: str) -> Item | None:
        """That of a key, if it is still there."""
        item = self._items.get(key)
        return item if item is not None and item.file.is_file() else None

    def length(self, item: Item) -> float | None:
        """Seconds of a video; None of a picture. Raises as `read` does."""
        return self.read(item, _length)

    def read(self, item: Item, reading: Callable[[Media], Read]) -> Read:
        """What `reading` makes of an item, one after the other, as all share one decoder process.

        Raises:
            VideoError: it cannot be read; the message names no folder.
        """
        try:
            return self._reader.submit(reading, item.media).result()
        except VideoError as error:
            raise VideoError(without_folders(str(error), {str(item.file): item.name})) from error

    async def add(self, name: str, chunks: AsyncIterator[bytes], announced: int = 0) -> Item:
        """What is uploaded, once all of it is there and could be read.

        Args:
            name: as the page knows it; decides what kind of file it is.
            chunks: its bytes.
            announced: how many there will be; 0 where that is not known.

        Raises:
            DataError: it is no video and no picture, too large, or too many come in at once.
            VideoError: it cannot be read.
        """
        name = shown(PurePath(name.replace("\\", "/")).name or "upload", _LONGEST_NAME)
        ending = PurePath(name).suffix.lower()
        if ending not in MEDIA:
            raise DataError(f"{name} is no video and no picture by its ending; known are {', '.join(MEDIA)}")
        if announced > self.most_bytes:
            raise self._too_large(name)
        with ExitStack() as undo:
            self._receive(1)
            undo.callback(self._receive, -1)
            with ExitStack() as failed:
                # A folder for each: what a file says about files beside it leads to nobody's.
                folder = Path(tempfile.mkdtemp(dir=self._held.name))
                failed.callback(shutil.rmtree, folder, ignore_errors=True)
                item = Item(secrets.token_urlsafe(12), name, folder / f"upload{ending}")
                await self._write(item, chunks)
                await run_in_threadpool(self.length, item)
                failed.pop_all()
            with self._lock:
                self._items[item.key] = self._uploads[item.key] = item
                first = list(self._uploads)[: -self._most_uploads]
            for key in first:
                self.remove(key)
        return item

    def remove(self, key: str) -> bool:
        """Remove an upload; False for what is none."""
        with self._lock:
            item = self._uploads.pop(key, None)
            if item is None:
                return False
            del self._items[key]
        shutil.rmtree(item.file.parent, ignore_errors=True)
        return True

    def close(self) -> None:
        """Remove all uploads."""
        self._reader.submit(close_process)
        self._reader.shutdown()
        self._held.cleanup()

    def _receive(self, change: int) -> None:
        with self._lock:
            if change > 0 and self._receiving >= self._most_receiving:
                raise DataError("others upload at this moment; try again when they are done")
            self._receiving += change

    async def _write(self, item: Item, chunks: AsyncIterator[bytes]) -> None:
        size = 0
        with item.file.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > self.most_bytes:
                    raise self._too_large(item.name)
                try:
                    await run_in_threadpool(file.write, chunk)
                except OSError as error:
                    raise DataError(f"{item.name} cannot be kept on the server: {error.strerror}") from error

    def _too_large(self, name: str) -> DataError:
        most = f"{self.most_bytes / (1 << 20):.3g} MB"
        return DataError(
            f"{name} is larger than {most}, the most that can be uploaded; --videos names a folder to choose from"
        )

    def _known(self, name: str, file: Path) -> Item:
        with self._lock:
            key = self._keys.setdefault(file, secrets.token_urlsafe(12))
            return self._items.setdefault(key, Item(key, name, file.resolve()))


def _files(root: Path) -> Iterator[Path]:
    """A folder's videos and pictures in order of name; links that lead out of it lead nowhere."""
    visited = 0
    for place, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            visited += 1
            if visited > _MOST_VISITED:
                return
            file = Path(place, name)
            if media_type(file) is not None and file.resolve().is_relative_to(root):
                yield file


def _length(media: Media) -> float | None:
    if isinstance(media, Video):
        return probe(media, timeout_seconds=_READ_SECONDS).duration
    read_in_process(media.paths[0], _READ_SECONDS)
    return None
