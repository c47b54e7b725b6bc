"""`videochat-r1 chat`: talk with a model about a video or a picture in the browser: answers, the moments that show them, a second look."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from videochat_r1.chat.desk import Desk
from videochat_r1.chat.library import Library
from videochat_r1.chat.server import chat_app
from videochat_r1.commands.as_trained import as_trained
from videochat_r1.commands.logs import loading, show_library_logs
from videochat_r1.commands.model_arguments import add_clues, add_decoding, add_prompting, add_window
from videochat_r1.window.playable import Copies
from videochat_r1.window.serving import WindowServer, addresses, listen, token_for

if TYPE_CHECKING:
    from videochat_r1.chat.talker import ModelTalker

PORT = 8766

EPILOG = """examples:
  videochat-r1 chat --model MODEL
  videochat-r1 chat --model MODEL --videos ~/films          to choose from, besides uploads
  videochat-r1 chat --model MODEL --engine vllm --max-frames 128
docs/chat.md says what can be asked."""


def main(argv: Sequence[str]) -> int:
    """Serve until Ctrl-C; returns the exit code."""
    arguments = parse(argv)
    show_library_logs()
    token = token_for(arguments.host)
    with ExitStack() as held:
        # What cannot be used should not wait for the model.
        library = held.enter_context(closing(Library(arguments.videos)))
        copies = held.enter_context(closing(Copies()))
        listening = held.enter_context(closing(listen(arguments.host, arguments.port)))
        talker = load(arguments)
        talker.warm_up()
        desk = Desk(talker)
        held.callback(desk.close)
        if desk.about.note:
            print(desk.about.note, flush=True)
        print(addresses(arguments.host, listening.getsockname()[1], token), flush=True)
        WindowServer(chat_app(desk, library, copies, token), desk.close).run(sockets=[listening])
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; what is not given is as the model's training had it, where the folder tells."""
    top = parser()
    given = top.parse_args(argv)
    top.set_defaults(**as_trained(Path(given.adapter or given.model)))
    return top.parse_args(argv)


def parser() -> argparse.ArgumentParser:
    """All arguments."""
    top = argparse.ArgumentParser(
        prog="videochat-r1 chat",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--model", required=True, help="model folder, or a hub name that can be reached")
    top.add_argument("--videos", type=Path, metavar="DIR", help="videos and pictures to choose from")
    add_window(top, PORT)
    top.add_argument("--device", help="cuda, cuda:1, cpu (default: the GPU, else the CPU)")
    add_prompting(top.add_argument_group("what the model sees (default: as in its training, where its folder tells)"))
    add_decoding(top.add_argument_group("how the model answers (greedy unless told otherwise)"))
    add_clues(top.add_argument_group("what a second look shows when the page asks for one (paper, Algorithm 1)"))
    top.set_defaults(prompts=None, box_format="normalised")
    return top


def load(arguments: argparse.Namespace) -> "ModelTalker":
    """The model, ready to talk.

    Raises:
        ConfigError: it cannot be loaded, or settings that cannot work.
        DivergedError: its weights are NaN or infinite.
    """
    # Only here: mistakes in the arguments must not wait seconds for torch.
    with loading("torch and transformers"):
        from videochat_r1.chat.talker import ModelTalker
        from videochat_r1.evaluation.answering.answerer import pick_device
        from videochat_r1.evaluation.answering.options import RunOptions

    own = {"clue_perception": True, "batch_size": 1, "workers": 1, "retry_failed": False}
    run = RunOptions.of({**vars(arguments), **own})
    return ModelTalker(run, pick_device(run.device), templates=arguments.prompts, box_format=arguments.box_format)
