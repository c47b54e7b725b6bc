"""Video-R1's training files: every type of question, every known defect, what is counted, and what a mixture takes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.video_files import write_video
from videochat_r1.cli import main
from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.check import check_samples
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.mend import mend_all
from videochat_r1.datasets.mixture import Mixture, MixtureEntry
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.sample import ChoiceTarget, NumberTarget, Pictures, Sample, TextTarget, Video

THOUGHT = "<think>Let me look. Hmm, two of them.</think>"
TYPES = ("multiple choice", "numerical", "regression", "free-form", "OCR")
CHOICE = {"problem_type": "multiple choice", "options": ["A. a cat", "B. a dog"], "solution": "<answer>B</answer>"}


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A good row; those with an even number show a picture."""
    shown = {"data_type": "image", "path": f"./Chart/DVQA/{number}.png"}
    if number % 2:
        shown = {"data_type": "video", "path": f"./CLEVRER/videos/{number}.mp4"}
    base = {"problem_id": number, "problem": " What is it? ", "problem_type": "numerical", "options": []}
    return {**base, "solution": "<answer>12</answer>", "data_source": "CLEVRER", **shown, **changes}


GOOD = [
    row(1, **CHOICE),
    row(2, solution="<answer>1,250.5 cm</answer>", data_source="DVQA"),
    row(3, problem_type="regression", solution="<answer>-3.20</answer>"),
    row(4, problem_type="free-form", solution="<answer> Two dogs\nrun. </answer>", data_source="ShareGPT4V"),
    row(5, problem_type="OCR", solution="<answer>EXIT 猫</answer>"),
    row(6, **CHOICE | {"options": ["(A) x", "(B) y", "(C) z"]}),
    row(7, **CHOICE | {"options": ["A) x", "B. y"], "solution": "B"}),
    row(8, **CHOICE | {"options": ["A. Smith", "Jones"]}),
]
DEFECTS = {
    "no_source": row(10, data_source="", path="./Knowledge/ArxivQA/images/1_0.jpg"),
    "missing_picture": row(12, path=None),
    "missing_video": row(13, path=" "),
    "empty_answer": row(14, problem_type="OCR", solution="<answer> . </answer>"),
    "unreadable_number": row(15, solution="<answer>3 to 5</answer>"),
    "answer_not_among_options": row(16, **CHOICE | {"solution": "<answer>C</answer>"}),
    "empty_query": row(17, problem=" "),
    "empty_option": row(19, **CHOICE | {"options": ["A. a", "B. "]}),
    "unfit_response": row(20, process="<think>Never closed"),
    "duplicate_id": row(1, solution="<answer>7</answer>", path="./CLEVRER/videos/other.mp4"),
    "broken_character": row(22, problem="Is it \ud83d?"),
}
KEPT = {"no_source", "empty_option", "duplicate_id", "broken_character"}


def read(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> list[Sample]:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return CORPORA["video_r1"].read(path, **options)


def test_every_type_becomes_a_sample_of_its_task(tmp_path: Path) -> None:
    samples = read(tmp_path, GOOD)
    assert samples[0] == Sample(
        id="1",
        task="multi_choice_qa",
        media=Video(path="CLEVRER/videos/1.mp4"),
        query="What is it?",
        target=ChoiceTarget(("a cat", "a dog"), "B"),
        source="CLEVRER",
    )
    assert samples[1].media == Pictures(("Chart/DVQA/2.png",)) and samples[1].source == "DVQA"
    assert [(sample.task, sample.target) for sample in samples[1:]] == [
        ("numerical_qa", NumberTarget(1250.5, "1,250.5 cm")),
        ("regression", NumberTarget(-3.2, "-3.2")),
        ("free_form_qa", TextTarget("Two dogs\nrun.")),
        ("text_recognition", TextTarget("EXIT 猫")),
        ("multi_choice_qa", ChoiceTarget(("x", "y", "z"), "B")),
        ("multi_choice_qa", ChoiceTarget(("x", "y"), "B")),
        ("multi_choice_qa", ChoiceTarget(("A. Smith", "Jones"), "B")),
    ]
    assert check_samples(samples, "any").problems == {}
    assert read(tmp_path, GOOD, task="regression") == samples[2:3]
    with pytest.raises(ConfigError, match=r"video_r1 serves the tasks .*'regression'.*not 'tracking'"):
        read(tmp_path, GOOD, task="tracking")


@pytest.mark.parametrize("kind", DEFECTS)
def test_every_defect_is_counted_by_kind_and_mended(tmp_path: Path, kind: str) -> None:
    samples = read(tmp_path, [GOOD[0], DEFECTS[kind]])
    assert check_samples(samples, "any").to_json()["problems"] == {kind: 1}
    mended = mend_all(samples)
    assert [sample.id for sample in mended.samples] == [sample.id for sample in samples[: 1 + (kind in KEPT)]]
    assert mended.counts("dropped") == ({} if kind in KEPT else {kind: 1})


def test_a_source_without_a_name_has_that_of_its_folder(tmp_path: Path) -> None:
    paths = ("./Knowledge/ArxivQA/images/1.jpg", "./STAR/1.mp4", "1.mp4")
    assert [sample.source for sample in read(tmp_path, [row(1, data_source="", path=path) for path in paths])] == [
        "ArxivQA",
        "STAR",
        "",
    ]


def test_a_teachers_response_is_its_thought_and_the_solution(tmp_path: Path) -> None:
    (sample,) = read(tmp_path, [row(1, process=f" {THOUGHT}\n")])
    assert sample.response == f"{THOUGHT}\n<answer>12</answer>"
    for process in (None, "", "Two of them.", f"{THOUGHT}{THOUGHT}"):
        samples = read(tmp_path, [row(1, process=process)])
        assert list(check_samples(samples, "any").problems) == ["unfit_response"], process


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "maths"}, "row 2: 'problem_type' is 'maths'; expected one of multiple choice, numerical"),
        ({"data_type": "audio"}, "row 2: 'data_type' is 'audio'; expected video or image"),
        ({"solution": 12}, "row 2: 'solution' should be text, found a number"),
        ({"path": ["a"]}, "row 2: 'path' should be text, found a list"),
        ({"path": "./../a.mp4"}, "sample '2': the path '../a.mp4' leaves the data folder"),
        (CHOICE | {"options": [str(index) for index in range(27)]}, "row 2, 'options' has 27 options"),
        (CHOICE | {"options": None}, "row 2: 'options' should be a list, found null"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, [row(1), row(2, **changes)])
    lacking = row(2)
    del lacking["solution"]
    with pytest.raises(DataError, match=r"row 2: the key 'solution' is missing; found \['data_source'"):
        read(tmp_path, [row(1), lacking])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of `GOOD`, but for one, and annotations of these and all defects."""
    (tmp_path / "CLEVRER" / "videos").mkdir(parents=True)
    (tmp_path / "Chart" / "DVQA").mkdir(parents=True)
    video = write_video(tmp_path / "any.mp4")
    for number in range(1, 8):
        file = tmp_path / row(number)["path"]
        if file.suffix == ".mp4":
            shutil.copy(video, file)
        else:
            Image.new("RGB", (40, 30)).save(file)
    (tmp_path / "all.json").write_text(json.dumps([*GOOD, *DEFECTS.values()]))
    return tmp_path


def test_check_and_prepare_count_by_type_source_and_defect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--dataset", "Video-R1", "--annotations", str(folder / "all.json")]
    assert main(["data", "check", *source, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "dataset": "video_r1",
        "num_videos": 9,
        "num_pictures": 10,
        "num_samples": 19,
        "tasks": {
            "numerical_qa": 9,
            "multi_choice_qa": 6,
            "text_recognition": 2,
            "regression": 1,
            "free_form_qa": 1,
        },
        "sources": {
            "CLEVRER": {"numerical_qa": 7, "multi_choice_qa": 6, "text_recognition": 2, "regression": 1},
            "DVQA": {"numerical_qa": 1},
            "ShareGPT4V": {"free_form_qa": 1},
            "ArxivQA": {"numerical_qa": 1},
        },
        "problems": {kind: 1 for kind in DEFECTS},
    }
    assert main(["data", "check", *source, "--no-decode"]) == 0
    text = capsys.readouterr().out
    assert "9  numerical_qa\n" in text and "1  from ShareGPT4V: free_form_qa 1\n" in text
    assert "1  no_source: no name of the set that the row is from; that of its folder is taken" in text

    source += ["--videos", str(folder), "--output", str(folder / "train.jsonl")]
    assert main(["data", "prepare", *source, "--decode"]) == 0
    meta = json.loads((folder / "train.meta.json").read_text())
    assert (meta["task"], meta["num_published"], meta["num_samples"]) == (None, 19, 7)
    assert meta["tasks"]["multi_choice_qa"] == 3 and meta["sources"]["DVQA"] == {"numerical_qa": 1}
    dropped = {kind: 1 for kind in DEFECTS.keys() - KEPT} | {"missing_picture": 4, "missing_video": 3}
    assert meta["dropped"] == dropped
    assert read_manifest(folder / "train.jsonl") == read(folder, GOOD[:7])
    entry = MixtureEntry(manifest="train.jsonl", videos=".", task="text_recognition")
    assert [sample.id for sample in Mixture([entry], seed=1, root=folder).samples(0)] == ["5"]


def test_a_mixture_takes_all_tasks_or_one_and_videos_or_pictures(folder: Path) -> None:
    def ids(**options: Any) -> set[str]:
        entry = MixtureEntry(dataset="video_r1", annotations="all.json", **options)
        return {sample.id for sample in Mixture([entry], seed=1, root=folder).samples(0)}

    pictures = {"2", "4", "6", "8", "10", "22"}
    videos = {"1", "1#2", "3", "5", "7", "19"}
    assert ids() == pictures | videos
    assert ids(shows="video") == videos and ids(shows="images") == pictures
    assert ids(shows="video", task="regression") == {"3"}
    with pytest.raises(DataError, match=r"no sample of the task 'regression' that shows images"):
        ids(shows="images", task="regression")
    with pytest.raises(ConfigError, match="shows should be video, images or null, got 'image'"):
        ids(shows="image")
