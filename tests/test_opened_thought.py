"""Checkpoints whose chat template opens the thought, and boxes in their own units, from prompts to training and evaluation."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_clue_perception import Scripted
from tests.test_clue_perception import ask as ask_in_passes
from tests.test_sft import make_sft
from tests.tiny_runs import logged_rollouts, make_corpus, make_trainer
from videochat_r1.cli import main
from videochat_r1.evaluation.answering.harness import evaluate
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.grpo import trainer as grpo_trainer
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.load import load_config, load_processor
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.rollout.base import Rollout, SamplingSettings
from videochat_r1.rollout.ended import Ended
from videochat_r1.second_look.question import free_question
from videochat_r1.tasks import TASKS
from videochat_r1.training.loader import LoadedPrompt
from videochat_r1.video.frames import VideoBudget

ASKED = "<|im_start|>assistant\n"
BUDGET = VideoBudget(fps=3.0, max_frames=16, min_pixels=28 * 28, max_pixels=56 * 56)
THOUGHT = "It moves."


def open_thought(model: Path) -> None:
    """Let the chat template of a model folder begin the answer."""
    template = model / "chat_template.jinja"
    text = template.read_text()
    assert text.count("assistant\n'") == 1
    template.write_text(text.replace("assistant\n'", "assistant\n<think>\n'"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("opened")
    for family in FAMILIES:
        build_tiny(path / f"model_{family}", hidden=64, layers=2, vision_hidden=32, family=family)
        open_thought(path / f"model_{family}")
    build_tiny(path / "closed", hidden=64, layers=2, vision_hidden=32)
    return path


def builder(model: Path, **options: Any) -> PromptBuilder:
    return PromptBuilder(load_processor(model), load_config(model), BUDGET, **options)


@pytest.mark.parametrize("layout", ["video_first", "text_first"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_opened_thought_stays_open_or_is_closed(folder: Path, family: str, layout: Any) -> None:
    (sample, *_) = make_corpus(folder, 1)
    thinks = builder(folder / f"model_{family}", thinking=True, layout=layout).build(sample)
    assert thinks.text.endswith(f"{ASKED}<think>\n") and thinks.opened == "<think>\n"
    answers = builder(folder / f"model_{family}", layout=layout).build(sample)
    assert answers.text.endswith(f"{ASKED}<think>\n\n</think>\n\n") and answers.opened == ""
    for thinking in (False, True):
        plain = builder(folder / "closed", thinking=thinking, layout=layout)
        assert plain.build(sample).text.endswith(ASKED) and plain.build(sample).opened == ""
        assert plain.render_text("Say <think>\n").endswith(ASKED)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("model", ["model_qwen3_vl", "closed"])
@pytest.mark.parametrize("box_format", ["normalised", "native"])
def test_what_the_prompt_leaves_to_write_is_judged_as_the_gold_answer(
    folder: Path, model: str, thinking: bool, box_format: Any
) -> None:
    build = builder(folder / model, thinking=thinking, box_format=box_format)
    for sample in make_corpus(folder, 3):
        task, inputs = TASKS[sample.task], build.build(sample)
        gold = task.gold(sample.target, thinking=thinking)
        rest = inputs.remaining(gold)
        assert (inputs.opened + rest).count("<think>") == (inputs.opened + rest).count("</think>") == int(thinking)
        judged = inputs.judged(rest)
        assert task.is_well_formed(judged, sample.target, thinking=thinking)
        assert task.scores(task.parse(judged, sample.target), sample.target)[task.headline] > 0.95
        assert (inputs.box_units is None) == (box_format == "normalised" or not task.has_boxes)


def test_a_smaller_video_is_asked_about_in_its_own_pixels(folder: Path) -> None:
    tracking = make_corpus(folder, 2)[1]
    wide = builder(folder / "closed", box_format="native").build(tracking)
    units = wide.box_units
    assert units is not None and (units.width, units.height) == (56, 56) and "[6, 6, 28, 28]" in wide.text
    tight = builder(folder / "closed", box_format="native", max_prompt_length=wide.num_tokens - 4).build(tracking)
    assert tight.box_units is not None and tight.box_units.width == 28 and "28 pixels wide" in tight.text
    assert "[3, 3, 14, 14]" in tight.text and tight.num_tokens <= wide.num_tokens - 4
    assert tight.judged("[[14, 7, 28, 28]]") == "[[0.5, 0.25, 1.0, 1.0]]"


@pytest.mark.parametrize("family", FAMILIES)
def test_sft_learns_what_the_prompt_leaves_to_be_written(folder: Path, family: str) -> None:
    for thinking, begins in ((True, "</think>\n<answer>"), (False, "<answer>")):
        trainer = make_sft(folder, family=family, prompting={"thinking": thinking})
        tokenizer = trainer.processing_class.tokenizer
        sample = make_corpus(folder, 1)[0]
        inputs = trainer._builder.build(sample)
        ids = trainer._answer_ids(LoadedPrompt(sample, inputs, None))
        gold = TASKS[sample.task].gold(sample.target, thinking=thinking)
        written = begins + gold.partition("<answer>")[2]
        assert ids == [*tokenizer(written)["input_ids"], tokenizer.eos_token_id]
        (think,) = tokenizer("<think>")["input_ids"]
        asked = tokenizer("assistant\n")["input_ids"]
        whole = [*inputs.input_ids.tolist(), *ids]
        begin = max(place for place in range(len(whole)) if whole[place : place + len(asked)] == asked)
        assert whole[begin:].count(think) == 1


class Knowing:
    """An engine that writes, of every four completions, three right answers in the checkpoint's own units and one that is none."""

    def __init__(self, trainer: Any, samples: Any) -> None:
        self._trainer = trainer
        self._samples = {sample.query: sample for sample in samples}

    def generate(self, prompts: Any, *, num_generations: list[int], **unused: Any) -> list[list[Rollout]]:
        asked = zip(prompts, num_generations, strict=True)
        return [[self._rollout(prompt, place) for place in range(count)] for prompt, count in asked]

    def _rollout(self, prompt: Any, place: int) -> Rollout:
        sample = next(sample for query, sample in self._samples.items() if query in prompt.text)
        build, eos = self._trainer._builder, self._trainer.processing_class.tokenizer.eos_token_id
        gold = TASKS[sample.task].gold(sample.target, thinking=build.thinking).replace("<think>", f"<think>{THOUGHT}")
        ids = [*build.answer_ids(prompt.remaining(gold) if place else "no answer"), eos]
        return Rollout(ids, [0.0] * len(ids), Ended.STOP)


HEARD: list[list[str]] = []


async def heard(completions: list[str], **columns: Any) -> list[float]:
    """A reward that is asked while the update goes on, as a judge is."""
    HEARD.append(completions)
    return [float("answer>" in text) for text in completions]


@pytest.mark.parametrize(("family", "thinking"), [("qwen3_vl", True), ("qwen2_5_vl", False)])
def test_an_update_rewards_the_whole_completion_and_boxes_in_fractions(
    folder: Path, tmp_path: Path, family: str, thinking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_corpus(folder, 6)
    entries = [*({"name": name} for name in ("format", "iou", "accuracy")), {"name": f"{__name__}:heard"}]
    prompting = {"thinking": thinking, "box_format": "native"}
    options = {"max_steps": 1, "max_completion_length": 200, "prompts_per_step": 6, "reward_entries": entries}
    trainer = make_trainer(
        folder, samples=samples, family=family, prompting=prompting, output_dir=str(tmp_path), **options
    )
    monkeypatch.setattr(trainer, "_rollout_engine", lambda: nullcontext(Knowing(trainer, samples)))
    # These texts are no samples of the model's own.
    monkeypatch.setattr(grpo_trainer, "refuse_other_sampler", lambda difference, exact: None)
    before = trainer.model.lm_head.weight.detach().clone()
    HEARD.clear()
    trainer.train()
    rows = logged_rollouts(tmp_path)
    assert len(rows) == 24 and {row["task"] for row in rows} == {"temporal_grounding", "tracking", "grounded_qa"}
    for row in rows:
        told = row["generation"] > 0
        assert row["rewards"]["format"] == float(told), row["completion"]
        assert row["completion"].startswith("<think>\n") == thinking and row["completion"].count("<think>") == int(
            thinking
        )
        assert (row["parsed"] is not None) == told
        if told:
            assert row["rewards"]["iou"] > 0.95 and (THOUGHT in row["completion"]) == thinking
        if told and row["task"] == "tracking":
            assert row["parsed"][0] == pytest.approx([0.1, 0.1, 0.5, 0.5], abs=0.02)
    assert [sum(map(len, HEARD)), len(HEARD)] == [24, 1] and sorted(HEARD[0]) == sorted(
        row["completion"] for row in rows
    )
    assert trainer.state.log_history[0]["rewards/format/mean"] == 0.75
    assert not torch.equal(before, trainer.model.lm_head.weight)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation_reads_the_whole_completion(folder: Path, family: str, thinking: bool) -> None:
    samples = make_corpus(folder, 3)
    build = builder(folder / f"model_{family}", thinking=thinking, box_format="native")
    tokenizer = build.processor.tokenizer

    class Engine:
        def generate(self, prompts: Any, **unused: Any) -> list[list[Rollout]]:
            said = []
            for prompt in prompts:
                sample = next(one for one in samples if one.query in prompt.text)
                gold = TASKS[sample.task].gold(sample.target, thinking=thinking)
                said.append(
                    [Rollout([*build.answer_ids(prompt.remaining(gold)), tokenizer.eos_token_id], [], Ended.STOP)]
                )
            return said

    settings = SamplingSettings(max_new_tokens=99, temperature=0.0, eos_token_ids=(tokenizer.eos_token_id,))
    for row in evaluate(Engine(), build, tokenizer, samples, settings, progress=False):
        assert row["scores"][TASKS[row["task"]].headline] > 0.95
        assert row["completion"].startswith("<think>\n") == thinking


@pytest.mark.parametrize("thinking", ["true", "false"])
def test_a_benchmarks_answers_begin_with_the_opened_thought(folder: Path, tmp_path: Path, thinking: str) -> None:
    make_corpus(folder, 1)
    (tmp_path / "test.json").write_text(
        json.dumps({"0": {"duration": 2.0, "timestamps": [[0.5, 1.5]], "sentences": ["it"]}})
    )
    asked = ["--benchmark", "charades_sta", "--annotations", str(tmp_path / "test.json"), "--videos", str(folder)]
    model = ["--model", str(folder / "model_qwen3_vl"), "--device", "cpu", "--dtype", "float32", "--thinking", thinking]
    assert main(["eval", *asked, *model, "--max-new-tokens", "3", "--output", str(tmp_path / "out")]) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert row["prompt"].endswith("<think>\n" if thinking == "true" else "<think>\n\n</think>\n\n")
    assert row["completion"].startswith("<think>\n") == (thinking == "true")


@pytest.mark.parametrize("thinking", [True, False])
def test_both_passes_of_clue_perception_answer_in_whole(folder: Path, thinking: bool) -> None:
    video = make_corpus(folder, 4)[3].media  # 4 s
    options = RunOptions(str(folder / "model_qwen3_vl"), video=BUDGET, thinking=thinking, dtype="float32")
    answerer = Scripted(options, torch.device("cpu"))
    opened = "<think>\n" if thinking else ""
    texts = [f"<answer>{letter}</answer><glue>[(1.0, 2.0)]</glue>" for letter in "AB"]
    texts = [f"{THOUGHT} <answer>C</answer></think>{text}" if thinking else text for text in texts]
    sample = free_question(video, "What is it?", ("cat", "dog"))
    (prediction,) = ask_in_passes(answerer, [sample], [[texts[0]], [texts[1]]])
    passes = prediction.extra["clue_perception"]["passes"]
    assert [one["completion"] for one in passes] == [f"{opened}{text}" for text in texts]
    assert [one["answer"] for one in passes] == ["A", "B"] and prediction.completion == f"{opened}{texts[1]}"
    ends = f"{ASKED}<think>\n" if thinking else f"{ASKED}<think>\n\n</think>\n\n"
    assert all(inputs.text.endswith(ends) for inputs in answerer.asked) and len(answerer.asked) == 2
