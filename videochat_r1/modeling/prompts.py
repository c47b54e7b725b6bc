"""From a sample to model inputs: read its video, render its prompt, compute its positions. Runs in loader workers."""

import copy
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

import torch
from transformers import PretrainedConfig, ProcessorMixin

from videochat_r1.errors import ConfigError, DataError, shown
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.inputs import Medium, MediumKind, PromptInputs, placeholder_spans
from videochat_r1.modeling.literal_text import LiteralText
from videochat_r1.modeling.positions import mrope_positions
from videochat_r1.parsing.box_units import BoxFormat, BoxUnits, check_box_format
from videochat_r1.sample import Media, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.video.frames import Frames, VideoBudget, load_frames
from videochat_r1.video.probe import VideoInfo
from videochat_r1.video.stills import PictureBudget, Still, load_pictures

Layout = Literal["video_first", "text_first"]

_OPENED = re.compile(r"<think>\s*\Z")
_CLOSED = "\n</think>\n\n"
"""Ends an opened thought in which nothing is thought, as Qwen3's template writes it."""

_TEXT_STEPS = 64
"""In how many steps of `max_prompt_length` text is counted where what is shown has to be made smaller for it."""


class Turn(NamedTuple):
    """An earlier question and its answer, as the model read and wrote them."""

    instruction: str
    answer: str


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
        box_format: units in which prompts tell and ask for boxes; `native` for those of the model's family.
        max_prompt_length: prompts longer than this get their video's pixels re-budgeted; text and placeholders are
            never cut.
        load: reads frames as `load_frames` does, e.g. `FrameCache.load`.

    Raises:
        ConfigError: an unknown layout, task or box format, or a patch size that the video stage was not told.
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
        box_format: BoxFormat = "normalised",
        max_prompt_length: int | None = None,
        load: Callable[..., Frames] = load_frames,
    ) -> None:
        if layout not in ("video_first", "text_first"):
            raise ConfigError(f"prompt_layout is {layout!r}; expected video_first or text_first")
        check_box_format(box_format)
        unknown = sorted(name for name in templates or {} if name not in TASKS)
        if unknown:
            raise ConfigError(f"prompts for unknown tasks {unknown}; the tasks are {sorted(TASKS)}")
        self.processor = processor
        self.pictures = pictures or PictureBudget()
        self.thinking = thinking
        self.layout = layout
        self.templates = dict(templates or {})
        self.max_prompt_length = max_prompt_length
        self.load = load
        self.family = family_of(config)
        self.factor = self.family.token_side(config)
        self.budget = budget.sized(self.factor)
        self.box_format = self.family.box_convention if box_format == "native" else box_format
        self._literal = LiteralText(processor.tokenizer)
        self._config = config
        self._placeholder_ids = [config.image_token_id, config.video_token_id]
        self._merge_size = int(config.vision_config.spatial_merge_size)
        self._temporal_patch = int(config.vision_config.temporal_patch_size)

    def asking(self, *, thinking: bool, templates: Mapping[str, str]) -> "PromptBuilder":
        """The same builder, asking in another way: see its arguments of these names."""
        other = copy.copy(self)
        other.thinking, other.templates = thinking, dict(templates)
        return other

    def build(self, sample: Sample) -> PromptInputs:
        """Model inputs of one sample.

        Raises:
            VideoError: its video or a picture cannot be used.
            DataError: its prompt cannot be brought under `max_prompt_length`.
        """
        return self.build_together([sample])[0]

    def build_together(self, samples: Sequence[Sample]) -> list[PromptInputs]:
        """Model inputs of samples that show the same, which is read once. Each is what `build` makes of it.

        Raises:
            VideoError, DataError: as `build`, for any of them.
        """

        @cache
        def show(tokens: int | None) -> tuple[Medium, ...]:
            return self.media(samples[0].media, tokens)

        return [self._fitted(sample, show) for sample in samples]

    def frames(self, video: Video) -> Frames:
        """The video's frames within the budget, sized for this model. Raises VideoError."""
        return self.load(video, self.budget, factor=self.factor)

    def media(self, media: Media, tokens: int | None = None) -> tuple[Medium, ...]:
        """A video or pictures within the budget.

        Args:
            media: where they are.
            tokens: most tokens of all of them together, whatever the budget says; None for the budget's own.

        Raises:
            VideoError: one cannot be used.
        """
        area = self.factor**2
        if isinstance(media, Video):
            budget = self.budget
            if tokens is not None:
                least = min(self.budget.min_pixels, area)
                budget = replace(self.budget, total_pixels=tokens * area, min_pixels=least)
            return (self._video(self.load(media, budget, factor=self.factor)),)
        least, most = self.pictures.limits(self.family.picture_pixels)
        if tokens is not None:
            most = max(1, tokens // len(media.paths)) * area
            least = min(least, area)
        return tuple(map(self._picture, load_pictures(media, (least, most), factor=self.factor)))

    def render(self, sample: Sample, box_units: BoxUnits | None = None, earlier: Sequence[Turn] = ()) -> str:
        """See `render_text`, of the sample's instruction, its boxes in these units."""
        if isinstance(sample.media, Video):
            return self.render_text(self.instruction(sample, box_units), earlier=earlier)
        return self.render_text(self.instruction(sample, box_units), "image", len(sample.media.paths), earlier)

    def instruction(self, sample: Sample, box_units: BoxUnits | None = None) -> str:
        """The words of a sample's question, its boxes in these units."""
        template = self.templates.get(sample.task)
        words = TASKS[sample.task].instruction(sample, thinking=self.thinking, template=template)
        return words if box_units is None else box_units.write(words)

    def render_text(
        self, instruction: str, kind: MediumKind = "video", count: int = 1, earlier: Sequence[Turn] = ()
    ) -> str:
        """The chat prompt of a free instruction about a video or pictures, as marked text (`LiteralText`).

        A thought that the chat template opens stays open if the model is asked for one, and is closed if it is not.

        Args:
            instruction: the words.
            kind: of the media, in whose places placeholders stand.
            count: how many there are.
            earlier: turns of the conversation before this one; what is shown then belongs to the first of them. Which parts of
                earlier answers the model reads again, such as thoughts, its chat template decides.

        Raises:
            ConfigError: the model's chat template does not show them.
        """
        media: list[dict[str, Any]] = [{"type": kind} for _ in range(count)]
        turns = []
        for number, text in enumerate([*(text for turn in earlier for text in turn), instruction]):
            parts: list[dict[str, Any]] = [{"type": "text", "text": self._literal.mark(text)}]
            if number == 0:
                parts = parts + media if self.layout == "text_first" else media + parts
            turns.append({"role": "assistant" if number % 2 else "user", "content": parts})
        rendered = self._chat(turns)
        mark = self.family.mark(kind, self.processor)
        if (found := rendered.count(mark)) != count:
            raise ConfigError(
                f"the model folder's chat template writes {mark} {found} times for {count} of kind {kind}: copy "
                "chat_template.json or chat_template.jinja of the release into it"
            )
        return rendered + _CLOSED if self._template_opens and not self.thinking else rendered

    def _chat(self, turns: list[dict[str, Any]]) -> str:
        """The chat template's text of turns, up to where the model answers."""
        return str(self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    @cached_property
    def _template_opens(self) -> str:
        """The tag with the white space after it, of a chat template that opens the thought; else empty."""
        found = _OPENED.search(self._chat([{"role": "user", "content": [{"type": "text", "text": "?"}]}]))
        return found[0] if found else ""

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of an answer that the model shall learn to give, without the one that ends it."""
        return self._literal.encode(self._literal.mark(text))

    def from_frames(self, frames: Frames, rendered: str) -> PromptInputs:
        """Model inputs of a rendered prompt and a decoded video."""
        return self.from_media((self._video(frames),), rendered)

    def ask(self, sample: Sample, media: Sequence[Medium], earlier: Sequence[Turn] = ()) -> PromptInputs:
        """Model inputs of a sample and what it shows, after earlier turns of a conversation."""
        units = self.box_units(sample, media)
        return replace(self.from_media(media, self.render(sample, units, earlier)), box_units=units)

    def box_units(self, sample: Sample, media: Sequence[Medium]) -> BoxUnits | None:
        """In which a sample's prompt tells and asks for boxes; None for fractions, or no boxes."""
        size = media[0].columns * self.factor, media[0].rows * self.factor
        return BoxUnits.of(self.box_format, size) if TASKS[sample.task].has_boxes else None

    def _video(self, frames: Frames) -> Medium:
        processed = self.processor.video_processor(
            videos=[frames.pixels],
            do_resize=False,
            do_sample_frames=False,
            # Frames come sized; this only says so to releases that would otherwise announce a change of default.
            cap_pixels_per_frame=False,
            return_tensors="pt",
        )
        return Medium(
            kind="video",
            patches=processed["pixel_values_videos"],
            grid=tuple(processed["video_grid_thw"][0].tolist()),
            merge_size=self._merge_size,
            frame_seconds=frames.timestamps[: frames.num_frames],
            sample_fps=frames.sample_fps,
            source=frames.source,
        )

    def _picture(self, still: Still) -> Medium:
        processed = self.processor.image_processor(images=[still.pixels], do_resize=False, return_tensors="pt")
        return Medium(
            kind="image",
            patches=processed["pixel_values"],
            grid=tuple(processed["image_grid_thw"][0].tolist()),
            merge_size=self._merge_size,
        )

    def from_media(self, media: Sequence[Medium], rendered: str) -> PromptInputs:
        """Model inputs of a rendered prompt and what it shows: one video, or one or several pictures."""
        mark = self.family.mark(media[0].kind, self.processor)
        before, *after = rendered.split(mark)
        texts = [self.family.medium_text(medium, self.processor) for medium in media]
        expanded = before + "".join(text + part for text, part in zip(texts, after, strict=True))
        input_ids = torch.tensor(self._literal.encode(expanded))
        is_placeholder = torch.isin(input_ids, torch.tensor(self._placeholder_ids))
        pieces = [piece for medium in media for piece in self.family.pieces(medium, self._config)]
        opened = self._template_opens if self.thinking else ""
        for medium in media:
            _ = medium.digest  # read here, on the host and in a loader worker
        return PromptInputs(
            input_ids,
            mrope_positions(is_placeholder, pieces),
            tuple(media),
            rendered,
            opened,
            spans=placeholder_spans(is_placeholder, media),
        )

    def shuffled(self, inputs: PromptInputs, seed: int) -> PromptInputs:
        """The prompt with the frames of its videos in another order, as if they had been decoded so: text, times and positions
        stay. Pictures stay too.

        Args:
            inputs: as this builder makes them, on any device.
            seed: decides the order alone; it is another one wherever there is more than one frame.
        """
        media = [
            self.family.reordered(medium, _other_order(len(medium.frame_seconds), seed), self._config)
            if medium.kind == "video"
            else medium
            for medium in inputs.media
        ]
        return replace(inputs, media=tuple(media))

    def blank(self) -> PromptInputs:
        """A shortest possible clip of black frames, for the place of a sample that cannot be read."""
        pixels = torch.zeros(self._temporal_patch, 3, self.factor, self.factor, dtype=torch.uint8)
        times = tuple(index / self.budget.fps for index in range(self._temporal_patch))
        frames = Frames(
            pixels=pixels,
            timestamps=times,
            source=VideoInfo(len(times) / self.budget.fps, len(times), self.budget.fps, self.factor, self.factor),
            sample_fps=self.budget.fps,
            num_frames=self._temporal_patch,
        )
        return self.from_frames(frames, self.render_text(""))

    def _fitted(self, sample: Sample, show: Callable[[int | None], tuple[Medium, ...]]) -> PromptInputs:
        """The prompt with what it shows, as `media` gives it for so many tokens: fewer than the budget's where it is too long."""
        inputs, limit = self.ask(sample, show(None)), self.max_prompt_length
        if limit is None or inputs.num_tokens <= limit:
            return inputs
        text, count = inputs.num_tokens - sum(medium.num_tokens for medium in inputs.media), len(inputs.media)
        least = text + count
        if text < limit:
            # In steps: questions of about one length get the same pixels, and can share them.
            step = max(1, limit // _TEXT_STEPS)
            tokens = limit - -(-text // step) * step
            inputs = self.ask(sample, show(tokens if tokens >= count else limit - text))
            if inputs.num_tokens <= limit:
                return inputs
            least = inputs.num_tokens
        fewer = "lower video.fps or video.max_frames, " if isinstance(sample.media, Video) else ""
        raise DataError(
            f"sample {shown(sample.id)!r} needs at least {least} prompt tokens even with what it shows at the smallest size; "
            f"max_prompt_length is {limit}. Raise it, {fewer}or leave the sample out."
        )


def _other_order(count: int, seed: int) -> list[int]:
    """The numbers below `count`, shuffled, never in ascending order if they are more than one."""
    order, rng = list(range(count)), random.Random(seed)
    while count > 1 and order == list(range(count)):
        rng.shuffle(order)
    return order
