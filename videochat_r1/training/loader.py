"""Reads videos and builds prompts ahead of the trainer, once per group."""

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from videochat_r1.errors import DataError, VideoError
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Sample, media_in_row
from videochat_r1.training.sampler import GroupSampler, PromptRequest

logger = logging.getLogger(__name__)

# A handful of bad files at the start of a run says little about the corpus.
_MIN_BAD_TO_STOP = 5


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPrompt:
    """A sample ready for the model, or why it cannot be used.

    Args:
        sample: the sample.
        inputs: of its prompt; None if it cannot be used.
        problem: why not, in words.
        ended: why not, as its rollouts say it.
    """

    sample: Sample
    inputs: PromptInputs | None
    problem: str | None = None
    ended: Ended | None = None


def load_prompt(builder: PromptBuilder, sample: Sample) -> LoadedPrompt:
    """Build the prompt of a sample; a video or prompt that cannot be used is reported, never replaced."""
    try:
        return LoadedPrompt(sample, builder.build(sample))
    except (VideoError, DataError) as error:
        return _unusable(sample, error)


def _unusable(sample: Sample, error: VideoError | DataError) -> LoadedPrompt:
    ended = Ended.VIDEO_ERROR if isinstance(error, VideoError) else Ended.PROMPT_ERROR
    return LoadedPrompt(sample, None, f"{type(error).__name__}: {error}", ended)


def load_prompts(builder: PromptBuilder, samples: Sequence[Sample]) -> list[LoadedPrompt]:
    """`load_prompt` of each, in order; consecutive ones that show the same are read once and share its pixels."""
    loaded: list[LoadedPrompt] = []
    for _, run in itertools.groupby(samples, lambda sample: sample.media):
        loaded += _load_questions(builder, list(run))
    return loaded


def _load_questions(builder: PromptBuilder, samples: Sequence[Sample]) -> list[LoadedPrompt]:
    if len(samples) > 1:
        try:
            return list(map(LoadedPrompt, samples, builder.build_together(samples)))
        except VideoError as error:
            return [_unusable(sample, error) for sample in samples]
        except DataError:
            pass  # one of the questions is at fault, and the others are asked all the same
    return [load_prompt(builder, sample) for sample in samples]


class PromptLoader:
    """Hands out the prompts of this rank in their order while worker processes prepare the next ones.

    Args:
        builder: used in the workers.
        sampler: knows what comes next.
        rank: this process.
        num_workers: worker processes; 0 builds prompts when they are asked for.
        prefetch: videos, with their questions, that each worker keeps ready; bounds the host memory together with num_workers.
    """

    def __init__(
        self, builder: PromptBuilder, sampler: GroupSampler, rank: int, *, num_workers: int, prefetch: int = 2
    ) -> None:
        self._builder = builder
        self._sampler = sampler
        self._rank = rank
        self._num_workers = num_workers
        self._prefetch = prefetch
        self._stream: Iterator[list[LoadedPrompt]] | None = None
        self._ready: deque[LoadedPrompt] = deque()
        self._expected: Iterator[PromptRequest] = iter(())
        self.seconds_waited = 0.0

    def take(self, requests: Sequence[PromptRequest]) -> list[LoadedPrompt]:
        """The prompts of the requests. Asking for anything but what comes next (after a resume) restarts the workers."""
        begin = time.perf_counter()
        if self._num_workers == 0:
            prompts = load_prompts(self._builder, [request.sample for request in requests])
        else:
            prompts = [self._next(request) for request in requests]
        self.seconds_waited += time.perf_counter() - begin
        return prompts

    def load_now(self, samples: Sequence[Sample]) -> list[LoadedPrompt]:
        """Prompts that nobody could prepare ahead, as what is wanted has just been found out."""
        begin = time.perf_counter()
        prompts = load_prompts(self._builder, samples)
        self.seconds_waited += time.perf_counter() - begin
        return prompts

    def _next(self, request: PromptRequest) -> LoadedPrompt:
        if self._stream is None or next(self._expected) != request:
            self._restart(request)
            expected = next(self._expected)
            assert expected == request, "a rank's first request of a generation is its first prompt"
        if not self._ready:
            assert self._stream is not None
            self._ready.extend(next(self._stream))
        return self._ready.popleft()

    def _restart(self, request: PromptRequest) -> None:
        position = (self._rank, request.epoch, request.generation)
        self._expected = self._sampler.upcoming(*position)
        dataset = _UpcomingPrompts(self._builder, self._sampler, position)
        options: dict[str, Any] = {"num_workers": self._num_workers, "prefetch_factor": self._prefetch}
        self._stream = iter(DataLoader(dataset, batch_size=None, **options))
        self._ready.clear()


class _UpcomingPrompts(IterableDataset):
    """The stream of one rank, dealt round robin over its workers: the loader reads it back in the same order. What is dealt is
    a video with all consecutive questions of a generation about it."""

    def __init__(self, builder: PromptBuilder, sampler: GroupSampler, position: tuple[int, int, int]) -> None:
        self._builder = builder
        self._sampler = sampler
        self._position = position

    def __iter__(self) -> Iterator[list[LoadedPrompt]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        requests = self._sampler.upcoming(*self._position)
        runs = itertools.groupby(requests, lambda each: (each.epoch, each.generation, each.sample.media))
        # A run lasts until the next one is asked for.
        samples = ([request.sample for request in run] for _, run in runs)
        for questions in itertools.islice(samples, first, None, step):
            yield load_prompts(self._builder, questions)


class BadSamples:
    """Counts, lists and limits the samples that could not be used; the same numbers on every rank.

    Args:
        max_share: the run stops above this share of the samples seen.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.seen = 0
        self.listed: list[dict[str, Any]] = []

    def count(self, loaded: Sequence[LoadedPrompt], *, is_main_process: bool) -> None:
        """Add what this rank has just loaded; every rank calls this together.

        Raises:
            VideoError: on all ranks alike, when too many could not be read.
        """
        problems = [
            {"sample_id": prompt.sample.id, **media_in_row(prompt.sample.media), "problem": prompt.problem}
            for prompt in loaded
            if prompt.problem is not None
        ]
        new = gather_object(problems)
        self.seen += len(gather_object([None] * len(loaded)))
        self.listed += new
        for problem in new if is_main_process else []:
            logger.warning("left out sample %(sample_id)s: %(problem)s", problem)
        if len(self.listed) >= _MIN_BAD_TO_STOP and len(self.listed) > self.max_share * self.seen:
            first = "; ".join(f"{bad['sample_id']}: {bad['problem']}" for bad in self.listed[:10])
            raise VideoError(
                f"{len(self.listed)} of {self.seen} samples could not be used, more than max_bad_video_share="
                f"{self.max_share}. First ones: {first}. `videochat-r1 data check --videos DIR` lists them all."
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"samples_seen": self.seen, "bad_samples": self.listed}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.seen, self.listed = state["samples_seen"], state["bad_samples"]
