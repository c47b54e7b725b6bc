"""Arguments of every command that asks a model about videos and pictures."""

import argparse
from typing import Any, get_args

from videochat_r1.second_look.options import ClueTime
from videochat_r1.text import from_command_line
from videochat_r1.video.backends import DEFAULT_BACKEND

YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def add_prompting(group: Any) -> None:
    """What the model sees."""
    group.add_argument(
        "--thinking", type=yes_no, default=False, metavar="true|false", help="ask for <think> (default: false)"
    )
    group.add_argument("--prompt-layout", choices=("video_first", "text_first"), default="video_first")
    group.add_argument(
        "--prompt",
        type=from_command_line,
        help="template that replaces the task's own, e.g. of another project's checkpoint",
    )
    group.add_argument("--fps", type=float, default=2.0, help="frames per second (default 2, as in training)")
    group.add_argument("--min-frames", type=int, default=4)
    group.add_argument("--max-frames", type=int, default=768)
    group.add_argument(
        "--total-pixels", type=int, help="of all frame pairs together (default: 3584 tokens of the model's size)"
    )
    group.add_argument("--min-pixels", type=int, help="of a frame (default: 16 tokens)")
    group.add_argument("--max-pixels", type=int, help="of a frame (default: 768 tokens)")
    group.add_argument("--picture-min-pixels", type=int, help="of a picture (default: the model family's)")
    group.add_argument("--picture-max-pixels", type=int, help="of a picture (default: the model family's)")
    group.add_argument("--max-prompt-length", type=int, help="tokens; longer prompts get a smaller video or pictures")
    group.add_argument("--video-backend", default=DEFAULT_BACKEND, help="pyav (default), decord, torchcodec")
    group.add_argument("--video-timeout", type=float, default=60.0, help="seconds a video may take (default 60)")


def add_decoding(group: Any) -> None:
    """How the model answers."""
    group.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    group.add_argument("--max-new-tokens", type=int, default=1024)
    group.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    group.add_argument("--top-p", type=float, default=1.0)
    group.add_argument("--top-k", type=int, default=0)
    group.add_argument("--min-p", type=float, default=0.0)
    group.add_argument("--repetition-penalty", type=float, default=1.0)
    group.add_argument("--seed", type=int, default=0, help="of the sampling noise; no influence when greedy")
    group.add_argument(
        "--dtype", choices=("bfloat16", "float16", "float32"), help="default: bfloat16 on a GPU, else float32"
    )
    group.add_argument("--attn-implementation", default="sdpa")
    add_family(group)
    group.add_argument("--adapter", help="folder of a LoRA adapter to put on the model")


def add_family(group: Any) -> None:
    """Which model family the folder is of."""
    group.add_argument(
        "--model-family", "--model_family", help="also package.module:Family (default: the known one of its model_type)"
    )


def add_clues(group: Any) -> None:
    """The options of clue-perception, which are None unless given; whether to do it is the command's own flag."""
    group.add_argument("--resolution-boost", type=float, help="times the width and height of frames (default 2)")
    group.add_argument("--fps-boost", type=float, help="times the frames per second in the clues (default 2)")
    group.add_argument(
        "--clue-tokens", type=int, help="most video tokens of a second pass (default: as many as the first)"
    )
    group.add_argument(
        "--clue-time",
        choices=get_args(ClueTime),
        help="absolute: the clues alone, frames keep their time in the video; relative: the clues play as one clip; "
        "dense: the whole video, with more frames in the clues (default absolute)",
    )
    group.add_argument("--clue-rounds", type=int, help="second passes, each boosted once more (default 1)")
    group.add_argument("--clue-padding", type=float, help="seconds added before and after a clue (default 1)")


def add_window(group: Any, port: int) -> None:
    """Where a window listens."""
    group.add_argument("--port", type=int, default=port, help=f"0 for any that is free (default: {port})")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="an address of this machine; any but loopback asks for the token that is printed",
    )


def yes_no(text: str) -> bool:
    """True or False of `true`, `false` and the like."""
    if text.lower() not in YES_NO:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return YES_NO[text.lower()]
