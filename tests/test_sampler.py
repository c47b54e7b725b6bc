"""The order of prompts: same on any number of processes, resumable from any place, nothing twice."""

import itertools

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from videochat_r1.errors import ConfigError
from videochat_r1.geometry import Span
from videochat_r1.sample import Sample, SpanTarget, Video
from videochat_r1.training.sampler import BatchLayout, GroupSampler


def sample(index):
    return Sample(f"s{index}", "temporal_grounding", Video(path="v.mp4"), "q", SpanTarget(Span(0, 1), 2.0))


class Source:
    """Reverses its order in odd epochs, so that epochs can be told apart."""

    def __init__(self, size):
        self.size = size

    def samples(self, epoch):
        order = [sample(index) for index in range(self.size)]
        return order if epoch % 2 == 0 else order[::-1]


def batches_of(sampler, layout, rank):
    inner = BatchSampler(sampler, layout.prompts_per_process, drop_last=False)
    shard = BatchSamplerShard(inner, num_processes=layout.num_processes, process_index=rank)
    return [[request.sample.id for request in batch] for batch in shard]


def micro_batches(num_processes, micro_batches):
    """Ids of each micro-batch over all ranks, per generation."""
    layout = BatchLayout(num_processes, 1, micro_batches, repeats=1)
    sampler = GroupSampler(Source(16), layout)
    ranks = [batches_of(sampler, layout, rank) for rank in range(num_processes)]
    return [
        [{batch[step] for batch in generation} for step in range(micro_batches)]
        for generation in zip(*ranks, strict=True)
    ]


def test_two_processes_train_on_the_same_prompts_per_update_as_one():
    one = micro_batches(1, 8)
    two = micro_batches(2, 4)
    merged = [[a | b for a, b in zip(generation[::2], generation[1::2], strict=True)] for generation in one]
    assert merged == two


def test_a_generation_batch_is_asked_for_as_often_as_it_is_used():
    layout = BatchLayout(2, 1, 2, repeats=4)
    batches = batches_of(GroupSampler(Source(8), layout), layout, 0)
    assert batches == [["s0", "s2"]] * 4 + [["s4", "s6"]] * 4


def test_what_comes_next_is_what_the_trainer_asks_for_over_epochs():
    layout = BatchLayout(2, 1, 2, repeats=2)
    sampler = GroupSampler(Source(9), layout)
    asked = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        asked += [ident for batch in batches_of(sampler, layout, 1)[::2] for ident in batch]
    upcoming = itertools.islice(sampler.upcoming(1, 0, 0), len(asked))
    assert [request.sample.id for request in upcoming] == asked
    resumed = itertools.islice(sampler.upcoming(1, 0, 1), len(asked) - 2)
    assert [request.sample.id for request in resumed] == asked[2:]


def test_left_over_samples_are_counted_and_too_few_are_refused():
    layout = BatchLayout(1, 1, 4, repeats=4)
    sampler = GroupSampler(Source(10), layout)
    assert (sampler.num_generations, sampler.left_over, len(sampler)) == (2, 2, 32)
    with pytest.raises(ConfigError, match="3 samples cannot fill one batch of 4"):
        GroupSampler(Source(3), layout)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_an_epoch_of_batches_that_accumulate_is_as_long_on_any_number_of_processes(processes):
    sampler = GroupSampler(Source(11), BatchLayout(processes, 1, 1, repeats=1), batches_per_update=4 // processes)
    assert (len(sampler), sampler.left_over) == (8, 3)
