"""The frames that a pass was shown, decoded once more for the page. With torch, so imported where it is asked for."""

from collections.abc import Sequence
from typing import Any

import torch

from videochat_r1.errors import DataError
from videochat_r1.sample import Media, Pictures, Video
from videochat_r1.second_look.view import Look
from videochat_r1.video.decode import SamplingRequest
from videochat_r1.video.process import decode_in_process
from videochat_r1.window.saw import image_address, look_view, places_shown

_READ_SECONDS = 60.0
_MOST_FRAMES, _MOST_SIDE = 4096, 8192


def frames_of(media: Media, told: Any) -> dict[str, Any]:
    """What a `Saw` event tells, with the frames, as the page shows what a model saw.

    Args:
        media: a video file, or one picture.
        told: the event's look, as anybody may send it.

    Raises:
        DataError: no model had such a look.
        VideoError: the file cannot be read.
    """
    look = Look.from_json(told)
    if look.num_frames > _MOST_FRAMES or max(look.frame_size) > _MOST_SIDE:
        raise DataError(f"a look has at most {_MOST_FRAMES} frames, and sides of at most {_MOST_SIDE} pixels")
    times = _times(look)
    places = places_shown(len(times) or 1)
    if isinstance(media, Pictures):
        request = SamplingRequest(Video(frames=media.paths, frame_times=(0.0,)), times=(0.0,))
    else:
        request = SamplingRequest(media, times=tuple(times[place] for place in places))
    plan, images = decode_in_process(request, _READ_SECONDS)
    shown, original = [], (0, 0)
    for image in images:
        original = (image.shape[1], image.shape[0])
        shown.append(image_address(torch.from_numpy(image).permute(2, 0, 1), look.frame_size))
    frames = [
        {"seconds": times[place] if times else None, "image": shown[index]}
        for place, index in zip(places, plan.image_of, strict=True)
    ]
    return look_view(look, frames, original)


def _times(look: Look) -> Sequence[float]:
    """Seconds of the frames, which stand on an even grid where they are not told; none of a picture."""
    if look.fps is None:
        return ()
    return look.times or [place / look.fps for place in range(look.num_frames)]
