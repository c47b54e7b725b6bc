"""Clue-perception on a tiny model: what the second pass sees and at which positions, which answer stands, both commands."""

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.video_files import number_of, write_video
from videochat_r1.chat.desk import Reply
from videochat_r1.chat.question import Question
from videochat_r1.chat.talker import ModelTalker
from videochat_r1.cli import main
from videochat_r1.commands.ask import as_text
from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.evaluation.answering.passes import CluePerception
from videochat_r1.evaluation.answering.prompt_stream import stream_batches
from videochat_r1.evaluation.scoring.predictions import Prediction
from videochat_r1.geometry import Span
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.second_look import second_look
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
from videochat_r1.rollout.base import Rollout
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import ChoiceTarget, Pictures, Sample, Video
from videochat_r1.second_look.options import ClueOptions, ClueTime
from videochat_r1.second_look.question import TASK, clue_question, free_question, free_template
from videochat_r1.second_look.view import Look, Plan, closer_prompt
from videochat_r1.training.loader import load_prompt
from videochat_r1.video.frames import VideoBudget, load_frames

# 10 s at 8 fps; frame k shows the number k.
BUDGET = VideoBudget(fps=1.0, max_frames=32, min_pixels=28 * 28, max_pixels=56 * 28, backend="pyav", isolation="none")
SIDES = {"qwen2_vl": 28, "qwen2_5_vl": 28, "qwen3_vl": 32}
"""Pixels of a token's side in each family."""
OPTIONS = ClueOptions(resolution_boost=2.0, fps_boost=2.0, padding=0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_tiny(folder / "model", hidden=64, layers=2, vision_hidden=32)
    write_video(folder / "video.mp4", num_frames=80, fps=8)
    return folder


class Scripted(Answerer):
    """Says what it is told, pass after pass, and remembers what it was asked."""

    script: list[list[str]]
    asked: list[PromptInputs]

    def complete(self, inputs: Sequence[PromptInputs], sampling: Any, names: Sequence[str]) -> list[Rollout]:
        if not inputs:
            return []
        self.asked += inputs
        said = self.script.pop(0)
        assert len(said) == len(inputs)
        ids = [[*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id] for text in said]
        return [Rollout(tokens, [0.0] * len(tokens), Ended.STOP) for tokens in ids]


@pytest.fixture(scope="module")
def answerer(world: Path) -> Scripted:
    options = RunOptions(str(world / "model"), video=BUDGET, max_new_tokens=8, dtype="float32")
    return Scripted(options, torch.device("cpu"))


def model_of(world: Path, family: str) -> str:
    """The folder of a tiny model."""
    if not (world / family).exists():
        build_tiny(world / family, hidden=64, layers=2, vision_hidden=32, family=family)
    return str(world / family)


def answerer_of(world: Path, family: str, **options: Any) -> Scripted:
    """With the budget in tokens of the family: frames of 2 x 1 at first."""
    side = SIDES[family]
    video = replace(BUDGET, min_pixels=side * side, max_pixels=2 * side * side)
    asked = RunOptions(model_of(world, family), video=video, max_new_tokens=8, dtype="float32", **options)
    return Scripted(asked, torch.device("cpu"))


def question(world: Path, name: str = "q") -> Sample:
    return free_question(Video(path=str(world / "video.mp4")), "What is it?", ("cat", "dog"), name=name)


def ask(answerer: Scripted, samples: list[Sample], script: list[list[str]], options: ClueOptions = OPTIONS, **more: Any) -> list[Prediction]:  # fmt: skip
    answerer.script, answerer.asked = [list(part) for part in script], []
    with CluePerception(answerer, options, **more) as passes:
        found = passes.answer([load_prompt(answerer.builder, sample) for sample in samples])
    assert not answerer.script, "every pass of the script was asked for"
    return found


def said(answer: str, *clues: tuple[float, float]) -> str:
    return f"<answer>{answer}</answer><glue>{[*clues]}</glue>"


@pytest.mark.parametrize("family", SIDES)
def test_the_second_answer_stands_and_everything_is_recorded(world: Path, family: str) -> None:
    side, answerer = SIDES[family], answerer_of(world, family)
    first, second = said("A", (2.5, 3.5), (3, 4.5)), said("B", (3, 4))
    (found,) = ask(answerer, [question(world)], [[first], [second]])
    record = found.extra["clue_perception"]
    assert found.completion == second and record["answered_by"] == 1 and "problem" not in record
    coarse, close = record["passes"]
    assert (coarse["completion"], coarse["answer"], coarse["clues"]) == (first, "A", [[2.5, 3.5], [3.0, 4.5]])
    assert (close["completion"], close["answer"], close["clues"]) == (second, "B", [[3.0, 4.0]])
    assert coarse["saw"] == {"segments": [], "time": "absolute", "times": [], "num_frames": 10, "fps": 1.0, "rest_fps": 1.0, "frame_size": [2 * side, side], "num_tokens": 10}  # fmt: skip
    # 2 to 5 s at 2 fps; width and height doubled.
    assert close["saw"] == {"segments": [[2.0, 5.0]], "time": "absolute", "times": [2.0, 2.5, 3.0, 3.5, 4.0, 4.5], "num_frames": 6, "fps": 2.0, "rest_fps": 0.0, "frame_size": [4 * side, 2 * side], "num_tokens": 24}  # fmt: skip
    prompt, again = answerer.asked
    assert prompt.text == again.text
    assert [one.media[0].num_tokens for one in (prompt, again)] == [10, 24]


STARTS = {
    "absolute": ([0, 1, 2], [4, 6, 12], ["2.2", "3.2", "6.3"]),
    "relative": ([0, 1, 2], [0, 2, 4], ["0.2", "1.2", "2.3"]),
    "dense": ([0, 1, 2, 3, 4, 5], [0, 4, 6, 8, 12, 14], ["0.5", "2.2", "3.2", "4.5", "6.3", "7.9"]),
}
"""Steps, positions at 2 a second and written times of segments 2 to 4 and 6 to 7.25 s with two instants each second, whose pairs
begin at 2, 3 and 6 s. The rest of the 10 s has an instant each second, in pairs from 0 and 4 s, and one pair from 7.25 and 8.625 s."""


@pytest.mark.parametrize("time", STARTS)
@pytest.mark.parametrize("family", SIDES)
def test_frames_stand_at_their_times(world: Path, family: str, time: ClueTime) -> None:
    answerer, (steps, positions, written) = answerer_of(world, family), STARTS[time]
    clues = said("A", (2.5, 3.5), (6.5, 6.75))
    (found,) = ask(answerer, [question(world)], [[clues], [said("B")]], replace(OPTIONS, time=time))
    assert found.extra["clue_perception"]["passes"][1]["saw"]["segments"] == [[2.0, 4.0], [6.0, 7.25]]
    inputs = answerer.asked[1]
    if family == "qwen3_vl":
        first, again = (
            re.findall(r"<([\d.]+) seconds>", answerer.tokenizer.decode(one.input_ids)) for one in answerer.asked
        )
        assert first == ["0.5", "2.5", "4.5", "6.5", "8.5"] and again == written
        return
    video = inputs.input_ids == answerer.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    times = inputs.position_ids[0, video] - int(video.nonzero()[0])
    assert times.unique().tolist() == (steps if family == "qwen2_vl" else positions)
    after = int(video.nonzero()[-1]) + 1
    assert int(inputs.position_ids[0, after]) == int(inputs.position_ids[:, :after].max()) + 1


@pytest.mark.parametrize("time", STARTS)
@pytest.mark.parametrize("family", SIDES)
def test_a_longer_text_leaves_less_for_the_video(world: Path, family: str, time: ClueTime) -> None:
    """A look at all of the video has twice as many pairs of frames, so twice as many times where they are written."""
    plain = answerer_of(world, family)
    prompt = load_prompt(plain.builder, question(world))
    assert prompt.inputs is not None
    limit = prompt.inputs.num_tokens + 30
    answerer = answerer_of(world, family, max_prompt_length=limit)
    clue = (3, 8) if time == "dense" else (0, 10)
    ask(answerer, [question(world)], [[said("A", clue)], [said("B")]], replace(OPTIONS, time=time))
    first, again = answerer.asked
    assert first.num_tokens == limit - 30 and limit - 25 < again.num_tokens <= limit


def test_the_frames_are_those_of_the_segments(world: Path, answerer: Scripted) -> None:
    times = (2.0, 2.5, 6.0, 6.5)
    look = Look((Span(2, 3), Span(6, 7)), "absolute", 4, 2.0, 0.0, (56, 28), 4, times)
    seen = []

    def load(*arguments: Any, **options: Any) -> Any:
        frames = load_frames(*arguments, **options)
        seen.extend(number_of(image) for image in frames.pixels.permute(0, 2, 3, 1).numpy())
        return frames

    video = Video(path=str(world / "video.mp4"))
    text = answerer.builder.render_text("?")
    inputs = closer_prompt(answerer.builder, video, text, Plan(look, BUDGET), load=load)
    assert seen == [16, 20, 48, 52]
    assert inputs.media[0].grid == (2, 2, 4)


@pytest.mark.parametrize(
    "first",
    [
        said("A"),
        said("A", (4, 4), (6, 5)),
        said("A", (50, 60)),
        "<answer>A</answer>",
        "no idea",
    ],
)
def test_without_a_valid_clue_the_first_answer_stands(world: Path, answerer: Scripted, first: str) -> None:
    (found,) = ask(answerer, [question(world)], [[first]])
    assert found.completion == first
    assert found.extra["clue_perception"]["answered_by"] == 0
    assert len(found.extra["clue_perception"]["passes"]) == 1


def test_an_answer_that_cannot_be_read_replaces_none(world: Path, answerer: Scripted) -> None:
    first = said("A", (2, 3))
    (found,) = ask(answerer, [question(world)], [[first], ["hm"]])
    assert found.completion == first and found.extra["clue_perception"]["answered_by"] == 0
    assert found.extra["clue_perception"]["passes"][1]["completion"] == "hm"


def test_only_questions_with_clues_are_asked_again(world: Path, answerer: Scripted) -> None:
    samples = [question(world, name) for name in ("a", "b", "c")]
    gone = replace(question(world, "gone"), media=Video(path="gone.mp4"))
    found = ask(answerer, [*samples, gone], [[said("A"), said("A", (1, 2)), said("B")], [said("B")]])
    assert [one.id for one in found] == ["a", "b", "c", "gone"]
    assert [one.extra.get("clue_perception", {}).get("answered_by") for one in found] == [0, 1, 0, None]
    assert found[3].completion is None and found[3].failure == "video_error"


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("time", STARTS)
def test_rounds_follow_the_latest_clues_and_boost_once_more(
    world: Path, answerer: Scripted, time: ClueTime, rounds: int
) -> None:
    """The second answer names 4 to 5 s, in the time of what it saw: 2 to 6 s."""
    again = said("A", (2, 3) if time == "relative" else (4, 5))
    script = [[said("A", (2, 6))], [again], [said("B")]][: rounds + 1]
    (found,) = ask(answerer, [question(world)], script, replace(OPTIONS, rounds=rounds, time=time, padding=0.0))
    record = found.extra["clue_perception"]
    looks = [one["saw"] for one in record["passes"]]
    assert record["answered_by"] == len(looks) - 1 == min(rounds, 2)
    assert [look["segments"] for look in looks] == [[], [[2.0, 6.0]], [[4.0, 5.0]]][: rounds + 1]
    assert [look["fps"] for look in looks] == [1.0, 2.0, 4.0][: rounds + 1]
    assert all((look["rest_fps"] > 0.0) == (time == "dense") for look in looks[1:])
    if rounds > 1:
        assert looks[2]["frame_size"] == [140, 56]  # the video's own 128 x 64, rounded to the factor


def test_clues_of_a_clip_are_told_in_the_time_of_the_video(world: Path, answerer: Scripted) -> None:
    script = [[said("A", (2, 4), (7, 9))], [said("B", (1.0, 3.5))]]
    (found,) = ask(answerer, [question(world)], script, replace(OPTIONS, time="relative", padding=0.0))
    assert found.completion == "<answer>B</answer><glue>[(3.0, 4.0), (7.0, 8.5)]</glue>"
    assert found.extra["clue_perception"]["passes"][1]["completion"] == script[1][0]


@pytest.mark.parametrize("time", STARTS)
def test_tokens_of_the_second_pass_are_limited(world: Path, answerer: Scripted, time: ClueTime) -> None:
    options = replace(OPTIONS, max_tokens=12, time=time)
    (found,) = ask(answerer, [question(world)], [[said("A", (0, 9))], [said("B")]], options)
    assert found.extra["clue_perception"]["passes"][1]["saw"]["num_tokens"] <= 12


def test_a_video_that_fails_later_leaves_the_first_answer(world: Path, answerer: Scripted, tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", num_frames=16, fps=8)
    prompt = load_prompt(answerer.builder, replace(question(world), media=Video(path=str(tmp_path / "v.mp4"))))
    (tmp_path / "v.mp4").unlink()
    answerer.script, answerer.asked = [[said("A", (0, 1))]], []
    with CluePerception(answerer, OPTIONS) as passes:
        (found,) = passes.answer([prompt])
    assert found.extra["clue_perception"]["answered_by"] == 0
    assert "v.mp4" in found.extra["clue_perception"]["problem"]


def test_a_free_question_is_answered_in_words(world: Path) -> None:
    options = RunOptions(str(world / "model"), video=BUDGET, max_new_tokens=8, dtype="float32")
    answerer = Scripted(options, torch.device("cpu"), templates={TASK.name: free_template(thinking=False)})
    sample = free_question(Video(path=str(world / "video.mp4")), "Who {comes} in?")
    (found,) = ask(answerer, [sample], [[said("a man", (2, 3))], [said("a tall man", (2, 3))]])
    assert found.extra["clue_perception"]["passes"][1]["answer"] == "a tall man"
    assert "Who {comes} in?" in answerer.asked[0].text


def test_other_tasks_have_no_clues(world: Path) -> None:
    choice = Sample("c", "multi_choice_qa", Video(path="v"), "q", ChoiceTarget(("x", "y"), "B"), 3.0)
    asked = clue_question(choice)
    assert asked.task == "grounded_qa" and asked.target.options == ("x", "y") and asked.id == "c"
    assert clue_question(asked) is asked
    with pytest.raises(ConfigError, match=r"parts of a video; sample 'c' shows pictures \(a\.png \(\+1 pictures\)\)"):
        clue_question(replace(choice, media=Pictures(("a.png", "b.png"))))


@pytest.fixture(scope="module", params=SIDES)
def talkers(request: pytest.FixtureRequest, world: Path) -> list[ModelTalker]:
    """One with each engine."""
    model = model_of(world, request.param)
    run = RunOptions(model, video=BUDGET, max_new_tokens=8, dtype="float32")
    return [ModelTalker(replace(run, engine=engine), torch.device("cpu")) for engine in ("transformers", "vllm")]


@contextmanager
def drawn_by(talker: ModelTalker) -> Iterator[list[Rollout]]:
    """All that its model writes."""
    rollouts: list[Rollout] = []
    complete = talker.answerer.complete

    def listening(*arguments: Any) -> list[Rollout]:
        found = complete(*arguments)
        rollouts.extend(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(talker.answerer, "complete", listening)
        yield rollouts


def assert_same(ours: Sequence[Rollout], theirs: Sequence[Rollout]) -> None:
    assert [one.completion_ids for one in ours] == [one.completion_ids for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.logps == pytest.approx(other.logps, abs=1e-4)


@pytest.mark.vllm
def test_absolute_time_with_vllm(world: Path, talkers: list[ModelTalker]) -> None:
    """Positions travel with every prompt, so a jump in time needs no engine of its own."""
    spans = [Span(1.0, 2.0), Span(6.0, 8.0)]

    def passes(talker: ModelTalker) -> list[Rollout]:
        prompt = load_prompt(talker.answerer.builder, question(world))
        with (
            drawn_by(talker) as drawn,
            CluePerception(talker.answerer, OPTIONS, look_at=lambda *_: spans) as looks,
        ):
            looks.answer([prompt])
        return drawn

    ours, theirs = map(passes, talkers)
    assert_same(ours, theirs)
    assert len(ours) == 2


@pytest.mark.vllm
def test_answers_with_vllm_are_those_of_questions_alone(world: Path, talkers: list[ModelTalker]) -> None:
    """Questions about one video, which a batch shares, between which there is one about another."""
    answerer = talkers[1].answerer
    asked = [replace(question(world, name), query=f"What {name}?") for name in ("moves", "is left", "stands", "comes")]
    other = replace(asked[2], media=replace(asked[2].video, start=1.0, end=6.0))
    prompts = [load_prompt(answerer.builder, sample) for sample in (*asked[:2], other, asked[3])]
    with drawn_by(talkers[1]) as together:
        answerer.answer(prompts)
    with drawn_by(talkers[1]) as alone:
        for prompt in reversed(prompts):
            answerer.answer([prompt])
    assert_same(together, alone[::-1])


@pytest.mark.vllm
def test_a_conversation_goes_on_with_vllm(world: Path, talkers: list[ModelTalker]) -> None:
    def said(talker: ModelTalker, *questions: Question) -> list[Rollout]:
        talk = talker.begin(Video(path=str(world / "video.mp4")))
        with drawn_by(talker) as drawn:
            for asked in questions:
                talk.ask(asked, Reply("talk"))
        return drawn

    first, second = Question("What is it?"), Question("it moves", "moment")
    ours, theirs = (said(talker, first, second) for talker in talkers)
    assert_same(ours, theirs)
    [afresh] = said(talkers[1], second)
    assert afresh.logps != pytest.approx(theirs[1].logps, abs=1e-4)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their folder, whose packages can be imported as their programs do."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    return folder


def test_the_benchmark_trains_the_looks_that_its_start_was_shown(benchmarks: Path) -> None:
    start = importlib.import_module("episodes.start")
    recipe = ["--config", str(benchmarks / "episodes" / "grpo.yaml"), "--output_dir", "unused"]
    _, data, training = parse_recipe([ModelArguments, DataArguments, VideoGRPOConfig], recipe)
    trained = second_look(training.second_look)
    assert trained is not None and trained.clues == start.CLUES
    assert data.budget() == start.COARSE


def test_the_benchmarks_coarse_frames_do_not_tell_the_answer(tmp_path: Path, benchmarks: Path) -> None:
    """Scenes that differ in nothing but their colours and signs are one at the coarse rate, and two in a closer look."""
    benchmark = importlib.import_module("episodes.scenes")
    scene = benchmark.episode_scene(np.random.default_rng(0))
    turned = {
        "colour": dict(zip(benchmark.COLOURS, [*list(benchmark.COLOURS)[1:], "red"], strict=True)),
        "sign": dict(zip(benchmark.SIGNS, [*benchmark.SIGNS[1:], "across"], strict=True)),
    }
    frames = []
    for name in ("own", "colour", "sign"):
        episodes = scene.episodes
        if name != "own":
            episodes = tuple(replace(one, **{name: turned[name][getattr(one, name)]}) for one in episodes)
        video = tmp_path / f"{name}.mp4"
        benchmark.write_video(video, replace(scene, episodes=episodes))
        flash = scene.episodes[0].flash
        close = replace(benchmark.COARSE, min_pixels=84 * 84, max_pixels=84 * 84, total_pixels=84 * 84 * 8)
        coarse = load_frames(Video(path=str(video)), benchmark.COARSE, factor=28)
        closer = load_frames(Video(path=str(video)), close, times=(flash.start, flash.start + 0.25), factor=28)
        frames.append([one.pixels.int() for one in (coarse, closer)])
    own, *others = frames
    for other in others:
        assert int((own[0] - other[0]).abs().max()) <= 12
        assert int((own[1] - other[1]).abs().max()) >= 80


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The model computes as ever; what it says is taken from a list, the last entry again and again."""
    texts = [said("A", (1, 2)), said("B", (1, 2))]
    monkeypatch.setattr(Answerer, "text", lambda self, rollout, sampling=None: texts.pop(0) if texts[1:] else texts[0])
    yield texts


FLAGS = (
    "--fps 1 --min-pixels 784 --max-pixels 1568 --max-new-tokens 4 --dtype float32 --device cpu --video-backend pyav"
)


@pytest.mark.parametrize("family", SIDES)
def test_ask(world: Path, speaking: list[str], family: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["What is it?", "--model", model_of(world, family), "--video", str(world / "video.mp4")]
    more = ["--options", "cat", "dog", "--json", "--clue-padding", "0", "--clue-time", "dense"]
    assert main(["ask", "--clue-perception", *command, *more, *FLAGS.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == "B" and found["clues"] == [[1.0, 2.0]] and found["answered_by"] == 1
    assert found["passes"][0]["completion"] == said("A", (1, 2))
    assert found["passes"][1]["saw"]["segments"] == [[1.0, 2.0]] and found["passes"][1]["saw"]["fps"] == 2.0
    assert found["settings"]["clue_perception"]["padding"] == 0.0
    assert ", of 1.00 to 2.00 s and at 0.89 fps of the rest" in as_text(found)
    assert main(["ask", *command, "--options", "cat", "dog", *FLAGS.split()]) == 0
    shown = capsys.readouterr().out
    assert "answer: (B) dog" in shown and "pass 2" not in shown and "clues: 1.00 to 2.00 s" in shown


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--video", "nowhere.mp4"], "nowhere.mp4"),
        (["--fps-boost", "3"], "add --clue-perception"),
        (["--clue-perception", "--fps-boost", "0.1"], "fps_boost is 0.1"),
        (["--options", "one"], "expected 2 to 26"),
        (["--model", "nowhere"], "nowhere"),
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--device", "gpu"], "no device 'gpu'"),
        (["--device", "cuda:99"], "no GPU 'cuda:99'"),
        (["--device", "cpu", "--attn-implementation", "none"], "--attn-implementation none"),
    ],
)
def test_mistakes_in_ask(world: Path, changed: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ask", "What?", "--model", str(world / "model"), "--video", str(world / "video.mp4")]
    assert main([*command, *changed]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "written", "answer", "shown"),
    [
        (["--options", "cat", "dog"], "<answer>B</answer>", "B", "answer: (B) dog"),
        ([], "<answer>a grey wall</answer>", "a grey wall", "answer: a grey wall"),
        ([], "just a wall", "just a wall", "answer: just a wall"),
        (["--options", "cat", "dog"], "neither", None, "answer: none that can be read"),
    ],
)
def test_ask_about_pictures(
    world: Path,
    speaking: list[str],
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    written: str,
    answer: str | None,
    shown: str,
) -> None:
    speaking[:] = [written]
    paths = [str(world / "wide.png"), str(world / "high.jpg")]
    for path, size in zip(paths, ((90, 40), (30, 60)), strict=True):
        Image.new("RGB", size).save(path)
    command = ["ask", "What is it?", "--model", str(world / "model"), "--image", paths[0], "--image", paths[1], *more]
    assert main([*command, "--json", *FLAGS.split(), "--picture-max-pixels", "1568"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["answer"], found["completion"]) == (paths, answer, written) and "video" not in found
    assert found["settings"]["picture"] == {"max_pixels": 1568} and (found["num_tokens"], found["ended"]) == (
        4,
        "length",
    )
    assert main([*command, *FLAGS.split()]) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 pictures, ") and shown in text and f"  {written}" in text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--image", "nowhere.jpg"], "nowhere.jpg: no such file"),
        (["--image", "{world}/good.png", "--image", "{world}/video.mp4"], "video.mp4: cannot be read as an image"),
        (["--image", "{world}/good.png", "--clue-perception"], "leave it out for pictures"),
        (["--image", "{world}/good.png", "--picture-max-pixels", "0"], "1 <= min_pixels <= max_pixels, got None and 0"),
        (["--image", "{world}/good.png", "--video", "{world}/video.mp4"], "not allowed with argument --image"),
        ([], "one of the arguments --video --image is required"),
    ],
)
def test_mistakes_in_ask_about_pictures(
    world: Path, asked: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (60, 40)).save(world / "good.png")
    try:
        assert (
            main(["ask", "What?", "--model", str(world / "model"), *(word.format(world=world) for word in asked)]) == 2
        )
    except SystemExit as error:
        assert error.code == 2
    assert message in capsys.readouterr().err


def run(world: Path, output: str, *more: str) -> int:
    rows = {
        "video": {
            "metadata": {"video_id": "video"},
            "mc_question": [
                {"id": k, "question": f"What {k}?", "options": ["cat", "dog", "cow"], "answer_id": k % 2, "area": "physics", "reasoning": "x", "tag": []}
                for k in range(3)
            ],
        }
    }  # fmt: skip
    (world / "questions.json").write_text(json.dumps(rows))
    asked = f"--benchmark perception_test --annotations {world / 'questions.json'} --videos {world}"
    return main(["eval", *asked.split(), "--model", str(world / "model"), "--output", str(world / output), *FLAGS.split(), *more])  # fmt: skip


def test_eval_scores_both_passes_and_records_the_settings(
    world: Path, speaking: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    speaking[:] = [said("A", (1, 2))] * 3 + [said("B", (1, 2))]
    assert run(world, "clues", "--clue-perception", "--clue-time", "dense", "--workers", "0") == 0
    found = json.loads((world / "clues" / "results.json").read_text())
    assert found["metrics"]["accuracy_first_pass"] == pytest.approx(2 / 3)
    assert found["metrics"]["accuracy"] == pytest.approx(1 / 3)
    assert found["ci95"]["accuracy_first_pass"] is not None
    assert found["settings"]["clue_perception"] == {
        "resolution_boost": 2.0, "fps_boost": 2.0, "max_tokens": None, "time": "dense", "rounds": 1, "padding": 1.0,
    }  # fmt: skip
    row = json.loads((world / "clues" / "samples.jsonl").read_text().splitlines()[0])
    assert row["task"] == "multi_choice_qa" and row["parsed"] == "B"
    assert [one["answer"] for one in row["clue_perception"]["passes"]] == ["A", "B"]
    assert main(["eval", "--rescore", str(world / "clues")]) == 0
    assert json.loads((world / "clues" / "results.json").read_text())["metrics"] == found["metrics"]
    assert run(world, "clues", "--clue-perception", "--clue-time", "absolute") == 2
    assert "clue_perception.time was 'dense', is 'absolute'" in capsys.readouterr().err
    assert run(world, "clues") == 2


def test_eval_refuses_clues_where_there_are_no_options(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "moments.json").write_text(json.dumps({"video": {"duration": 10.0, "timestamps": [[0, 1]], "sentences": ["x"]}}))  # fmt: skip
    moments = ["--benchmark", "charades_sta", "--annotations", str(world / "moments.json")]
    assert run(world, "moments", "--clue-perception", *moments) == 2
    assert "questions with options" in capsys.readouterr().err
    assert not (world / "moments").exists()


def test_the_first_pass_computes_a_video_once_for_its_questions(world: Path) -> None:
    answerer = Answerer(
        RunOptions(str(world / "model"), video=BUDGET, max_new_tokens=8, dtype="float32"), torch.device("cpu")
    )
    counts: Counter[str] = Counter()
    inner = answerer._engine._model.base_model  # type: ignore[attr-defined]
    inner.visual.register_forward_pre_hook(lambda module, args: counts.update(patches=len(args[0])))
    inner.language_model.register_forward_pre_hook(
        lambda module, args, given: counts.update(tokens=given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    whole = Video(path=str(world / "video.mp4"))
    videos = [whole, replace(whole, start=1.0, end=4.0)]
    questions = [
        free_question(video, f"What is number {number}?", ("cat", "dog"), name=f"{place} {number}")
        for number in range(3)
        for place, video in enumerate(videos)
    ]

    def answers(size: int) -> dict[str, str | None]:
        counts.clear()
        with CluePerception(answerer, OPTIONS) as passes:
            batches = stream_batches(answerer.builder, questions, 0, size=size)
            return {found.id: found.completion for batch in batches for found in passes.answer(batch)}

    alone = answers(1)
    apart = counts.copy()
    assert answers(6) == alone
    assert counts["patches"] * 3 == apart["patches"]
    # The tokens of the videos, four patches each, and what comes before them.
    assert apart["tokens"] - counts["tokens"] > (apart["patches"] - counts["patches"]) // 4
