"""What every task, reward, corpus and benchmark has to keep to, as functions for the tests of one's own.

    from videochat_r1.testing import check_task

    def test_counting():
        check_task(Counting(), {"count": 3}, {"count": 5})

Each raises AssertionError with what was broken and by which input.
"""

import asyncio
import inspect
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videochat_r1.datasets.base import Corpus
from videochat_r1.datasets.manifest import sample_from_json, sample_to_json
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.parsing import tagged_texts
from videochat_r1.parsing.box_units import BoxUnits
from videochat_r1.rewards import RewardFunction
from videochat_r1.sample import Media, Pictures, Sample, Video
from videochat_r1.tasks.base import Task

_QUERY = "what happens {here}?"
_VIDEO = Video(path="v.mp4")
_PIECES = (
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ".",
        ":",
        "-",
        "\n",
        " ",
        "\0",
    ),
    *("nan", "inf", "-inf", "1e400", "9" * 400, "-0", "0.0", "1", "5.2", "to", "from", "A", "(B)", "C.", "no", "null"),
    *('"', "'", "\\boxed{", "$", "％", "，", "答案", "\u0301", "\ud83d", "🙂", "<|im_end|>", "%", "\u202e", "１"),
)


def check_task(task: Task[Any, Any], target: Mapping[str, Any], other: Mapping[str, Any], *, texts: int = 300) -> None:
    """Everything that a task has to keep to.

    Args:
        task: an instance.
        target: a true answer in JSON form.
        other: another one to the same question.
        texts: hostile completions that are tried.
    """
    check_gold(task, target)
    check_prompt(task, target, other)
    check_box_units(task, target)
    check_target_json(task, target)
    for text in hostile_texts(texts, tags=task.answer_tags):
        check_total(task, target, text)


def check_gold(task: Task[Any, Any], target: Mapping[str, Any]) -> None:
    """The truth, written as an answer, parses, is well formed, and earns full reward and every metric; text around it costs the
    format, a missing tag the answer."""
    truth = task.target_from_json(target)
    assert isinstance(truth, task.target_type), (
        f"target_from_json gives a {type(truth).__name__}, not {task.target_type}"
    )
    assert task.headline in task.scores(None, truth), f"scores lack the headline {task.headline!r}"
    for thinking in (False, True):
        gold = task.gold(truth, thinking=thinking)
        parsed = task.parse(gold, truth)
        assert task.is_well_formed(gold, truth, thinking=thinking), f"the gold answer is not well formed: {gold!r}"
        assert not task.is_well_formed(gold, truth, thinking=not thinking), f"thinking makes no difference: {gold!r}"
        earned = {
            "iou": task.iou(parsed, truth),
            "accuracy": task.accuracy(parsed, truth),
            **task.scores(parsed, truth),
        }
        assert all(value in (1.0, None) for value in earned.values()), f"the gold answer {gold!r} earns {earned}"
        assert task.is_well_formed(f"\n {gold} \n", truth, thinking=thinking), "white space around it costs the format"
        first = f"</{task.answer_tags[0]}>"
        for broken in (f"Sure: {gold}", f"{gold} Done.", gold + gold, gold.replace(first, ""), gold[:-1], ""):
            assert not task.is_well_formed(broken, truth, thinking=thinking), f"well formed in spite of all: {broken!r}"


def check_box_units(task: Task[Any, Any], target: Mapping[str, Any]) -> None:
    """Of a task with boxes: the truth, told in thousandths and read back, is still an answer that can be read."""
    units = BoxUnits.of("thousandths", (1, 1)) if task.has_boxes else None
    if units is None:
        return
    truth = task.target_from_json(target)
    told = units.write(task.gold(truth, thinking=False))
    back = units.read(told)
    assert task.is_well_formed(back, truth, thinking=False), f"not well formed in fractions again: {told!r}, {back!r}"
    overlap = task.iou(task.parse(back, truth), truth)
    assert overlap is None or overlap > 0.5, f"another answer in fractions again: {told!r}, {back!r}"


def check_prompt(task: Task[Any, Any], target: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """The prompt holds the question as it is and well-formed examples, does not tell the answer, and can be replaced; about
    pictures it is the same, or refused by a task that needs a video."""
    truth, another = task.target_from_json(target), task.target_from_json(other)
    assert truth != another, "the two targets are the same"
    for thinking in (False, True):
        prompt = task.instruction(_sample(task, truth), thinking=thinking)
        assert _QUERY in prompt, f"the query is not in the prompt: {prompt!r}"
        assert ("<think>" in prompt) == thinking, f"<think> is asked for where it should not be, or not: {prompt!r}"
        for example in task.examples(truth):
            written = task.write(example, thought="your reasoning" if thinking else None)
            assert written in prompt, f"an example is not in the prompt: {written!r}"
            assert task.is_well_formed(written, truth, thinking=thinking), (
                f"the example is not well formed: {written!r}"
            )
        last = task.examples(truth)[-1][0]
        assert tagged_texts(prompt, task.answer_tags)[task.answer_tags[0]] == last, "the last example is not read"
        same = task.instruction(_sample(task, another), thinking=thinking)
        assert prompt == same, f"the prompt changes with the right answer: {prompt!r} {same!r}"
        about_pictures = _refused_or(task, _sample(task, truth, Pictures(("a.jpg", "b.jpg"))), thinking=thinking)
        assert about_pictures == (None if task.needs_video else prompt), f"about pictures it says {about_pictures!r}"
    replaced = task.instruction(
        _sample(task, truth), thinking=False, template="{{{query}}} in {duration} s\n{answer_form}"
    )
    assert replaced.startswith("{" + _QUERY + "} in "), f"a template is not filled in: {replaced!r}"
    try:
        task.instruction(_sample(task, truth), thinking=False, template="{nonsense}")
    except ConfigError:
        return
    raise AssertionError("a template with an unknown field is not refused with a ConfigError")


def check_target_json(task: Task[Any, Any], target: Mapping[str, Any]) -> None:
    """A target survives its JSON form, and so does a sample with it; a malformed one is a DataError."""
    truth = task.target_from_json(target)
    again = task.target_from_json(json.loads(json.dumps(task.target_to_json(truth))))
    assert again == truth, f"{truth} comes back as {again}"
    full = task.target_to_json(truth)
    required = [key for key in target if not _reads(task, {name: full[name] for name in full if name != key})]
    assert required, "no key of the target is required"
    for malformed in (None, 3, "x", [1, 2]):
        assert not _reads(task, malformed), f"target_from_json takes {malformed!r}"
    for key in required:
        # Null is refused, or means that nobody knows, and then stays null.
        value = {**full, key: None}
        if _reads(task, value):
            kept = task.target_to_json(task.target_from_json(value))[key]
            assert kept is None, f"target_from_json takes {value!r} as {kept!r}"


def check_total(task: Task[Any, Any], target: Mapping[str, Any], text: str) -> None:
    """No text raises; every score is in [0, 1]; what is well formed can be read; the parsed answer is JSON."""
    truth = task.target_from_json(target)
    for completion in (text, "".join(f"<{tag}>{text}</{tag}>" for tag in task.answer_tags)):
        for untagged in (False, True):
            parsed = task.parse(completion, truth, untagged=untagged)
            values = [*task.scores(parsed, truth).values(), task.iou(parsed, truth), task.accuracy(parsed, truth)]
            shares = all(value is None or (math.isfinite(value) and 0.0 <= value <= 1.0) for value in values)
            assert shares, f"{completion!r} scores {values}"
            json.dumps(task.parsed_to_json(parsed), allow_nan=False)
            assert task.whole_video(parsed, truth) in (True, False, None)
            assert task.past_end(parsed, truth) in (True, False, None)
        for thinking in (False, True):
            readable = task.parse(completion, truth) is not None
            well_formed = task.is_well_formed(completion, truth, thinking=thinking)
            assert readable or not well_formed, f"well formed but not read: {completion!r}"


def check_reward(
    reward: RewardFunction, task: str, target: Mapping[str, Any], *, texts: int = 300, **columns: Any
) -> None:
    """A reward gives one finite number or None for every completion, whatever its text, alone or among others.

    Args:
        reward: the function.
        task: name of the task that it is tried on.
        target: of that task, in JSON form.
        texts: hostile completions that are tried.
        columns: further columns that the reward reads, one value for all completions.
    """
    completions = list(hostile_texts(texts))
    shared = {"task": task, "target": target, "thinking": False, "sample_id": "id", "query": _QUERY, **columns}

    def values(some: Sequence[str]) -> list[float | None]:
        given = reward(list(some), **{name: [value] * len(some) for name, value in shared.items()})
        return list(asyncio.run(given) if inspect.iscoroutine(given) else given)

    together = values(completions)
    assert len(together) == len(completions), f"{len(together)} rewards for {len(completions)} completions"
    for text, value in zip(completions, together, strict=True):
        assert value is None or math.isfinite(value), f"{text!r} earns {value!r}"
    alone = [values([text])[0] for text in completions[:20]]
    assert alone == together[:20], "a completion's reward depends on the others"


def check_corpus(corpus: Corpus, annotations: Path, videos: Path | None = None) -> list[Sample]:
    """A corpus reads its annotations into samples with ids of their own and targets that their task knows; returns them."""
    samples = corpus.read(annotations, videos)
    assert samples, f"{annotations} gives no sample"
    ids = [sample.id for sample in samples]
    assert len(set(ids)) == len(ids), "ids occur twice"
    for sample in samples:
        value = json.loads(json.dumps(sample_to_json(sample)))
        again = sample_from_json(value, "the sample")
        assert (again.id, again.task, again.target) == (sample.id, sample.task, sample.target), (
            f"{sample} becomes {again}"
        )
    return samples


def hostile_texts(count: int, tags: Sequence[str] = ("answer",)) -> Iterator[str]:
    """The same `count` texts every time: pieces of markup, numbers that are none, marks of many scripts, in any order."""
    chance = random.Random(0)
    yield from ("", " ", "\0", "<" * 1000, "[" * 5000, "9" * 5000, "a" * 5000, *(f"<{tag}>" for tag in tags))
    for _ in range(count):
        yield "".join(chance.choice(_PIECES) for _ in range(chance.randint(1, 24)))


def _sample(task: Task[Any, Any], target: Any, media: Media = _VIDEO) -> Sample:
    return Sample("id", task.name, media, f" {_QUERY} ", target)


def _refused_or(task: Task[Any, Any], sample: Sample, *, thinking: bool) -> str | None:
    """The prompt; None where it is refused."""
    try:
        return task.instruction(sample, thinking=thinking)
    except DataError:
        return None


def _reads(task: Task[Any, Any], value: Any) -> bool:
    try:
        task.target_from_json(value)
    except DataError:
        return False
    return True
