"""Questions answered in a sentence or a few words, compared with the true answer word by word (Video-R1)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.parsing import answer_text
from videochat_r1.parsing.plain import bounded
from videochat_r1.sample import TextTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.target_json import read_words, required
from videochat_r1.tasks.text_overlap import rouge, rouge_words


class FreeFormQA(Task[TextTarget, str]):
    """`<answer>free text</answer>`. The reward is the mean of ROUGE-1, ROUGE-2 and ROUGE-L.

    A truth of one word has no pair of words; its ROUGE-2 is its ROUGE-1.
    """

    name = "free_form_qa"
    target_type = TextTarget
    reward_names = ("format", "accuracy")
    headline = "ROUGE"
    template = "{query}\n{answer_form}"
    request = "the answer, in a few words or sentences"

    def payloads(self, target: TextTarget) -> tuple[str, ...]:
        """The text."""
        return (target.answer,)

    def examples(self, target: TextTarget) -> list[tuple[str, ...]]:
        """Of no question, so that none of its words help."""
        return [("your answer",)]

    def parse(self, completion: str, target: TextTarget, *, untagged: bool = False) -> str | None:
        """The text of the answer; None without one, if it is blank, or longer than any answer."""
        text = (answer_text(completion, untagged=untagged) or "").strip()
        return text if text and bounded(text) is not None else None

    def accepts(self, payloads: Sequence[str], target: TextTarget) -> bool:
        """Any text that is not blank."""
        return bool(payloads[0].strip()) and bounded(payloads[0]) is not None

    def accuracy(self, parsed: str | None, target: TextTarget) -> float:
        """The overlap with the truth in [0, 1]."""
        return self.scores(parsed, target)[self.headline]

    def scores(self, parsed: str | None, target: TextTarget) -> dict[str, float]:
        """The mean and what it is of."""
        truth = rouge_words(target.answer)
        parts = rouge(rouge_words(parsed or ""), truth)
        if len(truth) == 1:
            parts["ROUGE-2"] = parts["ROUGE-1"]
        return {"ROUGE": sum(parts.values()) / len(parts), **parts, "parse_rate": float(parsed is not None)}

    def target_from_json(self, value: Mapping[str, Any]) -> TextTarget:
        """Of `{"answer": text}`."""
        return TextTarget(read_words(required(value, "answer"), "answer"))

    def target_to_json(self, target: TextTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"answer": target.answer}
