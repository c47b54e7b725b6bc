"""Text recognition: the text to be seen in pictures or a video, compared word by word (Video-R1's OCR)."""

from videochat_r1.sample import TextTarget
from videochat_r1.tasks.free_form_qa import FreeFormQA
from videochat_r1.tasks.text_overlap import word_accuracy


class TextRecognition(FreeFormQA):
    """`<answer>the text</answer>`. The reward is 1 - WER, at least 0."""

    name = "text_recognition"
    headline = "word_accuracy"
    request = "the text as it stands there, letter by letter"

    def examples(self, target: TextTarget) -> list[tuple[str, ...]]:
        """Of no picture."""
        return [("the text that is to be read",)]

    def scores(self, parsed: str | None, target: TextTarget) -> dict[str, float]:
        """The share of right words."""
        share = 0.0 if parsed is None else word_accuracy(parsed, target.answer)
        return {"word_accuracy": share, "parse_rate": float(parsed is not None)}
