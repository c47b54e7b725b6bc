"""A lock on a file, which the kernel lets go when its holder dies, and who holds it."""

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from videochat_r1.errors import ConfigError

logger = logging.getLogger(__name__)

_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_held: set[int] = set()


@contextmanager
def locked(path: Path, *, what: str, mend: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is made if missing and stays; it says host, process and time of its holder.

    Args:
        path: of the lock's file, on a file system that its users share.
        what: is locked, for the message.
        mend: what to do when it is taken.
        wait: until it is free, instead of refusing.

    Raises:
        ConfigError: another process holds it.
        OSError: the file cannot be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ConfigError(f"another process is writing {what} ({_holder(descriptor)}); {mend}") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
            logger.warning("the file system of %s has no locks: nothing keeps a second process from %s", path, what)
        os.ftruncate(descriptor, 0)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": now}).encode(), 0)
        yield
    finally:
        if descriptor in _held:
            _held.discard(descriptor)
            os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has not said which"


def _let_go_in_child() -> None:
    """A worker that outlives its killed parent must not keep the parent's locks."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
