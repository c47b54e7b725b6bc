"""Rollouts of several looks: what each sees next, from what it has just answered. To TRL every look of a prompt's G rollouts is a
group of rows; a rollout that does not look again has a row there that nothing is learned from."""

import itertools
import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from videochat_r1.geometry import Span
from videochat_r1.grpo.rows import Turn
from videochat_r1.grpo.second_look import SecondLook, looks_again
from videochat_r1.modeling.inputs import PromptInputs, on_device
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.sample import Sample
from videochat_r1.second_look.next_look import NextLook, NoLook, next_look
from videochat_r1.second_look.question import TASK, read
from videochat_r1.second_look.segments import clue_segments
from videochat_r1.second_look.view import Look, first_look, source_of

logger = logging.getLogger(__name__)

_Parts = tuple[int, tuple[Span, ...]]
"""Of a question, which its first prompt identifies, and its video."""

_GLUE = re.compile(r"<glue>.*?</glue>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer whose clues can be looked at.

    Args:
        sample: the question.
        first: its first prompt.
        look: what the answer was given to.
        completion: the answer.
    """

    sample: Sample
    first: PromptInputs
    look: Look
    completion: str


class FurtherLooks:
    """Makes the prompts that look again.

    Args:
        builder: of the first prompts.
        options: of the recipe.
        workers: videos read at once.
    """

    def __init__(self, builder: PromptBuilder, options: SecondLook, *, workers: int) -> None:
        self._builder = builder
        self._options = options
        self._pool = ThreadPoolExecutor(max(1, workers))

    def first(self, sample: Sample, prompt: PromptInputs | None) -> Look | None:
        """What the first look shows; None for a sample that has no other."""
        if prompt is None or not looks_again(sample):
            return None
        return first_look(prompt, factor=self._builder.factor)

    def next(
        self, answered: Sequence[Answered | None], number: int, device: torch.device
    ) -> list[NextLook | NoLook | None]:
        """What each sees next, on the device; None for None. Answers of one question whose clues come to the same parts of its
        video get the same object.

        Args:
            answered: the answers before.
            number: of the looks, from 1 for the second.
            device: of the prompts.
        """
        keys: list[_Parts | None] = []
        asked: dict[_Parts, tuple[Answered, tuple[Span, ...]]] = {}
        for one in answered:
            if one is None:
                keys.append(None)
                continue
            clues = read(one.completion, one.sample, one.look).clues
            key = id(one.first), clue_segments(clues, source_of(one.first).duration, self._options.padding)
            keys.append(key)
            if key[1]:
                asked.setdefault(key, (one, clues))
        made = list(self._pool.map(lambda each: self._next(each[0], each[1], number), asked.values()))
        moved = iter(on_device([each.inputs for each in made if isinstance(each, NextLook)], device))
        placed = [each._replace(inputs=next(moved)) if isinstance(each, NextLook) else each for each in made]
        found: dict[_Parts, NextLook | NoLook] = dict(zip(asked, placed, strict=True))
        return [None if key is None else found.get(key, NoLook(None)) for key in keys]

    def _next(self, one: Answered, clues: Sequence[Span], number: int) -> NextLook | NoLook:
        options, load = self._options.clues, self._builder.load
        return next_look(self._builder, one.sample.video, one.first, clues, options, number=number, load=load)

    def draw(
        self,
        samples: Sequence[Sample],
        turns: Sequence[Turn],
        noise: Callable[[Sample, int | str], int],
        draw: Callable[[Sequence[Turn]], None],
        device: torch.device,
    ) -> list[Turn]:
        """The rows of all looks: of each sample, those of its first look, of its second, ...

        Args:
            samples: of the batch.
            turns: the first looks, not drawn yet, as many of each sample.
            noise: of the batch.
            draw: fills in the turns that have a prompt; called once for each look, whatever there is to draw.
            device: of the prompts.
        """
        size = len(turns) // len(samples)
        of_rows = [sample for sample in samples for _ in range(size)]
        for sample, turn in zip(of_rows, turns, strict=True):
            turn.look = self.first(sample, turn.prompt)
        draw(turns)
        looks = [list(turns)]
        for number in range(1, self._options.looks):
            answered = [
                _answered(sample, first.prompt, turn.look, None if turn.rollout is None else turn.completion)
                for sample, first, turn in zip(of_rows, turns, looks[-1], strict=True)
            ]
            seen = self.next(answered, number, device)
            further = [
                self._turn(sample, first, turn, each, number, noise)
                for sample, first, turn, each in zip(of_rows, turns, looks[-1], seen, strict=True)
            ]
            draw(further)
            looks.append(further)
        for sample, turn in zip(of_rows * len(looks), itertools.chain(*looks), strict=True):
            if turn.look is not None and turn.look.is_clip:
                turn.completion = clues_in_video_time(turn.completion, sample, turn.look)
        return [turn for begin in range(0, len(turns), size) for look in looks for turn in look[begin : begin + size]]

    @staticmethod
    def _turn(
        sample: Sample,
        first: Turn,
        before: Turn,
        seen: NextLook | NoLook | None,
        number: int,
        noise: Callable[[Sample, int | str], int],
    ) -> Turn:
        columns = {**first.columns, "look": number}
        if isinstance(seen, NoLook):
            before.look_problem = seen.problem
            if seen.problem is not None:
                logger.warning("the clues of an answer to %s cannot be looked at: %s", sample.id, seen.problem)
        if not isinstance(seen, NextLook):
            return Turn(columns, None, 0)
        seed = noise(sample, f"{first.columns['generation']}#{number}")
        return Turn(columns, seen.inputs, seed, look=seen.look)

    def again(
        self,
        samples: Sequence[Sample],
        firsts: Sequence[PromptInputs | None],
        completions: Sequence[str],
        valid: Sequence[bool],
        device: torch.device,
    ) -> list[PromptInputs | None]:
        """The prompts of all rows once more, from their completions; None of what cannot be made again, and of rows without.

        Args:
            samples: one per prompt.
            firsts: of each, the first prompt on the device.
            completions: one per row, as sampled.
            valid: whether something is learned from a row.
            device: of the prompts.
        """
        per_prompt = len(completions) // len(samples)
        size = per_prompt // self._options.looks
        prompts: list[PromptInputs | None] = [None] * len(completions)
        seen: list[Look | None] = [None] * len(completions)
        for row in range(len(completions)):
            sample, first = samples[row // per_prompt], firsts[row // per_prompt]
            if row % per_prompt < size:
                prompts[row], seen[row] = first, self.first(sample, first)
        for number in range(1, self._options.looks):
            rows = [row for row in range(len(completions)) if row % per_prompt // size == number and valid[row]]
            answered = []
            for row in rows:
                sample, first, before = samples[row // per_prompt], firsts[row // per_prompt], row - size
                prompt = prompts[before]
                text = None if prompt is None else prompt.judged(completions[before])
                answered.append(_answered(sample, first, seen[before], text))
            for row, each in zip(rows, self.next(answered, number, device), strict=True):
                if isinstance(each, NextLook):
                    prompts[row], seen[row] = each
        return prompts


def _answered(sample: Sample, first: PromptInputs | None, look: Look | None, completion: str | None) -> Answered | None:
    """None where one of them is missing."""
    if first is None or look is None or completion is None:
        return None
    return Answered(sample, first, look, completion)


def clues_in_video_time(completion: str, sample: Sample, look: Look) -> str:
    """The completion with the clues of a clip in the time of the video, for rewards and logs: its form, which is rewarded too, stays
    what the model made it."""
    clues = read(completion, sample, look).clues
    _, written = TASK.payloads(replace(TASK.target_of(sample), spans=clues))
    return _GLUE.sub(f"<glue>{written}</glue>", completion) if clues else completion
