"""Multiple-choice questions about a video, answered with a letter (paper 3.2, 3.3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from videochat_r1.parsing import answer_text, parse_letter, same_option
from videochat_r1.sample import LETTERS, ChoiceTarget
from videochat_r1.tasks.base import Task
from videochat_r1.tasks.target_json import read_letter, read_options, required


class MultiChoiceQA(Task[ChoiceTarget, str]):
    """`<answer>C</answer>`. Where two options have the same text, either letter is right."""

    name = "multi_choice_qa"
    target_type = ChoiceTarget
    reward_names = ("format", "accuracy")
    headline = "accuracy"
    template = "{query}\n{options}\nOne of these options is right. {answer_form}"
    request = "its letter"

    def target_fields(self, target: ChoiceTarget) -> dict[str, str]:
        """`options`, one a line."""
        return {"options": options_text(target.options)}

    def payloads(self, target: ChoiceTarget) -> tuple[str, ...]:
        """The letter."""
        return (target.answer,)

    def examples(self, target: ChoiceTarget) -> list[tuple[str, ...]]:
        """A letter that is among the options."""
        return [(example_letter(target.options),)]

    def parse(self, completion: str, target: ChoiceTarget, *, untagged: bool = False) -> str | None:
        """The letter of the one option that the answer names."""
        text = answer_text(completion, untagged=untagged)
        return parse_letter(text, target.options) if text is not None else None

    def accepts(self, payloads: Sequence[str], target: ChoiceTarget) -> bool:
        """An option and no explanation."""
        return parse_letter(payloads[0], target.options, bare=True) is not None

    def accuracy(self, parsed: str | None, target: ChoiceTarget) -> float:
        """1.0 for the right option."""
        return float(parsed is not None and same_option(parsed, target.answer, target.options))

    def scores(self, parsed: str | None, target: ChoiceTarget) -> dict[str, float]:
        """Accuracy."""
        return {"accuracy": self.accuracy(parsed, target), "parse_rate": float(parsed is not None)}

    def target_from_json(self, value: Mapping[str, Any]) -> ChoiceTarget:
        """Of `{"options": [text, ...], "answer": letter or text}`."""
        options = read_options(required(value, "options"), "options")
        return ChoiceTarget(options=options, answer=read_letter(required(value, "answer"), "answer", options))

    def target_to_json(self, target: ChoiceTarget) -> dict[str, Any]:
        """Inverse of `target_from_json`."""
        return {"options": list(target.options), "answer": target.answer}


def options_text(options: Sequence[str]) -> str:
    """The options as a prompt lists them."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def example_letter(options: Sequence[str]) -> str:
    """B, or A where there is no B."""
    return LETTERS[min(1, len(options) - 1)]
