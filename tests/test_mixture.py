"""Targets mended for training, manifests, and the order in which a mixture draws them."""

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.task_targets import TARGETS
from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.check import missing_files
from videochat_r1.datasets.manifest import prepare, read_manifest, write_manifest
from videochat_r1.datasets.mend import mend, mend_all
from videochat_r1.datasets.mixture import Mixture, MixtureEntry, cap, choose_queries, draw
from videochat_r1.datasets.problems import problems_of
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.geometry import Box, Span
from videochat_r1.outputs import write_lines
from videochat_r1.sample import (
    BoxesTarget,
    CaptionTarget,
    ChoiceTarget,
    GroundedChoiceTarget,
    LabelTarget,
    NumberTarget,
    Pictures,
    Sample,
    SpanTarget,
    Target,
    TextTarget,
    Video,
)
from videochat_r1.tasks import TASKS

GOOD = Box(0.1, 0.2, 0.3, 0.4)


def sample(target: Target, task: str = "temporal_grounding", **fields: Any) -> Sample:
    return Sample("s", task, fields.pop("media", Video(path="v.mp4")), fields.pop("query", "q"), target, **fields)


def corpus(folder: Path, name: str, sizes: list[int]) -> Path:
    """A Charades-like file with videos of that many queries each."""
    value = {
        f"{name}{video}": {
            "duration": 20.0,
            "timestamps": [[i, i + 1.5] for i in range(size)],
            "sentences": [f"event {i}" for i in range(size)],
        }
        for video, size in enumerate(sizes)
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(value))
    return path


def entry(path: Path, **fields: Any) -> MixtureEntry:
    return MixtureEntry.from_dict({"dataset": "charades_sta", "annotations": str(path), **fields})


def ids(samples: list[Sample]) -> list[str]:
    return [sample.id for sample in samples]


# -- mending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "mended", "kind"),
    [
        (Span(1, 5), Span(1, 5), None),
        (Span(0, 10), Span(0, 10), None),
        (Span(4, 11.5), Span(4, 10), "end_past_duration"),
        (Span(-2, 4), Span(0, 4), "negative_start"),
        (Span(8, 7), None, "reversed_span"),
        (Span(5, 5), None, "empty_span"),
        (Span(10, 12), None, "empty_span"),
        (Span(11, 12), None, "start_past_end"),
        (Span(-3, -1), None, "empty_span"),
        (Span(math.nan, 2), None, "non_finite_number"),
    ],
)
def test_spans_are_clipped_or_dropped(span: Span, mended: Span | None, kind: str | None) -> None:
    result, changes = mend(sample(SpanTarget(span, 10.0)))
    assert (result.target if result else None) == (SpanTarget(mended, 10.0) if mended else None)
    assert [change.kind for change in changes] == ([kind] if kind else [])
    assert [change.action for change in changes] == ([] if kind is None else ["clipped" if mended else "dropped"])


def test_a_question_loses_only_its_bad_clue_spans() -> None:
    target = GroundedChoiceTarget(("a", "b"), "B", (Span(1, 2), Span(5, 4), Span(8, 11)), 10.0)
    result, changes = mend(sample(target, "grounded_qa"))
    assert result is not None
    assert result.target == dataclasses.replace(target, spans=(Span(1, 2), Span(8, 10)))
    assert [(change.action, change.kind) for change in changes] == [
        ("span dropped", "reversed_span"),
        ("clipped", "end_past_duration"),
    ]
    result, changes = mend(sample(dataclasses.replace(target, spans=(Span(5, 4), Span(12, 13))), "grounded_qa"))
    assert result is None
    assert [(change.action, change.kind) for change in changes] == [("dropped", "reversed_span")]


@pytest.mark.parametrize(
    ("target", "task", "kind"),
    [
        (GroundedChoiceTarget(("a", "b"), "B", (), 10.0), "grounded_qa", "no_span"),
        (GroundedChoiceTarget(("a", "b"), "B", (Span(1, 2),), 0.0), "grounded_qa", "bad_duration"),
        (SpanTarget(Span(1, 2), math.nan), "temporal_grounding", "unknown_duration"),
        (ChoiceTarget(("a", "b"), "C"), "multi_choice_qa", "answer_not_among_options"),
        (LabelTarget(("low", "high"), "medium"), "quality_assessment", "answer_not_among_options"),
        (TextTarget("..."), "free_form_qa", "empty_answer"),
        (TextTarget("a" * 30_000), "text_recognition", "empty_answer"),
        (NumberTarget(math.nan, "3 to 5"), "regression", "unreadable_number"),
        (BoxesTarget((GOOD,) * 7), "tracking", "wrong_box_count"),
        (BoxesTarget((GOOD,) * 7 + (Box(0.5, 0.5, 0.5, 0.6),)), "tracking", "empty_box"),
        (BoxesTarget((GOOD,) * 7 + (Box(1.1, 0.5, 1.2, 0.6),)), "tracking", "empty_box"),
        (BoxesTarget((GOOD,) * 7 + (Box(0.1, 0.5, math.inf, 0.6),)), "tracking", "non_finite_number"),
    ],
)
def test_what_cannot_be_learned_is_dropped_with_its_kind(target: Target, task: str, kind: str) -> None:
    result, changes = mend(sample(target, task))
    assert result is None and [(change.action, change.kind) for change in changes] == [("dropped", kind)]


def test_boxes_are_clipped_to_the_frame() -> None:
    result, changes = mend(sample(BoxesTarget((GOOD,) * 7 + (Box(-0.25, 0.5, 0.5, 1.5),)), "tracking"))
    assert result is not None and result.target == BoxesTarget((GOOD,) * 7 + (Box(0.0, 0.5, 0.5, 1.0),))
    assert [change.kind for change in changes] == ["box_outside_frame"]


def test_boxes_without_frames_are_dropped() -> None:
    for path, kept in (("val/GOT-10k_Val_000001", False), ("moving.mp4", True)):
        result, _ = mend(sample(BoxesTarget((GOOD,) * 8), "tracking", media=Video(path=path)))
        assert (result is not None) == kept


def test_the_mended_real_file_has_no_defect_left(shared_dir: Path) -> None:
    published = CORPORA["charades_sta"].read(shared_dir / "annotations" / "charades_sta" / "train.json")
    mended = mend_all(published)
    assert not [problem for kept in mended.samples for problem in problems_of(kept)]
    assert mended.counts("dropped") == {"reversed_span": 4}
    # Three of the four dropped ones also end past the duration.
    assert mended.counts("clipped") == {"end_past_duration": 1789 - 3}
    assert len(mended.samples) == 12408 - 4


def test_the_gold_answer_of_every_mended_sample_earns_the_full_overlap(shared_dir: Path) -> None:
    task = TASKS["temporal_grounding"]
    published = CORPORA["charades_sta"].read(shared_dir / "annotations" / "charades_sta" / "train.json")
    for kept in mend_all(published).samples[::50]:
        answer = task.parse(task.gold(kept.target, thinking=False), kept.target)
        # Seconds are written with two digits.
        assert task.iou(answer, kept.target) == pytest.approx(1.0, abs=0.02)


# -- manifests ---------------------------------------------------------------------------------------------------------

ONE_OF_EACH = [
    sample(SpanTarget(Span(1.25, 5), 10.0), duration=10.0, source="charades_sta"),
    sample(BoxesTarget((GOOD,) * 8), "tracking", media=Video(frames=("s/1.jpg", "s/2.jpg"), frame_times=(0.0, 0.5))),
    sample(ChoiceTarget(("a", "b ü\u2028"), "B"), "multi_choice_qa", media=Video(path="a.mp4", start=1.0, end=3.5)),
    sample(GroundedChoiceTarget(("a", "b"), "A", (Span(0, 1), Span(2, 3)), 9.0), "grounded_qa", extra={"type": "CW"}),
    sample(LabelTarget(("low", "high"), "low"), "quality_assessment"),
    sample(CaptionTarget("A dog runs.", ("A dog runs.",)), "captioning"),
    sample(ChoiceTarget(("a", "b"), "A"), "multi_choice_qa", media=Pictures(("p/1.jpg",))),
    sample(CaptionTarget("A dog."), "captioning", media=Pictures(("p/ü.png", "p/1.jpg"))),
    sample(ChoiceTarget(("a", "b"), "A"), "multi_choice_qa", response="<think>b ü\n</think> <answer>B</answer>\n"),
]
ONE_OF_EACH += [
    sample(TASKS[name].target_from_json(truth), name)
    for name, (truth, _) in TARGETS.items()
    if name not in {item.task for item in ONE_OF_EACH}
]
ONE_OF_EACH = [dataclasses.replace(item, id=f"s{index}") for index, item in enumerate(ONE_OF_EACH)]


def test_every_task_survives_the_way_through_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "new" / "all.jsonl"
    assert write_manifest(path, ONE_OF_EACH, meta={"corpus": "any"}) == len(ONE_OF_EACH)
    assert {one.task for one in ONE_OF_EACH} == set(TASKS)
    expected = [dataclasses.replace(one, extra=dict(one.extra)) for one in ONE_OF_EACH]
    expected[2] = dataclasses.replace(expected[2], target=ChoiceTarget(("a", "b ü"), "B"))  # options are stripped
    assert read_manifest(path) == expected
    joined = read_manifest(path, tmp_path)
    assert joined[0].media.path == str(tmp_path / "v.mp4")
    assert joined[1].media.frames == (str(tmp_path / "s/1.jpg"), str(tmp_path / "s/2.jpg"))
    assert joined[7].media.files == (str(tmp_path / "p/ü.png"), str(tmp_path / "p/1.jpg"))
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    assert rows[7]["images"] == ["p/ü.png", "p/1.jpg"] and "video" not in rows[7] and "images" not in rows[0]
    assert [number for number, row in enumerate(rows) if "response" in row] == [8]
    assert json.loads((tmp_path / "new" / "all.meta.json").read_text()) == {
        "num_samples": len(ONE_OF_EACH),
        "corpus": "any",
    }
    assert path.read_text().count("\n") == len(ONE_OF_EACH)


ROW = {"id": "a", "task": "temporal_grounding", "video": {"path": "v.mp4"}, "query": "q"}
SPAN = {"target": {"span": [1, 2], "duration": 9}}
PICTURES = {"id": "a", "task": "captioning", "query": "q", "target": {"caption": "x"}}


def test_a_column_that_is_null_is_not_there(tmp_path: Path) -> None:
    rows = [
        PICTURES | {"video": None, "images": ["a.jpg"]},
        PICTURES | {"id": "b", "video": {"path": "v"}, "images": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [one.media for one in read_manifest(tmp_path / "a.jsonl")] == [Pictures(("a.jpg",)), Video(path="v")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "task"', "line 2 is not complete JSON"),
        (json.dumps(ROW), "line 2: the key 'target' is missing"),
        (json.dumps(ROW | SPAN | {"task": "tracing"}), r"line 2: unknown task 'tracing'.*tracking"),
        (json.dumps(ROW | SPAN | {"weight": 1}), r"line 2: unknown keys \['weight'\]"),
        (json.dumps(ROW | SPAN | {"id": "ok"}), "line 2: the id 'ok' occurs twice"),
        (json.dumps(ROW | SPAN | {"id": 5}), "line 2: 'id' should be text"),
        (json.dumps(ROW | SPAN | {"video": {"path": "../v.mp4"}}), "line 2: the path .* leaves the data folder"),
        (json.dumps(ROW | SPAN | {"video": {}}), r"line 2, 'video': the key 'frames' is missing"),
        (json.dumps(ROW | SPAN | {"video": {"file": "v"}}), r"line 2, 'video': unknown keys \['file'\]"),
        (
            json.dumps(ROW | SPAN | {"video": {"frames": ["a", "b"], "frame_times": [0]}}),
            "line 2: 2 frames with 1 times",
        ),
        (json.dumps(ROW | {"target": {"span": [1], "duration": 9}}), r"line 2: .*span"),
        (json.dumps(PICTURES), "line 2: a sample shows either a 'video' or a list of 'images'; found"),
        (json.dumps(ROW | SPAN | {"images": ["a.jpg"]}), "line 2: .*either .* found 'video' and 'images'"),
        (json.dumps(PICTURES | {"images": []}), "line 2: 'images' lists no picture"),
        (json.dumps(PICTURES | {"images": "a.jpg"}), "line 2: 'images' should be a list"),
        (json.dumps(PICTURES | {"images": ["a.jpg", 2]}), r"line 2, 'images'.1. should be text"),
        (json.dumps(PICTURES | {"images": ["a.jpg", "/b.jpg"]}), "line 2: the path '/b.jpg' leaves the data folder"),
        *(
            (
                json.dumps(PICTURES | {"images": ["a.jpg"], "task": name, "target": TARGETS[name][0]}),
                f"line 2: sample 'a' of task {name} needs a video and shows pictures .a.jpg.: give it a video",
            )
            for name in TASKS
            if TASKS[name].needs_video
        ),
        *(
            (json.dumps(ROW | SPAN | {"response": response}), f"line 2: 'response' {why}")
            for response, why in {
                "": "is empty: ''",
                "It is <answer>1 to 2</answer>": "is not of the form <answer>...</answer> after a thought or without one",
                "<think>So <answer>1 to 2</answer>": "is not of the form",
                "<answer>soon</answer>": "has an answer that cannot be read: '<answer>soon</answer>'",
            }.items()
        ),
        (json.dumps(ROW | SPAN | {"response": ["a"]}), "line 2: 'response' should be text"),
        ("[]", "line 2: expected an object"),
    ],
)
def test_a_bad_manifest_row_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(ROW | SPAN | {"id": "ok"}) + "\n" + line + "\n")
    with pytest.raises(DataError, match=message):
        read_manifest(path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sample(SpanTarget(Span(1, 2), 9), media=Video(path="/v.mp4")), "leaves the data folder"),
        (sample(SpanTarget(Span(1, math.inf), 9)), "cannot be written as JSON"),
        (dataclasses.replace(ONE_OF_EACH[0], query="again"), "'s0' occurs twice"),
    ],
)
def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, bad: Sample, message: str) -> None:
    path = tmp_path / "train.jsonl"
    write_manifest(path, ONE_OF_EACH[:1])
    before = path.read_text()
    with pytest.raises(DataError, match=message):
        write_manifest(path, [ONE_OF_EACH[0], bad])
    assert path.read_text() == before and [file.name for file in tmp_path.iterdir()] == ["train.jsonl"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def lines() -> Any:
        yield "one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(tmp_path / "file.txt", lines())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "train.jsonl", tmp_path / "folder"):
        with pytest.raises(DataError, match=rf"{path.name} cannot be written"):
            write_lines(path, ["a"])


def test_prepare_says_what_it_kept_and_why_not_the_rest(tmp_path: Path) -> None:
    value = {
        "A": {"duration": 10, "timestamps": [[1, 2], [3, 12], [9, 4]], "sentences": ["x", "y", "z"]},
        "B": {"duration": 10, "timestamps": [[1, 2], [2, 4]], "sentences": ["x", "y"]},
    }
    annotations = tmp_path / "train.json"
    annotations.write_text(json.dumps(value))
    (tmp_path / "A.mp4").write_text("x")
    charades, output = CORPORA["charades_sta"], tmp_path / "out" / "train.jsonl"
    meta = prepare(charades, charades.request(annotations, tmp_path), output, unusable=missing_files)
    assert ids(read_manifest(output)) == ["A_0", "A_1"]
    assert meta == json.loads((tmp_path / "out" / "train.meta.json").read_text())
    assert (meta["num_published"], meta["num_samples"], meta["num_videos"]) == (5, 2, 1)
    assert meta["dropped"] == {"reversed_span": 1, "missing_video": 2}
    assert meta["clipped"] == {"end_past_duration": 1} and len(meta["sha256"]) == 64
    changes = [json.loads(line) for line in (tmp_path / "out" / "train.changes.jsonl").read_text().splitlines()]
    assert [(change["id"], change["action"]) for change in changes] == [
        ("A_1", "clipped"),
        ("A_2", "dropped"),
        ("B_0", "dropped"),
        ("B_1", "dropped"),
    ]


def test_nothing_left_to_train_on_is_an_error_with_the_reason(tmp_path: Path) -> None:
    annotations = tmp_path / "train.json"
    annotations.write_text(json.dumps({"A": {"duration": 10, "timestamps": [[9, 4]], "sentences": ["z"]}}))
    charades = CORPORA["charades_sta"]
    with pytest.raises(DataError, match=r"no sample of 1 .*'reversed_span': 1"):
        prepare(charades, charades.request(annotations), tmp_path / "out.jsonl")
    with pytest.raises(DataError, match=r"no sample of 1 .*'reversed_span': 1"):
        Mixture([entry(annotations)], seed=0)
    text = tmp_path / "train.txt"
    text.write_text("A 1 2##x\n")
    with pytest.raises(DataError, match=r"'unknown_duration': 1.*table of durations"):
        Mixture([entry(text)], seed=0)


# -- the mixture -------------------------------------------------------------------------------------------------------


def test_the_18k_recipe_of_the_paper(shared_dir: Path) -> None:
    folder = shared_dir / "annotations"
    entries = [
        entry(folder / "charades_sta" / "train.json", queries_per_video=1),
        MixtureEntry(dataset="nextgqa", annotations=str(folder / "nextgqa")),
    ]
    mixture = Mixture(entries, seed=42)
    assert [(s.read, s.chosen, s.usable, s.per_epoch) for s in mixture.summaries] == [
        (12408, 5338, 5336, 5336),  # two videos have nothing but reversed spans
        (3358, 3358, 3358, 3358),
    ]
    assert mixture.summaries[1].tasks == {"grounded_qa": 3358}
    lines = mixture.describe().split("\n")
    assert lines[0] == "8,696 samples as published = 5,338 + 3,358"
    assert lines[1] == "8,694 samples after mending = 5,336 + 3,358"
    assert "12,408 read, 5,338 with queries_per_video 1, 5,336 after mending (dropped 4 reversed_span)" in lines[3]
    drawn = mixture.samples(0)
    assert len({(one.source, one.id) for one in drawn}) == len(drawn) == 8694
    assert max(Counter(one.media.path for one in drawn if one.source == "charades_sta").values()) == 1


def test_order_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    path = corpus(tmp_path, "v", [3] * 20)
    first, again = (Mixture([entry(path)], seed=7) for _ in range(2))
    assert first.samples(3) == again.samples(3)
    assert ids(first.samples(0)) != ids(first.samples(1))
    assert ids(first.samples(0)) != ids(Mixture([entry(path)], seed=8).samples(0))
    assert sorted(ids(first.samples(0))) == sorted(ids(first.samples(1)))
    with pytest.raises(ConfigError, match="from 0"):
        first.samples(-1)


def test_order_does_not_depend_on_where_the_data_lies(tmp_path: Path) -> None:
    orders = []
    for name in ("here", "there"):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        corpus(folder, "v", [3] * 20)
        mixture = Mixture([entry(Path("v.json"), videos=".", queries_per_video=1, max_samples=9)], 7, root=folder)
        orders.append(ids(mixture.samples(0)))
        assert mixture.samples(0)[0].media.path.startswith(str(folder))  # type: ignore[union-attr]
    assert orders[0] == orders[1]


KNOWN_ORDER = [["v0_0", "v2_0", "v3_0", "v1_0", "v5_0", "v4_0"], ["v3_0", "v5_0", "v0_0", "v2_0", "v4_0", "v1_0"]]


def test_known_order_of_a_small_mixture(tmp_path: Path) -> None:
    # A change of this order would silently change every run that resumes.
    mixture = Mixture([entry(corpus(tmp_path, "v", [1] * 6))], seed=1)
    assert [ids(mixture.samples(epoch)) for epoch in range(2)] == KNOWN_ORDER


def test_weights_say_how_often_a_corpus_is_drawn(tmp_path: Path) -> None:
    a, b, c = (corpus(tmp_path, name, [1] * 10) for name in "abc")
    mixture = Mixture([entry(a), entry(b, weight=0.5), entry(c, weight=2)], seed=0)
    first, second = (Counter(ids(mixture.samples(epoch))) for epoch in (0, 1))
    for epoch in (first, second):
        assert [sum(n for i, n in epoch.items() if i[0] == name) for name in "abc"] == [10, 5, 20]
        assert all(n == (2 if i[0] == "c" else 1) for i, n in epoch.items())
    halves = [{i for i in epoch if i[0] == "b"} for epoch in (first, second)]
    assert not halves[0] & halves[1] and len(halves[0] | halves[1]) == 10
    assert "5 per epoch with weight 0.5" in mixture.describe()


@pytest.mark.parametrize(("size", "weight"), [(7, 1.0), (7, 0.3), (10, 2.5), (3, 1 / 3), (5, 0.05)])
def test_epochs_cut_the_same_row_of_permutations(size: int, weight: float) -> None:
    row = [position for epoch in range(40) for position in draw(size, weight, epoch, "k")]
    assert len(row) == math.floor(40 * weight * size + 0.5)
    for begin in range(0, len(row) - size + 1, size):
        assert sorted(row[begin : begin + size]) == list(range(size))


def test_queries_and_caps_are_drawn_once_by_seed(tmp_path: Path) -> None:
    samples = CORPORA["charades_sta"].read(corpus(tmp_path, "v", [5, 1, 3]))
    chosen = {tuple(ids(choose_queries(samples, 1, seed))) for seed in range(30)}
    assert all([i.split("_")[0] for i in one] == ["v0", "v1", "v2"] for one in chosen)
    assert len(chosen) > 5
    assert len(choose_queries(samples, 2, 0)) == 2 + 1 + 2
    assert choose_queries(samples, "all", 0) == samples
    assert ids(cap(samples, 4, "k")) == [i for i in ids(samples) if i in ids(cap(samples, 4, "k"))]
    assert len(cap(samples, 4, "k")) == 4 and cap(samples, 99, "k") == samples
    mixture = Mixture([entry(tmp_path / "v.json", queries_per_video=1, max_samples=2)], seed=3)
    assert sorted(ids(mixture.samples(0))) == sorted(ids(mixture.samples(5)))
    assert "3 with queries_per_video 1, 2 with max_samples 2: temporal_grounding 2" in mixture.describe()


def test_a_video_with_one_reversed_query_gives_its_other_one(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"A": {"duration": 9, "timestamps": [[5, 4], [1, 2]], "sentences": ["x", "y"]}}))
    for seed in range(5):
        assert ids(Mixture([entry(path, queries_per_video=1)], seed=seed).samples(0)) == ["A_1"]


def test_manifests_are_mixed_as_they_are(tmp_path: Path) -> None:
    write_manifest(tmp_path / "all.jsonl", ONE_OF_EACH)
    everything = Mixture([MixtureEntry(manifest="all.jsonl", videos="videos")], seed=0, root=tmp_path)
    assert sorted(ids(everything.samples(0))) == sorted(ids(ONE_OF_EACH))
    assert everything.summaries[0].tasks == dict(Counter(one.task for one in ONE_OF_EACH))
    only = Mixture([MixtureEntry(manifest="all.jsonl", task="tracking")], seed=0, root=tmp_path)
    assert ids(only.samples(0)) == ["s1"]
    write_manifest(tmp_path / "one.jsonl", ONE_OF_EACH[:1])
    with pytest.raises(DataError, match=r"no sample of the task 'tracking'.*temporal_grounding"):
        Mixture([MixtureEntry(manifest="one.jsonl", task="tracking")], seed=0, root=tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "charades_sta", "annotatoins": "x"}, "unknown key 'annotatoins'.*did you mean 'annotations'"),
        ({"zzz": 1}, "unknown key 'zzz'.*known: annotations"),
        ("charades_sta", "should be a mapping"),
        ({"annotations": "x"}, "either a dataset or a manifest"),
        ({"dataset": "charades_sta", "manifest": "x"}, "either a dataset or a manifest"),
        ({"dataset": "charades_sta"}, "a dataset needs them"),
        ({"manifest": "x", "annotations": "y"}, "annotations belong to a dataset"),
        ({"manifest": "x", "durations": "y"}, "carries its durations"),
        ({"manifest": "x", "weight": 0}, "weight should be a positive number, got 0"),
        ({"manifest": "x", "weight": "2"}, "weight should be a positive number, got '2'"),
        ({"manifest": "x", "weight": math.nan}, "weight should be a positive number"),
        ({"manifest": "x", "max_samples": 0}, "max_samples should be a positive whole number or null, got 0"),
        ({"manifest": "x", "queries_per_video": "one"}, "positive whole number or all, got 'one'"),
        ({"manifest": "x", "queries_per_video": True}, "queries_per_video should be"),
        ({"manifest": 5}, "manifest should be text, got 5"),
    ],
)
def test_a_wrong_entry_is_refused_by_key(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixtureEntry.from_dict(values)


def test_a_mixture_needs_entries_and_known_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Mixture([], seed=0)
    with pytest.raises(ConfigError, match="did you mean 'charades_sta'"):
        Mixture([MixtureEntry(dataset="charades_stb", annotations="x")], seed=0)
