"""`videochat-r1 view`: look at runs in the browser: groups of answers over their videos, and how training went."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from videochat_r1.commands.logs import show_library_logs
from videochat_r1.commands.model_arguments import add_window
from videochat_r1.errors import ConfigError
from videochat_r1.outputs import refuse_to_replace, write_lines
from videochat_r1.window.export import exported_groups
from videochat_r1.window.playable import Copies
from videochat_r1.window.query import Query
from videochat_r1.window.runs import Run, open_runs
from videochat_r1.window.server import window_app
from videochat_r1.window.serving import WindowServer, addresses, listen, token_for
from videochat_r1.window.watcher import Watcher

PORT = 8765
_EXPORTED = 8

EPILOG = """examples:
  videochat-r1 view outputs/quickstart
  videochat-r1 view outputs/grpo/joint outputs/grpo/grounding       two runs side by side
  videochat-r1 view outputs/grpo/joint --videos data/charades       where the videos lie now
  videochat-r1 view outputs/quickstart --export odd.html --groups 3,12

Only this machine can connect, and only videos and pictures of the run's own videos folders, or of --videos, are served."""


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C; returns the exit code."""
    arguments = parser().parse_args(argv)
    show_library_logs()
    runs = open_runs(arguments.outputs, arguments.videos)
    token = token_for(arguments.host)
    with ExitStack() as held:
        copies = held.enter_context(closing(Copies()))
        for run in runs:
            held.callback(run.index.close)
        if arguments.export is not None:
            _export(arguments.export, runs, arguments.groups, copies)
            return 0
        watcher = held.enter_context(Watcher(runs))
        listening = held.enter_context(closing(listen(arguments.host, arguments.port)))
        port = listening.getsockname()[1]
        print(addresses(arguments.host, port, token), flush=True)
        WindowServer(window_app(runs, watcher, copies, token), watcher.end).run(sockets=[listening])
    return 0


def parser() -> argparse.ArgumentParser:
    """All arguments."""
    top = argparse.ArgumentParser(
        prog="videochat-r1 view",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "outputs", type=Path, nargs="+", metavar="OUTPUT", help="folder of a run, of an evaluation, or of several"
    )
    top.add_argument(
        "--videos", type=Path, action="append", default=[], metavar="DIR", help="where videos lie; may be repeated"
    )
    add_window(top, PORT)
    top.add_argument(
        "--export", type=Path, metavar="FILE.html", help="write groups as one page to send, instead of serving"
    )
    top.add_argument(
        "--groups",
        type=numbers,
        metavar="N,N,...",
        help=f"which, as the addresses of the page number them (default: the {_EXPORTED} whose rewards are furthest apart)",
    )
    return top


def numbers(text: str) -> list[int]:
    """The whole numbers of `3,12`."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers such as 3,12, got {text!r}")
    return [int(part) for part in parts]


def _export(file: Path, runs: Sequence[Run], chosen: Sequence[int] | None, copies: Copies) -> None:
    if len(runs) > 1:
        raise ConfigError(f"--export writes groups of one run; these are {', '.join(run.name for run in runs)}")
    refuse_to_replace([file], "name another file")
    [run] = runs
    for _ in run.index.read_on():
        pass
    if not chosen:
        chosen = [row["number"] for row in run.index.rows(Query(order="disagreement"), 0, _EXPORTED)]
    if not chosen:
        raise ConfigError(f"{run.name} has no groups yet")
    write_lines(file, [exported_groups(run, chosen, copies)])
    print(f"written: {file}")
