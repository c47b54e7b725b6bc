"""The stream of prompts: every sample once, bounded in memory, in an order that does not depend on chance."""

import threading
import time
from collections.abc import Iterator

import pytest

from videochat_r1.errors import VideoError
from videochat_r1.evaluation.answering.prompt_stream import group_by_video, shard_of, stream_prompts
from videochat_r1.geometry import Span
from videochat_r1.sample import CaptionTarget, Pictures, Sample, SpanTarget, Video


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


def make(videos: int, queries: int = 3) -> list[Sample]:
    target = SpanTarget(Span(0, 1), 5.0)
    names = [(f"v{video}", query) for query in range(queries) for video in range(videos)]
    return [Sample(f"{v}_{q}", "temporal_grounding", Video(path=f"{v}.mp4"), "x", target, 5.0) for v, q in names]


def ids(prompts: Iterator) -> list[str]:
    return [prompt.sample.id for prompt in prompts]


@pytest.mark.parametrize("workers", [0, 1, 3, 50])
def test_every_sample_comes_once_and_in_the_same_order(workers: int) -> None:
    samples = make(11)
    first = ids(stream_prompts(Builder(), samples, workers, ahead=4))
    assert sorted(first) == sorted(sample.id for sample in samples)
    assert ids(stream_prompts(Builder(), samples, workers, ahead=4)) == first


def test_questions_of_one_video_follow_each_other_in_one_thread() -> None:
    found = ids(stream_prompts(Builder(), make(4), 2, ahead=2))
    of_one_thread = [name for name in found if name.startswith(("v0", "v2"))]
    assert of_one_thread == ["v0_0", "v0_1", "v0_2", "v2_0", "v2_1", "v2_2"]


def test_what_shows_the_same_is_one_group() -> None:
    media = [Pictures(("a",)), Video(path="a"), Pictures(("a", "b")), Video(path="a", end=1.0), Pictures(("a",))]
    samples = [Sample(str(i), "captioning", one, "x", CaptionTarget("y")) for i, one in enumerate(media)]
    assert [[one.id for one in group] for group in group_by_video(samples)] == [["0", "4"], ["1"], ["2"], ["3"]]


@pytest.mark.parametrize("workers", [1, 4])
def test_prompts_in_memory_are_bounded(workers: int) -> None:
    builder = Builder()
    most = 0
    for taken, _ in enumerate(stream_prompts(builder, make(60), workers, ahead=8), start=1):
        time.sleep(0.003)
        most = max(most, builder.built - taken)
    assert builder.built == 180 and 0 < most <= 8 + workers


def test_leaving_early_stops_the_threads() -> None:
    builder = Builder()
    stream = stream_prompts(builder, make(100), 2, ahead=4)
    next(stream)
    stream.close()
    time.sleep(0.1)
    built = builder.built
    time.sleep(0.1)
    assert builder.built == built < 20


def test_a_broken_video_is_reported_and_the_others_come() -> None:
    target = SpanTarget(Span(0, 1), 5.0)
    broken = Sample("b", "temporal_grounding", Video(path="broken.mp4"), "x", target, 5.0)
    prompts = list(stream_prompts(Builder(), [broken, *make(2, 1)], 1, ahead=2))
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
