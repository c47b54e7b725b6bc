"""What the model saw of a group's video or pictures: the frames as they were decoded and sized, with their times, tokens and positions.

Made anew from the run's recipe and model folder by the code that made it then. With torch, so imported where it is asked for.
"""

import base64
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from videochat_r1.errors import ConfigError, VideoChatR1Error, VideoError, without_folders
from videochat_r1.modeling.inputs import Medium
from videochat_r1.modeling.load import load_config, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.sample import Media, Pictures, Video
from videochat_r1.second_look.view import Look
from videochat_r1.video.frames import VideoBudget, load_frames, resize
from videochat_r1.video.stills import PictureBudget, load_pictures
from videochat_r1.window.media import Shown

logger = logging.getLogger(__name__)

_MOST_IMAGES = 96
_WRITTEN = re.compile(r"<[\d.]+ seconds>")
_JPEG_PIXELS = 128 * 128


@dataclass(frozen=True, slots=True)
class Recipe:
    """What of a run's settings decides what its model saw; values as `resolved_config.yaml` and `results.json` hold them."""

    model: str
    family: str | None
    video: Mapping[str, Any]
    picture: Mapping[str, Any]
    max_prompt_length: int | None


class Sight:
    """Of one run: its model's processor is loaded once. Raises ConfigError, without a path, where that cannot be."""

    def __init__(self, recipe: Recipe) -> None:
        try:
            config = load_config(recipe.model, recipe.family)
            self._builder = PromptBuilder(
                load_processor(recipe.model),
                config,
                VideoBudget(**recipe.video),
                pictures=PictureBudget(**recipe.picture),
                max_prompt_length=recipe.max_prompt_length,
            )
        except (ConfigError, OSError, TypeError) as error:
            logger.warning("what the model saw cannot be shown: %s", error)
            raise ConfigError(
                "what the model saw depends on its processor, and the run's model folder cannot be read on this machine"
            ) from error

    def look(self, group: Mapping[str, Any], shown: Shown) -> list[dict[str, Any]]:
        """What every look of the first rollout saw, for the page.

        Raises:
            VideoError: what is shown cannot be read; it names no path.
        """
        media = _media(shown)
        looks = group["rollouts"][0].get("looks") if group["rollouts"] else None
        try:
            first = self._first(media, str(group.get("prompt") or ""))
            later = [self._closer(media, one["saw"]) for one in (looks or [])[1:] if isinstance(media, Video)]
        except (VideoChatR1Error, KeyError, TypeError, ValueError) as error:
            logger.warning("what the model saw of %s cannot be shown: %s", shown.files[0], error)
            told = without_folders(str(error), {str(file): file.name for file in shown.files})
            why = f": {told}" if isinstance(error, VideoChatR1Error) else ""
            raise VideoError(f"the video cannot be decoded as the run did{why}") from error
        return [first, *later]

    def _first(self, media: Media, prompt: str) -> dict[str, Any]:
        builder = self._builder
        seen = builder.media(media)
        mark = builder.family.mark(seen[0].kind, builder.processor)
        if prompt.count(mark) != len(seen):
            return {**self._told(media, seen), "prompt_tokens": None}
        inputs = builder.from_media(seen, prompt)
        limit = builder.max_prompt_length
        if limit is not None and inputs.num_tokens > limit:
            # As the run made it fit.
            seen = builder.media(media, limit - inputs.num_tokens + sum(one.num_tokens for one in seen))
            inputs = builder.from_media(seen, prompt)
        return {
            **self._told(media, seen),
            "prompt_tokens": inputs.num_tokens,
            "positions": f"positions 0 to {inputs.next_position - 1}",
        }

    def _told(self, media: Media, seen: Sequence[Medium]) -> dict[str, Any]:
        factor = self._builder.factor
        sizes = [(one.columns * factor, one.rows * factor) for one in seen]
        if isinstance(media, Pictures):
            least, most = self._builder.pictures.limits(self._builder.family.picture_pixels)
            stills = load_pictures(media, (least, most), factor=factor)
            pictures = [image_address(still.pixels, size) for still, size in zip(stills, sizes, strict=True)]
            frames = [{"seconds": None, "image": image} for image in pictures]
            original, fps = stills[0].original_size, None
        else:
            decoded = self._builder.frames(media)
            frames = _frames(decoded.pixels, decoded.timestamps[: decoded.num_frames], sizes[0])
            original, fps = decoded.original_size, decoded.sample_fps
        return {
            "frames": frames,
            "num_frames": len(seen[0].frame_seconds) or len(seen),
            "fps": fps,
            "rest_fps": fps,
            "size": sizes[0],
            "original": original,
            "tokens": sum(one.num_tokens for one in seen),
            "tokens_of_step": seen[0].rows * seen[0].columns,
            "steps": seen[0].steps if isinstance(media, Video) else len(seen),
            "written": [
                time
                for one in seen
                for time in _WRITTEN.findall(self._builder.family.medium_text(one, self._builder.processor))
            ],
            "segments": [],
        }

    def _closer(self, video: Video, saw: Mapping[str, Any]) -> dict[str, Any]:
        """A later pass, as its record tells it."""
        look = Look.from_json(saw)
        decoded = load_frames(video, self._builder.budget, factor=self._builder.factor, times=look.times)
        return look_view(look, _frames(decoded.pixels, look.times, look.frame_size), decoded.original_size)


def look_view(look: Look, frames: Sequence[Mapping[str, Any]], original: tuple[int, int]) -> dict[str, Any]:
    """A look for the page, with frames that show it and the size of the file's own."""
    steps = look.num_frames if look.fps is None else -(-look.num_frames // 2)
    return {
        "frames": frames,
        "num_frames": look.num_frames,
        "fps": look.fps,
        "rest_fps": look.rest_fps,
        "size": look.frame_size,
        "original": original,
        "tokens": look.num_tokens,
        "tokens_of_step": look.num_tokens // steps,
        "steps": steps,
        "written": [],
        "segments": look.segments,
        "prompt_tokens": None,
    }


def _media(shown: Shown) -> Media:
    files = tuple(map(str, shown.files))
    if shown.kind == "pictures":
        return Pictures(files)
    if shown.kind == "frames":
        return Video(frames=files, frame_times=shown.frame_times, start=shown.start, end=shown.end)
    return Video(path=files[0], start=shown.start, end=shown.end)


def _frames(pixels: torch.Tensor, times: Sequence[float], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Those that are shown."""
    return [
        {"seconds": times[place], "image": image_address(pixels[place], size)} for place in places_shown(len(times))
    ]


def places_shown(count: int) -> list[int]:
    """Which of so many frames a page shows: at most some dozens, from everywhere in the video."""
    most = min(count, _MOST_IMAGES)
    return [place * count // most for place in range(most)]


def image_address(pixels: torch.Tensor, size: tuple[int, int]) -> str:
    """(3, H, W) pixels of that width and height as an address that holds them."""
    array = pixels.permute(1, 2, 0).numpy()
    if array.shape[1::-1] != size:
        array = resize(array, *size).permute(1, 2, 0).numpy()
    kind = "PNG" if size[0] * size[1] <= _JPEG_PIXELS else "JPEG"
    file = io.BytesIO()
    Image.fromarray(array).save(file, format=kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def recipe_of_training(config: Mapping[str, Any]) -> Recipe:
    """Of what `resolved_config.yaml` holds."""
    model, data = config["model"], config["data"]
    return Recipe(
        str(model["model_name_or_path"]),
        model.get("model_family"),
        data.get("video") or {},
        data.get("picture") or {},
        data.get("max_prompt_length"),
    )


def recipe_of_evaluation(settings: Mapping[str, Any]) -> Recipe:
    """Of the settings of `results.json`."""
    return Recipe(
        str(settings["model"]),
        settings.get("model_family"),
        settings.get("video") or {},
        settings.get("picture") or {},
        settings.get("max_prompt_length"),
    )
