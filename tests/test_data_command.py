"""`videochat-r1 data` as a user runs it: what it prints, what it writes, and its exit codes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from videochat_r1.cli import main
from videochat_r1.datasets.check import check_samples
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.problems import KINDS


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of grey at 10 frames per second."""
    path = tmp_path_factory.mktemp("video") / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def corpus(tmp_path: Path, video: Path) -> tuple[Path, Path]:
    """An annotation file and a videos folder: one good video, one missing, one empty, one cut off, one a pipe."""
    spans = {
        "GOOD": [[0.0, 1.0], [1.5, 1.0]],
        "GONE": [[0, 2.0]],
        "ZERO": [[1, 3]],
        "HALF": [[0.5, 1]],
        "PIPE": [[0.5, 1]],
    }
    value = {
        name: {"duration": 2.0, "timestamps": times, "sentences": [f"event {i}" for i in range(len(times))]}
        for name, times in spans.items()
    }
    annotations, videos = tmp_path / "train.json", tmp_path / "videos"
    annotations.write_text(json.dumps(value))
    videos.mkdir()
    shutil.copy(video, videos / "GOOD.mp4")
    (videos / "ZERO.mp4").touch()
    os.mkfifo(videos / "PIPE.mp4")
    (videos / "HALF.mp4").write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    return annotations, videos


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """Captions of one good picture, of one beside a missing one, of a cut one, and of a video."""
    folder = tmp_path / "videos"
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), 90, dtype=np.uint8)).save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:-30])
    rows = [{"images": names, "caption": "Grey."} for names in (["good.png"], ["good.png", "gone.jpg"], ["cut.png"])]
    rows = [{**row, "id": str(number)} for number, row in enumerate([*rows, {"video": "gone.mp4", "caption": "Grey."}])]
    (tmp_path / "pictures.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "pictures.jsonl", folder


def data(*arguments: Any) -> int:
    return main(["data", *map(str, arguments)])


def test_pictures_that_cannot_be_read_are_reported_and_left_out(
    pictures: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--dataset", "captions", "--annotations", pictures[0], "--videos", pictures[1]]
    assert data("check", *source, "--json") == 0
    found = {"missing_video": 1, "missing_picture": 1, "undecodable_picture": 1}
    counts = {"dataset": "captions", "num_videos": 1, "num_pictures": 3, "num_samples": 4}
    assert json.loads(capsys.readouterr().out) == counts | {"problems": found}
    assert data("check", *source) == 0
    text = capsys.readouterr().out
    assert (
        "captions: 1 video, 3 pictures, 4 samples" in text and "gone.jpg" in text and "cut.png: cannot be read" in text
    )
    assert data("prepare", *source, "--decode", "--output", tmp_path / "out.jsonl") == 0
    assert "1 of 4 samples, 0 videos, 1 picture" in capsys.readouterr().out
    assert [sample.media.files for sample in read_manifest(tmp_path / "out.jsonl")] == [("good.png",)]
    assert json.loads((tmp_path / "out.meta.json").read_text())["dropped"] == found


def test_check_prints_one_json_object(corpus: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    annotations, videos = corpus
    assert data("check", "--dataset", "charades_sta", "--annotations", annotations, "--json") == 0
    expected = {"reversed_span": 1, "end_past_duration": 1, "whole_video_span": 1}
    counts = {"dataset": "charades_sta", "num_videos": 5, "num_samples": 6}
    assert json.loads(capsys.readouterr().out) == counts | {"problems": expected}

    source = ["--dataset", "Charades-STA", "--annotations", annotations, "--videos", videos]
    assert data("check", *source, "--json", "--workers", 2) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == counts | {"problems": expected | {"missing_video": 1, "undecodable_video": 3}}

    assert data("check", *source, "--json", "--no-decode") == 0
    assert json.loads(capsys.readouterr().out)["problems"] == expected | {"missing_video": 1}


def test_check_shows_examples(corpus: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    annotations, videos = corpus
    assert data("check", "--dataset", "charades_sta", "--annotations", annotations, "--videos", videos) == 0
    text = capsys.readouterr().out
    assert "charades_sta: 5 videos, 6 samples" in text
    assert "GOOD_1: [1.5, 1] of 2 s" in text and "GONE.mp4" in text and "0 bytes" in text


def test_durations_are_read_from_the_videos(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, videos = tmp_path / "train.txt", tmp_path / "videos"
    text.write_text("GOOD 0.0 1.0##a\nGOOD 1.5 2.5##b\nBAD 0.0 1.0##c\n")
    videos.mkdir()
    shutil.copy(video, videos / "GOOD.mp4")
    (videos / "BAD.mp4").write_text("no video")
    source = ["--dataset", "charades_sta", "--annotations", text, "--videos", videos]
    assert data("check", *source, "--json") == 0
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert problems == {"end_past_duration": 1, "unknown_duration": 1, "undecodable_video": 1}
    output = tmp_path / "train.jsonl"
    assert data("prepare", *source, "--output", output) == 0
    samples = read_manifest(output)
    assert [sample.id for sample in samples] == ["GOOD_0", "GOOD_1"]
    assert samples[0].duration == pytest.approx(2.0)
    assert samples[1].target.span.end == pytest.approx(2.0)  # type: ignore[union-attr]


def test_frames_of_a_sequence_are_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for name in ("S1", "S2"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "groundtruth.txt").write_text("1,1,20,20\n" * 9)
        (folder / "meta_info.ini").write_text("[METAINFO]\nobject_class: duck\nresolution: (64, 48)\n")
        for number in range(1, 10):
            Image.new("RGB", (64, 48)).save(folder / f"{number:08d}.jpg")
    (tmp_path / "S2" / "00000009.jpg").write_text("no image")
    assert data("check", "--dataset", "got10k", "--annotations", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["problems"] == {"undecodable_video": 1}
    output = tmp_path / "out.jsonl"
    assert data("prepare", "--dataset", "got10k", "--annotations", tmp_path, "--output", output, "--decode") == 0
    (sample,) = read_manifest(output, tmp_path)
    assert sample.id == "S1" and all(Path(frame).is_file() for frame in sample.media.frames)
    assert "1 of 2 samples" in capsys.readouterr().out


def test_prepare_drops_and_says_so(corpus: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    annotations, videos = corpus
    output = annotations.parent / "out" / "train.jsonl"
    source = ["--dataset", "charades_sta", "--annotations", annotations]
    assert data("prepare", *source, "--output", output) == 0
    assert [sample.id for sample in read_manifest(output)] == ["GOOD_0", "GONE_0", "ZERO_0", "HALF_0", "PIPE_0"]
    assert data("prepare", *source, "--videos", videos, "--output", output, "--overwrite") == 0
    assert [sample.id for sample in read_manifest(output)] == ["GOOD_0", "ZERO_0", "HALF_0", "PIPE_0"]
    capsys.readouterr()
    assert data("prepare", *source, "--videos", videos, "--output", output, "--decode", "--overwrite") == 0
    assert [sample.id for sample in read_manifest(output)] == ["GOOD_0"]
    text = capsys.readouterr().out
    assert "1 of 6 samples, 1 video\n" in text and "3  dropped: undecodable_video" in text
    assert {file.name for file in output.parent.iterdir()} == {"train.jsonl", "train.meta.json", "train.changes.jsonl"}


def test_ids_come_in_file_order(corpus: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--benchmark", "--dataset"):
        assert data("ids", flag, "charades_sta", "--annotations", corpus[0]) == 0
        assert capsys.readouterr().out == "GOOD_0\nGOOD_1\nGONE_0\nZERO_0\nHALF_0\nPIPE_0\n"


def test_ids_survive_a_closed_pipe(tmp_path: Path) -> None:
    rows = {f"v{i}": {"duration": 2, "timestamps": [[0, 1]], "sentences": ["a"]} for i in range(12000)}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    command = [sys.executable, "-m", "videochat_r1.cli", "data", "ids", "--benchmark", "charades_sta"]
    process = subprocess.Popen(
        [*command, "--annotations", str(tmp_path / "a.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"v0_0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("kind", "tasks", "num_videos"),
    [((), {"temporal_grounding", "grounded_qa", "tracking"}, 2), (("--kind", "order"), {"multi_choice_qa"}, 3)],
)
def test_a_synthetic_corpus_is_written_and_can_be_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: tuple[str, ...], tasks: set[str], num_videos: int
) -> None:
    sizes = ("--num-train", 2, "--num-eval", 1, "--workers", 1)
    assert data("synthesize", *kind, "--output", tmp_path, *sizes) == 0
    samples = {name: read_manifest(tmp_path / f"{name}.jsonl", tmp_path) for name in ("train", "eval")}
    printed = capsys.readouterr().out
    for name, read in samples.items():
        assert f"{name}.jsonl: {len(read):,} samples" in printed
        assert {sample.task for sample in read} == tasks
    report = check_samples(samples["eval"], "synthetic", look_for_files=True)
    assert report.num_videos == num_videos and report.problems == {}


@pytest.mark.parametrize("ending", ["jsonl", "meta.json", "changes.jsonl"])
def test_prepare_replaces_nothing_unless_told_to(corpus, tmp_path, capsys, ending: str) -> None:
    mine = tmp_path / f"out.{ending}"
    mine.write_text("mine")
    command = ["prepare", "--dataset", "charades_sta", "--annotations", corpus[0], "--output", tmp_path / "out.jsonl"]
    assert data(*command) == 2
    assert f"out.{ending} (1); name another --output" in capsys.readouterr().err
    assert mine.read_text() == "mine" and [path.name for path in tmp_path.glob("out.*")] == [mine.name]
    assert data(*command, "--overwrite") == 0
    assert mine.read_text() != "mine"


@pytest.mark.parametrize("name", ["train.jsonl", "eval_captions.meta.json", "videos/eval_track_00000.mp4"])
def test_synthesize_replaces_nothing_unless_told_to(tmp_path, capsys, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    command = ["synthesize", "--output", tmp_path, "--num-train", 1, "--num-eval", 1, "--workers", 1]
    assert data(*command) == 2
    assert f"{name} (1); name another --output" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine] and mine.read_text() == "mine"
    assert data(*command, "--overwrite") == 0


def test_an_empty_corpus_is_not_called_free_of_problems(tmp_path, capsys) -> None:
    (tmp_path / "a.json").write_text("[]")
    assert data("check", "--dataset", "captions", "--annotations", tmp_path / "a.json") == 0
    assert capsys.readouterr().out == "captions: 0 videos, 0 samples: the annotations are empty\n"


@pytest.mark.parametrize("content", ["é", "\ud83d"])
def test_names_that_the_console_cannot_print_end_no_command(tmp_path, content: str) -> None:
    row = {"video": "猫.mp4", "caption": f"A cat {content}.", "id": f"猫 {content}", "events": [""]}
    (tmp_path / "a.json").write_text(json.dumps([row]))
    command = [
        sys.executable,
        "-m",
        "videochat_r1.cli",
        "data",
        "check",
        "--dataset",
        "captions",
        "--annotations",
        "a.json",
    ]
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""
    assert r"\u732b" in done.stdout and "empty_event" in done.stdout


def test_the_page_lists_every_kind_of_problem(project_root: Path) -> None:
    page = (project_root / "docs" / "data.md").read_text()
    for kind, meaning in KINDS.items():
        assert f"| `{kind}` | {meaning} |" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "--dataset", "charade_sta", "--annotations", "x.json"], "did you mean 'charades_sta'"),
        (["check", "--dataset", "nextgqa", "--annotations", "x.json"], "x.json does not exist"),
        (["check", "--dataset", "nextgqa", "--annotations", "x.json", "--task", "tracking"], "serves the tasks"),
        (["check", "--dataset", "nextgqa", "--annotations", "x.json", "--videos", "nowhere"], "videos folder nowhere"),
        (["synthesize", "--output", "taken"], "cannot be written to taken"),
        (["synthesize", "--output", "new", "--seed", "-1"], "seed"),
        (["synthesize", "--output", "new", "--num-train", "0", "--num-eval", "0"], "not all 0"),
    ],
)
def test_wrong_input_ends_with_2_and_the_mend(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    assert data(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_a_real_video_of_the_test_split_is_found_and_decoded(
    shared_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, videos = shared_dir / "annotations/charades_sta/test.json", shared_dir / "videos/charades_sta"
    source = ["--dataset", "charades_sta", "--annotations", annotations, "--videos", videos]
    assert data("check", *source, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["problems"] == {"end_past_duration": 562, "missing_video": 1333}


def test_the_command_does_not_wait_for_torch() -> None:
    code = "import sys, videochat_r1.commands.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("videochat_r1.commands.data.main", interrupted)
    assert main(["data", "check"]) == 130
    assert capsys.readouterr().err.strip() == "videochat-r1 data: interrupted"


def test_a_broken_pipe_that_is_not_stdouts_is_no_success(monkeypatch, capfd):
    def broken(argv):
        raise BrokenPipeError

    monkeypatch.setattr("videochat_r1.commands.data.main", broken)
    with pytest.raises(BrokenPipeError):
        main(["data", "check"])
