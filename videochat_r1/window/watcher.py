"""Reads on in logs that grow, in a thread of its own, so that whoever asks finds what there is so far."""

import logging
import threading
from collections.abc import Sequence

from videochat_r1.window.runs import Run

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0


class Watcher:
    """Of the logs of some runs, within a `with` statement.

    Attributes:
        changes: how often one of the indexes has changed; whoever has seen another number has something to look at.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.changes = 0

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()
        self._thread.join()

    @property
    def ended(self) -> bool:
        """Whether there will be no news any more."""
        return self._ended.is_set()

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.is_set():
            for run in self._runs:
                try:
                    self.changes += run.metrics.read_on()
                    for _ in run.index.read_on():
                        self.changes += 1
                        if self._ended.is_set():
                            return
                except OSError as error:
                    logger.warning("%s cannot be read: %s", run.index.log, error.strerror)
            self._ended.wait(_SECONDS_BETWEEN_LOOKS)
