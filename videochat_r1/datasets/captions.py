"""Videos or pictures with captions: CaReBench (formerly FIBER-1k), or any JSON list or JSONL of video or images and caption."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.datasets.base import Corpus, Request, VideoFinder, has_type
from videochat_r1.errors import DataError, keys_shown
from videochat_r1.json_rows import read_json_rows
from videochat_r1.sample import CaptionTarget, Media, Sample, Video
from videochat_r1.tasks.captioning import PICTURE_REQUEST, REQUEST

VIDEO_KEYS = ("video", "video_path", "video_file", "path")
CAPTION_KEYS = ("caption", "description", "text")


class Captions(Corpus):
    """Rows of `video` and `caption`, with `events` (a list of texts), `query`, `duration` and `id` where they are known.

    The video may also be called `video_path`, `video_file` or `path`, the caption `description` or `text`. A video is
    looked for in the videos folder as it is named, then with every file type. In its place `images` lists pictures.
    """

    name = "captions"
    tasks = ("captioning",)

    def parse(self, request: Request) -> Iterator[Sample]:
        """One sample per row; ids are the rows' own, else the files' names without their file type."""
        find = VideoFinder(request.videos)
        for where, value in read_json_rows(request.annotations):
            yield self._sample(Row.of(value, where), find)

    def _sample(self, row: Row, find: VideoFinder) -> Sample:
        media, name = _shown(row, find)
        caption = row.text(_key(row, CAPTION_KEYS)).strip()
        values = row.values
        usual = REQUEST if isinstance(media, Video) else PICTURE_REQUEST
        return Sample(
            id=str(values["id"]) if isinstance(values.get("id"), str | int) else name,
            task="captioning",
            media=media,
            query=row.text("query").strip() if "query" in values else usual,
            target=CaptionTarget(caption, read_events(row)),
            duration=None if values.get("duration") is None else row.number("duration"),
            source=self.name,
        )


class CaReBench(Captions):
    """CaReBench's `metadata.json`: 1,000 videos with a detailed caption each. As FIBER-1k it is the paper's training set."""

    name = "carebench"


def read_events(row: Row, key: str = "events") -> tuple[str, ...]:
    """The texts listed under a key; none where it is absent or null.

    Raises:
        DataError: it is no list of texts.
    """
    if row.values.get(key) is None:
        return ()
    return tuple(event.strip() for event in row.texts(key))


def _shown(row: Row, find: VideoFinder) -> tuple[Media, str]:
    """What a row shows, and the name of the file, or of the first one, without its type."""
    if row.values.get("images") is None:
        video = row.text(_key(row, VIDEO_KEYS))
        return Video(path=find(video)), str(PurePosixPath(video).with_suffix("")) if has_type(video) else video
    pictures = row.pictures("images")
    return pictures, str(PurePosixPath(pictures.paths[0]).with_suffix(""))


def _key(row: Row, names: tuple[str, ...]) -> str:
    """The first of the names that the row has."""
    for name in names:
        if name in row.values:
            return name
    found = keys_shown(row.values)
    raise DataError(f"{row.where}: expected {' or '.join(map(repr, names))} beside the other; found {found}")
