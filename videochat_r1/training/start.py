"""What has to happen before a training process imports TRL or builds its arguments."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType, TracebackType
from typing import Any

from videochat_r1.errors import ConfigError, VideoChatR1Error
from videochat_r1.options import as_type, take_config
from videochat_r1.recipe_file import read_recipe
from videochat_r1.training.layout import world_size

# Trackers write their last values meanwhile.
_SECONDS_TO_LEAVE = 20
_INTERRUPTED = 128 + signal.SIGINT


def start_training_process(argv: Sequence[str]) -> None:
    """Prepare this process, possibly one of torchrun's, for the command line `argv`.

    A rank that fails prints its reason and leaves at once, so that torchrun stops the others within seconds instead of
    leaving them in a collective. Without a GPU, DeepSpeed has to be told to use gloo.
    """
    if world_size() > 1:
        sys.excepthook = _leave_at_once
    if "RANK" in os.environ:
        signal.signal(signal.SIGINT, _interrupt_once)
    if not asks_for_vllm(argv):
        keep_vllm_out()
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import torch

        if not torch.cuda.is_available():
            import deepspeed

            # An all-reduce of its own for CPUs, which it would compile now, for minutes, and only where a compiler is.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            deepspeed.init_distributed(dist_backend="gloo")


def keep_vllm_out() -> None:
    """Tell TRL that vLLM is not installed: importing its trainer would import vLLM, many seconds of every start."""
    # Not `import trl.import_utils`: the package replaces itself while it is imported and loses that attribute.
    checks: Any = import_module("trl.import_utils")
    checks.is_vllm_available = lambda min_version=None: False


def asks_for_vllm(argv: Sequence[str]) -> bool:
    """Whether recipe or flags turn `use_vllm` on. Mistakes in either are reported later, by `parse_recipe`."""
    for position, flag in enumerate(argv):
        name, _, value = flag.partition("=")
        if name in ("--use_vllm", "--use-vllm"):
            following = argv[position + 1] if position + 1 < len(argv) else "true"
            return (value or following).lower() not in ("false", "0", "no")
    try:
        path, _ = take_config(argv)
        return path is not None and bool(
            as_type(read_recipe(path, "grpo").values.get("use_vllm"), bool | None, "use_vllm")
        )
    except ConfigError:
        return False


@contextmanager
def stopping_all_ranks() -> Iterator[None]:
    """For the run of one process, possibly one of torchrun's: a mistake in the input that only this rank has met ends all, as
    Ctrl-C does, which all have met and rank 0 speaks of. A run that went well ends its process groups.

    The caller reports the error and leaves. Process-group destructors can wait for ranks that wait for this one, so the
    kernel ends this process if it has not left in time; torchrun then stops the others.
    """
    try:
        yield
        leave_process_groups()
    except VideoChatR1Error as error:
        if world_size() > 1:
            _say(_reason(type(error), error))
            _leave_in_time()
        raise
    except KeyboardInterrupt:
        if world_size() > 1:
            _leave_in_time()
        if os.environ.get("RANK", "0") != "0":
            sys.exit(_INTERRUPTED)
        raise


def leave_process_groups() -> None:
    """End this process's part of torch.distributed, if it has one, once all ranks are here.

    Left to the interpreter's end, the threads of a group may outlive what they use: the process then dies of a signal,
    after its work is done, and torchrun calls the run failed.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _leave_in_time() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS_TO_LEAVE)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """Both the terminal and torchrun send Ctrl-C to every rank; the second one would tear down what the first one ends."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _leave_at_once(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _say("".join(traceback.format_exception(kind, error, trace)) + _reason(kind, error))
    # Not sys.exit: process-group destructors wait for ranks that wait for this one.
    os._exit(1)


def _reason(kind: type[BaseException], error: BaseException) -> str:
    return f"rank {os.environ.get('RANK', '0')} stops the run: {kind.__name__}: {error}\n"


def _say(text: str) -> None:
    # torch.distributed wraps the exception hook and collects what it writes to sys.stderr, to print it after the hook returns.
    stream = sys.__stderr__ or sys.stderr
    stream.write(text)
    stream.flush()
