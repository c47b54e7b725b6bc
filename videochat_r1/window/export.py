"""Some groups of a run as one page that needs no server: its modules, texts, videos and pictures are all within."""

import base64
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videochat_r1.errors import ConfigError, VideoError, counted
from videochat_r1.window.group_view import group_view
from videochat_r1.window.media import Shown, media_type
from videochat_r1.window.page_text import VIEW
from videochat_r1.window.playable import Copies
from videochat_r1.window.runs import Run

logger = logging.getLogger(__name__)

_MOST_BYTES = 256 << 20
"""Of all videos and pictures of a page, which browsers hold in memory."""


def exported_groups(run: Run, numbers: Sequence[int], copies: Copies) -> str:
    """The page.

    Args:
        run: whose groups they are.
        numbers: of the groups, at least one.
        copies: makes the videos that are sent along; of one that cannot be read the page says so.

    Raises:
        ConfigError: a number is none of the run's, or the videos are too large together.
    """
    answers: dict[str, Any] = {}
    media: dict[str, str] = {}
    for place, number in enumerate(numbers):
        group = run.index.group(number)
        if group is None:
            raise ConfigError(f"{run.name} has no group {number}; its groups are 1 to {run.index.count():,}")
        address, shown = f"/api/runs/0/groups/{number}", run.folders.shown(group)
        held = _media(address, shown, copies)
        media |= held
        before, after = numbers[place - 1] if place else None, numbers[place + 1] if place + 1 < len(numbers) else None
        neighbours = {"previous": before, "next": after, "previous_step": None, "next_step": None}
        view = group_view(number, group, shown)
        if not held and shown.problem is None:
            view["media"]["problem"] = "the video cannot be decoded"
        answers[address] = {**view, "neighbours": neighbours, "draws": []}
        if sum(map(len, media.values())) > _MOST_BYTES:
            raise ConfigError(
                f"the videos of these {counted(len(numbers), 'group')} are too large for one page; name fewer"
            )
    rows = run.index.rows_of(numbers)
    kinds = {key: sorted({row[name] for row in rows}) for key, name in (("tasks", "task"), ("sources", "source"))}
    about = {"name": run.name, "kind": run.kind, "groups": len(rows), "steps": None, "read": 1.0, "damaged": 0, **kinds}
    by_number = {row["number"]: row for row in rows}
    answers["/api/runs"] = [about]
    answers["/api/runs/0/groups"] = {"rows": [by_number[number] for number in numbers], "count": len(numbers)}
    return VIEW.exported(f"{run.name}: {counted(len(numbers), 'group')}", {"answers": answers, "media": media})


def _media(address: str, shown: Shown, copies: Copies) -> dict[str, str]:
    """Address -> what it gives, within the page; nothing of what cannot be read."""
    if shown.problem is not None:
        return {}
    if shown.kind == "pictures":
        return {
            f"{address}/pictures/{place}": _held(file, str(media_type(file))) for place, file in enumerate(shown.files)
        }
    try:
        return {f"{address}/video": _held(copies.of(shown.files, shown.frame_times), "video/mp4")}
    except VideoError as error:
        logger.warning("%s is left out: %s", shown.name, error)
        return {}


def _held(file: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
