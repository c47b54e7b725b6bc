import json

import av
import numpy as np
import pytest

from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.synthetic import FRAMES_PER_SECOND, SIDE, write_corpus, write_video
from videochat_r1.datasets.synthetic_questions import NUM_BOXES
from videochat_r1.datasets.synthetic_scene import (
    BACKGROUND,
    COLOURS,
    TIME_STEP,
    Actor,
    Scene,
    events_scene,
    tracking_scene,
)
from videochat_r1.errors import ConfigError
from videochat_r1.geometry import Box, Span
from videochat_r1.sample import Video
from videochat_r1.tasks import TASKS
from videochat_r1.video.frames import VideoBudget, load_frames


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    counts = write_corpus(folder, num_train=6, num_eval=4, num_eval_longer=3, seed=3, progress=False)
    return folder, counts


def still_square(visible: Span) -> Actor:
    return Actor("square", "red", visible, 0.5, (0.0,), ((0.5, 0.5),))


def colour_at(frame, x, y):
    return tuple(int(value) for value in frame[int(y * len(frame)), int(x * len(frame))])


@pytest.mark.parametrize("shape", ["square", "circle", "triangle"])
def test_shapes_are_drawn_inside_their_box_and_only_while_visible(shape):
    actor = Actor(shape, "blue", Span(1.0, 2.0), 0.5, (0.0, 4.0), ((0.25, 0.25), (0.75, 0.75)))
    frames = Scene(4.0, (actor,)).draw(np.array([0.5, 1.0, 1.99, 2.0]), 64)
    painted = (frames != BACKGROUND).any(axis=3)
    assert painted.any(axis=(1, 2)).tolist() == [False, True, True, False]
    for index, time in ((1, 1.0), (2, 1.99)):
        box = actor.box(time)
        rows, columns = np.nonzero(painted[index])
        assert columns.min() >= box.x0 * 64 - 1 and columns.max() + 1 <= box.x1 * 64 + 1
        assert rows.min() >= box.y0 * 64 - 1 and rows.max() + 1 <= box.y1 * 64 + 1
        # The centre moves a quarter of the frame per two seconds.
        assert colour_at(frames[index], *actor.centre(time)) == COLOURS["blue"]
    assert actor.centre(2.0) == (0.5, 0.5)


def test_written_video_decodes_to_what_was_drawn(tmp_path):
    scene = Scene(3.0, (still_square(Span(1.0, 2.5)),))
    write_video(tmp_path / "a.mp4", scene)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == FRAMES_PER_SECOND
    loaded = load_frames(
        Video(path=str(tmp_path / "a.mp4")),
        VideoBudget(min_pixels=28 * 28, max_pixels=SIDE * SIDE, backend="pyav", isolation="none"),
        factor=28,
    )
    assert loaded.duration == pytest.approx(scene.duration)
    assert loaded.timestamps == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    red = loaded.pixels[:, 0, SIDE // 2, SIDE // 2] > 150
    assert red.tolist() == [False, False, True, True, True, False]


def test_scenes_keep_their_promises():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = events_scene(rng, 4.0, 8.0)
        starts = [actor.visible.start for actor in scene.actors]
        assert 4.0 <= scene.duration <= 8.0 and len(set(starts)) == len(starts)
        for actor in scene.actors:
            start, end = actor.visible
            assert 0.0 <= start < end <= scene.duration
            assert 1.0 - TIME_STEP / 2 <= actor.visible.length <= 0.6 * scene.duration + TIME_STEP / 2
            assert all(value % TIME_STEP == 0 for value in (start, end, scene.duration))
        assert len({actor.colour for actor in scene.actors}) == len(scene.actors)
        assert [span.start for span, _ in scene.events()] == sorted(starts)
    scene = tracking_scene(rng, 8)
    assert scene.duration == 4.0 and all(actor.visible == Span(0.0, 4.0) for actor in scene.actors)
    for time in np.linspace(0, 4, 9):
        assert all(min(box) >= -1e-9 and max(box) <= 1 + 1e-9 for box in (a.box(time) for a in scene.actors))


def test_manifests_hold_what_was_promised(corpus):
    folder, counts = corpus
    for split, num_videos in (("train", 6), ("eval", 4), ("eval_longer", 3)):
        samples = read_manifest(folder / f"{split}.jsonl", folder)
        assert len(samples) == counts[split]
        assert len({sample.id for sample in samples}) == len(samples)
        of_task = {task: [s for s in samples if s.task == task] for task in TASKS}
        assert len({s.media.path for s in samples}) == 2 * num_videos
        if split != "train":
            assert [len(of_task[t]) for t in ("temporal_grounding", "tracking", "grounded_qa")] == [num_videos] * 3
        for sample in samples:
            task = TASKS[sample.task]
            gold = task.gold(sample.target, thinking=False)
            headline = task.scores(task.parse(gold, sample.target), sample.target)[task.headline]
            assert headline == pytest.approx(1.0)
        durations = {s.duration for s in of_task["temporal_grounding"]}
        low, high = (10.0, 14.0) if split == "eval_longer" else (4.0, 8.0)
        assert all(low <= duration <= high for duration in durations)


def test_truth_agrees_with_the_pixels(corpus):
    folder, _ = corpus
    budget = VideoBudget(min_pixels=28 * 28, max_pixels=SIDE * SIDE, backend="pyav", isolation="none")
    samples = read_manifest(folder / "eval.jsonl", folder)
    for sample in samples:
        frames = load_frames(sample.media, budget, factor=28)
        words = sample.query.split()
        if sample.task == "grounded_qa":
            colour, spans = sample.target.options["ABCD".index(sample.target.answer)], sample.target.spans
            events = sorted(sample.extra["events"], key=lambda event: event["span"])
            assert colour in events[0]["text"]
        else:
            colour = words[1]
            spans = (sample.target.span,) if sample.task == "temporal_grounding" else (Span(0.0, 4.0),)
        distance = (frames.pixels.float() - np.array(COLOURS[colour]).reshape(1, 3, 1, 1)).abs().amax(dim=1)
        visible = ((distance < 40).sum(dim=(1, 2)) > 20).tolist()
        for index, time in enumerate(frames.timestamps):
            inside = any(span.start <= time < span.end for span in spans)
            assert visible[index] == inside, (sample.id, time)
        if sample.task == "tracking":
            assert len(frames.timestamps) == NUM_BOXES == len(sample.target.boxes)
            for index, box in enumerate(sample.target.boxes):
                rows, columns = np.nonzero((distance[index] < 40).numpy())
                seen = Box(*(v / SIDE for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
                assert all(abs(a - b) < 0.05 for a, b in zip(seen, box, strict=True)) or len(sample.extra["events"]) > 1


def test_the_same_seed_writes_the_same_corpus_whatever_the_number_of_threads(tmp_path):
    for name, workers in (("a", 1), ("b", 3)):
        write_corpus(tmp_path / name, num_train=2, num_eval=1, seed=5, workers=workers, progress=False)
    write_corpus(tmp_path / "c", num_train=2, num_eval=1, seed=6, progress=False)
    a, b, c = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    )
    assert a == b
    assert a != c


def test_splits_do_not_share_scenes(corpus):
    folder, _ = corpus
    rows = {
        split: {json.dumps(json.loads(line)["target"]) for line in (folder / f"{split}.jsonl").open()}
        for split in ("train", "eval")
    }
    tracked = {split: {row for row in targets if "boxes" in row} for split, targets in rows.items()}
    assert tracked["train"] and not tracked["train"] & tracked["eval"]


@pytest.mark.parametrize("numbers", [(0, 0), (-1, 4)])
def test_impossible_sizes_are_refused(tmp_path, numbers):
    with pytest.raises(ConfigError, match="numbers of videos"):
        write_corpus(tmp_path, num_train=numbers[0], num_eval=numbers[1])
