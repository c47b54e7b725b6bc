"""Questions about one video come together in bins of K: every sample once, by (seed, epoch) alone, whole where they add up."""

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest

from videochat_r1.datasets.manifest import write_manifest
from videochat_r1.datasets.mixture import Mixture, MixtureEntry
from videochat_r1.datasets.question_order import questions_together
from videochat_r1.errors import ConfigError
from videochat_r1.sample import Pictures, Sample, TextTarget, Video
from videochat_r1.training.layout import refuse_torn_questions
from videochat_r1.training.sampler import BatchLayout, GroupSampler, for_rank


def ordered(videos: list, size: int, key: str = "k") -> list[int]:
    return questions_together(videos, range(len(videos)), [size] * len(videos), size, key)


def bins(order: list, size: int) -> list[list]:
    return [order[begin : begin + size] for begin in range(0, len(order), size)]


def corpus(name: str, counts: list[int]) -> list[Sample]:
    """`counts` questions about each of so many videos."""
    return [
        Sample(
            f"{name}{video}_{query}",
            "free_form_qa",
            Video(path=f"{name}{video}.mp4"),
            "q",
            TextTarget("a"),
            source=name,
        )
        for video, count in enumerate(counts)
        for query in range(count)
    ]


def mixture(folder: Path, *entries: tuple[list[Sample], dict], seed: int = 0) -> Mixture:
    for index, (samples, _) in enumerate(entries):
        write_manifest(folder / f"{index}.jsonl", samples)
    stated = [MixtureEntry(manifest=f"{index}.jsonl", **options) for index, (_, options) in enumerate(entries)]
    return Mixture(stated, seed, root=folder)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_sample_comes_once_in_bins_of_one_video_where_questions_add_up(size: int) -> None:
    videos = [video for video in range(10) for _ in range(2 * size)]
    order = ordered(videos, size)
    assert sorted(order) == list(range(len(videos)))
    assert all(len({videos[index] for index in part}) == 1 for part in bins(order, size))
    assert order == ordered(videos, size) != ordered(videos, size, "another epoch")


def test_what_is_left_of_a_video_fills_bins_with_the_largest_that_fits() -> None:
    videos = [*"aaaaaaa", *"bbb", *"cc", *"dd", "e", "f"]
    parts = [sorted(Counter(videos[index] for index in part).values()) for part in bins(ordered(videos, 4), 4)]
    assert sorted(parts) == [[1, 3], [1, 3], [2, 2], [4]]
    # Three of everything: they have to be torn, and still fill bins.
    threes = bins(ordered([*"aaabbbcccddd"], 4), 4)
    assert [len(part) for part in threes] == [4, 4, 4]


def test_many_questions_a_video_save_most_of_its_passes() -> None:
    """The counts of a corpus with 5.9 questions a video, spread at random."""
    generator = random.Random(0)
    videos = [*range(567), *(generator.randrange(567) for _ in range(3358 - 567))]
    order = ordered(videos, 4)
    passes = sum(len({videos[index] for index in part}) for part in bins(order, 4))
    assert sorted(order) == list(range(3358))
    assert len(videos) / passes > 3


def test_a_sample_drawn_twice_is_never_its_own_neighbour_in_a_piece(tmp_path: Path) -> None:
    source = mixture(tmp_path, (corpus("v", [4] * 6), {"weight": 2.0, "questions_together": 4}))
    for part in bins([sample.id for sample in source.samples(0)], 4):
        assert len(set(part)) == 4


def test_only_entries_that_ask_for_it_are_brought_together(tmp_path: Path) -> None:
    asked, other = corpus("v", [4] * 8), corpus("w", [4] * 8)
    source = mixture(tmp_path, (asked, {"questions_together": 4}), (other, {}))
    parts = bins([sample.media for sample in source.samples(0)], 4)
    assert sum(len(set(part)) == 1 for part in parts) >= 8
    assert sum(len(set(part)) > 1 for part in parts) >= 6
    assert sorted(sample.id for sample in source.samples(3)) == sorted(sample.id for sample in asked + other)


def test_without_it_the_order_is_the_shuffled_one(tmp_path: Path) -> None:
    samples = corpus("v", [4] * 8)
    plain = mixture(tmp_path, (samples, {})).samples(2)
    assert plain == mixture(tmp_path, (samples, {"questions_together": 1})).samples(2)
    assert plain != mixture(tmp_path, (samples, {"questions_together": 2})).samples(2)


@pytest.mark.parametrize("processes, groups, micro_batches", [(1, 2, 4), (2, 2, 2), (4, 2, 1), (1, 4, 2), (1, 8, 1)])
def test_no_micro_batch_of_any_layout_tears_a_bin(
    processes: int, groups: int, micro_batches: int, tmp_path: Path
) -> None:
    source = mixture(tmp_path, (corpus("v", [2, 4, 6, 2, 2] * 4), {"questions_together": 2}))
    layout = BatchLayout(processes, groups, micro_batches, repeats=1)
    sampler = GroupSampler(source, layout)
    order, update = source.samples(0), []
    for generation in range(sampler.num_generations):
        prompts = order[generation * layout.prompts : (generation + 1) * layout.prompts]
        for rank in range(processes):
            for part in bins(for_rank(prompts, layout, rank), groups):
                assert all(len({sample.media for sample in pair}) == 1 for pair in bins(part, 2))
        update.append({sample.id for sample in prompts})
    assert update == [{sample.id for sample in order[begin : begin + 8]} for begin in range(0, 64, 8)]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"questions_together": 0}, "questions_together should be a positive whole number, got 0"),
        ({"questions_together": True}, "questions_together should be a positive whole number, got True"),
        ({"questions_together": 4, "queries_per_video": 2}, "queries_per_video 2 leaves fewer of a video"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixtureEntry(manifest="x.jsonl", **options)


def test_micro_batches_that_tear_questions_apart_are_refused_with_the_mend() -> None:
    refuse_torn_questions(1, 3)
    refuse_torn_questions(2, 4, 8)
    with pytest.raises(
        ConfigError, match=r"questions_together=4.* 6 prompts.*per_device_train_batch_size=64 \(8 prompts"
    ):
        refuse_torn_questions(4, 6, 8)


def test_pictures_are_brought_together_too(tmp_path: Path) -> None:
    samples = [
        dataclasses.replace(sample, media=Pictures((f"{sample.media.path}.png",))) for sample in corpus("v", [2] * 6)
    ]
    parts = bins([sample.media for sample in mixture(tmp_path, (samples, {"questions_together": 2})).samples(0)], 2)
    assert all(len(set(part)) == 1 for part in parts)
