"""The same question put to many videos at once, with a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from videochat_r1.progress import progress_bar

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


def ask_all(
    question: Callable[[ItemT], AnswerT], items: Sequence[ItemT], *, workers: int, progress: bool, description: str
) -> list[AnswerT]:
    """The answers in the order of the items; `workers` threads ask, a bar on stderr counts. The first error ends it."""
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        answers = pool.map(question, items)
        return list(
            progress_bar(answers, total=len(items), desc=description, unit="video", disable=not (progress and items))
        )
