"""Prompts of many samples, read ahead by threads: the questions of one video follow each other and share its pixels."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.rollout.batches import batches
from videochat_r1.sample import Media, Sample
from videochat_r1.training.loader import LoadedPrompt, load_prompts


def group_by_video(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples of each video (of the same clip of it), or of the same pictures, in the order in which these first appear."""
    groups: dict[Media, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.media, []).append(sample)
    return list(groups.values())


def shard_of(samples: Sequence[Sample], shard: int, num_shards: int) -> list[Sample]:
    """Every `num_shards`-th video's samples: the shards of one number are disjoint and together complete."""
    return [sample for group in group_by_video(samples)[shard::num_shards] for sample in group]


def stream_batches(
    builder: PromptBuilder, samples: Sequence[Sample], num_workers: int, *, size: int
) -> Iterator[list[LoadedPrompt]]:
    """Every sample's prompt once, in batches of at most `size` that hold whole videos where they can.

    Order and batches depend on the samples alone. A video is read once for all its questions of a batch, by one thread; about
    as many prompts as two batches hold, or a video per thread, are in memory at once, however many samples there are.

    Args:
        builder: used in the threads.
        samples: what to ask.
        num_workers: threads, each of which waits for a decoder most of the time; 0 builds prompts when they are asked for.
        size: the most prompts of a batch.
    """
    planned = batches(group_by_video(samples), size)
    if num_workers == 0:
        yield from ([prompt for part in batch for prompt in load_prompts(builder, part)] for batch in planned)
        return
    parts = deque(part for batch in planned for part in batch)
    reading: deque[tuple[int, Future[list[LoadedPrompt]]]] = deque()

    def read_ahead(pool: ThreadPoolExecutor) -> None:
        while parts and (len(reading) < num_workers or sum(count for count, _ in reading) < size):
            part = parts.popleft()
            reading.append((len(part), pool.submit(load_prompts, builder, part)))

    with ExitStack() as stack:
        pool = ThreadPoolExecutor(num_workers)
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for batch in planned:
            prompts: list[LoadedPrompt] = []
            for _ in batch:
                read_ahead(pool)
                prompts += reading.popleft()[1].result()
            read_ahead(pool)
            yield prompts
