"""What a person at the console sees of the library: its log messages, and why a command has said nothing yet."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

_SECONDS_OF_SILENCE = 1.5


def show_library_logs() -> None:
    """Show this package's messages on the main process, and the other libraries' warnings."""
    logging.basicConfig(format="%(levelname).1s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("videochat_r1").setLevel(logging.INFO if _is_main_process() else logging.ERROR)


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Around imports that can take half a minute from a cold disk: says so when they take more than a moment.

    What libraries print meanwhile goes to stderr too: stdout is the command's own, and may be read by a program.
    """
    notice = threading.Timer(_SECONDS_OF_SILENCE, lambda: print(f"loading {what} ...", file=sys.stderr, flush=True))
    notice.daemon = True
    if _is_main_process():
        notice.start()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        notice.cancel()


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
