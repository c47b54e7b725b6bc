"""Events of captions, held against descriptions: event recall (VideoChat-R1, eq. 6) and AutoDQ (Wang et al. 2024, Tarsier)."""

from collections.abc import Sequence
from dataclasses import dataclass

from videochat_r1.judge.client import Judge
from videochat_r1.judge.prompts import extract_question, label_question


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge found: one label (`entailment`, `neutral`, `contradiction`) per event."""

    events: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the events that are entailed, in [0, 1]; 0.0 without events."""
        return self.labels.count("entailment") / len(self.labels) if self.labels else 0.0

    @property
    def pairs(self) -> list[list[str]]:
        """[event, label] of each, for files."""
        return [[event, label] for event, label in zip(self.events, self.labels, strict=True)]


async def extract_events(judge: Judge, description: str) -> tuple[str, ...]:
    """The events that a description tells, at most ten; none is possible.

    Raises:
        UnscoredError: the judge gives no usable answer.
    """
    return await judge.ask(extract_question(_cut(judge, description)))


async def label_events(judge: Judge, events: Sequence[str], description: str) -> Verdict:
    """How a description relates to each event.

    Raises:
        UnscoredError: the judge gives no usable answer.
    """
    question = label_question(events, _cut(judge, description), decoy=judge.config.decoy)
    return Verdict(tuple(events), await judge.ask(question))


async def event_recall(judge: Judge, caption: str, reference: str, reference_events: Sequence[str] = ()) -> Verdict:
    """The reference's events, held against the caption.

    Args:
        judge: is asked.
        caption: what the model wrote.
        reference: the true caption.
        reference_events: its events; without any, the judge extracts them (once: they are cached). A reference in which it
            finds none is taken as one event.

    Raises:
        UnscoredError: the judge gives no usable answer.
    """
    events = tuple(reference_events) or await extract_events(judge, reference) or (reference,)
    return await label_events(judge, events, caption)


async def event_precision(judge: Judge, caption: str, reference: str) -> Verdict:
    """The caption's events, held against the reference; without events where the judge finds none in the caption.

    Raises:
        UnscoredError: the judge gives no usable answer.
    """
    events = await extract_events(judge, caption)
    return await label_events(judge, events, reference) if events else Verdict((), ())


def f1_score(precision: float, recall: float) -> float:
    """Harmonic mean; 0.0 where both are 0."""
    return 2.0 * precision * recall / (precision + recall) if precision + recall > 0.0 else 0.0


def _cut(judge: Judge, text: str) -> str:
    return text[: judge.config.max_description_chars]
