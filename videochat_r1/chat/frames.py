"""The frames that a pass was shown, decoded once more for the page. With torch, so imported where it is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from videochat_r1.sample import Media, Pictures, Video
from videochat_r1.video.decode import SamplingRequest
from videochat_r1.video.process import decode_in_process
from videochat_r1.window.saw import image_address, look_view, places_shown

_READ_SECONDS = 60.0


def frames_of(media: Media, look: Mapping[str, Any]) -> dict[str, Any]:
    """What a `Saw` event tells, with the frames, as the page shows what a model saw.

    Args:
        media: a video file, or one picture.
        look: of the event.

    Raises:
        VideoError: the file cannot be read.
    """
    size = (int(look["frame_size"][0]), int(look["frame_size"][1]))
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
        shown.append(image_address(torch.from_numpy(image).permute(2, 0, 1), size))
    frames = [
        {"seconds": times[place] if times else None, "image": shown[index]}
        for place, index in zip(places, plan.image_of, strict=True)
    ]
    return look_view(look, frames, original)


def _times(look: Mapping[str, Any]) -> Sequence[float]:
    """Seconds of the frames, which stand on an even grid where they are not told; none of a picture."""
    if look["fps"] is None:
        return ()
    return look["times"] or [place / float(look["fps"]) for place in range(int(look["num_frames"]))]
