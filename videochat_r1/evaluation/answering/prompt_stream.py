"""Prompts of many samples, read ahead by threads: the questions of one video follow each other and share its frames."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.sample import Media, Sample
from videochat_r1.training.loader import LoadedPrompt, load_prompt


def group_by_video(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples of each video (of the same clip of it), or of the same pictures, in the order in which these first appear."""
    groups: dict[Media, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.media, []).append(sample)
    return list(groups.values())


def shard_of(samples: Sequence[Sample], shard: int, num_shards: int) -> list[Sample]:
    """Every `num_shards`-th video's samples: the shards of one number are disjoint and together complete."""
    return [sample for group in group_by_video(samples)[shard::num_shards] for sample in group]


def stream_prompts(
    builder: PromptBuilder, samples: Sequence[Sample], num_workers: int, *, ahead: int
) -> Iterator[LoadedPrompt]:
    """One prompt per sample, in an order that depends on the samples and `num_workers` alone.

    Each thread takes every n-th video and waits for a decoder most of the time. At most about `ahead` prompts are in memory
    at once, however many samples there are.

    Args:
        builder: used in the threads.
        samples: what to ask.
        num_workers: threads; 0 builds prompts when they are asked for.
        ahead: prompts to have ready, at least one per thread.
    """
    if num_workers == 0:
        yield from (load_prompt(builder, sample) for group in group_by_video(samples) for sample in group)
        return
    share = max(1, ahead // num_workers)
    with ExitStack() as stack:
        streams = [_Stream(builder, shard_of(samples, worker, num_workers), share) for worker in range(num_workers)]
        for stream in streams:
            stack.callback(stream.close)
        while any(stream.waiting for stream in streams):
            for stream in streams:
                if stream.waiting:
                    yield stream.take()


class _Stream:
    """One thread that prepares its samples in their order, a bounded number of them ahead."""

    def __init__(self, builder: PromptBuilder, samples: Sequence[Sample], ahead: int) -> None:
        self._builder = builder
        self._samples = iter(samples)
        self._pool = ThreadPoolExecutor(1)
        self.waiting: deque[Future[LoadedPrompt]] = deque()
        for _ in range(ahead):
            self._prepare_next()

    def take(self) -> LoadedPrompt:
        """The next prompt, once it is ready."""
        prompt = self.waiting.popleft().result()
        self._prepare_next()
        return prompt

    def close(self) -> None:
        """Prepare nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _prepare_next(self) -> None:
        sample = next(self._samples, None)
        if sample is not None:
            self.waiting.append(self._pool.submit(load_prompt, self._builder, sample))
