"""From a sample to model inputs: read its video, render its prompt, compute its positions. Runs in loader workers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from transformers import PretrainedConfig, ProcessorMixin

from videochat_r1.errors import ConfigError, DataError, shown
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.literal_text import LiteralText
from videochat_r1.modeling.positions import mrope_positions
from videochat_r1.sample import Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.video.frames import Frames, VideoBudget, load_frames
from videochat_r1.video.stills import PictureBudget

Layout = Literal["video_first", "text_first"]


class PromptBuilder:
    """Builds `PromptInputs`; the same object serves training and evaluation, so both see the same frames and words.

    Args:
        processor: of the model to be prompted.
        config: of that model.
        budget: how videos are sampled and sized.
        pictures: how large pictures are shown; None for the model's own limits.
        thinking: whether prompts ask for `<think>`.
        layout: whether the video comes before or after the question.
        templates: task -> prompt template that replaces the task's own.
        max_prompt_length: prompts longer than this get their video's pixels re-budgeted; text and placeholders are
            never cut.
        load: reads frames as `load_frames` does, e.g. `FrameCache.load`.

    Raises:
        ConfigError: an unknown layout or task, or a patch size that the video stage was not told.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        config: PretrainedConfig,
        budget: VideoBudget,
        *,
        pictures: PictureBudget | None = None,
        thinking: bool = False,
        layout: Layout = "video_first",
        templates: Mapping[str, str] | None = None,
        max_prompt_length: int | None = None,
        load: Callable[..., Frames] = load_frames,
    ) -> None:
        if layout not in ("video_first", "text_first"):
            raise ConfigError(f"prompt_layout is {layout!r}; expected video_first or text_first")
        unknown = sorted(name for name in templates or {} if name not in TASKS)
        if unknown:
            raise ConfigError(f"prompts for unknown tasks {unknown}; the tasks are {sorted(TASKS)}")
        self.processor = processor
        self.budget = budget
        self.pictures = pictures or PictureBudget()
        self.thinking = thinking
        self.layout = layout
        self.templates = dict(templates or {})
        self.max_prompt_length = max_prompt_length
        self._load = load
        self._literal = LiteralText(processor.tokenizer)
        self._video_token = processor.video_token
        self._video_token_id: int = config.video_token_id
        self._merge_size = int(config.vision_config.spatial_merge_size)
        self._temporal_patch = int(config.vision_config.temporal_patch_size)
        self._factor = int(config.vision_config.patch_size) * self._merge_size
        # Qwen2-VL's positions count temporal steps; only Qwen2.5-VL's carry seconds.
        self._tokens_per_second: float | None = getattr(config.vision_config, "tokens_per_second", None)
        if config.model_type == "qwen2_vl":
            self._tokens_per_second = None

    def build(self, sample: Sample) -> PromptInputs:
        """Model inputs of one sample.

        Raises:
            VideoError: its video cannot be used.
            DataError: its prompt cannot be brought under `max_prompt_length`.
        """
        inputs = self.from_frames(self.frames(sample.video), self.render(sample))
        if self.max_prompt_length is None or inputs.num_tokens <= self.max_prompt_length:
            return inputs
        return self._rebudgeted(sample, inputs)

    def frames(self, video: Video) -> Frames:
        """The video's frames within the budget, sized for this model. Raises VideoError."""
        return self._load(video, self.budget, factor=self._factor)

    def render(self, sample: Sample) -> str:
        """See `render_text`, of the sample's instruction."""
        instruction = TASKS[sample.task].instruction(
            sample, thinking=self.thinking, template=self.templates.get(sample.task)
        )
        return self.render_text(instruction)

    def render_text(self, instruction: str) -> str:
        """The chat prompt of a free instruction about a video, as marked text (`LiteralText`) with one video placeholder.

        Raises:
            ConfigError: the model's chat template does not show one video.
        """
        parts: list[dict[str, Any]] = [{"type": "video"}, {"type": "text", "text": self._literal.mark(instruction)}]
        if self.layout == "text_first":
            parts.reverse()
        rendered = self.processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        if rendered.count(self._video_token) != 1:
            raise ConfigError(
                f"the model folder's chat template makes {rendered.count(self._video_token)} video placeholders of one video: "
                "copy chat_template.json or chat_template.jinja of the release into it"
            )
        return str(rendered)

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of an answer that the model shall learn to give, without the one that ends it."""
        return self._literal.encode(self._literal.mark(text))

    def from_frames(self, frames: Frames, rendered: str) -> PromptInputs:
        """Model inputs of a rendered prompt and decoded frames."""
        processed = self.processor.video_processor(
            videos=[frames.pixels],
            do_resize=False,
            do_sample_frames=False,
            # Frames come sized; this only says so to releases that would otherwise announce a change of default.
            cap_pixels_per_frame=False,
            return_tensors="pt",
        )
        grid = processed["video_grid_thw"]
        num_video_tokens = int(grid.prod()) // self._merge_size**2
        expanded = rendered.replace(self._video_token, self._video_token * num_video_tokens)
        input_ids = torch.tensor(self._literal.encode(expanded))
        positions = mrope_positions(
            input_ids,
            video_token_id=self._video_token_id,
            video_grid_thw=grid,
            grid_seconds=frames.timestamps[:: self._temporal_patch],
            merge_size=self._merge_size,
            tokens_per_second=self._tokens_per_second,
        )
        return PromptInputs(
            input_ids=input_ids,
            position_ids=positions,
            pixel_values_videos=processed["pixel_values_videos"],
            video_grid_thw=grid,
            second_per_grid_ts=self._temporal_patch / frames.sample_fps,
            rendered=rendered,
        )

    def blank(self) -> PromptInputs:
        """A shortest possible clip of black frames, for the place of a video that cannot be read."""
        pixels = torch.zeros(self._temporal_patch, 3, self._factor, self._factor, dtype=torch.uint8)
        times = tuple(index / self.budget.fps for index in range(self._temporal_patch))
        frames = Frames(
            pixels=pixels,
            timestamps=times,
            duration=self._temporal_patch / self.budget.fps,
            original_size=(self._factor, self._factor),
            sample_fps=self.budget.fps,
            num_frames=self._temporal_patch,
        )
        return self.from_frames(frames, self.render_text(""))

    def _rebudgeted(self, sample: Sample, inputs: PromptInputs) -> PromptInputs:
        """The prompt again with fewer pixels, so that it fits."""
        limit = self.max_prompt_length or 0
        num_video_tokens = int((inputs.input_ids == self._video_token_id).sum())
        tokens_left = limit - (inputs.num_tokens - num_video_tokens)
        if tokens_left > 0:
            area = self._factor**2
            smaller = replace(
                self.budget,
                total_pixels=tokens_left * area,
                min_pixels=min(self.budget.min_pixels, area),
            )
            inputs = self.from_frames(self._load(sample.video, smaller, factor=self._factor), inputs.rendered)
            if inputs.num_tokens <= limit:
                return inputs
        raise DataError(
            f"sample {shown(sample.id)!r} needs {inputs.num_tokens} prompt tokens even with its video at the smallest size; "
            f"max_prompt_length is {limit}. Raise it, lower video.fps or video.max_frames, or leave the sample out."
        )
