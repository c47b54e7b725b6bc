"""What a task is: a prompt, a grammar, rewards, metrics and the gold answer, all of one answer format.

SFT (gold), GRPO (rewards) and evaluation (metrics) use the same object, so they cannot disagree.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any, ClassVar, Generic, TypeVar, cast

from videochat_r1.errors import ConfigError, DataError, shown
from videochat_r1.parsing import strict_parts, write_parts
from videochat_r1.sample import Sample

TargetT = TypeVar("TargetT")
ParsedT = TypeVar("ParsedT")
Scores = Mapping[str, float | None]
"""Metric -> value of one answer in [0, 1]; None where nobody knows the truth that it is about."""


class Task(ABC, Generic[TargetT, ParsedT]):
    """One answer format. `ParsedT` is what its parser returns; None always means "no answer found".

    Everything that reads model text is total: it never raises, and scores are finite and in [0, 1].
    """

    name: ClassVar[str]
    target_type: ClassVar[type]
    reward_names: ClassVar[tuple[str, ...]]
    """Names in `videochat_r1.rewards.REWARDS` that apply to this task, in the order they are reported."""
    headline: ClassVar[str]
    """The metric of `scores` that is compared between models."""
    template: ClassVar[str]
    """The prompt, with `{field}` for every name in `fields` that it uses; a recipe may replace it."""
    request: ClassVar[str]
    """What the answer has to give, as the object of "Then give ..."."""
    needs_video: ClassVar[bool] = False
    """Whether the answer is about time, so that pictures cannot be asked about."""
    has_boxes: ClassVar[bool] = False
    """Whether prompts and answers hold boxes `[x0, y0, x1, y1]` in fractions, which a run may tell in a checkpoint's own units."""
    answer_tags: ClassVar[tuple[str, ...]] = ("answer",)
    """Elements that a completion consists of, in order, after its thought."""

    def instruction(self, sample: Sample, *, thinking: bool, template: str | None = None) -> str:
        """The text of the user's turn, video and pictures excluded.

        Args:
            sample: the question.
            thinking: whether the model is asked for a thought before its answer.
            template: replaces the task's own; its fields are the keys of `fields`.

        Raises:
            ConfigError: the template names an unknown field or its braces do not pair.
        """
        own = self.template if template is None else template
        return render_template(own, self.fields(sample, thinking=thinking), where=f"the prompt of task {self.name}")

    def fields(self, sample: Sample, *, thinking: bool) -> dict[str, str]:
        """Field of a prompt template -> its text for this sample.

        Every task has `query`, `duration` (seconds, "unknown" where the annotation does not say) and `answer_form` (how to
        answer, with an example, for the given `thinking`); `target_fields` adds those of its own.
        """
        target = self.target_of(sample)
        duration = sample.duration if sample.duration is not None else getattr(target, "duration", None)
        return {
            "query": sample.query.strip(),
            "duration": "unknown" if duration is None else f"{duration:.2f}",
            "answer_form": self.answer_form(target, thinking=thinking),
            **self.target_fields(target),
        }

    def answer_form(self, target: TargetT, *, thinking: bool) -> str:
        """The end of the prompt: what to write, and one or more complete examples that are well formed."""
        thought = "your reasoning" if thinking else None
        examples = "\nor\n".join(self.write(example, thought=thought) for example in self.examples(target))
        if thinking:
            return f"First reason between <think> and </think>. Then give {self.request}. Use this form:\n{examples}"
        return f"Give {self.request}. Write nothing else, and use this form:\n{examples}"

    def write(self, payloads: Sequence[str], *, thought: str | None) -> str:
        """A completion with one payload per answer tag, after the thought if there is one."""
        parts = [] if thought is None else [("think", thought)]
        return write_parts([*parts, *zip(self.answer_tags, payloads, strict=True)])

    def gold(self, target: TargetT, *, thinking: bool) -> str:
        """The truth written as a completion: it parses, is well formed and earns full reward.

        Seconds are rounded to 0.01 and coordinates to 0.001, to more digits where that would change the answer. Annotations
        hold no reasoning, so the thought is empty.
        """
        return self.write(self.payloads(target), thought="" if thinking else None)

    def is_well_formed(self, completion: str, target: TargetT, *, thinking: bool) -> bool:
        """Whether the completion is exactly the elements that the prompt asks for, each with a payload that can be read."""
        payloads = self._payloads_in(completion, thinking=thinking)
        return payloads is not None and self.accepts(payloads, target)

    def why_unfit(self, response: str, target: TargetT, *, thinking: bool | None = None) -> str | None:
        """Why supervised training cannot learn a response, as what follows "its response"; None where it can.

        Args:
            response: that somebody gave to the question.
            target: see `parse`; whether the answer is right is not asked.
            thinking: whether the prompt asks for a thought; None for a response that may have one or not.
        """
        if not response.strip():
            return "is empty"
        thoughts = (False, True) if thinking is None else (thinking,)
        if all(self._payloads_in(response, thinking=each) is None for each in thoughts):
            form = self.write(["..."] * len(self.answer_tags), thought="..." if thinking else None).replace("\n", "")
            thought = " after a thought or without one" if thinking is None else ""
            return f"is not of the form {form}{thought}"
        return "has an answer that cannot be read" if self.parse(response, target) is None else None

    def _payloads_in(self, completion: str, *, thinking: bool) -> list[str] | None:
        """One payload per answer tag; None unless the completion is exactly the elements that the prompt asks for."""
        names = ("think", *self.answer_tags) if thinking else self.answer_tags
        parts = strict_parts(completion, names)
        return None if parts is None else parts[-len(self.answer_tags) :]

    def target_of(self, sample: Sample) -> TargetT:
        """The sample's target, checked.

        Raises:
            DataError: it is of another task's type, or the sample shows pictures where the task needs a video.
        """
        if self.needs_video:
            _ = sample.video
        if not isinstance(sample.target, self.target_type):
            raise DataError(
                f"sample {shown(sample.id)!r} of task {self.name} has a {type(sample.target).__name__}; "
                f"expected a {self.target_type.__name__}"
            )
        return cast(TargetT, sample.target)

    @abstractmethod
    def payloads(self, target: TargetT) -> tuple[str, ...]:
        """The truth as text, one per answer tag."""

    @abstractmethod
    def examples(self, target: TargetT) -> list[tuple[str, ...]]:
        """Payloads that show the answer form in the prompt; they must not depend on the right answer."""

    def target_fields(self, target: TargetT) -> dict[str, str]:
        """The prompt fields that only this task has."""
        return {}

    @abstractmethod
    def parse(self, completion: str, target: TargetT, *, untagged: bool = False) -> ParsedT | None:
        """The answer in the completion, leniently read.

        Args:
            completion: model text.
            target: what the answer is read against (option texts, number of boxes); the truth itself has no influence.
            untagged: whether a completion without any answer tag is read as a whole; for evaluating models that were not
                asked for tags.
        """

    @abstractmethod
    def accepts(self, payloads: Sequence[str], target: TargetT) -> bool:
        """Whether the payloads, one per answer tag, can be read and hold nothing but the answer."""

    def iou(self, parsed: ParsedT | None, target: TargetT) -> float | None:
        """Overlap with the truth in [0, 1]; 0.0 for None; None where the task has no such reward, or nobody knows that truth.

        A task may add keyword-only parameters with a default: the reward `iou` hands on those of its options that are among them.
        """
        return None

    def accuracy(self, parsed: ParsedT | None, target: TargetT) -> float | None:
        """How right the answer is, in [0, 1]; None where the task has no such reward."""
        return None

    @abstractmethod
    def scores(self, parsed: ParsedT | None, target: TargetT) -> Scores:
        """What has its mean over a benchmark's samples as metrics, e.g. {"mIoU": 0.4, "R1@0.5": 0.0}; None in no mean."""

    @abstractmethod
    def target_from_json(self, value: Mapping[str, Any]) -> TargetT:
        """The typed target of its public JSON form.

        Raises:
            DataError: naming the key that is missing or wrong.
        """

    @abstractmethod
    def target_to_json(self, target: TargetT) -> dict[str, Any]:
        """Inverse of `target_from_json`."""

    def parsed_to_json(self, parsed: ParsedT | None) -> Any:
        """The parsed answer for result files; null for None."""
        return parsed

    def whole_video(self, parsed: ParsedT | None, target: TargetT) -> bool | None:
        """Whether the answer covers more than 90 % of the video (collapse to the trivial answer); None where time is not asked for."""
        return None

    def past_end(self, parsed: ParsedT | None, target: TargetT) -> bool | None:
        """Whether the answer ends after the video does; None where time is not asked for."""
        return None


def render_template(template: str, fields: Mapping[str, str], *, where: str) -> str:
    """The template with its `{field}`s filled in; `{{` and `}}` are literal braces.

    Raises:
        ConfigError: an unknown field, a field with a format or an attribute, or a brace without its partner.
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"{where} is no valid template ({error}); write literal braces twice: {{{{ }}}}") from error
    rendered = ""
    for literal, name, spec, conversion in pieces:
        rendered += literal
        if name is None:
            continue
        if name not in fields or spec or conversion:
            raise ConfigError(
                f"{where} has the field {{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}; "
                f"its fields are {', '.join(f'{{{known}}}' for known in fields)}, and literal braces are written twice"
            )
        rendered += fields[name]
    return rendered
