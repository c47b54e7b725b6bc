"""The benchmarks that Video-R1 reports: official files, the authors' rules beside ours, and Video-R1's own form."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.scripted_judge import ScriptedJudge
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source
from videochat_r1.evaluation.benchmarks.tempcompass import official_option
from videochat_r1.evaluation.benchmarks.video_r1 import video_r1_mra
from videochat_r1.evaluation.benchmarks.videommmu import is_open_answer
from videochat_r1.evaluation.benchmarks.videommmu import official_option as videommmu_option
from videochat_r1.evaluation.benchmarks.vsi_bench import mean_relative_accuracy
from videochat_r1.evaluation.scoring.answers import ScoringOptions, score_answers
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.judge import JudgeConfig
from videochat_r1.judge.rule_server import MODEL, RuleJudgeServer
from videochat_r1.sample import ChoiceTarget


def load(name, path, **options):
    return BENCHMARKS[name].load(Source(path, **options))


def evaluate(name, samples, answers, **options):
    predictions = [Prediction(sample.id, text, None, {}) for sample, text in zip(samples, answers, strict=True)]
    options = ScoringOptions(untagged=True, bootstrap=20, **options)
    return score_answers(BENCHMARKS[name], samples, predictions, options).results


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("name", "path", "subset", "count", "first"),
    [
        ("mmvu", "mmvu/validation.json", "all", 1000, "validation_0"),
        ("mmvu", "mmvu", "multiple-choice", 625, "validation_1"),
        ("videommmu", "videommmu", "all", 900, "perception/dev_Biology_3"),
        ("videommmu", "videommmu/adaptation_video.json", "all", 300, "adaptation/dev_Biology_3"),
        ("videommmu", "videommmu", "knowledge_gain", 600, "adaptation/dev_Biology_3"),
        ("tempcompass", "tempcompass", "all", 7540, "multi-choice/1034419625/action/0"),
        ("tempcompass", "tempcompass/yes_no.json", "all", 2453, "yes_no/1034419625/action/0"),
        ("tempcompass", "tempcompass", "caption_matching", 1503, "caption_matching/1034419625/action/0"),
    ],
)
def test_ids_of_the_real_files(shared_dir: Path, name: str, path: str, subset: str, count: int, first: str) -> None:
    samples = load(name, shared_dir / "annotations" / path, subset=subset)
    assert (len(samples), samples[0].id) == (count, first)
    if name == "mmvu":
        assert all("discipline" in BENCHMARKS[name].groups(sample) for sample in samples)
    if subset != "all" or name == "mmvu":
        assert BENCHMARKS[name].num_samples[subset] == count


@pytest.mark.parametrize(
    ("answer", "truth", "official", "video_r1"),
    [(3, 4, 0.6, 0.5), (2, 4, 0.1, 0.0), (5, 4, 0.6, 0.5), (2.85, 3, 1.0, 0.9), (4, 3, 0.4, 0.4), (9, 10, 0.9, 0.9)],
)
def test_mean_relative_accuracy_on_its_thresholds(answer, truth, official, video_r1) -> None:
    assert mean_relative_accuracy(answer, truth) == official
    assert video_r1_mra(f"<answer>{answer}</answer>", truth) == video_r1
    assert video_r1_mra("about three", truth) == video_r1_mra(None, truth) == 0.0


def vsi_row(number, kind, truth, options=None):
    return {"id": number, "dataset": "scannet", "scene_name": "s", "question_type": kind, "question": "q?",
            "ground_truth": truth, "options": options}  # fmt: skip


VSI = [
    vsi_row(0, "object_counting", "4"),
    vsi_row(1, "object_rel_direction_easy", "A", ["A. left", "B. right"]),
    vsi_row(2, "object_rel_direction_hard", "B", ["A. left", "B. right"]),
    vsi_row(3, "route_planning", "A", ["A. left", "B. right"]),
]


def test_vsi_bench_averages_its_tasks(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, VSI)))
    samples = load("vsi_bench", path)
    assert samples[0].media.path == "scannet/s.mp4" and [sample.id for sample in samples] == ["0", "1", "2", "3"]
    results = evaluate("vsi_bench", samples, ["3 chairs", "A", "A", "b. right"])
    metrics = results["metrics"]
    assert metrics["MRA"] == metrics["MRA_official"] == 0.6 and metrics["MRA_video_r1"] == 0.0
    assert metrics["average_official"] == pytest.approx((0.6 + 0.5 + 0.0) / 3)
    assert metrics["average_video_r1"] == pytest.approx((0.0 + 1 / 3) / 2)
    assert metrics["accuracy"] == metrics["accuracy_official"] == pytest.approx(1 / 3)
    assert results["headline"] == "average" and results["baselines"]["random_choice"]["accuracy"] == 0.5
    assert results["by"]["task"]["object_rel_direction"]["average"] == 0.5
    majority = results["baselines"]["majority_answer"]
    assert (majority["MRA"], majority["average"]) == (1.0, pytest.approx((1.0 + 0.5 + 1.0) / 3))
    assert "always 4.0 (object_counting), A, " in results["baseline_notes"]["majority_answer"]
    assert results["baselines"]["random_choice"]["average"] == pytest.approx((0.0 + 0.5 + 0.5) / 3)


VIDEO_R1_ROW = {"problem_id": 7, "problem": "q?", "data_type": "video", "problem_type": "multiple choice", "options": ["A. a", "B. b"],
                "solution": "<answer>B</answer>", "path": "./Evaluation/X/v.mp4", "data_source": "X"}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vsi_bench", "eval_vsibench.json"),
        ("mmvu", "eval_mmvu.json"),
        ("tempcompass", "eval_tempcompass.json"),
        ("videommmu", "eval_videommmu.json"),
        ("videomme", "eval_videomme.json"),
        ("mvbench", "eval_mvbench.json"),
    ],
)
def test_video_r1s_own_form(tmp_path: Path, name: str, file: str) -> None:
    path = write(tmp_path / file, [VIDEO_R1_ROW, VIDEO_R1_ROW | {"problem_id": 8}])
    write(tmp_path / "eval_other.json", [])
    samples = load(name, path)
    assert samples == load(name, tmp_path) and BENCHMARKS[name].files(tmp_path) == [path]
    assert [sample.id for sample in samples] == ["7", "8"]
    assert (samples[0].media.path, samples[0].target) == ("Evaluation/X/v.mp4", ChoiceTarget(("a", "b"), "B"))
    metrics = evaluate(name, samples, ["<answer>B</answer>", "<answer>B.</answer>"])["metrics"]
    assert (metrics["accuracy"], metrics["accuracy_video_r1"]) == (1.0, 0.5)
    with pytest.raises(DataError, match="'problem_type' is 'song'"):
        load(name, write(path, [VIDEO_R1_ROW | {"problem_type": "song"}]))


def test_video_r1_scores_numbers_too(tmp_path: Path) -> None:
    number = VIDEO_R1_ROW | {
        "problem_id": 8,
        "options": [],
        "problem_type": "regression",
        "solution": "<answer>2</answer>",
    }
    samples = load("vsi_bench", write(tmp_path / "eval.json", [VIDEO_R1_ROW, number]))
    assert evaluate("vsi_bench", samples, ["A", "2"])["metrics"]["average_video_r1"] == 0.5
    path = write(tmp_path / "eval.json", [VIDEO_R1_ROW, number | {"problem_type": "numerical"}])
    assert evaluate("videommmu", load("videommmu", path), ["A", "2"])["metrics"]["accuracy_video_r1"] == 0.5
    with pytest.raises(DataError, match="question 8 is neither of options nor of regression"):
        load("vsi_bench", path)


def test_subsets_of_video_r1s_form_are_those_that_its_rows_tell(tmp_path: Path) -> None:
    path = write(tmp_path / "eval.json", [VIDEO_R1_ROW | {"duration": "short"}])
    assert len(load("videomme", path, subset="short")) == len(load("mmvu", path, subset="multiple-choice")) == 1
    for name, subset in (("videomme", "long"), ("mmvu", "open-ended"), ("videommmu", "adaptation")):
        with pytest.raises(DataError, match="holds no sample"):
            load(name, path, subset=subset)


def mmvu_row(number, kind, answer):
    text = "x" if kind == "multiple-choice" else ""
    return {"id": f"validation_{number}", "video": "https://a.b/videos/Art/0.mp4", "question_type": kind, "question": "q?",
            "metadata": {"subject": "Art"}, "choices": {letter: text and f"{text}{letter}" for letter in "ABCDE"},
            "answer": answer}  # fmt: skip


def test_open_questions_of_mmvu_take_a_judge(tmp_path: Path) -> None:
    rows = [mmvu_row(0, "open-ended", "Dolly Zoom"), mmvu_row(1, "multiple-choice", "C")]
    samples = load("mmvu", write(tmp_path / "validation.json", rows))
    assert samples[0].media.path == "Art/0.mp4" and samples[1].target.options[2] == "xC"
    groups = {"question_type": "open-ended", "subject": "Art", "discipline": "Humanities and Social Science"}
    assert BENCHMARKS["mmvu"].groups(samples[0]) == groups
    results = evaluate("mmvu", samples, ["a dolly zoom", "C"])
    assert results["metrics"]["accuracy"] == 1.0 and results["num_unscored"] == 1
    assert (results["task"], results["headline"]) == ("multi_choice_qa", "accuracy")
    assert evaluate("mmvu", samples[:1], ["a dolly zoom"])["headline"] == "accuracy"
    benchmark = BENCHMARKS["mmvu"]
    judged = asyncio.run(benchmark.judge(ScriptedJudge(same=True), "a dolly zoom", samples[0]))
    assert judged.scores == {"accuracy": 1.0, "accuracy_official": 1.0, "parse_rate": 1.0}
    unreadable = asyncio.run(benchmark.judge(ScriptedJudge(), None, samples[0]))
    assert unreadable.scores == {"accuracy": 0.0, "accuracy_official": 0.0, "parse_rate": 0.0}


@pytest.mark.parametrize(
    ("completion", "option", "right"),
    [
        ("C", "C", 1.0),
        ("It cannot be A. So the final answer is xC", "c", 1.0),
        ("<think>C?</think><answer>B</answer>", "B", 0.0),
        ("I cannot tell.", "none", 0.0),
    ],
)
def test_options_of_mmvu_are_officially_read_by_a_judge(tmp_path: Path, completion, option, right) -> None:
    (sample,) = load("mmvu", write(tmp_path / "validation.json", [mmvu_row(1, "multiple-choice", "C")]))
    benchmark = BENCHMARKS["mmvu"]
    assert benchmark.is_left_to_judge(completion, sample)
    judgement = asyncio.run(benchmark.read_with_judge(ScriptedJudge(option=option), completion, sample))
    assert judgement.scores == {"accuracy_official": right}


def test_official_accuracy_of_mmvu_is_of_both_kinds_and_left_out_without_a_judge(tmp_path: Path) -> None:
    rows = [mmvu_row(0, "open-ended", "Dolly Zoom"), *(mmvu_row(number, "multiple-choice", "C") for number in (1, 2))]
    samples = load("mmvu", write(tmp_path / "validation.json", rows))
    answers = ["a dolly zoom", "the answer is (C)", None]
    results = evaluate("mmvu", samples, answers)
    assert "accuracy_official" not in results["metrics"] and results["metrics"]["accuracy"] == 0.5
    assert results["unread"]["no judge was named"] == {"count": 1, "first": ["validation_1"]}
    with RuleJudgeServer() as server:
        judge = JudgeConfig(base_url=server.base_url, model=MODEL, cache_dir=None)
        results = evaluate("mmvu", samples, answers, judge=judge)
    assert results["metrics"]["accuracy_official"] == pytest.approx(2 / 3) and results["unread"] == {}
    assert results["by"]["question_type"]["open-ended"]["accuracy_official"] == 1.0


MATCHING = ChoiceTarget(("Option 1: A man runs.", "Option 2: A man sits."), "A")


@pytest.mark.parametrize(
    ("text", "part", "target", "found"),
    [
        ("B) sits", "multi-choice", ChoiceTarget(("a", "b"), "A"), "B"),
        ("B", "multi-choice", ChoiceTarget(("a", "b"), "A"), "B"),
        ("Because", "multi-choice", ChoiceTarget(("a", "b"), "A"), None),
        ("Not at all", "yes_no", ChoiceTarget(("yes", "no"), "A"), "B"),
        ("Yes, he is", "yes_no", ChoiceTarget(("yes", "no"), "A"), "A"),
        ("Perhaps", "yes_no", ChoiceTarget(("yes", "no"), "A"), None),
        ("", "yes_no", ChoiceTarget(("yes", "no"), "A"), None),
        ("A", "yes_no", ChoiceTarget(("yes", "no"), "A"), None),
        ("So: <answer> A </answer>", "yes_no", ChoiceTarget(("yes", "no"), "A"), "A"),
        (" A. runs", "multi-choice", ChoiceTarget(("a", "b"), "A"), None),
        ("A</s>", "multi-choice", ChoiceTarget(("a", "b"), "A"), "A"),
        ("Caption B matches better.", "caption_matching", MATCHING, None),
        ("Option 2.", "caption_matching", MATCHING, "B"),
        ("A man runs.", "caption_matching", MATCHING, "A"),
        ("1) A man runs.", "caption_matching", MATCHING, "A"),
        ("the second one", "caption_matching", MATCHING, None),
    ],
)
def test_tempcompass_answers_by_its_authors_rules(text, part, target, found) -> None:
    assert official_option(text, part, target) == found


def test_tempcompass_captions_are_judged_by_a_question_about_them(tmp_path: Path) -> None:
    choice = {"question": "What?\nA. runs\n B. sits", "answer": "B. sits"}
    write(tmp_path / "multi-choice.json", {"v": {"action": [choice]}})
    caption = {"question": "Information A: ...", "answer": "A. sits"}
    write(tmp_path / "captioning.json", {"v": {"action": [caption]}})
    samples = load("tempcompass", tmp_path)
    assert [sample.id for sample in samples] == ["multi-choice/v/action/0", "captioning/v/action/0"]
    assert BENCHMARKS["tempcompass"].groups(samples[0]) == {"task": "multi-choice", "aspect": "action"}
    write(tmp_path / "meta_info.json", {"v": {"eval_dim": {"action": {"type": "fine-grained action"}, "order": None}}})
    groups = BENCHMARKS["tempcompass"].groups(load("tempcompass", tmp_path)[1])
    assert groups == {"task": "captioning", "aspect": "action", "type": "fine-grained action"}
    assert samples[0].query == "What?" and samples[0].target == ChoiceTarget(("runs", "sits"), "B")
    results = evaluate("tempcompass", samples, ["B. sits", "He sits."])
    assert results["metrics"]["accuracy_official"] == results["metrics"]["accuracy"] == 1.0
    assert results["num_unscored"] == 1 and list(results["unscored"]) == ["no judge was named"]
    for option, right in (("b", 1.0), ("none", 0.0)):
        scores = asyncio.run(
            BENCHMARKS["tempcompass"].judge(ScriptedJudge(option=option), "He sits.", samples[1])
        ).scores
        assert scores["accuracy"] == right


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B", "B"),
        ("A. or rather B.", "A"),
        ("A. or rather B. blue", "B"),
        ("(A) no, (C)", "C"),
        ("I think it must be a red door", "A"),
        ("no idea", None),
        ("A: and then C: green", "C"),
    ],
)
def test_videommmu_answers_by_its_authors_rule(text: str, found: str | None) -> None:
    assert videommmu_option(text, ("red door", "blue", "green")) == found


def test_videommmu_numbers(tmp_path: Path) -> None:
    row = {"id": "validation_Math_15", "question": "q?", "options": [], "answer": "['24/7', '3.429', '3.43]"}
    rows = {"0": row, "1": row | {"id": "dev_Art_1", "answer": "C"}}
    samples = load("videommmu", write(tmp_path / "adaptation_video.json", {"Adaptation": rows}))
    assert samples[0].media.path == "Science/validation_Math_15.mp4" and samples[1].target.answer == "C"
    results = evaluate("videommmu", samples, ["3.43", "(C)"])
    metrics = results["metrics"]
    assert (metrics["accuracy"], metrics["accuracy_official"], metrics["accuracy_video_r1"]) == (1.0, 0.0, 0.5)
    assert set(results["by"]) == {"track", "domain", "subject"} and "knowledge_gain" not in metrics
    assert evaluate("videommmu", samples, [str(row["answer"]), "C"])["metrics"]["accuracy_official"] == 1.0


@pytest.mark.parametrize(
    ("text", "truth", "right"),
    [
        ("12.97", "12.97", True),
        ("12.974 grams", "12.97", True),
        ("12.98", "12.97", False),
        ("The total is $7,243,000.", "7243000", True),
        ("x = 3 + 1 = 4", "4", True),
        ("x = 5\nno more", "5", True),
        ("x = 5\nthe rest is 7", "5", False),
        ("5 were counted, so it is 6", "5", False),
        ("There are 5 of them, or 6", "6", True),
        ("2.83e0 A", "2.83", True),
        ("about .3 V", "0.3", True),
        ("-10", "10", False),
        ("ten", "10", False),
        ("A", "A", True),
        ("It is point A", "A", True),
        ("(A)", "A", False),
        ("It is a Red Door, I think", "red door", True),
        ("nan", "5", False),
        ("...", "5", False),
    ],
)
def test_videommmu_open_answers_by_its_authors_rule(text: str, truth: str, right: bool) -> None:
    assert is_open_answer(text, truth) is right


@pytest.mark.parametrize(
    ("after", "before", "gain"),
    [
        (("A", "A", "A", "5"), ("A", "A", "B", "6"), 1.0),
        (("A", "A", "A", "6"), ("A", "A", "B", "6"), 0.5),
        (("A", "B", "B", "6"), ("A", "A", "B", "6"), -0.5),
        (("A", "A", "A", "6"), ("A", "A", "A", "5"), None),
    ],
)
def test_knowledge_gain_is_the_share_of_what_was_left_to_learn(tmp_path: Path, after, before, gain) -> None:
    row = {"id": "dev_Art_0", "question": "q?", "options": ["red", "blue"], "answer": "A"}
    rows = [row | {"id": f"dev_Art_{number}"} for number in range(3)]
    rows.append(row | {"id": "dev_Math_3", "options": [], "answer": "5"})
    for track in ("perception", "adaptation"):
        write(tmp_path / f"{track}_video.json", {track.title(): dict(enumerate(rows))})
    assert not [sample for sample in load("videommmu", tmp_path) if sample.id.startswith("before/")]
    samples = load("videommmu", tmp_path, subset="knowledge_gain")
    assert [sample.id for sample in samples[3:5]] == ["adaptation/dev_Math_3", "before/dev_Art_0"]
    assert samples[4].media.path == "question_only/dev_Art_0_image.mp4" and samples[4].query == samples[0].query
    results = evaluate("videommmu", samples, [*after, *before])
    metrics = results["metrics"]
    for suffix in ("", "_official"):
        assert metrics[f"knowledge_gain{suffix}"] == gain
        assert metrics[f"accuracy{suffix}"] == results["by"]["track"]["adaptation"][f"accuracy{suffix}"]
        assert metrics[f"accuracy{suffix}_before"] == results["by"]["track"]["before"][f"accuracy{suffix}_before"]
    assert results["by"]["track"]["before"]["accuracy"] is None
