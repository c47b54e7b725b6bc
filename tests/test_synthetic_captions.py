"""Captions of the synthetic corpus: the events are those of the scene, and the local judge finds exactly them."""

import numpy as np
import pytest

from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.synthetic import write_corpus
from videochat_r1.datasets.synthetic_captions import caption_events
from videochat_r1.datasets.synthetic_scene import Actor, Scene, events_scene
from videochat_r1.geometry import Span
from videochat_r1.judge import rules
from videochat_r1.tasks import TASKS


def mover(colour: str, visible: Span, start: tuple[float, float], end: tuple[float, float]) -> Actor:
    return Actor("square", colour, visible, 0.3, (visible.start, visible.end), (start, end))


@pytest.mark.parametrize(
    ("visible", "end", "events"),
    [
        (Span(1, 3), (0.2, 0.5), ("A red square appears.", "The red square moves left.", "The red square disappears.")),
        (Span(0, 3), (0.6, 0.9), ("The red square moves down.", "The red square disappears.")),
        (Span(1, 4), (0.55, 0.45), ("A red square appears.",)),
        (Span(0, 4), (0.5, 0.2), ("The red square moves up.",)),
    ],
    ids=["appears, moves, leaves", "there from the start", "stays and does not move", "there throughout"],
)
def test_events_of_a_scene_by_hand(visible: Span, end: tuple[float, float], events: tuple[str, ...]) -> None:
    assert caption_events(Scene(4.0, (mover("red", visible, (0.5, 0.5), end),))) == events


def test_events_of_two_shapes_come_in_order_of_time() -> None:
    late, early = mover("red", Span(2, 3), (0.5, 0.5), (0.9, 0.5)), mover("blue", Span(0, 2.4), (0.1, 0.1), (0.1, 0.1))
    assert caption_events(Scene(4.0, (late, early))) == (
        "A red square appears.",
        "The blue square disappears.",
        "The red square moves right.",
        "The red square disappears.",
    )


def test_the_local_judge_extracts_and_finds_exactly_these_events() -> None:
    for number in range(50):
        events = caption_events(events_scene(np.random.default_rng(number), 4.0, 8.0))
        caption = " ".join(events)
        assert events and tuple(f"{event}." for event in rules.extract(caption)) == events
        assert {rules.label(event, caption) for event in events} == {"entailment"}
        for place, event in enumerate(events):
            rest = " ".join(events[:place] + events[place + 1 :])
            assert rules.label(event, rest) != "entailment", "no event is told by the others"


def test_one_sentence_of_all_words_tells_no_event() -> None:
    scenes = [events_scene(np.random.default_rng(number), 4.0, 8.0) for number in range(50)]
    events = {event for scene in scenes for event in caption_events(scene)}
    words = sorted({word for event in events for word in event.lower().rstrip(".").split()})
    assert {rules.label(event, " ".join(words)) for event in events} == {"neutral"}


def test_every_split_has_its_captions_and_keeps_its_questions(tmp_path) -> None:
    counts = write_corpus(tmp_path, num_train=3, num_eval=2, seed=5, progress=False)
    assert set(counts) == {"train", "eval"}
    for split, num_videos in (("train", 3), ("eval", 2)):
        captions = read_manifest(tmp_path / f"{split}_captions.jsonl", tmp_path)
        assert [sample.task for sample in captions] == ["captioning"] * num_videos
        questions = read_manifest(tmp_path / f"{split}.jsonl", tmp_path)
        assert counts[split] == len(questions) and "captioning" not in {sample.task for sample in questions}
        assert {sample.media.path for sample in captions} < {sample.media.path for sample in questions}
        for sample in captions:
            gold = TASKS["captioning"].gold(sample.target, thinking=False)
            assert TASKS["captioning"].parse(gold, sample.target) == " ".join(sample.target.events)
