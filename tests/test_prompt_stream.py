"""The stream of prompts: every sample once, bounded in memory, in an order that does not depend on chance."""

import threading
import time
from collections.abc import Iterable, Sequence

import pytest

from videochat_r1.errors import VideoError
from videochat_r1.evaluation.answering.prompt_stream import group_by_video, shard_of, stream_batches
from videochat_r1.geometry import Span
from videochat_r1.sample import CaptionTarget, Pictures, Sample, SpanTarget, Video
from videochat_r1.training.loader import LoadedPrompt


class Builder:
    """Stands in for a PromptBuilder: counts what was built, and how long each takes is uneven."""

    def __init__(self) -> None:
        self.built = 0
        self._lock = threading.Lock()

    def build(self, sample: Sample) -> str:
        time.sleep(0.002 * (len(sample.id) % 3))
        with self._lock:
            self.built += 1
        if sample.media.path == "broken.mp4":
            raise VideoError("broken.mp4: no pictures")
        return sample.id

    def build_together(self, samples: Sequence[Sample]) -> list[str]:
        assert len({sample.media for sample in samples}) == 1
        return [self.build(sample) for sample in samples]


def make(videos: int, queries: int = 3) -> list[Sample]:
    target = SpanTarget(Span(0, 1), 5.0)
    names = [(f"v{video}", query) for query in range(queries) for video in range(videos)]
    return [Sample(f"{v}_{q}", "temporal_grounding", Video(path=f"{v}.mp4"), "x", target, 5.0) for v, q in names]


def ids(batches: Iterable[Sequence[LoadedPrompt]]) -> list[list[str]]:
    return [[prompt.sample.id for prompt in batch] for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 3, 50])
def test_every_sample_comes_once_and_videos_stay_whole_where_they_can(workers: int) -> None:
    samples = [*make(3), *make(1, 8)[3:]]
    # The first video has eight questions: more than a batch holds.
    assert ids(stream_batches(Builder(), samples, workers, size=5)) == [
        ["v0_0", "v0_1", "v0_2", "v0_3", "v0_4"],
        ["v0_5", "v0_6", "v0_7"],
        ["v1_0", "v1_1", "v1_2"],
        ["v2_0", "v2_1", "v2_2"],
    ]
    assert ids(stream_batches(Builder(), samples, workers, size=6))[1:] == [
        ["v0_6", "v0_7", "v1_0", "v1_1", "v1_2"],
        ["v2_0", "v2_1", "v2_2"],
    ]


def test_what_shows_the_same_is_one_group() -> None:
    media = [Pictures(("a",)), Video(path="a"), Pictures(("a", "b")), Video(path="a", end=1.0), Pictures(("a",))]
    samples = [Sample(str(i), "captioning", one, "x", CaptionTarget("y")) for i, one in enumerate(media)]
    assert [[one.id for one in group] for group in group_by_video(samples)] == [["0", "4"], ["1"], ["2"], ["3"]]


@pytest.mark.parametrize("workers", [1, 4])
def test_prompts_in_memory_are_bounded(workers: int) -> None:
    builder = Builder()
    most = 0
    taken = 0
    for batch in stream_batches(builder, make(60), workers, size=8):
        time.sleep(0.003)
        taken += len(batch)
        most = max(most, builder.built - taken)
    assert builder.built == taken == 180 and 0 < most <= max(8, 3 * workers) + 3


def test_leaving_early_stops_the_threads() -> None:
    builder = Builder()
    stream = stream_batches(builder, make(100), 2, size=4)
    next(stream)
    stream.close()
    time.sleep(0.1)
    built = builder.built
    time.sleep(0.1)
    assert builder.built == built < 20


def test_a_broken_video_is_reported_and_the_others_come() -> None:
    target = SpanTarget(Span(0, 1), 5.0)
    broken = Sample("b", "temporal_grounding", Video(path="broken.mp4"), "x", target, 5.0)
    prompts = [p for batch in stream_batches(Builder(), [broken, *make(2, 1)], 1, size=2) for p in batch]
    assert [prompt.problem for prompt in prompts] == ["VideoError: broken.mp4: no pictures", None, None]
    assert [prompt.ended for prompt in prompts] == ["video_error", None, None]


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_shards_are_disjoint_complete_and_keep_videos_whole(count: int) -> None:
    samples = make(13)
    shards = [shard_of(samples, index, count) for index in range(count)]
    assert sorted(sample.id for shard in shards for sample in shard) == sorted(sample.id for sample in samples)
    for shard in shards:
        assert all(len(group) == 3 for group in group_by_video(shard))


def test_clips_of_one_file_are_videos_of_their_own() -> None:
    target = SpanTarget(Span(0, 1), 5.0)
    clips = [Video(path="v.mp4", start=start, end=start + 5.0) for start in (0.0, 5.0, 0.0)]
    samples = [Sample(str(i), "temporal_grounding", clip, "x", target) for i, clip in enumerate(clips)]
    assert [[sample.id for sample in group] for group in group_by_video(samples)] == [["0", "2"], ["1"]]
