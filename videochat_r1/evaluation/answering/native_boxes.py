"""Prompts for checkpoints that know boxes as absolute pixels of the resized frame, as Qwen2.5-VL was trained to."""

from videochat_r1.geometry import Box
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.sample import BoxesTarget, Sample
from videochat_r1.video.frames import Frames

TEMPLATE = (
    "The frames of this video are {width} pixels wide and {height} pixels high. The video shows this object: {query}. "
    "At the start its box is {box}, as [left, top, right, bottom] in pixels. Follow it through {num_boxes} instants, evenly "
    "spaced from the first frame to the last. {order} its box at each of these instants as one list that begins with the "
    "given box, all numbers in pixels. {form}\n{example}"
)


class NativeBoxPromptBuilder(PromptBuilder):
    """Asks tracking questions in pixels of the frames shown; every other task as usual."""

    def build(self, sample: Sample) -> PromptInputs:
        """See `PromptBuilder.build`; the prompt is not re-budgeted, because its numbers belong to the frames' size."""
        if not isinstance(sample.target, BoxesTarget) or sample.task in self.templates:
            return super().build(sample)
        frames = self.frames(sample.video)
        return self.from_frames(frames, self.render_text(instruction(sample, frames, thinking=self.thinking)))


def instruction(sample: Sample, frames: Frames, *, thinking: bool) -> str:
    """The tracking question in pixels."""
    assert isinstance(sample.target, BoxesTarget)
    height, width = frames.pixels.shape[-2:]
    count = len(sample.target.boxes)
    example = ", ".join(_pixels(Box(0.1 + 0.05 * i, 0.2, 0.4 + 0.05 * i, 0.6), width, height) for i in range(count))
    answer = f"<answer>[{example}]</answer>"
    return TEMPLATE.format(
        width=width,
        height=height,
        query=sample.query.strip(),
        box=_pixels(sample.target.boxes[0], width, height),
        num_boxes=count,
        order="First reason between <think> and </think>. Then give" if thinking else "Give",
        form="Use this form:" if thinking else "Write nothing else, and use this form:",
        example=f"<think>your reasoning</think>\n{answer}" if thinking else answer,
    )


def _pixels(box: Box, width: int, height: int) -> str:
    corners = (box.x0 * width, box.y0 * height, box.x1 * width, box.y1 * height)
    return "[" + ", ".join(str(round(corner)) for corner in corners) + "]"
