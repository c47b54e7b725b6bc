"""What a person at the console sees of the library's log messages."""

import logging
import os


def show_library_logs() -> None:
    """Show this package's messages on the main process, and the other libraries' warnings."""
    logging.basicConfig(format="%(levelname).1s %(name)s: %(message)s", level=logging.WARNING)
    main_process = os.environ.get("RANK", "0") == "0"
    logging.getLogger("videochat_r1").setLevel(logging.INFO if main_process else logging.ERROR)
