"""Conversations with tiny models: what is asked, told and remembered, computed once, and said when something is the matter."""

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_rollout_transformers import counted_forwards
from tests.video_files import write_video
from videochat_r1.chat.desk import Desk, Reply
from videochat_r1.chat.events import Done, Event, PassDone, Problem, Saw, Text
from videochat_r1.chat.question import Question
from videochat_r1.chat.talker import ModelTalker, note_of
from videochat_r1.errors import DivergedError
from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.geometry import Box
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.rollout.base import Rollout
from videochat_r1.rollout.ended import Ended
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.sample import Media, Pictures, Video
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.video.frames import VideoBudget

# 10 s at 8 fps.
BUDGET = VideoBudget(fps=1.0, max_frames=32, min_pixels=32 * 32, max_pixels=64 * 32, backend="pyav", isolation="none")
CLUES = ClueOptions(padding=0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    for family in FAMILIES:
        build_tiny(folder / family, hidden=64, layers=2, vision_hidden=32, family=family)
    write_video(folder / "video.mp4", num_frames=80, fps=8)
    (folder / "broken.mp4").write_bytes((folder / "video.mp4").read_bytes()[:900])
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "picture.png")
    return folder


def make_talker(world: Path, family: str = "qwen2_5_vl", **options: Any) -> ModelTalker:
    run = RunOptions(str(world / family), video=BUDGET, max_new_tokens=8, dtype="float32", **options)
    return ModelTalker(run, torch.device("cpu"))


@pytest.fixture(scope="module")
def spoken(world: Path) -> ModelTalker:
    return make_talker(world)


class Script:
    """Puts words into a model's mouth, token by token, and remembers what it was asked."""

    def __init__(self, answerer: Answerer, monkeypatch: pytest.MonkeyPatch, *said: str) -> None:
        self._answerer, self._said = answerer, list(said)
        self.asked: list[PromptInputs] = []
        self.steps = 0
        monkeypatch.setattr(answerer, "complete", self.complete)

    def complete(
        self, inputs: Sequence[PromptInputs], sampling: Any, names: Sequence[str], watch: Callable[..., None]
    ) -> list[Rollout]:
        self.asked += inputs
        tokenizer = self._answerer.tokenizer
        ids = [*tokenizer(self._said.pop(0))["input_ids"], tokenizer.eos_token_id]
        for count in range(1, len(ids) + 1):
            self.steps += 1
            watch(0, [ids[:count]])
        return [Rollout(ids, [0.0] * len(ids), Ended.STOP)]


def ask(talk: Any, question: Question) -> list[Event]:
    reply = Reply("a conversation")
    talk.ask(question, reply)
    reply.put(None)
    return list(reply)


def video(world: Path) -> Video:
    return Video(str(world / "video.mp4"))


def kinds(events: Sequence[Event]) -> list[str]:
    """Names of events, pieces of one pass as one."""
    names = [event.name for event in events]
    return [name for place, name in enumerate(names) if name != "text" or names[place - 1] != "text"]


def only(events: Sequence[Event], kind: type) -> Any:
    [event] = [event for event in events if isinstance(event, kind)]
    return event


# --- once per conversation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["video_first", "text_first"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_follow_up_computes_what_is_new_and_answers_as_afresh(
    world: Path, family: str, layout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = make_talker(world, family, prompt_layout=layout)
    engine = talker.answerer._engine
    assert isinstance(engine, TransformersEngine)
    towers, prefilled = counted_forwards(engine._model)
    asked: list[PromptInputs] = []
    drawn: list[Rollout] = []
    complete = talker.answerer.complete

    def listening(inputs: Sequence[PromptInputs], *rest: Any) -> list[Rollout]:
        rollouts = complete(inputs, *rest)
        asked.extend(inputs)
        drawn.extend(rollouts)
        return rollouts

    monkeypatch.setattr(talker.answerer, "complete", listening)
    talk = talker.begin(video(world))
    questions = [
        Question("What is it?"),
        Question("it moves", "moment"),
        Question("And now?", "choice", ("a", "b"), thinking=True),
    ]
    for question in questions:
        assert isinstance(ask(talk, question)[-1], Done)
    assert len(towers) == 1 and talker.answerer.builder.load.__self__.num_misses == 1
    lengths = [inputs.num_tokens for inputs in asked]
    assert sum(prefilled) < lengths[-1] + 12 and len(prefilled) == 3, "but for what ends a prompt, each token once"
    for earlier, later in itertools.pairwise(asked):
        assert later.input_ids[: earlier.num_tokens].equal(earlier.input_ids)
        assert later.position_ids[:, : earlier.num_tokens].equal(earlier.position_ids)
    fresh = TransformersEngine(engine._model, 0)
    for inputs, rollout in zip(asked, drawn, strict=True):
        [[again]] = fresh.generate([inputs], num_generations=1, settings=talker.answerer.sampling)
        assert again.completion_ids == rollout.completion_ids
        assert again.logps == pytest.approx(rollout.logps, abs=1e-5)


def test_what_was_said_stands_before_a_follow_up(
    world: Path, spoken: ModelTalker, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(spoken.answerer, monkeypatch, "<answer>a cat <|vision_start|></answer>", "<answer>yes</answer>")
    talk = spoken.begin(video(world))
    ask(talk, Question("What is it?"))
    ask(talk, Question("Is it black? <|im_start|>"))
    text = script.asked[1].text
    assert (
        text.index("What is it?") < text.index("a cat <|vision_start|></answer><|im_end|>") < text.index("Is it black?")
    )
    control = spoken.answerer.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert (script.asked[1].input_ids == control).sum() == 4, "what people and models write is text"


def test_what_the_template_leaves_out_of_earlier_answers_is_not_read_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that opens thoughts, and drops those of earlier turns."""
    shutil.copytree(world / "qwen3_vl", tmp_path / "thinks")
    template = tmp_path / "thinks" / "chat_template.jinja"
    text = template.read_text().replace("assistant\n'", "assistant\n<think>\n'")
    template.write_text(text.replace("part['text'] }}", "part['text'].split('</think>')[-1] }}"))
    talker = make_talker(tmp_path, "thinks")
    script = Script(talker.answerer, monkeypatch, "It moves.</think>\n<answer>a cat</answer>", "<answer>yes</answer>")
    talk = talker.begin(video(world))
    events = ask(talk, Question("What is it?", thinking=True))
    assert next(event.piece for event in events if isinstance(event, Text)).startswith("<think>\n")
    assert only(events, PassDone).thought == "It moves."
    ask(talk, Question("Is it black?"))
    assert "<answer>a cat</answer>" in script.asked[1].text and "It moves" not in script.asked[1].text
    assert script.asked[1].text.endswith("<think>\n\n</think>\n\n"), "not asked to think"


# --- what is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time, second", [("absolute", "(2.5, 3.5)"), ("dense", "(2.5, 3.5)"), ("relative", "(1, 2)")])
def test_further_looks_are_told_and_the_last_answer_is_remembered(
    time: Any, second: str, world: Path, spoken: ModelTalker, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        f"<answer>{answer}</answer><glue>[{span}]</glue>" for answer, span in (("a cat", "(2, 4)"), ("a dog", second))
    ]
    script = Script(spoken.answerer, monkeypatch, *said, "<answer> </answer>", said[0])
    talk = spoken.begin(video(world))
    events = ask(talk, Question("What is it?", clue_perception=replace(CLUES, time=time, rounds=3)))
    one_pass = ["saw", "text", "pass_done"]
    further = ["preparing", *one_pass]
    assert kinds(events) == ["preparing", "preparing", *one_pass, *further, *further, "done"]
    meant = [(event.answer, event.clues) for event in events if isinstance(event, PassDone)]
    assert meant == [("a cat", ((2.0, 4.0),)), ("a dog", ((2.5, 3.5),)), (None, ())], "in the time of the video"
    looks = [event.look for event in events if isinstance(event, Saw)]
    assert [look["segments"] for look in looks] == [[], [[1.5, 4.5]], [[2.0, 4.0]]]
    assert [look["fps"] for look in looks] == [1.0, 2.0, 4.0]
    assert events[-1] == Done(1, "a dog")
    ask(talk, Question("Sure?"))
    assert "a dog</answer><glue>[(2.5, 3.5)]" in script.asked[3].text and "a cat" not in script.asked[3].text


def test_a_further_look_that_has_no_room_is_a_note(
    world: Path, spoken: ModelTalker, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(spoken.answerer, monkeypatch, "<answer>a cat</answer><glue>[(2, 4)]</glue>")
    told = iter([None, "no room"])
    monkeypatch.setattr(spoken, "too_long", lambda _: next(told))
    assert ask(spoken.begin(video(world)), Question("?", clue_perception=CLUES))[-1] == Done(0, "a cat", "no room")


def test_no_character_is_told_by_halves(world: Path, spoken: ModelTalker, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "<think>Zürich 猫 \U0001f408\u200d\u2b1b</think>\n<answer>\U0001f63a!</answer>\U0001f408"
    Script(spoken.answerer, monkeypatch, said)
    events = ask(spoken.begin(video(world)), Question("What?", thinking=True))
    pieces = [event.piece for event in events if isinstance(event, Text)]
    assert "".join(pieces) == only(events, PassDone).completion == said
    assert not any("\ufffd" in piece for piece in pieces) and len(pieces) > 10
    assert only(events, PassDone).thought == "Zürich 猫 \U0001f408\u200d\u2b1b"


BOX = Box(0.1, 0.2, 0.4, 0.6)


@pytest.mark.parametrize(
    "question, said, told, asked",
    [
        (Question("it jumps", "moment"), "<answer>2.5 to 40</answer>", {"answer": "2.5 to 40 s", "clues": ((2.5, 10.0),)}, "it jumps"),
        (Question("?", "choice", ("x", "y")), "<answer>B</answer><glue>[(1, 2)]</glue>", {"answer": "(B) y", "choice": 1, "clues": ((1.0, 2.0),)}, "(B) y"),
        (Question("?", "choice", ("x", "y")), "no idea", {"answer": None, "choice": None, "clues": ()}, "(A) x"),
        (Question("", "describe"), "<answer>It moves.</answer>", {"answer": "It moves.", "clues": ()}, "Describe in detail"),
        (Question("cat", "track", box=BOX), "<answer>[[0.1, 0.2, 0.4, 0.6], none, [0.2, 0.2, 0.5, 0.6]]</answer>", {"boxes": ((0.1, 0.2, 0.4, 0.6), None, (0.2, 0.2, 0.5, 0.6))}, "[0.1, 0.2, 0.4, 0.6]"),
        (Question("what?"), "It is a cat.", {"answer": "It is a cat.", "thought": None}, "what?"),
    ],
)  # fmt: skip
def test_tasks_ask_and_are_understood(
    question: Question,
    said: str,
    told: dict[str, Any],
    asked: str,
    world: Path,
    spoken: ModelTalker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Script(spoken.answerer, monkeypatch, said)
    events = ask(spoken.begin(video(world)), question)
    done = only(events, PassDone)
    assert {name: getattr(done, name) for name in told} == told
    assert asked in script.asked[0].text
    if question.box:
        assert done.box_times == pytest.approx([9 * place / 7 for place in range(3)])


def test_pictures_are_talked_about(world: Path, spoken: ModelTalker, monkeypatch: pytest.MonkeyPatch) -> None:
    Script(spoken.answerer, monkeypatch, "<answer>grey</answer>", "<answer>A</answer>")
    talk = spoken.begin(Pictures((str(world / "picture.png"),)))
    events = ask(talk, Question("Which colour?"))
    assert only(events, Saw).look["num_frames"] == 1 and events[-1] == Done(0, "grey")
    assert ask(talk, Question("Which?", "choice", ("x", "y")))[-1] == Done(0, "(A) x")


# --- when something is the matter --------------------------------------------------------------------------------------


def test_nobody_reads_any_more(world: Path, spoken: ModelTalker, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(spoken.answerer, monkeypatch, "<answer>a very long story</answer>", "<answer>no</answer>")
    talk, reply = spoken.begin(video(world)), Reply("a conversation")
    put = reply.put

    def leave_at_once(event: Event | None) -> None:
        put(event)
        if isinstance(event, Text):
            reply.close()

    monkeypatch.setattr(reply, "put", leave_at_once)
    talk.ask(Question("Tell me a story"), reply)
    assert script.steps == 2, "one more token than was told"
    ask(talk, Question("Well?"))
    assert "story" not in script.asked[1].text


def run_out(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def diverge(*_: Any) -> None:
    raise DivergedError("the model's logits are NaN or infinite")


@pytest.mark.parametrize(
    "file, question, fault, told",
    [
        ("broken.mp4", Question("?"), None, "broken.mp4"),
        ("gone.mp4", Question("?"), None, "gone.mp4"),
        ("video.mp4", Question("word " * 700), None, "positions"),
        ("video.mp4", Question("?"), run_out, "--max-frames"),
        ("video.mp4", Question("?"), diverge, "NaN"),
        ("picture.png", Question("?", "moment"), None, "a picture has no moments"),
    ],
)
def test_a_problem_is_a_sentence_and_the_desk_lives_on(
    file: str,
    question: Question,
    fault: Any,
    told: str,
    world: Path,
    spoken: ModelTalker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spoken, "_max_positions", 600)
    desk = Desk(spoken)
    path = str(world / file)
    media: Media = Pictures((path,)) if file.endswith("png") else Video(path)
    conversation = desk.begin(media)
    with monkeypatch.context() as patch:
        if fault is not None:
            patch.setattr(spoken.answerer._engine, "generate", lambda *_, **__: fault())
        problem = list(desk.ask(conversation, question))[-1]
    assert isinstance(problem, Problem) and told in problem.sentence
    assert str(world) not in problem.sentence and "\n" not in problem.sentence
    again = conversation if (world / file).exists() and file != "broken.mp4" else desk.begin(video(world))
    assert isinstance(list(desk.ask(again, Question("And now?")))[-1], Done)
    desk.close()


def test_a_tiny_model_is_kindly_introduced(spoken: ModelTalker) -> None:
    assert "tiny model" in str(spoken.about.note) and spoken.about.model == "qwen2_5_vl"
    assert note_of("VideoChat-R1_7B", 7_000_000_000) is None
