"""The process in which videos are decoded, so that a decoder that hangs or crashes takes nothing else with it. No torch.

One line of JSON on standard input asks for a video; lines of JSON on the reply pipe answer: the plan, one line per
image, the end. The pixels lie in a shared file of a few slots; an empty line on standard input gives one back.
"""

import ctypes
import dataclasses
import json
import mmap
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.sample import Video
from videochat_r1.video.decode import SamplingRequest, decode
from videochat_r1.video.pictures import Image

NUM_SLOTS = 4
PR_SET_PDEATHSIG = 1


class Slots:
    """Room for `NUM_SLOTS` images of one size in a file that two processes map."""

    def __init__(self, descriptor: int, *, grow: bool) -> None:
        self._descriptor = descriptor
        self._grow = grow
        self._map: mmap.mmap | None = None
        self._size = 0

    def view(self, slot: int, shape: tuple[int, int, int]) -> Image:
        """The pixels of a slot, (H, W, 3), to write or to read; valid until the slot is used again."""
        size = shape[0] * shape[1] * shape[2]
        if self._map is None or size > self._size:
            # An older map lives on for as long as an image still looks at it.
            if self._grow:
                os.ftruncate(self._descriptor, NUM_SLOTS * size)
            self._map, self._size = mmap.mmap(self._descriptor, NUM_SLOTS * size), size
        return np.frombuffer(self._map, np.uint8, count=size, offset=slot * self._size).reshape(shape)


def serve(requests: BinaryIO, replies: BinaryIO, slots: Slots) -> None:
    """Answers requests until standard input ends."""

    def send(reply: Mapping[str, Any]) -> None:
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()

    send({"ready": True})
    for line in requests:
        if not line.strip():
            continue  # a slot of the video before, given back after its last image was sent
        try:
            plan, images = decode(request_from_json(json.loads(line)))
            send({"plan": dataclasses.asdict(plan)})
            for number, image in enumerate(images):
                if number >= NUM_SLOTS:
                    requests.readline()
                slot = number % NUM_SLOTS
                np.copyto(slots.view(slot, image.shape), image)
                send({"slot": slot, "shape": image.shape})
            send({"done": resident_bytes()})
        except VideoError as error:
            send({"video_error": str(error)})
        except ConfigError as error:
            send({"config_error": str(error)})


def request_from_json(value: Mapping[str, Any]) -> SamplingRequest:
    """The inverse of `dataclasses.asdict` after JSON has turned tuples into lists."""
    video = dict(value["video"])
    video.update(frames=tuple(video["frames"]), frame_times=tuple(video["frame_times"]))
    times = None if value["times"] is None else tuple(value["times"])
    return SamplingRequest(**{**value, "video": Video(**video), "times": times})


def resident_bytes() -> int:
    """Memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def _end_with_parent(parent: int) -> None:
    """Also in the middle of a decoder's native code."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def main(parent: int, reply_descriptor: int, slots_descriptor: int) -> None:
    """Runs the process: what a decoder prints goes to standard error, the replies to a pipe of their own."""
    _end_with_parent(parent)
    os.dup2(2, 1)
    with os.fdopen(reply_descriptor, "wb") as replies:
        serve(sys.stdin.buffer, replies, Slots(slots_descriptor, grow=True))
