import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from videochat_r1.commands.quickstart import parser
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.baselines.blind import BlindResult
from videochat_r1.grpo.rollout_file import read_rollouts
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.quickstart import begun
from videochat_r1.quickstart.clock import Clock
from videochat_r1.quickstart.options import QuickstartOptions, families
from videochat_r1.quickstart.run import Quickstart
from videochat_r1.quickstart.summary import Comparison, table
from videochat_r1.quickstart.training import Workshop

TASKS = ["temporal_grounding", "tracking", "grounded_qa"]


def options(folder, **changes):
    few = {"num_train": 32, "num_eval": 2, "sft_flags": ("--max_steps", "3"), "from_scratch": True, "compare": True}
    grpo = "--max_steps 2 --logging_steps 1 --max_completion_length 8 --save_steps 1 --prompts_per_step 16"
    grpo = (*grpo.split(), "--per_device_train_batch_size", "128")
    return QuickstartOptions(output=folder, **{**few, "grpo_flags": grpo, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    return folder, Quickstart(options(folder)).run()


def test_summary_has_the_stated_form(run):
    folder, summary = run
    assert json.loads((folder / "summary.json").read_text()) == summary
    for part, tasks in (("tasks", TASKS), ("longer_videos", ["temporal_grounding", "grounded_qa"])):
        assert sorted(summary[part]) == sorted(tasks)
        for entry in summary[part].values():
            assert entry["headline"] in entry
            for metric in set(entry) - {"headline"}:
                assert set(entry[metric]) == {"blind", "sft", "grpo", "sft_continued", "ci95"}
                low, high = entry[metric]["ci95"]
                assert -1.0 <= low <= high <= 1.0
                assert all(0.0 <= entry[metric][name] <= 1.0 for name in ("blind", "sft", "grpo", "sft_continued"))
    assert summary["seconds"]["total"] >= summary["seconds"]["grpo"] > 0
    # Blind answers always parse; a model of three updates does not.
    assert summary["tasks"]["tracking"]["parse_rate"]["blind"] == 1.0


def test_rollouts_and_answers_are_kept(run):
    folder, _ = run
    groups = list(read_rollouts(folder / "rollouts.jsonl"))
    assert [len(group["rollouts"]) for group in groups] == [8] * (2 * 16)
    assert {group["step"] for group in groups} == {1, 2}
    assert list(folder.rglob("rollouts.jsonl")) == [folder / "rollouts.jsonl"]
    held_out = read_manifest(folder / "data" / "eval.jsonl", folder / "data")
    for model in ("sft", "grpo", "sft_continued"):
        ids = {json.loads(line)["id"] for line in (folder / "samples" / f"eval_{model}.jsonl").open()}
        assert ids == {sample.id for sample in held_out}


def test_models_load_again(run):
    folder, _ = run
    for name in ("sft", "grpo", "sft_continued"):
        model = load_model(folder / "checkpoints" / name)
        assert model.config.model_type == load_config(folder / "checkpoints" / name).model_type == "qwen2_5_vl"
        assert load_processor(folder / "checkpoints" / name).video_token == "<|video_pad|>"


def test_report_is_one_file_with_curves_frames_spans_and_boxes(run):
    folder, summary = run
    text = (folder / "report.html").read_text()
    assert set(re.findall(r'(?:src|href)="([^":]+):', text)) == {"data"}
    assert "<script" not in text
    assert text.count("<polyline") == 2 * 7  # format and iou of three tasks, accuracy of one
    curves = ElementTree.parse(folder / "rewards.svg").getroot()
    assert curves.tag == "{http://www.w3.org/2000/svg}svg"
    drawn = {line.get("points") for line in curves.iter("{http://www.w3.org/2000/svg}polyline")}
    assert drawn == set(re.findall(r'<polyline points="([^"]*)"', text))
    assert text.count("data:image/png;base64,") >= 3 * 8
    assert 'stroke="#2a9d5c"' in text  # a true box
    for entry in summary["tasks"].values():
        assert f"{entry[entry['headline']]['blind']:.3f}" in text


def test_a_run_interrupted_anywhere_goes_on_to_the_same_numbers(run, monkeypatch, caplog):
    folder, first = run
    again = options(folder, overwrite=True, compare=False)
    (folder / "mine.txt").write_text("not of a run")
    with pytest.raises(ConfigError, match=r"summary\.json \(1\); name another --output, or .* --overwrite"):
        Quickstart(options(folder)).run()
    steps, interrupts = [], [("sft_joint", 2), ("grpo", 2), ("answering eval: grpo", 0)]

    def reach(name, step):
        steps.append((name, step))
        if (name, step) in interrupts:
            interrupts.remove((name, step))
            raise KeyboardInterrupt

    on_step_end, answer = Clock.on_step_end, Workshop.answer

    def watched_step(clock, args, state, control, **kwargs):
        reach(Path(args.output_dir).name, state.global_step)
        on_step_end(clock, args, state, control, **kwargs)

    def watched_answer(workshop, model, samples, **kwargs):
        reach(kwargs["description"], 0)
        return answer(workshop, model, samples, **kwargs)

    monkeypatch.setattr(Clock, "on_step_end", watched_step)
    monkeypatch.setattr(Workshop, "answer", watched_answer)
    corpora = set()
    while interrupts:
        with pytest.raises(KeyboardInterrupt, match="the same command goes on with this run"):
            Quickstart(again).run()
        corpora.add((folder / "data" / "eval.jsonl").stat().st_mtime_ns)
    caplog.set_level("INFO")
    second = Quickstart(again).run()
    assert f"the unfinished run in {folder} goes on" in caplog.text
    # A stage without a checkpoint begins again, others go on from their last, and what is finished is not done again.
    assert [name for name, step in steps if step == 0] == [
        f"answering eval: {name}" for name in ("sft", "grpo", "grpo")
    ]
    made = [step for name in ("sft_questions", "sft_joint", "grpo") for step in steps if step[0] == name]
    assert [step for _, step in made] == [1, 2, 3, *(1, 2), *(1, 2, 3), *(1, 2), 2]
    assert corpora == {(folder / "data" / "eval.jsonl").stat().st_mtime_ns}
    assert (folder / "mine.txt").exists()
    assert [group["step"] for group in read_rollouts(folder / "rollouts.jsonl")] == [1] * 16 + [2] * 16
    for task, entry in first["tasks"].items():
        for metric in set(entry) - {"headline"}:
            for column in ("blind", "sft", "grpo", "ci95"):
                assert second["tasks"][task][metric][column] == entry[metric][column], (task, metric, column)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"output": Path("elsewhere"), "overwrite": True}, None),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"compare": True}, "compare was False, is True"),
        ({"family": "qwen3_vl"}, "family was 'qwen2_5_vl', is 'qwen3_vl'"),
        ({"grpo_flags": ("--beta", "1")}, r"grpo_flags was \[\], is \['--beta', '1'\]"),
        ({"git_commit": "b"}, "git_commit was 'a', is 'b'"),
        ({"versions": {"torch": "2"}}, "versions.torch was '1', is '2'"),
        ({"recipe": "beta: 0.5"}, "recipes.grpo.beta was 0.0, is 0.5"),
        (None, "does not say what it was begun with"),
    ],
)
def test_another_run_is_not_gone_on_with_and_the_reason_is_named(tmp_path, monkeypatch, changes, said):
    recipes = tmp_path / "recipes"
    shutil.copytree(QuickstartOptions().recipes, recipes)
    code = {"git_commit": "a", "versions": {"torch": "1"}}

    def with_code(changes):
        monkeypatch.setattr(begun, "git_commit", lambda: (code | changes)["git_commit"])
        monkeypatch.setattr(begun, "package_versions", lambda: (code | changes)["versions"])
        own = {key: value for key, value in changes.items() if key not in (*code, "recipe")}
        return begun.begun_with(QuickstartOptions(**{"recipes": recipes, **own}))

    before = None if changes is None else with_code({})
    changes = changes or {}
    if "recipe" in changes:
        recipe = recipes / "grpo.yaml"
        recipe.write_text(recipe.read_text().replace("beta: 0.0", changes["recipe"]))
    why = begun.why_anew(before, with_code(changes))
    assert why is None if said is None else re.search(said, why)


@pytest.mark.parametrize("family", families())
def test_shipped_starts_are_small_and_speak_the_recipes_language(family):
    start = QuickstartOptions(family=family).shipped_start
    files = [path for path in start.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5e6
    assert load_config(start).model_type == family
    tokenizer = load_processor(start).tokenizer
    boxes = ", ".join(["[0.12, 0.34, 0.56, 0.78]"] * 8)
    assert len(tokenizer(f"<answer>[{boxes}]</answer>")["input_ids"]) <= 60
    assert len(tokenizer("<answer>2.5 to 7.0</answer>")["input_ids"]) == 5


def test_another_family_has_recipes_and_a_start_of_its_own(tmp_path):
    assert families() == ("qwen2_5_vl", "qwen3_vl")
    with pytest.raises(ConfigError, match="no recipes for 'qwen2_vl', only for qwen2_5_vl, qwen3_vl"):
        QuickstartOptions(family="qwen2_vl")
    few = options(tmp_path, family="qwen3_vl", from_scratch=False, compare=False)
    Quickstart(few).run()
    [first, *_] = read_rollouts(tmp_path / "rollouts.jsonl")
    assert "<|vision_start|><|video_pad|><|vision_end|>" in first["prompt"]
    assert load_config(tmp_path / "checkpoints" / "grpo").model_type == "qwen3_vl"


def test_table_aligns_and_marks_headlines():
    rows = {
        model: [{"id": "a", "task": "temporal_grounding", "scores": {"mIoU": value}}]
        for model, value in (("sft", 0.5), ("grpo", 0.625))
    }
    blind = {"temporal_grounding": BlindResult("whole video", {"mIoU": 0.25}, {})}
    tasks = Comparison(blind, rows).tasks()
    assert tasks == {
        "temporal_grounding": {
            "headline": "mIoU",
            "mIoU": {"blind": 0.25, "sft": 0.5, "grpo": 0.625, "ci95": [0.125, 0.125]},
        }
    }
    header, rule, line = table(tasks).splitlines()
    assert len(header) == len(rule) == len(line)
    assert "SFT continued" not in header
    assert line.split()[:6] == ["temporal_grounding", "mIoU", "*", "0.250", "0.500", "0.625"]


def test_bad_choices_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 32 training"):
        QuickstartOptions(num_train=31)
    with pytest.raises(ConfigError, match="--from-scratch"):
        QuickstartOptions(from_scratch=True, start=tmp_path)
    with pytest.raises(ConfigError, match="holds no model; --from-scratch"):
        Quickstart(options(tmp_path / "out", from_scratch=False, start=tmp_path)).run()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["data/mine.txt", "samples/mine.jsonl", "checkpoints/a/b", "summary.json", "quickstart.json"]
)
def test_a_folder_of_somebody_elses_is_refused_and_stays_as_it_is(tmp_path, name, overwrite):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        ConfigError, match=rf"{name.partition('/')[0]} \(1\)\. Move them away, or name another --output"
    ):
        Quickstart(options(tmp_path, overwrite=overwrite)).run()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


def test_overrides_come_as_one_string():
    arguments = parser().parse_args(["--compare", "--grpo=--max_steps 3 --learning_rate 1e-4"])
    assert arguments.grpo == ["--max_steps", "3", "--learning_rate", "1e-4"] and arguments.sft == []
