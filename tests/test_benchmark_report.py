"""`report.html` of a benchmark: what it shows, and that nothing a model wrote becomes markup."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video_files import write_video
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.evaluation.reports.drawing import escaped
from videochat_r1.evaluation.reports.summary import result_table
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.evaluation.scoring.results import write_results
from videochat_r1.geometry import Box, Span
from videochat_r1.sample import BoxesTarget, ChoiceTarget, GroundedChoiceTarget, Pictures, Sample, SpanTarget, Video


def report(folder: Path, benchmark: str, samples: list[Sample], texts: list[str | None], **settings: object) -> str:
    answers = [Prediction(sample.id, text) for sample, text in zip(samples, texts, strict=True)]
    evaluation = score_answers(BENCHMARKS[benchmark], samples, answers, ScoringOptions(bootstrap=20))
    write_results(folder, evaluation, {"model": "some/model", "limit": None, **settings}, samples)
    return (folder / "report.html").read_text()


def moments(videos: Path | None, count: int = 20) -> list[Sample]:
    path = "v.mp4" if videos is None else str(videos / "v.mp4")
    target = SpanTarget(Span(1.0, 3.0), 4.0)
    return [Sample(f"v_{i}", "temporal_grounding", Video(path=path), f"event {i}", target, 4.0) for i in range(count)]


def test_numbers_distribution_and_time_lines(tmp_path: Path) -> None:
    texts: list[str | None] = [f"<answer>{1 + i / 20} to 3</answer>" for i in range(18)] + ["<b>bold</b>", None]
    page = report(tmp_path, "charades_sta", moments(None), texts, video={"fps": 2.0})
    for words in ("whole video", "R1@0.5", "95 % interval", "mIoU per sample", "By span share", "Gao et al. 2017"):
        assert words in page, words
    assert "Best samples" in page and "Worst samples" in page and "Failed samples" in page
    assert "some/model" in page and "<td class=text>video fps</td><td class=text>2.0</td>" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page and "<b>bold" not in page
    assert 'aria-label="time line"' in page and "<image" not in page
    assert page.index("v_0 (mIoU 1.00)") < page.index("v_17 (mIoU")


def test_metrics_of_a_clue_that_nobody_knows_say_of_how_many_they_are(tmp_path: Path) -> None:
    clues = [(Span(1.0, 3.0),), (), (Span(0.0, 2.0),)]
    samples = [
        Sample(
            str(place),
            "grounded_qa",
            Video(path="v.mp4"),
            "which?",
            GroundedChoiceTarget(("a", "b"), "A", spans, 4.0),
            extra={"type": "CW"},
        )
        for place, spans in enumerate(clues)
    ]
    page = report(tmp_path, "nextgqa", samples, ["<answer>A</answer><glue>[(1, 3)]</glue>"] * 3)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"]["mIoU"] == pytest.approx((1 + 1 / 3) / 2) and results["metrics"]["accuracy"] == 1.0
    assert set(results["num_known"].values()) == {2} and not {"accuracy", "parse_rate"} & results["num_known"].keys()
    for text in (page, result_table(results)):
        assert "union_mIoU (of 2)" in text and "Acc@GQA (of 2)" in text and "accuracy (of" not in text
    assert set(results["by"]["type"]["CW"]) == {"num_samples", *results["metrics"]}
    report(tmp_path / "all", "nextgqa", samples[::2], ["<answer>A</answer><glue>[(1, 3)]</glue>"] * 2)
    known = json.loads((tmp_path / "all" / "results.json").read_text())
    assert "num_known" not in known and known["metrics"] == results["metrics"]


def test_blank_answers_and_long_ids_can_be_seen(tmp_path: Path) -> None:
    blank, long = "  \n\t ", "x" * 5000
    texts: list[str | None] = ["y" * 4000] + [blank] * 12 + ["<answer>1 to 3</answer>"]
    samples = moments(None, 14)
    samples[3] = replace(samples[3], id=long)
    page = report(tmp_path, "charades_sta", samples, texts, git_commit="abc123")
    assert escaped(repr(blank)) in page and "… " + "y" * 1500 in page
    assert f"{long[:100]}…, v_4" in page and long[:101] not in page and "v_10, …" in page
    assert "by commit abc123" in page and page.index("Settings") < page.index("Best samples")


def test_a_large_benchmark_costs_no_more_than_its_size(tmp_path: Path) -> None:
    samples = moments(None, 10_000)
    texts: list[str | None] = [f"<answer>1 to {2 + i / 10_000}</answer>" for i in range(10_000)]
    begin = time.process_time()
    report(tmp_path, "charades_sta", samples, texts)
    # About 2 seconds; choosing the examples once took a quadratic number of comparisons.
    assert time.process_time() - begin < 8.0


def test_frames_of_the_videos_are_embedded(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", num_frames=40, fps=10)
    page = report(tmp_path / "out", "charades_sta", moments(tmp_path, 2), ["<answer>1 to 3</answer>", "no"])
    assert page.count("<image") == 2 * 8
    sources = re.findall(r'(?:href|src)="([^"]{0,30})', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)


def test_a_broken_video_costs_its_frames_only(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    page = report(tmp_path / "out", "charades_sta", moments(tmp_path, 1), ["<answer>1 to 3</answer>"])
    assert "<image" not in page and 'aria-label="time line"' in page


@pytest.mark.parametrize(("broken", "count"), [(False, 2), (True, 0)])
def test_pictures_are_embedded_side_by_side(tmp_path: Path, broken: bool, count: int) -> None:
    for name, size in (("a.png", (60, 40)), ("b.png", (20, 90))):
        Image.new("RGB", size).save(tmp_path / name)
    if broken:
        (tmp_path / "b.png").write_bytes(b"no picture")
    pictures = Pictures((str(tmp_path / "a.png"), str(tmp_path / "b.png")))
    target = ChoiceTarget(("a cat", "a dog"), "B")
    sample = Sample("q", "multi_choice_qa", pictures, "what?", target, extra={"type": "CW"})
    page = report(tmp_path / "out", "nextgqa", [sample], ["<answer>B</answer>"])
    assert page.count("<image") == count and "B of (A) a cat, (B) a dog" in page
    row = json.loads((tmp_path / "out" / "samples.jsonl").read_text())
    assert row["images"] == list(pictures.paths) and "video" not in row


def test_tracking_draws_true_and_answered_boxes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:08d}.jpg" for i in range(8)]
    for path in paths:
        Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8)).save(path)
    boxes = (Box(0.1, 0.1, 0.5, 0.5),) * 8
    video = Video(frames=tuple(map(str, paths)), frame_times=tuple(i / 10 for i in range(8)))
    sample = Sample("s", "tracking", video, "cat", BoxesTarget(boxes))
    text = f"<answer>{[[0.1, 0.1, 0.5, 0.5]] * 7}</answer>"
    page = report(tmp_path / "out", "got10k", [sample], [text])
    assert page.count("<image") == 8
    assert page.count('stroke-width="2"') == 8 + 7


def test_grounded_questions_show_options_and_all_clues(tmp_path: Path) -> None:
    target = GroundedChoiceTarget(("a cat", "a dog"), "B", (Span(1, 2), Span(4, 5)), 10.0)
    sample = Sample("q", "grounded_qa", Video(path="v.mp4"), "what?", target, 10.0, extra={"type": "CW"})
    page = report(tmp_path, "nextgqa", [sample], ["<answer>B</answer><glue>[(1, 2), (7, 8)]</glue>"])
    assert "B of (A) a cat, (B) a dog" in page
    assert page.count("truth: ") == 2 and "answer: 7 to 8 s" in page
    assert "union_mIoU per sample" in page and "q (accuracy 1.00, union_mIoU 0.33)" in page
