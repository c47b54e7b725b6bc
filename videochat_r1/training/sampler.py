"""Which prompts each process trains on, and in which order: a pure function of the mixture, the epoch and the layout."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch.utils.data import Sampler

from videochat_r1.errors import ConfigError
from videochat_r1.sample import Sample


class SampleSource(Protocol):
    """Anything with an order of samples per epoch, such as `videochat_r1.datasets.mixture.Mixture`."""

    def samples(self, epoch: int) -> list[Sample]:
        """The samples of one epoch in their order; equal on every process and in every run."""
        ...


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """A sample at its place in the run: the place lets loader workers read ahead from there."""

    sample: Sample
    epoch: int
    generation: int


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """How one generation batch of prompts is laid over processes and micro-batches.

    Args:
        num_processes: ranks.
        groups_per_micro_batch: prompts in one forward and backward of one rank.
        micro_batches: forward and backward passes that share one generation (TRL's steps_per_generation).
        repeats: how often the trainer asks for one generation batch (micro_batches times num_iterations).
    """

    num_processes: int
    groups_per_micro_batch: int
    micro_batches: int
    repeats: int

    @property
    def prompts_per_process(self) -> int:
        """Prompts of one generation on one rank."""
        return self.groups_per_micro_batch * self.micro_batches

    @property
    def prompts(self) -> int:
        """Prompts of one generation over all ranks."""
        return self.prompts_per_process * self.num_processes


class Requests:
    """A dataset whose index already is the item: what to load is decided by the sampler alone."""

    def __init__(self, num_samples: int) -> None:
        self._num_samples = num_samples

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, request: PromptRequest) -> PromptRequest:
        return request


def for_rank(prompts: list[Sample], layout: BatchLayout, rank: int) -> list[Sample]:
    """The part of one generation batch that `rank` trains on.

    Micro-batch m of all ranks together holds the same prompts whatever the number of ranks, so that an optimiser
    update sees the same prompts on one process and on many.
    """
    width = layout.groups_per_micro_batch
    stride = width * layout.num_processes
    return [
        prompt
        for micro_batch in range(layout.micro_batches)
        for prompt in prompts[micro_batch * stride + rank * width : micro_batch * stride + (rank + 1) * width]
    ]


class GroupSampler(Sampler[PromptRequest]):
    """Yields requests so that accelerate's batch sharding hands every rank its own part of each generation batch.

    One generation batch comes `layout.repeats` times in a row, because the trainer asks for a batch before each of its
    micro-batches and reuses the completions it has. Prompts that do not fill a last generation batch are left out of
    the epoch (another few each epoch, as the order changes); `left_over` counts them.

    Args:
        source: the samples and their order.
        layout: of a generation batch.
        batches_per_update: generation batches that make an update; an epoch holds whole updates.

    Raises:
        ConfigError: fewer samples than one generation batch needs.
    """

    def __init__(self, source: SampleSource, layout: BatchLayout, *, batches_per_update: int = 1) -> None:
        self.source = source
        self.layout = layout
        self.epoch = 0
        self.num_samples = len(source.samples(0))
        prompts = layout.prompts * batches_per_update
        self.num_generations = self.num_samples // prompts * batches_per_update
        self.left_over = self.num_samples - self.num_generations * layout.prompts
        if self.num_generations == 0:
            raise ConfigError(
                f"{self.num_samples} samples cannot fill one batch of {prompts}; add data, or lower prompts_per_step (SFT: "
                "samples_per_step)"
            )

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_generations * self.layout.prompts * self.layout.repeats

    def __iter__(self) -> Iterator[PromptRequest]:
        for generation, prompts in self._generations(self.epoch, 0):
            for _ in range(self.layout.repeats):
                for rank in range(self.layout.num_processes):
                    for sample in for_rank(prompts, self.layout, rank):
                        yield PromptRequest(sample, self.epoch, generation)

    def upcoming(self, rank: int, epoch: int, generation: int) -> Iterator[PromptRequest]:
        """Every prompt that `rank` will need from that place on, each once, without end."""
        while True:
            for index, prompts in self._generations(epoch, generation):
                for sample in for_rank(prompts, self.layout, rank):
                    yield PromptRequest(sample, epoch, index)
            epoch, generation = epoch + 1, 0

    def further(self, step: int, draw: int, rank: int, count: int) -> list[Sample]:
        """`count` more prompts for `rank`, beside the order of the epoch: a function of the arguments alone."""
        samples = self.source.samples(0)
        order = random.Random(f"further/{step}/{draw}").sample(range(len(samples)), len(samples))
        return [samples[order[(rank * count + index) % len(order)]] for index in range(count)]

    def _generations(self, epoch: int, first: int) -> Iterator[tuple[int, list[Sample]]]:
        samples = self.source.samples(epoch)
        for generation in range(first, self.num_generations):
            begin = generation * self.layout.prompts
            # A fractional weight can give a later epoch one sample less than the first; its last batch is then
            # completed from its beginning.
            yield generation, [samples[(begin + i) % len(samples)] for i in range(self.layout.prompts)]
