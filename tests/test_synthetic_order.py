"""Questions that only the order of frames answers: no frame, and no set of frames, tells the answer."""

from collections import Counter

import numpy as np
import pytest

from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.synthetic import SIDE, write_corpus
from videochat_r1.datasets.synthetic_order import ORDER_SCENES
from videochat_r1.datasets.synthetic_scene import COLOURS, TIME_STEP
from videochat_r1.evaluation.baselines.blind import best_blind
from videochat_r1.sample import LETTERS
from videochat_r1.video.frames import VideoBudget, load_frames

SPLITS = ("train", "eval", "eval_longer")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    write_corpus(folder, corpus="order", num_train=8, num_eval=6, num_eval_longer=2, seed=2, progress=False)
    return {split: read_manifest(folder / f"{split}.jsonl", folder) for split in SPLITS}


def frames_of(sample, fps=2.0):
    budget = VideoBudget(fps=fps, min_pixels=28 * 28, max_pixels=SIDE * SIDE, isolation="none")
    frames = load_frames(sample.media, budget, factor=28)
    assert len(frames.timestamps) == fps * sample.duration
    return frames.pixels.numpy()


def twins(samples):
    return zip(samples[::2], samples[1::2], strict=True)


@pytest.mark.parametrize("fps", [2.0, 4.0, 8.0])
def test_a_video_and_its_twin_show_the_same_frames_in_opposite_order_and_have_opposite_answers(corpus, fps):
    for sample, twin in twins(corpus["eval"] + corpus["eval_longer"]):
        frames, reversed_frames = frames_of(sample, fps), frames_of(twin, fps)
        assert np.array_equal(frames, reversed_frames[::-1]) and not np.array_equal(frames, reversed_frames)
        assert (sample.query, sample.target.options) == (twin.query, twin.target.options)
        assert {sample.target.answer, twin.target.answer} == {"A", "B"}


def test_answers_from_nothing_and_from_shuffled_frames_are_right_about_half(corpus):
    blind = best_blind(corpus["train"], corpus["eval"])
    assert blind.metrics["accuracy"] == 0.5

    def guess(sample, seed):
        """A rule as good as any that is given the frames in random order: it only sees them as a set."""
        shuffled = np.random.default_rng(seed).permutation(frames_of(sample))
        seen = sorted(frame.tobytes() for frame in shuffled)
        return LETTERS[hash((sample.query, tuple(seen))) % 2]

    right = [guess(sample, seed) == sample.target.answer for seed, sample in enumerate(corpus["eval"])]
    assert sum(right) == len(right) / 2


def test_the_ordered_pixels_tell_the_answer(corpus):
    for sample in corpus["eval"]:
        frames = frames_of(sample).astype(float)
        painted = frames.max(axis=1) > 60
        if sample.extra["asks"] == "size":
            areas = painted.sum(axis=(1, 2))
            answer = "grow" if areas[0] < areas[-1] else "shrink"
        elif sample.extra["asks"] == "way":
            columns = [np.nonzero(image)[1].mean() for image in painted]
            answer = "left" if columns[0] > columns[-1] else "right"
        else:
            first = frames[painted.any(axis=(1, 2)).argmax()]
            answer = min(
                sample.target.options,
                key=lambda name: np.abs(first - np.array(COLOURS[name]).reshape(3, 1, 1)).sum(axis=0).min(),
            )
        assert sample.target.options[LETTERS.index(sample.target.answer)] == answer


@pytest.mark.parametrize("name", sorted(ORDER_SCENES))
def test_scenes_keep_their_promises(name):
    rng = np.random.default_rng(0)
    answers = Counter()
    for _ in range(100):
        scene = ORDER_SCENES[name](rng, 4.0, 8.0)
        assert 4.0 <= scene.duration <= 8.0 and scene.duration % (2 * TIME_STEP) == 0
        for actor in scene.actors:
            assert 0.0 <= actor.visible.start < actor.visible.end <= scene.duration
            for time in actor.visible:
                assert all(-1e-9 <= value <= 1 + 1e-9 for value in actor.box(time))
        if name == "first":
            first, second = sorted(actor.visible for actor in scene.actors)
            assert first.length >= 1.0 and second.length >= 1.0 and first.end <= second.start
        again = scene.reversed().reversed()
        assert again.actors[0].box(1.0) == pytest.approx(scene.actors[0].box(1.0))
        answers[scene.actors[0].grown > 1.0, scene.actors[0].centres[0] < scene.actors[0].centres[-1]] += 1
    assert name == "first" or min(answers.values()) > 25
