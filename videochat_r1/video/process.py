"""A decoder in a process of its own: held to a time limit, killed when it hangs, started again after a crash."""

import atexit
import contextlib
import dataclasses
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from typing import Any

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video.decode import SamplingPlan, SamplingRequest
from videochat_r1.video.pictures import Image
from videochat_r1.video.worker import Slots

START_SECONDS = 120.0
# Decoders leak: above this much memory the process is replaced before the next video.
RESIDENT_LIMIT_BYTES = 2 * 1024**3
PROGRAM = (
    "import json, sys; arguments = json.loads(sys.argv[1]); sys.path[:] = arguments.pop('path'); "
    "from videochat_r1.video.worker import main; main(**arguments)"
)


def decode_in_process(request: SamplingRequest, timeout_seconds: float) -> tuple[SamplingPlan, Generator[Image]]:
    """As `decode.decode`, in this thread's decoder process. An image is valid until the next one is taken.

    Args:
        timeout_seconds: limit of the time spent waiting for the decoder, over the whole video.

    Raises:
        VideoError: also when the limit is reached or the decoder crashes; it may be raised while iterating.
        ConfigError: the backend is not usable, or the process does not start.
    """
    process: DecoderProcess | None = getattr(_local, "process", None)
    if process is None or not process.is_usable():
        close_process()
        process = _local.process = DecoderProcess()
    return process.decode(request, timeout_seconds)


def read_in_process(file: str, timeout_seconds: float) -> Image:
    """As `pictures.read_image`, in this thread's decoder process.

    Raises:
        VideoError: also when the limit is reached or the decoder crashes.
        ConfigError: the process does not start.
    """
    picture = Video(frames=(file,), frame_times=(0.0,))
    _, images = decode_in_process(SamplingRequest(picture, times=(0.0,)), timeout_seconds)
    [image] = [image.copy() for image in images]
    return image


def close_process() -> None:
    """Ends this thread's decoder process, if it has one."""
    process: DecoderProcess | None = getattr(_local, "process", None)
    _local.process = None
    if process is not None:
        process.close()


# One process per thread: the kernel ends a child with the thread that started it, so nothing outlives its user.
_local = threading.local()
atexit.register(close_process)
os.register_at_fork(after_in_child=close_process)


class _NoAnswerError(Exception):
    """The process said nothing until the limit."""


class _EndedError(Exception):
    """The process is gone; the text says how."""


class DecoderProcess:
    """One child process that decodes one video at a time."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._is_open = True
        self._is_idle = True
        self._received = b""
        self._pixels = os.memfd_create("videochat_r1-pixels")
        self._slots = Slots(self._pixels, grow=False)
        self._messages = os.memfd_create("videochat_r1-decoder-messages")
        fcntl.fcntl(self._messages, fcntl.F_SETFL, os.O_APPEND)
        self._replies, child_end = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        self._process = self._start(child_end)
        os.close(child_end)
        try:
            self._receive(time.monotonic() + START_SECONDS)
        except (_NoAnswerError, _EndedError) as error:
            reason = str(error) or f"no answer after {START_SECONDS:g} s"
            self.close()
            raise ConfigError(f"the decoder process does not start: {reason}") from None

    def _start(self, child_end: int) -> subprocess.Popen[bytes]:
        arguments = {
            "path": sys.path,
            "parent": self._owner,
            "reply_descriptor": child_end,
            "slots_descriptor": self._pixels,
        }
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=self._messages,
            stderr=self._messages,
            pass_fds=(child_end, self._pixels),
            # numpy would start a thread per core, for nothing
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def is_usable(self) -> bool:
        """Whether it runs, belongs to this process, and has no video begun and left before its end."""
        return self._is_open and self._is_idle and self._owner == os.getpid() and self._process.poll() is None

    def decode(self, request: SamplingRequest, timeout_seconds: float) -> tuple[SamplingPlan, Generator[Image]]:
        """As `decode_in_process`."""
        self._is_idle = False
        os.ftruncate(self._messages, 0)
        waiting = _Waiting(self, request, timeout_seconds)
        self._send(json.dumps(dataclasses.asdict(request)).encode())
        answer = waiting.next("plan")["plan"]
        plan = SamplingPlan(**{**answer, "times": tuple(answer["times"]), "image_of": tuple(answer["image_of"])})
        return plan, self._images(plan.num_images, waiting)

    def _images(self, num_images: int, waiting: "_Waiting") -> Generator[Image]:
        try:
            for _ in range(num_images):
                reply = waiting.next("slot")
                yield self._slots.view(reply["slot"], tuple(reply["shape"]))
                self._send(b"")
            if waiting.next("done")["done"] > RESIDENT_LIMIT_BYTES:
                self.close()
        finally:
            if not self._is_idle:
                self.close()  # left before its end, it would answer the next request with these images

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        left = memoryview(line + b"\n")
        try:
            while left:
                left = left[self._process.stdin.write(left) :]
        except BrokenPipeError:
            return  # the process has ended; the next `_receive` finds out how

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._received:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                if time.monotonic() < deadline:
                    continue
                raise _NoAnswerError
            data = os.read(self._replies, 65536)
            if not data:
                raise _EndedError(self._how_it_ended())
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "no longer answers"
        if code == -signal.SIGKILL:
            return "was killed with signal 9, perhaps for want of memory"
        if code < 0:
            return f"crashed with signal {-code} ({signal.strsignal(-code)})"
        return f"stopped with status {code}: {self._last_message()}"

    def _last_message(self) -> str:
        size = os.fstat(self._messages).st_size
        tail = os.pread(self._messages, 4096, max(0, size - 4096)).decode(errors="replace")
        return next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "no message")

    def close(self) -> None:
        """Kills the process; in a forked copy of its owner only lets go of it. Safe to call twice."""
        if not self._is_open:
            return
        self._is_open = False
        if os.getpid() != self._owner:
            self._process.returncode = 0  # not this process's child to wait for
        else:
            self._process.kill()
            # Stuck in the kernel, on a dead network disk, it ends only when that answers.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        self._selector.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        for descriptor in (self._replies, self._pixels, self._messages):
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.close()


class _Waiting:
    """Counts the time spent waiting for one video, and turns bad ends into errors that name it."""

    def __init__(self, process: DecoderProcess, request: SamplingRequest, timeout_seconds: float) -> None:
        self._process = process
        self._request = request
        self._limit = timeout_seconds
        self._left = timeout_seconds

    def next(self, kind: str) -> dict[str, Any]:
        """The next reply, which is of that kind."""
        began = time.monotonic()
        try:
            reply = self._process._receive(began + self._left)
        except _NoAnswerError:
            self._process.close()
            raise VideoError(self._text(f"no answer after {self._limit:g} s")) from None
        except _EndedError as error:
            self._process.close()
            raise VideoError(self._text(f"the decoder {error}")) from None
        self._left = max(0.0, self._left - (time.monotonic() - began))
        self._process._is_idle = not ("plan" in reply or "slot" in reply)
        if "video_error" in reply:
            raise VideoError(reply["video_error"])
        if "config_error" in reply:
            raise ConfigError(reply["config_error"])
        if kind not in reply:
            self._process.close()
            raise VideoError(self._text(f"the decoder answers {sorted(reply)} in the place of {kind}"))
        return reply

    def _text(self, reason: str) -> str:
        return f"{self._request.video.name}: {reason} (backend {self._request.backend})"
