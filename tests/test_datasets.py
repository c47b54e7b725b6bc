"""Corpora in their official and released formats: counts, ids, paths, and what a broken file is answered with."""

import csv
import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image

from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.base import VIDEO_SUFFIXES, with_root
from videochat_r1.datasets.check import check_samples
from videochat_r1.datasets.got10k_sequence import even_indices, matching_indices, read_sequence, released_indices
from videochat_r1.datasets.mend import mend_all
from videochat_r1.datasets.nextgqa import join
from videochat_r1.datasets.problems import KINDS, problems_of, span_kinds
from videochat_r1.datasets.vidtab import choices_in
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.geometry import Box, Span
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
    TextTarget,
    Video,
)

MOMENTS = {
    "AAAAA": {
        "duration": 20.0,
        "timestamps": [[0.0, 5.0], [6.0, 21.0]],
        "sentences": [" a person sits.", "they stand."],
    },
    "BBBBB": {"duration": 10.0, "timestamps": [[8.0, 7.0]], "sentences": ["a dog barks."]},
}
TEXT = "AAAAA 0.0 5.0##a person sits.\nBBBBB 8.0 7.0##a dog barks.\nAAAAA 6.0 21.0##they stand.\n"
QUESTION = {
    "id": "77_3",
    "video": "0001/77.mp4",
    "question": "what does the dog do ",
    "options": ["(A) run", "(B) sit", "(C) bark ", "(D) eat", "(E) sleep"],
    "duration": 30,
    "glue": [[1.0, 4.0], [6, 9.5]],
    "type": "TN",
    "answer": "(C)",
}


def write(path: Path, value: Any) -> Path:
    """The file, holding text as it is and anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def problems(samples: Sequence[Sample], **options: Any) -> dict[str, int]:
    counts: dict[str, int] = check_samples(samples, "any", **options).to_json()["problems"]
    return counts


# -- the real files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "videos", "samples", "expected"),
    [
        (
            "charades_sta",
            "charades_sta/train.json",
            5338,
            12408,
            {"reversed_span": 4, "start_past_end": 3, "end_past_duration": 1789},
        ),
        ("charades_sta", "charades_sta/test.json", 1334, 3720, {"end_past_duration": 562}),
        (
            "nextgqa",
            "nextgqa/videochat_r1_val.json",
            567,
            3358,
            {"end_past_duration": 3, "whole_video_span": 6, "duplicate_options": 1},
        ),
        ("got10k", "got10k/videochat_r1_val.json", 180, 180, {}),
        ("vidtab_quality", "vidtab/quality_100shot.json", 200, 200, {}),
        ("vidtab_quality", "vidtab/quality_test.json", 724, 724, {}),
    ],
)
def test_released_files_have_the_known_counts_and_defects(
    shared_dir: Path, name: str, file: str, videos: int, samples: int, expected: dict[str, int]
) -> None:
    report = check_samples(CORPORA[name].read(shared_dir / "annotations" / file), name)
    assert report.to_json() == {
        "dataset": name,
        "num_videos": videos,
        "num_samples": samples,
        "problems": expected,
    }


def test_official_nextgqa_join_is_the_released_file(shared_dir: Path) -> None:
    folder = shared_dir / "annotations" / "nextgqa"
    released = json.loads((folder / "videochat_r1_val.json").read_text())
    assert join(folder / "val.csv") == released
    for task in ("grounded_qa", "multi_choice_qa"):
        official = CORPORA["nextgqa"].read(folder, task=task)
        assert official == CORPORA["nextgqa"].read(folder / "videochat_r1_val.json", task=task)
        assert [sample.id for sample in official] == [row["id"] for row in released]


def test_charades_text_with_its_csv_equals_the_released_json(shared_dir: Path, tmp_path: Path) -> None:
    released = shared_dir / "annotations" / "charades_sta" / "train.json"
    videos = json.loads(released.read_text())
    lines = [
        f"{video} {start} {end}##{sentence}"
        for video, entry in videos.items()
        for (start, end), sentence in zip(entry["timestamps"], entry["sentences"], strict=True)
    ]
    text = write(tmp_path / "charades_sta_train.txt", "\n".join(lines) + "\n")
    with (tmp_path / "Charades_v1_train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "subject", "length"])
        rows.writerows([video, "S", entry["duration"]] for video, entry in videos.items())
    assert CORPORA["charades_sta"].read(text) == CORPORA["charades_sta"].read(released)


def test_vidtab_list_has_the_targets_of_the_released_json(shared_dir: Path, tmp_path: Path) -> None:
    released = shared_dir / "annotations" / "vidtab" / "quality_test.json"
    rows = json.loads(released.read_text())
    text = "".join(f"{row['video']} {int(row['answer'] == 'high quality')}\n" for row in rows)
    official = CORPORA["vidtab_quality"].read(write(tmp_path / "test.txt", text))
    for ours, theirs in zip(official, CORPORA["vidtab_quality"].read(released), strict=True):
        assert dataclasses.replace(ours, query="") == dataclasses.replace(theirs, query="")


def test_charades_train_loads_in_well_under_a_second(shared_dir: Path) -> None:
    started = time.process_time()
    CORPORA["charades_sta"].read(shared_dir / "annotations" / "charades_sta" / "train.json")
    assert time.process_time() - started < 1.0


def test_loaders_do_not_import_torch() -> None:
    code = "import sys, videochat_r1.datasets.mixture, videochat_r1.datasets.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- Charades-STA and ActivityNet --------------------------------------------------------------------------------------


def test_moment_json_keeps_published_spans_and_strips_sentences(tmp_path: Path) -> None:
    samples = CORPORA["activitynet"].read(write(tmp_path / "val_2.json", MOMENTS))
    assert [sample.id for sample in samples] == ["AAAAA_0", "AAAAA_1", "BBBBB_0"]
    assert samples[0] == Sample(
        id="AAAAA_0",
        task="temporal_grounding",
        media=Video(path="AAAAA.mp4"),
        query="a person sits.",
        target=SpanTarget(Span(0.0, 5.0), 20.0),
        duration=20.0,
        source="activitynet",
    )
    assert samples[1].target == SpanTarget(Span(6.0, 21.0), 20.0)
    assert samples[2].target == SpanTarget(Span(8.0, 7.0), 10.0)


def test_charades_text_and_json_give_equal_ids(tmp_path: Path) -> None:
    write(tmp_path / "Charades_v1_train.csv", "id,length\r\nAAAAA,20.0\r\nBBBBB,10.0\r\n")
    text = CORPORA["charades_sta"].read(write(tmp_path / "train.txt", TEXT.replace("\n", "\r\n")))
    released = CORPORA["charades_sta"].read(write(tmp_path / "train.json", MOMENTS))
    assert {sample.id: sample for sample in text} == {sample.id: sample for sample in released}
    assert [sample.id for sample in text] == ["AAAAA_0", "BBBBB_0", "AAAAA_1"]


def test_charades_durations_come_from_a_named_table_or_the_videos(tmp_path: Path) -> None:
    text = write(tmp_path / "a" / "train.txt", TEXT)
    table = write(tmp_path / "b" / "lengths.csv", "id,length\nAAAAA,20\nBBBBB,10\n")
    videos = tmp_path / "videos"
    for name in ("AAAAA.mp4", "BBBBB.mkv"):
        write(videos / name, "x")
    seconds = {"AAAAA.mp4": 20.0, "BBBBB.mkv": 10.0}
    read = CORPORA["charades_sta"].read
    for samples in (
        read(text, durations=table),
        read(text, durations=table.parent),
        read(text, videos, probe_durations=lambda paths: [seconds[path.name] for path in paths]),
    ):
        assert [sample.duration for sample in samples] == [20.0, 10.0, 20.0]
    with pytest.raises(DataError, match=r"no durations.*2 of 2 videos: AAAAA, BBBBB.*length"):
        read(text)


def test_an_unknown_duration_is_reported_not_guessed(tmp_path: Path) -> None:
    text = write(tmp_path / "train.txt", TEXT)
    write(tmp_path / "AAAAA.mp4", "x")
    asked: list[Path] = []

    def broken(paths: Sequence[Path]) -> list[None]:
        asked.extend(paths)
        return [None] * len(paths)

    samples = CORPORA["charades_sta"].read(text, tmp_path, probe_durations=broken, allow_unknown_durations=True)
    assert asked == [tmp_path / "AAAAA.mp4"]  # BBBBB.mp4 is not there
    assert all(math.isnan(sample.duration or 0.0) for sample in samples)
    assert problems(samples) == {"reversed_span": 1, "unknown_duration": 3}
    with pytest.raises(DataError, match=r"none is known for 2 of 2 videos"):
        CORPORA["charades_sta"].read(text, tmp_path, probe_durations=broken)


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".MP4", ".Gif", ".xyz", ""])
@pytest.mark.parametrize("place", ["", "folder/", "folder é/"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["whole", "stem"])
def test_a_video_that_is_in_the_folder_is_found_whatever_it_is_called(
    tmp_path: Path, suffix: str, place: str, form: Literal["NFC", "NFD"], named: str
) -> None:
    if named == "stem" and (place or suffix in (".xyz", "")):
        pytest.skip("only files with a video's type, directly in the folder, are looked for by their stems")
    other: Literal["NFC", "NFD"] = "NFD" if form == "NFC" else "NFC"
    name = f"{place}café 12.5{suffix}"
    file = write(tmp_path / "videos" / unicodedata.normalize(form, name), "x")
    written = unicodedata.normalize(other, name if named == "whole" else "café 12.5")
    rows = write(tmp_path / "a.json", [{"video": written, "caption": "A café."}])
    (sample,) = CORPORA["captions"].read(rows, tmp_path / "videos")
    assert sample.media.path == str(file)
    assert problems([sample], look_for_files=True) == {}
    (relative,) = CORPORA["captions"].read(rows)
    assert relative.id == sample.id


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ("q q", "q q#2"),
        ("q q q", "q q#2 q#3"),
        ("q q#2 q", "q q#2 q#3"),
        ("q q q#2", "q q#2 q#2#2"),
        ("q#2 q q q#3 q", "q#2 q q#3 q#3#2 q#4"),
        ("q#2 q#2", "q#2 q#2#2"),
    ],
)
def test_repeated_ids_are_numbered_until_they_are_free(tmp_path: Path, written: str, ids: str) -> None:
    rows = [QUESTION | {"id": name, "question": f"{index}?"} for index, name in enumerate(written.split())]
    samples = CORPORA["nextgqa"].read(write(tmp_path / "a.json", rows))
    assert [sample.id for sample in samples] == ids.split()
    assert problems(samples)["duplicate_id"] == sum(a != b for a, b in zip(written.split(), ids.split(), strict=True))


def test_videos_are_found_with_the_file_type_they_have(tmp_path: Path) -> None:
    annotations = write(tmp_path / "val.json", MOMENTS)
    videos = tmp_path / "videos"
    for name in ("AAAAA.webm", "AAAAA.txt", "BBBBB.mkv", "BBBBB.mp4", "BBBBB/00000001.jpg"):
        write(videos / name, "x")
    samples = CORPORA["activitynet"].read(annotations, videos)
    assert [sample.media.path for sample in samples] == [
        str(videos / name) for name in ("AAAAA.webm", "AAAAA.webm", "BBBBB.mp4")
    ]


# -- NExT-GQA ----------------------------------------------------------------------------------------------------------


def official_nextgqa(folder: Path, split: str = "val") -> Path:
    write(
        folder / f"{split}.csv",
        "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
        '77,900,640,480,"what, then","bark, loudly",3,TN,run,sit,"bark, loudly",eat,sleep\n',
    )
    write(folder / f"gsub_{split}.json", {"77": {"duration": 30, "location": {"3": [[1.0, 4]]}, "fps": 29.97}})
    write(folder / "map_vid_vidorID.json", {"77": "0001/77", "88": "0002/88"})
    return folder


def test_nextgqa_serves_questions_with_and_without_clues(tmp_path: Path) -> None:
    path = write(tmp_path / "val.json", [QUESTION])
    options = ("run", "sit", "bark", "eat", "sleep")
    grounded, plain = (CORPORA["nextgqa"].read(path, task=task)[0] for task in ("grounded_qa", "multi_choice_qa"))
    assert grounded.target == GroundedChoiceTarget(options, "C", (Span(1.0, 4.0), Span(6.0, 9.5)), 30.0)
    assert plain.target == ChoiceTarget(options, "C")
    assert (grounded.id, grounded.query, grounded.extra) == ("77_3", "what does the dog do", {"type": "TN"})
    with pytest.raises(ConfigError, match=r"grounded_qa.*tracking"):
        CORPORA["nextgqa"].read(path, task="tracking")


def test_official_nextgqa_is_found_by_folder_or_by_its_csv(tmp_path: Path) -> None:
    folder = official_nextgqa(tmp_path / "one")
    (sample,) = CORPORA["nextgqa"].read(folder)
    assert sample.target == GroundedChoiceTarget(
        ("run", "sit", "bark, loudly", "eat", "sleep"), "C", (Span(1.0, 4.0),), 30.0
    )
    assert sample.media.path == "0001/77.mp4"
    official_nextgqa(folder, "test")
    assert CORPORA["nextgqa"].read(folder / "test.csv") == [sample]
    with pytest.raises(DataError, match=r"several splits: test\.csv, val\.csv"):
        CORPORA["nextgqa"].read(folder)


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("gsub_val.json", {"77": {"duration": 30, "location": {}}}, r"gsub_val\.json, video '77'.*'3' is missing"),
        ("gsub_val.json", {}, r"gsub_val\.json.*'77' is missing"),
        ("map_vid_vidorID.json", {}, r"map_vid_vidorID\.json.*'77' is missing"),
        ("val.csv", "video_id,question\n77,what\n", r"val\.csv: the columns \['answer', .* are missing"),
        (
            "val.csv",
            "video_id,question,answer,qid,type,a0,a1,a2,a3,a4\n77,what,run,3,TN,run\n",
            r"val\.csv, line 2.*'a1', 'a2'",
        ),
        (
            "val.csv",
            'video_id,question,answer,qid,type,a0,a1,a2,a3,a4\n77,"' + "x" * 200_000,
            r"val\.csv is not CSV after line 1",
        ),
    ],
)
def test_an_official_file_that_does_not_join_is_named(tmp_path: Path, file: str, value: Any, message: str) -> None:
    official_nextgqa(tmp_path)
    write(tmp_path / file, value)
    with pytest.raises(DataError, match=message):
        CORPORA["nextgqa"].read(tmp_path)


def test_an_answer_that_is_no_option_is_reported(tmp_path: Path) -> None:
    rows = [
        QUESTION | {"id": f"1_{i}", "answer": answer} for i, answer in enumerate(["(F)", "fly", "bark", "(C) bark"])
    ]
    samples = CORPORA["nextgqa"].read(write(tmp_path / "val.json", rows))
    assert [sample.target.answer for sample in samples] == ["(F)", "fly", "C", "C"]  # type: ignore[union-attr]
    # The third and fourth row repeat the question with the same truth, the first two differ from each other.
    assert problems(samples) == {"answer_not_among_options": 2, "duplicate_row": 1, "ambiguous_query": 2}


# -- GOT-10k -----------------------------------------------------------------------------------------------------------


def got10k_sequence(folder: Path, num_frames: int, **meta: str) -> list[Box]:
    """A sequence of 200x100 frames whose box moves by 2 pixels a frame; returns the boxes."""
    pixels = [(10.0 + 2 * i, 20.0, 40.0, 30.5) for i in range(num_frames)]
    write(folder / "groundtruth.txt", "".join(f"{x:.4f},{y:.4f},{w:.4f},{h:.4f}\n" for x, y, w, h in pixels))
    fields = {"anno_fps": "10Hz", "object_class": "duck", "motion_class": "swimming", "resolution": "(200, 100)"} | meta
    write(folder / "meta_info.ini", "[METAINFO]\n" + "".join(f"{key}: {value}\n" for key, value in fields.items()))
    write(folder / "absence.label", "0\n" * (num_frames - 1) + "1\n")
    write(folder / "cover.label", "".join(f"{i % 9}\n" for i in range(num_frames)))
    for i in range(num_frames):
        write(folder / f"{i + 1:08d}.jpg", "x")
    return [Box(x / 200, y / 100, (x + w) / 200, (y + h) / 100) for x, y, w, h in pixels]


def test_got10k_cuts_frames_boxes_and_labels_with_the_same_indices(tmp_path: Path) -> None:
    boxes = got10k_sequence(tmp_path / "GOT-10k_Val_000002", 71)
    (sample,) = CORPORA["got10k"].read(tmp_path)
    indices = [0, 10, 20, 30, 40, 50, 60, 70]
    assert sample.target == BoxesTarget(tuple(boxes[i] for i in indices))
    assert boxes[10] == Box(0.15, 0.2, 0.35, 0.505)
    assert sample.media.frames == tuple(str(tmp_path / f"GOT-10k_Val_000002/{i + 1:08d}.jpg") for i in indices)
    assert sample.media.frame_times == tuple(float(second) for second in range(8))
    assert (sample.id, sample.query, sample.duration) == ("GOT-10k_Val_000002", "duck", 7.1)
    assert sample.extra == {
        "frame_indices": indices,
        "num_frames": 71,
        "absent": [0] * 7 + [1],
        "cover": [0, 1, 2, 3, 4, 5, 6, 7],
        "motion_class": "swimming",
    }
    assert problems([sample], look_for_files=True) == {"absent_object": 1}


def test_got10k_sequences_follow_the_list_and_take_the_size_from_the_image(tmp_path: Path) -> None:
    for name in ("GOT-10k_Val_000001", "GOT-10k_Val_000003"):
        got10k_sequence(tmp_path / name, 9, resolution="")
        Image.new("RGB", (400, 50)).save(tmp_path / name / "00000001.jpg")
    write(tmp_path / "list.txt", "GOT-10k_Val_000003\nGOT-10k_Val_000001\n")
    samples = CORPORA["got10k"].read(tmp_path)
    assert [sample.id for sample in samples] == ["GOT-10k_Val_000003", "GOT-10k_Val_000001"]
    assert samples[0].target.boxes[0] == Box(10 / 400, 20 / 50, 50 / 400, 50.5 / 50)  # type: ignore[union-attr]


def test_eight_instants_are_evenly_spaced() -> None:
    assert even_indices(8) == (0, 1, 2, 3, 4, 5, 6, 7)
    assert even_indices(100) == (0, 14, 28, 42, 57, 71, 85, 99)
    assert released_indices(100) == (0, 1, 17, 34, 50, 66, 83, 99)
    assert even_indices(1) == released_indices(1) == (0,) * 8


def test_released_boxes_get_the_frames_they_were_cut_from(tmp_path: Path) -> None:
    truth = got10k_sequence(tmp_path / "videos/GOT-10k/val/GOT-10k_Val_000002", 72)
    indices = [0, 1, 11, 21, 31, 41, 51, 61]
    boxes = [[round(value, 3) for value in truth[i]] for i in indices]
    row = {"path": "GOT-10k/val/GOT-10k_Val_000002", "object": "duck", "gt": boxes}
    moved = row | {"gt": [[0.5, 0.5, 0.6, 0.6], *boxes[1:]]}
    annotations = write(tmp_path / "val.json", [row, moved])
    found, lost = CORPORA["got10k"].read(annotations, tmp_path / "videos")
    assert found.extra["frame_indices"] == indices and len(found.media.frames) == 8
    assert found.media.frames[2].endswith("GOT-10k/val/GOT-10k_Val_000002/00000012.jpg")
    assert lost.id == "GOT-10k_Val_000002#2" and lost.extra["frame_indices"] == list(released_indices(72))
    assert problems([found, lost], look_for_files=True) == {
        "absent_object": 1,  # the schedule ends on the last frame, the object's absence
        "boxes_not_in_groundtruth": 1,
        "duplicate_id": 1,
        "ambiguous_query": 1,
    }


def test_released_boxes_without_groundtruth_follow_the_schedule(tmp_path: Path) -> None:
    row = {"path": "val/S", "object": "duck", "gt": [[0.1, 0.1, 0.2, 0.2]] * 8}
    annotations = write(tmp_path / "val.json", [row])
    for number in range(1, 73):
        write(tmp_path / f"videos/val/S/{number:08d}.jpg", "x")
    (sample,) = CORPORA["got10k"].read(annotations, tmp_path / "videos")
    expected = [index + 1 for index in released_indices(72)]
    assert [int(Path(frame).stem) for frame in sample.media.frames] == expected
    assert CORPORA["got10k"].read(annotations)[0].media == Video(path="val/S")


def test_matching_keeps_the_order_of_time_and_prefers_the_expected_frame() -> None:
    still, other = Box(0.1, 0.1, 0.2, 0.2), Box(0.5, 0.5, 0.6, 0.6)
    truth = [still, still, other, still, still]
    assert matching_indices([still, still, still], truth, (0, 3, 4)) == (0, 3, 4)
    assert matching_indices([other, still], truth, (0, 0)) == (2, 3)
    assert matching_indices([still, other, other, other], [still, other], (0, 1, 1, 1)) == (0, 1, 1, 1)
    assert matching_indices([other, other], [other, still], (0, 1)) == (0, 0)
    assert matching_indices([other], [still], (0,)) is None


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("groundtruth.txt", "1,2,3\n", r"groundtruth\.txt, line 1.*x,y,w,h"),
        ("groundtruth.txt", "1,2,3,four\n", r"groundtruth\.txt, line 1"),
        ("cover.label", "0\n1\n", r"cover\.label has 2 lines, groundtruth\.txt 9"),
        ("cover.label", "", r"cover\.label is empty"),
        ("absence.label", "no\n" * 9, r"absence\.label: expected one whole number"),
        ("absence.label", "0.5\n" * 9, r"absence\.label: expected one whole number"),
        ("absence.label", "nan\n" * 9, r"absence\.label: expected one whole number"),
        ("meta_info.ini", "object_class: duck\n", r"meta_info\.ini is not an INI"),
        ("meta_info.ini", "[METAINFO]\nresolution: (200, 100)\n", "object_class is missing"),
        ("meta_info.ini", "[METAINFO]\nobject_class: duck\n", "size of its frames is unknown"),
        ("meta_info.ini", "[METAINFO]\nanno_fps: slow\nresolution: (200, 100)\n", "anno_fps should be"),
        ("meta_info.ini", f"[METAINFO]\nanno_fps: {'9' * 400}\nresolution: (200, 100)\n", "anno_fps should be"),
        ("meta_info.ini", f"[METAINFO]\nresolution: ({'9' * 400}, 100)\n", "size of its frames is unknown"),
        ("meta_info.ini", f"[METAINFO]\nresolution: ({'9' * 5000}, 100)\n", "size of its frames is unknown"),
        (None, "", "S"),
    ],
)
def test_a_sequence_that_cannot_be_read_is_counted_and_the_others_are_kept(
    tmp_path: Path, file: str | None, text: str, message: str
) -> None:
    for name in "GS":
        got10k_sequence(tmp_path / name, 9)
    write(tmp_path / "list.txt", "G\nS\n")
    if file is None:
        shutil.rmtree(tmp_path / "S")
    else:
        write(tmp_path / "S" / file, text)
    good, bad = CORPORA["got10k"].read(tmp_path)
    (problem,) = [one for one in problems_of(bad) if one.kind != "absent_object"]
    labels = file is not None and file.endswith(".label")
    assert problem.kind == ("missing_video" if file is None else "bad_labels" if labels else "bad_annotation")
    assert re.search(message, problem.detail)
    assert problems([good, bad], look_for_files=True)[problem.kind] == 1
    kept = [sample.id for sample in mend_all([good, bad]).samples]
    assert kept == (["G", "S"] if labels else ["G"])
    if not labels:
        with pytest.raises(DataError, match=rf"1 sample of 2 cannot be scored, the first is S \({problem.kind}"):
            BENCHMARKS["got10k"].load(Source(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"), [("../secret\n", "leaves the data folder"), ("a\nb\n", "none of the 2 sequences of its list")]
)
def test_a_list_of_other_sequences_is_refused(tmp_path: Path, text: str, message: str) -> None:
    got10k_sequence(tmp_path / "S", 9)
    write(tmp_path / "list.txt", text)
    with pytest.raises(DataError, match=message):
        CORPORA["got10k"].read(tmp_path)


@pytest.mark.parametrize(
    ("written", "videos", "path"),
    [
        ("/mnt/share/raw/GOT-10k/val/GOT-10k_Val_000001", None, "GOT-10k/val/GOT-10k_Val_000001"),
        ("/mnt/share/raw/GOT-10k/val/GOT-10k_Val_000001", "val", "GOT-10k_Val_000001"),
        ("/mnt/share/raw/GOT-10k/val/GOT-10k_Val_000001", ".", "val/GOT-10k_Val_000001"),
        ("/data/frames/GOT-10k_Val_000001", None, "GOT-10k_Val_000001"),
        ("val/GOT-10k_Val_000001", ".", "val/GOT-10k_Val_000001"),
    ],
)
def test_absolute_paths_of_the_authors_machine_begin_at_the_corpus(
    tmp_path: Path, written: str, videos: str | None, path: str
) -> None:
    boxes = got10k_sequence(tmp_path / "val" / "GOT-10k_Val_000001", 8)
    row = {"path": written, "object": "duck", "gt": [[round(v, 3) for v in box] for box in boxes]}
    root = None if videos is None else tmp_path / videos
    (sample,) = CORPORA["got10k"].read(write(tmp_path / "got_val.json", [row]), root)
    assert sample.id == "GOT-10k_Val_000001"
    assert sample.media == (Video(path=path) if root is None else sample.media)
    if root is not None:
        assert sample.media.frames[0] == str(root / path / "00000001.jpg") and sample.duration == 0.8


def test_the_got10k_test_split_is_refused(tmp_path: Path) -> None:
    got10k_sequence(tmp_path / "S", 9)
    write(tmp_path / "S" / "groundtruth.txt", "1,2,3,4\n")
    for name in ("absence.label", "cover.label"):
        (tmp_path / "S" / name).unlink()
    with pytest.raises(DataError, match="test split"):
        CORPORA["got10k"].read(tmp_path)


def test_dense_truth_of_a_sequence_can_be_read(tmp_path: Path) -> None:
    boxes = got10k_sequence(tmp_path / "S", 12, anno_fps="5Hz")
    truth = read_sequence(tmp_path / "S")
    assert truth.boxes == tuple(boxes) and truth.fps == 5.0
    assert truth.cover is not None and truth.cover[8:] == (8, 0, 1, 2)
    assert truth.absent is not None and sum(truth.absent) == 1


# -- VidTAB ------------------------------------------------------------------------------------------------------------


def test_vidtab_reads_choices_from_the_instruction(tmp_path: Path) -> None:
    row = {
        "video": "a/1.mp4",
        "instruction": "Is it sharp? Pick from ['not [very] sharp', \"it's sharp\"].",
        "answer": "It's sharp.",
    }
    assert choices_in("x ['a'] y ['low quality', 'high quality'].") == ("low quality", "high quality")
    assert choices_in("no list") == ()
    row["instruction"] = "Is it sharp? Pick from ['blurred', \"it's sharp\"]."
    (sample,) = CORPORA["vidtab_quality"].read(write(tmp_path / "test.json", [row]))
    assert sample.target == LabelTarget(("blurred", "it's sharp"), "it's sharp")
    assert (sample.id, sample.query) == ("a/1", "Is it sharp?")
    with pytest.raises(DataError, match=r"row 1.*choices"):
        CORPORA["vidtab_quality"].read(write(tmp_path / "test.json", [row | {"instruction": "Is it sharp?"}]))


# -- any corpus --------------------------------------------------------------------------------------------------------


def test_corpora_are_found_by_other_spellings() -> None:
    assert CORPORA["Charades-STA"] is CORPORA["charades_sta"]
    assert CORPORA["vidtab"] is CORPORA["vidtab_quality"]
    with pytest.raises(ConfigError, match="'activitynet'"):
        CORPORA["activitynt"]
    with pytest.raises(ConfigError, match="known: activitynet, "):
        CORPORA["zzz"]


@pytest.mark.parametrize("path", ["../x.mp4", "/etc/x.mp4", "a/../../x.mp4", "C:\\x.mp4", "..\\x.mp4", "", "a\0.mp4"])
def test_a_path_out_of_the_data_folder_is_refused(tmp_path: Path, path: str) -> None:
    rows = {
        "nextgqa": [QUESTION | {"video": path}],
        "vidtab_quality": [{"video": path, "instruction": "? ['a', 'b'].", "answer": "a"}],
        "got10k": [{"path": path, "object": "duck", "gt": [[0, 0, 1, 1]] * 8}],
        "captions": [{"video": path, "caption": "A duck."}],
        "activitynet": {path.removesuffix(".mp4"): MOMENTS["AAAAA"]},
    }
    for name, value in rows.items():
        if name in ("activitynet", "captions") and path == "":
            continue  # the id "" is the file ".mp4", which stays inside
        if name == "got10k" and path.startswith("/"):
            continue  # of which the sequence's name is taken
        for videos in (None, tmp_path):
            with pytest.raises(DataError, match="leaves the data folder"):
                CORPORA[name].read(write(tmp_path / "a.json", value), videos)


@pytest.mark.parametrize("name", list(CORPORA))
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ('{"a": {"duration": 3', "not complete JSON.*column 21"),
        ("[1, 2", "not complete JSON|row 1: expected an object"),
        ("[1, 2]", "expected"),
        ('{"a": 3}', "expected|line 1: the key 'problem_type' is missing"),
        ("3", "expected"),
        ('{"a": 1, "a": 2}', "'a'.*twice|expected"),
        ("a line of text", "expected|not complete JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "expected|should be|is missing"),
    ],
)
def test_a_file_of_no_known_format_is_refused_by_name(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path / "broken.json", text)
    with pytest.raises(DataError, match=message) as error:
        CORPORA[name].read(path)
    assert "broken.json" in str(error.value)


@pytest.mark.parametrize("name", list(CORPORA))
def test_missing_files_folders_and_bytes_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"nothing\.json does not exist"):
        CORPORA[name].read(tmp_path / "nothing.json")
    with pytest.raises(DataError, match=r"found|holds"):
        CORPORA[name].read(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\x00\xff\xfe\x9f")
    with pytest.raises(DataError, match="not a text file"):
        CORPORA[name].read(tmp_path / "bytes.json")
    with pytest.raises(DataError, match=r"videos folder .* does not exist"):
        CORPORA[name].read(tmp_path / "bytes.json", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("charades_sta", {"V": {"timestamps": [], "sentences": []}}, r"video 'V'.*'duration' is missing.*'sentences'"),
        ("charades_sta", {"V": MOMENTS["AAAAA"] | {"sentences": ["one"]}}, "'V': 2 timestamps with 1 sentences"),
        (
            "charades_sta",
            {"V": MOMENTS["AAAAA"] | {"duration": "20 s"}},
            r"'V', 'duration' should be a number, found text",
        ),
        ("charades_sta", {"V": MOMENTS["AAAAA"] | {"duration": None}}, "'duration' should be a number, found null"),
        ("charades_sta", {"V": MOMENTS["AAAAA"] | {"timestamps": [[1], [2, 3]]}}, r"'timestamps'\[0\].*2 numbers"),
        (
            "charades_sta",
            {"V": MOMENTS["AAAAA"] | {"timestamps": [[1, 2], [2, True]]}},
            r"'timestamps'\[1\].*true/false",
        ),
        ("charades_sta", {"V": MOMENTS["AAAAA"] | {"sentences": ["a", 5]}}, r"'sentences'\[1\] should be text"),
        ("nextgqa", [QUESTION, {"id": "x"}], "row 2: the key 'options' is missing"),
        ("nextgqa", [QUESTION | {"options": "A B"}], "row 1: 'options' should be a list, found text"),
        ("nextgqa", [QUESTION | {"options": [1, 2]}], r"row 1, 'options'\[0\] should be text"),
        ("nextgqa", [QUESTION | {"glue": [[1, 2], 3]}], r"row 1, 'glue'\[1\] should be a list of 2"),
        ("got10k", [{"path": "a", "object": "b"}], "row 1: the key 'gt' is missing"),
        ("got10k", [{"path": "a", "object": "b", "gt": [[1, 2, 3]]}], r"row 1, 'gt'\[0\] should be a list of 4"),
        ("vidtab_quality", [{"video": "a", "answer": "b"}], "row 1: the key 'instruction' is missing"),
        ("vidtab_quality", ["a"], "row 1: expected an object"),
        ("vidtab_quality", "a.mp4 0\nb.mp4 2\n", "line 2: expected '<video> <label>'"),
        ("charades_sta", "A 1 2##x\nA 1##x\n", "line 2: expected '<video> <start> <end>##<sentence>'"),
    ],
)
def test_a_missing_key_or_wrong_type_is_named_with_its_row(tmp_path: Path, name: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CORPORA[name].read(write(tmp_path / "a.json", value), allow_unknown_durations=True)


def test_numbers_that_are_none_are_read_and_reported(tmp_path: Path) -> None:
    text = '{"V": {"duration": 9.0, "timestamps": [[NaN, 1e400], [1, -' + "9" * 400 + ']], "sentences": ["a", "b"]}}'
    samples = CORPORA["charades_sta"].read(write(tmp_path / "a.json", text))
    assert problems(samples) == {"non_finite_number": 2}


# -- problems ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "kinds"),
    [
        (Span(1, 5), []),
        (Span(0, 10), ["whole_video_span"]),
        (Span(-1, 11), ["end_past_duration", "negative_start", "whole_video_span"]),
        (Span(8, 7), ["reversed_span"]),
        (Span(5, 5), ["empty_span"]),
        (Span(10, 10), ["empty_span"]),
        (Span(10, 11), ["end_past_duration"]),
        (Span(11, 12), ["start_past_end", "end_past_duration"]),
        (Span(38, 13), ["reversed_span", "start_past_end", "end_past_duration"]),
        (Span(38, 3), ["reversed_span", "start_past_end"]),
        (Span(math.nan, 3), ["non_finite_number"]),
    ],
)
def test_kinds_of_a_span_in_ten_seconds(span: Span, kinds: list[str]) -> None:
    assert span_kinds(span, 10.0) == kinds


def test_every_kind_can_be_found(tmp_path: Path) -> None:
    def moment(span: Span, duration: float, query: str = "q") -> Sample:
        return Sample("id", "temporal_grounding", Video(path=f"{span}"), query, SpanTarget(span, duration))

    def boxes(*boxes: Box, **extra: Any) -> Sample:
        return Sample("id", "tracking", Video(path=f"{boxes}{extra}"), "duck", BoxesTarget(boxes), extra=extra)

    def pictures(*paths: str) -> Sample:
        return Sample("id", "captioning", Pictures(paths), "q", CaptionTarget("A dog."))

    good = Box(0.1, 0.1, 0.2, 0.2)
    (tmp_path / "empty.mp4").touch()
    broken = Sample("b", "temporal_grounding", Video(path=str(tmp_path / "empty.mp4")), "q", SpanTarget(Span(0, 1), 9))
    samples = [
        moment(Span(38, 13), 12.0),
        moment(Span(5, 5), 12.0),
        moment(Span(-1, 13), 12.0, " "),
        moment(Span(0, 1), math.nan),
        moment(Span(1, 2), 0.0),
        moment(Span(0, math.inf), 4.0),
        Sample("id", "grounded_qa", Video(path="g"), "q", GroundedChoiceTarget(("a", "A ", ""), "D", (), 3.0)),
        Sample("id", "captioning", Video(path="c"), "q", CaptionTarget(" ", ("", "A dog runs."))),
        boxes(good),
        boxes(*[good] * 6, Box(0.5, 0.5, 0.5, 0.6), Box(0.5, 0.5, 1.2, 0.6), num_frames=3, absent=[0, 1]),
        boxes(*[good] * 8, defects={"boxes_not_in_groundtruth": "S", "bad_labels": "cover.label"}),
        boxes(defects={"bad_annotation": "groundtruth.txt"}),
        broken,
        broken,
        dataclasses.replace(broken, target=SpanTarget(Span(0, 2), 9)),
        pictures(str(tmp_path / "empty.mp4"), "gone.jpg"),
        pictures(str(tmp_path / "empty.mp4")),
        Sample("id", "free_form_qa", Video(path="g"), "q", TextTarget("."), extra={"defects": {"no_source": "g"}}),
        Sample("id", "numerical_qa", Video(path="g"), "q", NumberTarget(math.nan, "3 to 5"), response=" "),
    ]
    samples = [dataclasses.replace(sample, id=f"{index}") for index, sample in enumerate(samples)]
    samples[2] = dataclasses.replace(samples[2], id="0#2", extra={"repeats_id": "0"})
    samples[1] = dataclasses.replace(samples[1], query="half an emoji \ufffd")
    report = check_samples(samples, "any", look_for_files=True, probe=lambda video: f"{video.name}: no frames")
    assert list(report.problems) == list(KINDS)
    assert report.to_json()["problems"]["missing_video"] == 11
    assert report.to_json()["problems"]["undecodable_video"] == 1
    assert report.to_json()["num_pictures"] == 2, "different ones"
    text = report.to_text(examples=1)
    assert "38, 13] of 12 s" in text and "empty.mp4: no frames" in text


def test_equal_rows_are_found_without_comparing_all_with_all() -> None:
    class Start(float):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Start.compared += 1
            return float(self) == other

        def __hash__(self) -> int:
            return super().__hash__()

    samples = [
        Sample(
            f"{index}", "temporal_grounding", Video(path="v"), "q", SpanTarget(Span(Start(index % 900), 950.0), 999.0)
        )
        for index in range(1000)
    ]
    assert problems(samples) == {"duplicate_row": 100, "ambiguous_query": 899}
    assert Start.compared < 20 * len(samples)


def test_paths_are_joined_for_files_and_frames() -> None:
    frames = Sample("f", "tracking", Video(frames=("s/1.jpg",), frame_times=(0.0,)), "q", BoxesTarget(()))
    assert with_root(frames, Path("root")).media.frames == ("root/s/1.jpg",)
    assert with_root(frames, None) is frames
