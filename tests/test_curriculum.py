"""`sampling`: from easy to hard within an epoch, each task at its own pace, by (seed, epoch) alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_question_order import bins, corpus
from videochat_r1.datasets.curriculum import Sampling
from videochat_r1.datasets.manifest import write_manifest
from videochat_r1.datasets.mixture import Mixture, MixtureEntry
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.sample import NumberTarget, Pictures, Sample
from videochat_r1.training.sampler import BatchLayout, GroupSampler

EASY_FIRST = Sampling("easy_to_hard", "reward")


def measured(name: str, values: list[float], **others) -> list[Sample]:
    """A question about a video of its own for each value."""
    samples = corpus(name, [1] * len(values))
    return [replace(sample, extra={"reward": value}, **others) for sample, value in zip(samples, values, strict=True)]


def mixture(
    folder: Path, *entries: tuple[list[Sample], dict], sampling: Sampling = EASY_FIRST, seed: int = 3
) -> Mixture:
    for index, (samples, _) in enumerate(entries):
        write_manifest(folder / f"{index}.jsonl", samples)
    stated = [MixtureEntry(manifest=f"{index}.jsonl", **options) for index, (_, options) in enumerate(entries)]
    return Mixture(stated, seed, root=folder, sampling=sampling)


def test_each_task_goes_from_easy_to_hard_and_every_part_of_an_epoch_has_as_much_of_it(tmp_path) -> None:
    words = measured("w", [value / 40 for value in range(40)])
    numbers = measured("n", [3 * value / 20 for value in range(20)], task="numerical_qa", target=NumberTarget(1.0, "1"))
    order = mixture(tmp_path, (words, {}), (numbers, {})).samples(0)
    for task in ("free_form_qa", "numerical_qa"):
        values = [sample.extra["reward"] for sample in order if sample.task == task]
        assert values == sorted(values, reverse=True)
    assert all(
        4 <= sum(sample.task == "numerical_qa" for sample in order[begin : begin + 15]) <= 6
        for begin in range(0, 60, 15)
    )


def test_the_order_is_one_of_seed_and_epoch_and_draws_what_shuffling_draws(tmp_path) -> None:
    samples = measured("v", [round(index / 4) / 10 for index in range(30)])
    entries = ((samples, {"weight": 0.5}),)
    ordered, again = (mixture(tmp_path, *entries) for _ in range(2))
    shuffled = mixture(tmp_path, *entries, sampling=Sampling())
    epochs = [[sample.id for sample in ordered.samples(epoch)] for epoch in range(3)]
    assert epochs == [[sample.id for sample in again.samples(epoch)] for epoch in range(3)]
    assert [sorted(ids) for ids in epochs] == [
        sorted(each.id for each in shuffled.samples(epoch)) for epoch in range(3)
    ]
    assert sorted(epochs[0] + epochs[1]) == sorted(sample.id for sample in samples)
    assert epochs[0] != epochs[2], "equal ones are shuffled anew"


def test_every_layout_sees_the_same_order_and_a_resumed_run_goes_on_in_it(tmp_path) -> None:
    source = mixture(tmp_path, (measured("v", [index / 16 for index in range(16)]), {}))
    whole = [sample.id for sample in source.samples(1)]
    for processes in (1, 2, 4):
        layout = BatchLayout(processes, 1, 4 // processes, 4 // processes)
        sampler = GroupSampler(source, layout)
        ranks = [sampler.upcoming(rank, 1, 1) for rank in range(processes)]
        seen = [[next(rank).sample.id for _ in range(layout.prompts_per_process)] for rank in ranks]
        assert sorted(name for part in seen for name in part) == sorted(whole[4:8])


def test_questions_about_a_video_that_come_together_move_as_one(tmp_path) -> None:
    samples = [
        replace(sample, extra={"reward": (index // 4 + index % 4) / 20})
        for index, sample in enumerate(corpus("v", [4] * 8))
    ]
    order = mixture(tmp_path, (samples, {"questions_together": 4})).samples(0)
    parts = bins(order, 4)
    assert all(len({sample.media for sample in part}) == 1 for part in parts)
    means = [sum(sample.extra["reward"] for sample in part) for part in parts]
    assert means == sorted(means, reverse=True)


def test_only_what_an_entry_keeps_needs_the_column(tmp_path) -> None:
    kept = measured("v", [0.1, 0.9])
    others = [replace(sample, id=f"p{sample.id}", media=Pictures(("a.png",)), extra={}) for sample in kept]
    assert [each.id for each in mixture(tmp_path, ([*kept, *others], {"shows": "video"})).samples(0)] == [
        "v1_0",
        "v0_0",
    ]
    with pytest.raises(
        DataError,
        match=r"0\.jsonl: sampling\.by 'reward' is no number in the `extra` of pv0_0, pv1_0 \(2\); columns there: reward",
    ):
        mixture(tmp_path, ([*kept, *others], {}))


@pytest.mark.parametrize("value", [None, True, "0.5", float("nan")])
def test_a_column_without_a_number_is_refused(value) -> None:
    [sample] = measured("v", [0.0])
    with pytest.raises(DataError, match="is no number"):
        EASY_FIRST.check([replace(sample, extra={"reward": value})], "here")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"curriculum": "easy_to_hard"}, "needs by"),
        ({"by": "reward"}, "orders nothing"),
        ({"curriculum": "easy", "by": "reward"}, "none or easy_to_hard"),
        ({"curiculum": "none"}, "did you mean 'curriculum'"),
        ("easy_to_hard", "expected a mapping"),
    ],
)
def test_options_that_cannot_be_are_refused(values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling.of(values)
    assert Sampling.of(None) == Sampling.of({}) == Sampling()
