"""The console command `videochat-r1`: finds the subcommand and turns this package's errors into exit code 2."""

import importlib
import io
import os
import select
import sys
from collections.abc import Sequence

from videochat_r1 import __version__
from videochat_r1.errors import VideoChatR1Error
from videochat_r1.options import nearest

COMMANDS = {
    "quickstart": "train a tiny model on synthetic videos and show what it learned",
    "grpo": "GRPO fine-tuning from a YAML recipe",
    "sft": "supervised fine-tuning from a YAML recipe",
    "data": "check, prepare, synthesize and list annotation data",
    "eval": "run and score benchmarks",
    "ask": "ask one question about a video or pictures, with clues and a second look at them",
    "view": "look at runs in the browser: answers over their videos, and how training went",
    "chat": "talk with a model about a video in the browser: answers, the moments that show them, a second look",
    "score": "score completions without a model",
    "judge": "try, compare and serve judges of captions",
    "doctor": "check machine, model, data and recipe before a long run",
    "estimate": "tokens, operations, seconds and memory of a recipe's update on a kind of GPU",
}
"""Subcommand -> one line of help; each lives in `videochat_r1.commands.<name>` as `main(argv) -> exit code`."""

# What shells give a process that Ctrl-C ended.
_INTERRUPTED = 130


def usage() -> str:
    """The text of `videochat-r1 --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: videochat-r1 COMMAND [OPTIONS]", "", *lines, "", "videochat-r1 COMMAND --help says more."]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code (2 for a mistake in the input, with the mend on stderr; 130 for Ctrl-C)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # A name that the console's encoding lacks must not end a command.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"videochat-r1: unknown command {name!r}{nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    # Imported on demand: `score` and `data` must not wait seconds for torch.
    module = importlib.import_module(f"videochat_r1.commands.{name}")
    try:
        code = int(module.main(rest))
        sys.stdout.flush()
    except VideoChatR1Error as error:
        print(f"videochat-r1 {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print("; ".join([f"\nvideochat-r1 {name}: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # Any other broken pipe, such as a dead worker's, is a failure.
        if not _reader_has_left():
            raise
        # `| head` has seen enough; without this, Python complains once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _reader_has_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in stdout.poll(0))


if __name__ == "__main__":
    sys.exit(main())
