"""The folder of a benchmark run: its settings, one file of answers per shard, and which questions are still open.

Answers are appended as soon as they are known, whole lines at a time; a line that a kill has cut off is dropped. Shards share
nothing but the folder, so ranks of one launch, independent processes and resumed runs of another layout all add to the
same answers.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videochat_r1.errors import DataError
from videochat_r1.evaluation.scoring.predictions import Prediction, read_row
from videochat_r1.evaluation.scoring.results import RESULTS, RUN_SETTINGS, read_results, refuse_foreign
from videochat_r1.evaluation.scoring.settings import refuse_changes
from videochat_r1.evaluation.scoring.strict_json import strict_json
from videochat_r1.file_lock import locked
from videochat_r1.text import parse_json, read_text

logger = logging.getLogger(__name__)

ANSWERS = "answers"


class RunFolder:
    """Where a run keeps its answers.

    Args:
        path: made by `begin` if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse_others(self, settings: Mapping[str, Any], keys: Sequence[str]) -> None:
        """See that what the folder holds, if anything, was made with the same settings; nothing is written.

        Args:
            settings: what answers depend on.
            keys: dotted names of the settings that have to be equal.

        Raises:
            ConfigError: the folder holds answers of other settings, every difference is named; or files of somebody else's.
        """
        refuse_foreign(self.path)
        if (self.path / RUN_SETTINGS).is_file():
            refuse_changes(self.recorded()["settings"], settings, keys, self.path)
        elif (self.path / RESULTS).is_file():
            refuse_changes(read_results(self.path)["settings"], settings, ("mode", *keys), self.path)

    def begin(self, settings: Mapping[str, Any], keys: Sequence[str], environment: Mapping[str, Any]) -> None:
        """Record the settings of a new run, or see that those of a begun one are the same.

        Args:
            settings: what answers depend on.
            keys: see `refuse_others`.
            environment: versions and commit; a run may go on under others, which are then recorded too.

        Raises:
            ConfigError: see `refuse_others`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock("settings.lock", wait=True):
            self.refuse_others(settings, keys)
            if not (self.path / RUN_SETTINGS).is_file():
                self._write_settings({"settings": dict(settings), "environments": [dict(environment)]})
                return
            recorded = self.recorded()
            if environment not in recorded["environments"]:
                logger.warning("%s goes on with other versions or another commit than it was begun with", self.path)
                recorded["environments"].append(dict(environment))
                self._write_settings(recorded)

    def recorded(self) -> dict[str, Any]:
        """`{"settings", "environments"}` as begun.

        Raises:
            DataError: the file is damaged.
        """
        file = self.path / RUN_SETTINGS
        value = parse_json(read_text(file), file)
        if not isinstance(value, dict) or not {"settings", "environments"} <= set(value):
            raise DataError(f"{file} is no record of a benchmark run")
        return value

    def answers(self) -> dict[str, Prediction]:
        """Sample id -> its answer, from all shards. An answer wins over a failure, else the first counts."""
        found: dict[str, Prediction] = {}
        for file in sorted((self.path / ANSWERS).glob("*.jsonl")):
            for prediction in _complete_rows(file):
                known = found.get(prediction.id)
                if known is None or (known.completion is None and prediction.completion is not None):
                    found[prediction.id] = prediction
        return found

    @contextlib.contextmanager
    def writer(self, shard: int, num_shards: int) -> Iterator["AnswerWriter"]:
        """Adds answers to the file of one shard, which nobody else may write meanwhile.

        Raises:
            ConfigError: another process is writing the same shard.
        """
        name = f"shard-{shard:05d}-of-{num_shards:05d}"
        (self.path / ANSWERS).mkdir(parents=True, exist_ok=True)
        with self._lock(f"{ANSWERS}/{name}.lock", wait=False):
            file = self.path / ANSWERS / f"{name}.jsonl"
            _drop_cut_off_line(file)
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                yield AnswerWriter(descriptor)
            finally:
                os.close(descriptor)

    def _lock(self, name: str, *, wait: bool) -> contextlib.AbstractContextManager[None]:
        return locked(
            self.path / name,
            what=str(self.path / name.removesuffix(".lock")),
            mend="give every process a shard of its own (--shard I/N), or wait for it",
            wait=wait,
        )

    def _write_settings(self, value: Mapping[str, Any]) -> None:
        unfinished = self.path / f".{RUN_SETTINGS}.tmp"
        unfinished.write_text(strict_json(value, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self.path / RUN_SETTINGS)


class AnswerWriter:
    """Appends rows to an open file, all lines of a call in one write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Write the rows."""
        rows = [
            {"id": one.id, "completion": one.completion, "failure": one.failure, **one.extra} for one in predictions
        ]
        content = "".join(strict_json(row) + "\n" for row in rows).encode()
        while content:
            content = content[os.write(self._descriptor, content) :]


def _complete_rows(file: Path) -> Iterator[Prediction]:
    """The rows of a file; the last one is left out while it has no end.

    Raises:
        DataError: another line is damaged.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            row = read_row(line)
            if isinstance(row, str):
                raise DataError(
                    f"{file}, line {number}: {row}. Remove the line and start again: its sample is asked anew"
                )
            yield row


def _drop_cut_off_line(file: Path) -> None:
    """Cut the file back to its last complete line."""
    if not file.is_file():
        return
    with file.open("rb+") as stream:
        size = stream.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            begin = max(0, end - 65536)
            stream.seek(begin)
            newline = stream.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        if end < size:
            stream.truncate(end)
