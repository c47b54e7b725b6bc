"""Two stand-ins for language models that judge captions, and the reward that either gives: shares of the true events (eq. 6).

`careful` is the rule of `videochat_r1.judge.rules`: one sentence has to tell the whole event. `hasty` reads words alone: it takes
an event as told when two thirds of its content words stand anywhere in the caption, so that the colour or the form is enough.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from videochat_r1.judge import rules
from videochat_r1.tasks.captioning import Captioning

ENOUGH = 0.66

Judge = Callable[[str, str], bool]
"""(event, description) -> whether the description tells it."""


def is_told(event: str, description: str) -> bool:
    """The careful judge."""
    return rules.label(event, description) == "entailment"


def is_hinted(event: str, description: str) -> bool:
    """The hasty judge."""
    wanted = rules.content_words(event)
    return len(wanted & rules.content_words(description)) >= ENOUGH * len(wanted)


def share_told(events: Sequence[str], description: str, judge: Judge) -> float:
    """Share of the events; 0.0 without any."""
    return sum(judge(event, description) for event in events) / len(events) if events else 0.0


def caption_scores(caption: str | None, events: Sequence[str], judge: Judge = is_told) -> dict[str, float]:
    """recall, precision and F1 of one caption; zeros without one."""
    recall = share_told(events, caption or "", judge)
    precision = share_told(rules.extract(caption or ""), " ".join(events), judge)
    f1 = 2.0 * recall * precision / (recall + precision) if recall + precision else 0.0
    return {"recall": recall, "precision": precision, "F1": f1}


def careful(completions: Sequence[str], *, target: Sequence[Mapping[str, Any]], **columns: Any) -> list[float]:
    """The reward of captions by the careful judge, in [0, 1]."""
    return _recalls(completions, target, is_told)


def hasty(completions: Sequence[str], *, target: Sequence[Mapping[str, Any]], **columns: Any) -> list[float]:
    """The reward of captions by the hasty judge, in [0, 1]."""
    return _recalls(completions, target, is_hinted)


def _recalls(completions: Sequence[str], targets: Sequence[Mapping[str, Any]], judge: Judge) -> list[float]:
    task = Captioning()
    typed = [task.target_from_json(target) for target in targets]
    captions = [task.parse(text, truth) for text, truth in zip(completions, typed, strict=True)]
    return [share_told(truth.events, caption or "", judge) for caption, truth in zip(captions, typed, strict=True)]
