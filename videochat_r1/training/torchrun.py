"""`python -m videochat_r1.training.torchrun ARGUMENTS`: torchrun, whose ranks have the last word.

torchrun itself ends Ctrl-C and every failed rank with a traceback of its own and exit code 1. Here the exit code is that of
the rank that failed first, or 130, and a line is added only where the rank could not speak.
"""

import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main(argv: Sequence[str]) -> int:
    """Start the ranks and wait for them; returns the exit code."""
    try:
        run(parse_args(list(argv)))
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            advice = "; the kernel does so when memory runs out" if name == "SIGKILL" else ""
            sys.stderr.write(f"rank {rank} was ended by {name}{advice}\n")
            return 128 - failure.exitcode
        return failure.exitcode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
