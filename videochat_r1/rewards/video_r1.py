"""The accuracy of Video-R1's released code, number by number, with its faults: for comparisons with runs of that code."""

from collections.abc import Callable

from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS
from videochat_r1.sample import ChoiceTarget, NumberTarget, TextTarget
from videochat_r1.tasks.text_overlap import released_rouge, word_error_rate

_TINY = 1e-9


def release_accuracy(completion: str, task: str, target: ChoiceTarget | NumberTarget | TextTarget) -> float | None:
    """In [0, 1]; None for a task that the release does not have.

    The answer is the first `<answer>` element, inside a thought too; a completion without one has an empty answer. One that is
    longer than any answer is worth 0, where the release takes the square of its length in time.
    """
    rule = _RULES.get(task)
    if rule is None:
        return None
    answer = first_answer(completion) or ""
    truth = target.text if isinstance(target, NumberTarget) else target.answer
    return rule(answer, truth.strip()) if len(answer) <= MAX_ANSWER_CHARS else 0.0


def first_answer(completion: str) -> str | None:
    """What stands in the first `<answer>` element, inside a thought too; stripped. None without one."""
    _, _, rest = completion.partition("<answer>")
    answer, closing, _ = rest.partition("</answer>")
    return answer.strip() if closing else None


def _same(answer: str, truth: str) -> float:
    """1.0 for the same characters."""
    return float(answer == truth)


def _same_number(answer: str, truth: str) -> float:
    """1.0 for the same number in two decimals, if both or neither have a point or a comma."""
    if any(mark in answer for mark in ".,") != any(mark in truth for mark in ".,"):
        return 0.0
    numbers = _number(answer), _number(truth)
    return float(None not in numbers and _rounded(numbers[0]) == _rounded(numbers[1]))


def _near(answer: str, truth: str) -> float:
    """1 - relative error; 0.0 where both are 0."""
    number, true = _number(answer), _number(truth)
    if number is None or true is None:
        return 0.0
    return 1.0 - min(1.0, (abs(number - true) + _TINY) / (abs(true) + _TINY))


def _right_words(answer: str, truth: str) -> float:
    """1 - WER, of words between white space."""
    words = truth.split()
    return max(0.0, 1.0 - word_error_rate(answer.split(), words)) if words else float(not answer.split())


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


_RULES: dict[str, Callable[[str, str], float]] = {
    "multi_choice_qa": _same,
    "numerical_qa": _same_number,
    "regression": _near,
    "free_form_qa": released_rouge,
    "text_recognition": _right_words,
}
