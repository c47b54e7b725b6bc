"""Every benchmark's own annotation format, read into samples; what is wrong with a file is named."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from videochat_r1.errors import ConfigError, DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source, benchmark_ids
from videochat_r1.evaluation.benchmarks.mvbench import TASKS as MVBENCH_TASKS
from videochat_r1.evaluation.benchmarks.subtitles import Subtitle, quote, read_json_subtitles, read_srt
from videochat_r1.sample import Sample


def load(name: str, annotations: Path, **options: object) -> list[Sample]:
    return BENCHMARKS[name].load(Source(annotations, **options))


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


VIDEOMME = [
    {
        "video_id": f"{number:03d}",
        "duration": length,
        "domain": "Knowledge",
        "sub_category": "Astronomy",
        "url": "",
        "videoID": f"v{number}",
        "question_id": f"{number:03d}-{place}",
        "task_type": "Counting Problem",
        "question": "How many?",
        "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
        "answer": "C",
    }
    for number, length in enumerate(["short", "medium", "long"], start=1)
    for place in (1, 2)
]

SRT = """1
00:00:01,500 --> 00:00:02,000
<font color="white" size=".72c">hello there</font>

2
00:00:02,000 --> 00:00:04,000
<font color="white">hello there</font>

3
01:00:00,000 --> 01:00:01,000
{\\an8}good
bye
"""


# --- the corpora's own benchmarks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "count", "first"),
    [
        ("charades_sta", "charades_sta/test.json", 3720, "3MSZA_0"),
        ("nextgqa", "nextgqa/videochat_r1_val.json", 3358, "4882821564_1"),
        ("nextgqa", "nextgqa", 3358, "4882821564_1"),
        ("got10k", "got10k/videochat_r1_val.json", 180, "GOT-10k_Val_000010"),
        ("vidtab_quality", "vidtab/quality_test.json", 724, "0012"),
    ],
)
def test_ids_of_the_real_files(shared_dir: Path, name: str, path: str, count: int, first: str) -> None:
    ids = list(benchmark_ids(name, Source(shared_dir / "annotations" / path)))
    assert len(ids) == len(set(ids)) == count and ids[0] == first
    if name != "nextgqa":
        assert BENCHMARKS[name].num_samples["all"] == count


def test_published_targets_are_not_mended(shared_dir: Path) -> None:
    samples = load("charades_sta", shared_dir / "annotations" / "charades_sta" / "test.json")
    past_the_end = [sample for sample in samples if sample.target.span.end > sample.target.duration]
    assert len(past_the_end) == 562


def test_nextgqa_serves_two_tasks(shared_dir: Path) -> None:
    path = shared_dir / "annotations" / "nextgqa" / "videochat_r1_val.json"
    grounded, plain = load("nextgqa", path), load("nextgqa", path, task="multi_choice_qa")
    assert [sample.id for sample in grounded] == [sample.id for sample in plain]
    assert grounded[0].task == "grounded_qa" and plain[0].task == "multi_choice_qa"
    assert grounded[0].target.answer == plain[0].target.answer


def test_charades_text_without_durations_can_be_scored(tmp_path: Path) -> None:
    path = tmp_path / "charades_sta_test.txt"
    path.write_text("AO8RW 0.0 6.9##a person is putting a book on a shelf.\n")
    (sample,) = load("charades_sta", path)
    benchmark = BENCHMARKS["charades_sta"]
    parsed = benchmark.parse("<answer>0 to 6.9</answer>", sample, untagged=False)
    assert benchmark.score(parsed, sample)["mIoU"] == 1.0 and benchmark.groups(sample) == {}


# --- GOT-10k --------------------------------------------------------------------------------------------------------


def got10k(folder: Path, num_frames: int = 15) -> Path:
    sequence = folder / "GOT-10k_Val_000001"
    sequence.mkdir(parents=True)
    (sequence / "groundtruth.txt").write_text("".join(f"{10 * i},0,100,100\n" for i in range(num_frames)))
    (sequence / "cover.label").write_text("8\n" * (num_frames - 1) + "0\n")
    (sequence / "absence.label").write_text("0\n" * num_frames)
    (sequence / "meta_info.ini").write_text(
        "[METAINFO]\nanno_fps: 10Hz\nobject_class: cat\nmajor_class: animal\nresolution: (1000, 500)\n"
    )
    (folder / "list.txt").write_text("GOT-10k_Val_000001\n")
    return folder


def boxes_text(lefts: list[float]) -> str:
    return f"<answer>{[[left / 1000, 0.0, (left + 100) / 1000, 0.2] for left in lefts]}</answer>"


def test_got10k_eight_boxes_are_interpolated_and_dense_ones_are_official(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["got10k"]
    (sample,) = benchmark.load(Source(got10k(tmp_path)))
    assert sample.extra["frame_indices"] == [0, 2, 4, 6, 8, 10, 12, 14]
    eight = benchmark.parse(boxes_text([0, 20, 40, 60, 80, 100, 120, 140]), sample, untagged=False)
    scores = benchmark.score(eight, sample)
    assert scores["overlap"] == pytest.approx(1.0) and "AO" not in scores
    assert scores["AO_interpolated"] == pytest.approx(1.0)

    # Every frame 50 pixels too far right: IoU 50 / 150; the first frame is right but does not count.
    dense = benchmark.parse(boxes_text([0.0, *(10.0 * i + 50 for i in range(1, 15))]), sample, untagged=False)
    scores = benchmark.score(dense, sample)
    assert scores["AO"] == pytest.approx(1 / 3) and scores["SR0.5"] == 0.0 and "AO_interpolated" not in scores
    assert scores["overlap"] == pytest.approx((1 + 7 / 3) / 8)
    # 14 frames after the first, of which the last has cover 0.
    assert benchmark.weights([sample])["AO"] == [13.0]

    short = benchmark.parse(boxes_text([10.0 * i for i in range(9)]), sample, untagged=False)
    assert benchmark.score(short, sample)["AO"] == pytest.approx(8 / 13)
    assert "AO" not in benchmark.score(None, sample)
    assert benchmark.groups(sample) == {"major_class": "animal"}


@pytest.mark.parametrize("box", ["nan,0,1,1", "0,inf,1,1", "0,0,1e400,1"])
def test_got10k_boxes_of_any_frame_are_finite(tmp_path: Path, box: str) -> None:
    truth = got10k(tmp_path) / "GOT-10k_Val_000001" / "groundtruth.txt"
    lines = truth.read_text().split("\n")
    truth.write_text("\n".join([*lines[:3], box, *lines[4:]]))
    with pytest.raises(DataError, match=r"groundtruth.txt, line 4: a box with a number"):
        load("got10k", tmp_path)


@pytest.mark.parametrize(("count", "is_dense"), [(8, False), (9, False), (49, False), (50, True), (120, True)])
def test_got10k_half_of_the_frames_make_an_answer_dense(tmp_path: Path, count: int, is_dense: bool) -> None:
    benchmark = BENCHMARKS["got10k"]
    (sample,) = benchmark.load(Source(got10k(tmp_path, num_frames=100)))
    parsed = benchmark.parse(boxes_text([10.0 * i for i in range(count)]), sample, untagged=False)
    assert (parsed.dense is not None) == is_dense and len(parsed.at_instants) == 8


def test_got10k_answers_of_thousands_of_boxes_are_read(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["got10k"]
    (sample,) = benchmark.load(Source(got10k(tmp_path, num_frames=1480)))
    text = boxes_text([10.0 * i for i in range(1480)])
    assert len(text) > 30_000
    parsed = benchmark.parse(text, sample, untagged=False)
    assert len(parsed.dense) == 1480


# --- Video-MME ------------------------------------------------------------------------------------------------------


def test_videomme_from_json_and_parquet(tmp_path: Path) -> None:
    rows = load("videomme", write(tmp_path / "videomme.json", VIDEOMME))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(VIDEOMME), tmp_path / "test-00000-of-00001.parquet")
    assert load("videomme", tmp_path / "test-00000-of-00001.parquet") == rows
    lines = tmp_path / "videomme.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in VIDEOMME))
    assert load("videomme", lines) == rows
    first = rows[0]
    assert (first.id, first.media.path, first.task) == ("001-1", "v1.mp4", "multi_choice_qa")
    assert first.target.options == ("One.", "Two.", "Three.", "Four.") and first.target.answer == "C"
    groups = BENCHMARKS["videomme"].groups(first)
    assert groups["duration"] == "short" and groups["task_type"] == "Counting Problem"


def test_videomme_subsets(tmp_path: Path) -> None:
    path = write(tmp_path / "videomme.json", VIDEOMME)
    assert [sample.id for sample in load("videomme", path, subset="short")] == ["001-1", "001-2"]
    with pytest.raises(ConfigError, match="subsets all, short, medium, long"):
        load("videomme", path, subset="tiny")


def test_videomme_subtitles_stand_before_the_question(tmp_path: Path) -> None:
    (tmp_path / "subtitle").mkdir()
    (tmp_path / "subtitle" / "v1.srt").write_text(SRT)
    path = write(tmp_path / "videomme.json", VIDEOMME)
    first, *_, last = load("videomme", path, subtitles=tmp_path / "subtitle")
    assert first.query.endswith("\n\nHow many?")
    assert first.query.splitlines()[1:3] == ["hello there", "good bye"]
    assert last.query == "How many?"
    with pytest.raises(ConfigError, match="no subtitles"):
        load("perception_test", path, subtitles=tmp_path / "subtitle")


# --- MVBench --------------------------------------------------------------------------------------------------------


def mvbench(folder: Path, rows_per_task: int = 2) -> Path:
    for name, part in MVBENCH_TASKS.items():
        row = {"video": "ep1" if part.frames else "abc.mp4", "question": "?", "candidates": ["B", "A"], "answer": "A"}
        clip = {"start": 2.0, "end": 7.5} if part.clipped else {}
        write(folder / "json" / f"{name}.json", [row | clip] * rows_per_task)
    return folder


def test_mvbench_has_twenty_tasks_and_clips_five(tmp_path: Path) -> None:
    samples = load("mvbench", mvbench(tmp_path))
    assert len(samples) == 40 and len({sample.extra["task"] for sample in samples}) == 20
    clipped = {sample.extra["task"] for sample in samples if sample.media.start is not None}
    expected = "action_sequence action_prediction object_interaction action_localization episodic_reasoning"
    assert clipped == set(expected.split())
    first = samples[0]
    assert first.id == "action_sequence/abc_0" and first.media.path == "star/Charades_v1_480/abc.mp4"
    assert (first.media.start, first.media.end) == (2.0, 7.5)
    # The answer is a text, even where it looks like a letter.
    assert first.target.answer == "B"
    assert [sample.id for sample in load("mvbench", tmp_path / "json")] == [sample.id for sample in samples]
    assert len(load("mvbench", tmp_path / "json" / "action_count.json")) == 2


def test_mvbench_tvqa_frames_come_at_three_per_second(tmp_path: Path) -> None:
    frames = tmp_path / "video" / "tvqa" / "frames_fps3_hq" / "ep1"
    frames.mkdir(parents=True)
    for number in range(1, 5):
        (frames / f"{number:05d}.jpg").write_bytes(b"")
    samples = load("mvbench", mvbench(tmp_path), videos=tmp_path / "video")
    video = next(sample.media for sample in samples if sample.extra["task"] == "episodic_reasoning")
    assert [Path(frame).name for frame in video.frames] == ["00001.jpg", "00002.jpg", "00003.jpg", "00004.jpg"]
    assert video.frame_times == pytest.approx((0, 1 / 3, 2 / 3, 1)) and video.start == 2.0


def test_mvbench_is_the_mean_of_task_accuracies(tmp_path: Path) -> None:
    mvbench(tmp_path)
    row = {"video": "abc.mp4", "question": "?", "candidates": ["x", "y"], "answer": "x"}
    write(tmp_path / "json" / "action_count.json", [row] * 8)
    benchmark = BENCHMARKS["mvbench"]
    samples = benchmark.load(Source(tmp_path))
    weights = benchmark.weights(samples)["accuracy"]
    of_count = [
        weight for sample, weight in zip(samples, weights, strict=True) if sample.extra["task"] == "action_count"
    ]
    assert len(of_count) == 8 and sum(of_count) == pytest.approx(1.0) and sum(weights) == pytest.approx(20.0)


def test_mvbench_names_missing_tasks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mvbench(tmp_path)
    (tmp_path / "json" / "state_change.json").unlink()
    assert len(load("mvbench", tmp_path)) == 38
    assert "has 19 of MVBench's 20 tasks" in caplog.text and "without state_change (1)" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"none of MVBench's files, such as action_sequence\.json"):
        load("mvbench", tmp_path / "empty")


# --- Perception Test, LongVideoBench --------------------------------------------------------------------------------


def test_perception_test_in_both_forms(tmp_path: Path) -> None:
    question = {
        "id": 3,
        "question": "Is it on?",
        "options": ["yes", "no", "I don't know"],
        "answer_id": 1,
        "area": "physics",
        "reasoning": "descriptive",
        "tag": ["motion"],
    }
    official = write(
        tmp_path / "mc.json",
        {"video_12": {"metadata": {"split": "valid"}, "mc_question": [question, question | {"id": 4}]}},
    )
    first, second = load("perception_test", official)
    assert (first.id, second.id, first.media.path) == ("video_12_3", "video_12_4", "video_12.mp4")
    assert first.target.answer == "B" and len(first.target.options) == 3
    assert BENCHMARKS["perception_test"].groups(first) == {"area": "physics", "reasoning": "descriptive"}
    row = {**question, "video_name": "video_12", "question_id": "3"}
    for answer in (1, "1", 1.0, "1.0"):
        (sample,) = load("perception_test", write(tmp_path / "rows.json", [row | {"answer_id": answer}]))
        assert sample.id == "video_12_3" and sample.target == first.target
    for wrong, message in ((3, "expected 0 to 2"), (0.5, "expected 0 to 2"), ("one", "a number"), (True, "a number")):
        with pytest.raises(DataError, match=f"answer_id.*{message}"):
            load("perception_test", write(tmp_path / "rows.json", [row | {"answer_id": wrong}]))


LVB = {
    "video_id": "abc",
    "question": "When?",
    "candidates": ["now", "then", "never"],
    "correct_choice": 2,
    "video_path": "abc.mp4",
    "subtitle_path": "abc_en.json",
    "duration": 12.5,
    "duration_group": 15,
    "starting_timestamp_for_subtitles": 60,
    "question_category": "S2E",
}


def test_longvideobench(tmp_path: Path) -> None:
    rows = [LVB | {"id": "abc_0"}, LVB | {"id": "abc_1"}]
    first, _ = load("longvideobench", write(tmp_path / "lvb_val.json", rows))
    assert (first.id, first.target.answer, first.duration) == ("abc_0", "C", 12.5)
    assert BENCHMARKS["longvideobench"].groups(first) == {"duration_group": "15", "question_category": "S2E"}
    without = [LVB, LVB | {"video_id": "xyz"}, LVB]
    assert list(benchmark_ids("longvideobench", Source(write(tmp_path / "b.json", without)))) == [
        "abc_0",
        "xyz_0",
        "abc_1",
    ]
    flat = {key: value for key, value in LVB.items() if key != "candidates"}
    flat |= {"option0": "now", "option1": "then", "option2": "never", "option3": "N/A", "option4": "N/A"}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([flat]), tmp_path / "val.parquet")
    (sample,) = load("longvideobench", tmp_path / "val.parquet")
    assert sample.target == first.target


def test_longvideobench_subtitles_of_both_kinds(tmp_path: Path) -> None:
    write(tmp_path / "subtitles" / "abc_en.json", [{"start": "00:01:01.000", "end": "00:01:02.500", "line": "hi"}])
    path = write(tmp_path / "lvb_val.json", [LVB])
    (sample,) = load("longvideobench", path, subtitles=tmp_path / "subtitles")
    assert sample.query == "What is said in the video:\nhi\n\nWhen?"
    lines = read_json_subtitles(tmp_path / "subtitles" / "abc_en.json", offset=60.0)
    assert lines == ([Subtitle(1.0, 2.5, "hi")], 0)
    other = write(tmp_path / "timestamps.json", [{"timestamp": [1.0, None], "text": " so "}])
    assert read_json_subtitles(other) == ([Subtitle(1.0, 1.0, "so")], 0)
    (tmp_path / "subtitles" / "abc_en.json").unlink()
    with pytest.raises(DataError, match="do not exist"):
        load("longvideobench", path, subtitles=tmp_path / "subtitles")


def test_srt_times_and_markup(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(SRT)
    lines, num_unreadable = read_srt(path)
    assert (lines[0], lines[2]) == (Subtitle(1.5, 2.0, "hello there"), Subtitle(3600.0, 3601.0, "good bye"))
    assert num_unreadable == 0


CUE = "00:00:01,000 --> 00:00:02,500"
BAD_TIMES = ["soon", "", "NaN:NaN:NaN,NaN", "inf", "1:2:3:4", "01,249.0999999", "-5", "9" * 400, ":".join("9" * 500)]


@pytest.mark.parametrize("time", BAD_TIMES)
def test_a_subtitle_without_a_readable_time_is_left_out(tmp_path: Path, time: str) -> None:
    srt = tmp_path / "a.srt"
    srt.write_text(f"1\n{CUE}\nhello\n\n2\n{time} --> 00:00:09,000\nx\n\n3\n00:00:09,000 --> {time}\ny\n")
    assert read_srt(srt) == ([Subtitle(1.0, 2.5, "hello")], 2)
    good = {"start": "00:00:01.000", "end": 2.5, "line": "hello"}
    rows = [good, {**good, "start": time}, {**good, "end": time}, {"timestamp": [time, 3], "text": "x"}]
    assert read_json_subtitles(write(tmp_path / "a.json", rows)) == ([Subtitle(1.0, 2.5, "hello")], 3)


@pytest.mark.parametrize("row", [None, [], "x", {}, {"timestamp": []}, {"timestamp": [], "text": "x"}, {"timestamp": [1]},
                                 {"timestamp": [float("nan"), 1], "text": "x"}, {"timestamp": [True, 2], "text": "x"},
                                 {"start": 10**400, "line": "x"}, {"start": 1, "line": 7}])  # fmt: skip
def test_a_row_that_is_no_subtitle_is_left_out(tmp_path: Path, row: object) -> None:
    good = {"timestamp": [1.0, 2.5], "text": "hello"}
    assert read_json_subtitles(write(tmp_path / "a.json", [good, row])) == ([Subtitle(1.0, 2.5, "hello")], 1)


@pytest.mark.parametrize("name", ["videomme", "longvideobench"])
@pytest.mark.parametrize(
    ("encode", "is_read"),
    [
        (lambda text: text.encode("utf-16"), True),
        (lambda text: text.encode("utf-8-sig"), True),
        (lambda text: b"", True),
        (lambda text: b"\xef\xbb\xbf \n\r\n", True),
        (lambda text: text.encode("latin-1"), False),
        (lambda text: text.encode("utf-16-le"), False),
        (lambda text: gzip.compress(text.encode()), False),
        (lambda text: b"<html>not found</html>", False),
        (lambda text: b"[[[[", False),
    ],
)
def test_a_subtitle_file_costs_the_subtitles_of_its_video_at_most(
    tmp_path: Path, name: str, encode: Callable[[str], bytes], is_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ending, good = {
        "videomme": ("srt", f"1\n{CUE}\ncaf\u00e9\n"),
        "longvideobench": ("json", json.dumps([{"timestamp": [1, 2], "text": "caf\u00e9"}], ensure_ascii=False)),
    }[name]
    (tmp_path / "subtitles").mkdir()
    content = encode(good)
    for stem, written in (("v1", good.encode()), ("v2", content)):
        (tmp_path / "subtitles" / f"{stem}.{ending}").write_bytes(written)
    rows = {
        "videomme": [VIDEOMME[0] | {"videoID": f"v{n}", "question_id": f"{n}"} for n in (1, 2)],
        "longvideobench": [LVB | {"id": f"{n}", "subtitle_path": f"v{n}.json"} for n in (1, 2)],
    }[name]
    first, second = load(name, write(tmp_path / "a.json", rows), subtitles=tmp_path / "subtitles")
    assert "caf\u00e9" in first.query
    assert ("caf\u00e9" in second.query) == (is_read and len(content) > 10)
    if is_read:
        assert not caplog.text
    else:
        assert "1 subtitle file cannot be read" in caplog.text and f"v2.{ending} (1)" in caplog.text


def test_a_folder_without_subtitles_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "videomme.json", VIDEOMME)
    with pytest.raises(DataError, match=r"holds no <videoID>.srt, but videomme.json"):
        load("videomme", path, subtitles=tmp_path)


def test_too_many_subtitles_are_thinned_evenly() -> None:
    lines = [Subtitle(i, i + 1, f"line {i:03d}") for i in range(100)]
    shown = quote(lines, "Why?", max_chars=90).splitlines()
    assert shown[1:-2] == [f"line {i:03d}" for i in range(0, 100, 10)]
    assert quote([], "Why?", 10) == "Why?"


# --- bad input ------------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'charades_sta'"):
        BENCHMARKS["charades_stb"]
    assert BENCHMARKS["NExTGQA"] is BENCHMARKS["nextgqa"]
    with pytest.raises(ConfigError, match="tasks temporal_grounding"):
        load("charades_sta", Path("x.json"), task="tracking")


@pytest.mark.parametrize("key", ["question_id", "videoID", "duration", "question", "options", "answer"])
def test_a_missing_key_is_named_with_its_row(tmp_path: Path, key: str) -> None:
    rows = [dict(row) for row in VIDEOMME]
    del rows[3][key]
    with pytest.raises(DataError, match=rf"row 4: the key '{key}' is missing"):
        load("videomme", write(tmp_path / "videomme.json", rows))


def test_all_rows_that_lack_a_key_are_named(tmp_path: Path) -> None:
    rows = [
        {key: value for key, value in VIDEOMME[0].items() if key != "answer"} | {"question_id": str(n)}
        for n in range(14)
    ]
    expected = r"row 2: the key 'answer'.*missing in row 2, row 3, .*row 11, \.\.\. \(13 in all\)"
    with pytest.raises(DataError, match=expected):
        load("videomme", write(tmp_path / "videomme.json", [VIDEOMME[0], *rows[1:]]))
    moments = {f"v{n}": {"duration": 1.0, "timestamps": [[0, 1]], "sentences": ["x"]} for n in range(3)}
    del moments["v0"]["duration"], moments["v2"]["duration"]
    with pytest.raises(DataError, match=r"missing in video 'v0', video 'v2' \(2\)"):
        load("activitynet", write(tmp_path / "val_2.json", moments))


def test_repeated_ids_and_answers_outside_the_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"more than once: 001-1 \(1\)"):
        load("videomme", write(tmp_path / "a.json", [*VIDEOMME, VIDEOMME[0]]))
    rows = [row | {"answer": "E"} for row in VIDEOMME]
    with pytest.raises(DataError, match=r"not among the options of 001-1, 001-2.*\(6\)"):
        load("videomme", write(tmp_path / "b.json", rows))
    with pytest.raises(DataError, match="holds no sample"):
        load("videomme", write(tmp_path / "c.json", []))


NAN, INF = float("nan"), float("inf")
GQA = {"id": "1_0", "video": "1.mp4", "question": "q", "options": ["(A) a", "(B) b"], "duration": 30, "glue": [[1, 2]],
       "type": "TP", "answer": "(A)"}  # fmt: skip
GOT = {"path": "val/x", "object": "cat", "gt": [[0.1, 0.1, 0.2, 0.2]] * 8}
CLIP = {"video": "v.mp4", "question": "?", "candidates": ["a", "b"], "answer": "a", "start": 0.0, "end": 1.0}


def span_file(span: list[float], duration: float = 30.0) -> dict[str, object]:
    return {"A": {"duration": duration, "timestamps": [[1, 2], span], "sentences": ["a", "b"]}}


@pytest.mark.parametrize(
    ("name", "file", "content", "found"),
    [
        ("charades_sta", "a.json", span_file([NAN, 5]), "A_1"),
        ("charades_sta", "a.json", span_file([1, INF]), "A_1"),
        ("charades_sta", "a.json", span_file([1, 10**400]), "A_1"),
        ("charades_sta", "a.json", span_file([1, 2], INF), "A_0, A_1"),
        ("charades_sta", "a.txt", "A 1 2##a\nA nan 5##b\n", "A_1"),
        ("charades_sta", "a.txt", "A 1 2##a\nA 1 1e999##b\n", "A_1"),
        ("activitynet", "a.json", span_file([1, -INF]), "A_1"),
        ("nextgqa", "a.json", [GQA, GQA | {"id": "1_1", "glue": [[1, 2], [NAN, 2]]}], "1_1"),
        ("nextgqa", "a.json", [GQA | {"duration": INF}], "1_0"),
        ("got10k", "a.json", [GOT | {"gt": [*GOT["gt"][1:], [0.1, 0.1, 0.2, NAN]]}], "x"),
        ("got10k", "a.json", [GOT, GOT | {"path": "val/y", "gt": []}], "y"),
        ("mvbench", "action_sequence.json", [CLIP, CLIP | {"start": NAN}], "action_sequence/v_1"),
    ],
)
def test_targets_that_cannot_be_scored_are_refused_with_their_ids(
    tmp_path: Path, name: str, file: str, content: object, found: str
) -> None:
    path = tmp_path / file
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=rf"(?:is infinite or no number|there is no box) in {found} \(\d\); correct"):
        load(name, path)


@pytest.mark.parametrize("task", ["grounded_qa", "multi_choice_qa"])
def test_nextgqa_counts_tp_among_tn_as_its_authors_do(tmp_path: Path, task: str) -> None:
    (sample,) = load("nextgqa", write(tmp_path / "a.json", [GQA]), task=task)
    assert BENCHMARKS["nextgqa"].groups(sample) == {"type": "TN"}


def with_options(name: str, options: list[str], folder: Path) -> Path:
    """Annotations of a benchmark with one question of these options, the last of them right."""
    last = options[-1] if options else ""
    question = {"question": "q?", "options": options, "answer_id": len(options) - 1}
    rows = {
        "videomme": VIDEOMME[0] | {"options": options, "answer": last},
        "longvideobench": LVB | {"candidates": options, "correct_choice": len(options) - 1},
        "perception_test": question | {"video_name": "v", "question_id": "1"},
        "mvbench": {"video": "v.mp4", "question": "q?", "candidates": options, "answer": last},
        "nextgqa": {"id": "1", "video": "v.mp4", "duration": 9, "glue": [[1, 2]], "type": "CW", "answer": last}
        | question,
    }
    return write(folder / ("action_antonym.json" if name == "mvbench" else "rows.json"), [rows[name]])


@pytest.mark.parametrize("name", ["videomme", "longvideobench", "perception_test", "mvbench", "nextgqa"])
def test_a_question_has_as_many_options_as_letters_can_name(tmp_path: Path, name: str) -> None:
    (sample,) = load(name, with_options(name, [f"option {number}" for number in range(26)], tmp_path))
    assert sample.target.answer == "Z"
    for count in (0, 27, 300):
        options = [f"option {number}" for number in range(count)]
        with pytest.raises(DataError, match=rf"row 1, '\w+' has {count} options, expected 1 to 26"):
            load(name, with_options(name, options, tmp_path))


def test_a_path_out_of_the_videos_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves the data folder"):
        load("longvideobench", write(tmp_path / "a.json", [LVB | {"video_path": "../../secret.mp4"}]))
