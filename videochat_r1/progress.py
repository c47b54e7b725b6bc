"""One progress bar for everything that takes long: a bar on a terminal, a line every half minute in a log file."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30
_LINE = "{desc}: {n_fmt} of {total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


def progress_bar(*arguments: Any, **options: Any) -> tqdm:
    """`tqdm` with these arguments. Where stderr is no terminal, whole lines instead of a bar, and none of what is over before
    the first is due."""
    if not sys.stderr.isatty():
        seconds = SECONDS_BETWEEN_LINES
        options |= {
            "file": _Lines(sys.stderr),
            "mininterval": seconds,
            "miniters": 1,
            "delay": seconds,
            "position": 0,
            "bar_format": _LINE,
        }
    return tqdm(*arguments, **options)


def write_line(text: str) -> None:
    """Print a line, on a terminal above the bar."""
    if sys.stderr.isatty():
        tqdm.write(text)
    else:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class _Lines:
    """A file for tqdm without what moves a terminal's cursor: each state of the bar is a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Tqdm writes a carriage return, the bar, and spaces over the end of the bar before."""
        if line := text.strip():
            self._file.write(line + "\n")

    def flush(self) -> None:
        """To the file."""
        self._file.flush()
