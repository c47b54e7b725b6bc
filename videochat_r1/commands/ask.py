"""`videochat-r1 ask`: one question about a video, with the clues of its answer and, if told, a second look at them; or about
pictures."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videochat_r1.commands.logs import loading, show_library_logs
from videochat_r1.commands.model_arguments import add_clues, add_decoding, add_prompting
from videochat_r1.errors import ConfigError, counted
from videochat_r1.sample import LETTERS, CaptionTarget, ChoiceTarget, Pictures, Sample, Video, media_in_row
from videochat_r1.tasks import TASKS
from videochat_r1.text import from_command_line
from videochat_r1.video.probe import probe
from videochat_r1.video.process import read_in_process

EPILOG = """examples:
  videochat-r1 ask --model MODEL --video cat.mp4 "What does the cat jump on?"
  videochat-r1 ask --model MODEL --video cat.mp4 "What does the cat jump on?" --options table bed box --clue-perception
  videochat-r1 ask --model MODEL --image before.jpg --image after.jpg "What has changed?"
docs/evaluation.md says how the second look is taken."""
PICTURE_TEMPLATE = "{query}\nAnswer in words, and use this form:\n<answer>your answer</answer>"
"""Replaces captioning's prompt for a question about pictures without options."""


def main(argv: Sequence[str]) -> int:
    """Ask and print; returns the exit code."""
    arguments = parser().parse_args(argv)
    options = arguments.options or []
    if options and not 2 <= len(options) <= len(LETTERS):
        raise ConfigError(f"--options names {len(options)} options; expected 2 to {len(LETTERS)}, or none")
    if not arguments.question.strip():
        raise ConfigError("the question is empty; write it in quotes")
    show_library_logs()
    # What cannot be used should not wait for the model.
    if arguments.image:
        if arguments.clue_perception:
            raise ConfigError("--clue-perception looks again at parts of a video; leave it out for pictures")
        pictures = Pictures(tuple(map(str, arguments.image)))
        for path in pictures.paths:
            read_in_process(path, arguments.video_timeout)
        result = ask_about_pictures(arguments, pictures, options)
    else:
        video = Video(path=str(arguments.video))
        probe(video, backend=arguments.video_backend, timeout_seconds=arguments.video_timeout)
        result = ask(arguments, video, options)
    print(json.dumps(result, indent=2, ensure_ascii=False) if arguments.json else as_text(result))
    return 0


def parser() -> argparse.ArgumentParser:
    """All arguments."""
    top = argparse.ArgumentParser(
        prog="videochat-r1 ask", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    top.add_argument("question", type=from_command_line, help="in quotes, before --options")
    top.add_argument("--model", required=True, help="model folder, or a hub name that can be reached")
    media = top.add_mutually_exclusive_group(required=True)
    media.add_argument("--video", type=Path, help="video file")
    media.add_argument(
        "--image", type=Path, action="append", metavar="FILE", help="picture; several by several --image"
    )
    top.add_argument(
        "--options",
        nargs="+",
        type=from_command_line,
        metavar="OPTION",
        help="texts to choose from (default: a free answer)",
    )
    top.add_argument("--json", action="store_true", help="print one JSON object, with the settings")
    top.add_argument("--device", help="cuda, cuda:1, cpu (default: the GPU, else the CPU)")
    add_prompting(top.add_argument_group("what the model sees"))
    add_decoding(top.add_argument_group("how the model answers (greedy unless told otherwise)"))
    clues = top.add_argument_group("a second look at the clues of the answer (paper, Algorithm 1)")
    # Without a value, which would take the question for its own.
    clues.add_argument("--clue-perception", action="store_true", help="answer, look again at the clues, answer again")
    add_clues(clues)
    return top


def ask(arguments: argparse.Namespace, video: Video, options: Sequence[str]) -> dict[str, Any]:
    """The answer, its clues, and what every pass saw and said.

    Raises:
        ConfigError: the model cannot be loaded, or settings that cannot work.
        DataError: the question cannot be asked.
        DivergedError: the model's weights, or what it computes, are NaN or infinite.
        VideoError: the video cannot be used.
    """
    # Only here: mistakes in the arguments must not wait seconds for torch.
    with loading("torch and transformers"):
        from videochat_r1.evaluation.answering.answerer import Answerer, pick_device
        from videochat_r1.evaluation.answering.options import RunOptions
        from videochat_r1.evaluation.answering.passes import CluePerception
        from videochat_r1.evaluation.scoring.answers import CLUE_PERCEPTION
        from videochat_r1.second_look.question import TASK, free_question, free_template
        from videochat_r1.training.loader import LoadedPrompt

    run = RunOptions.of({**vars(arguments), "batch_size": 1, "workers": 1, "retry_failed": False})
    template = run.prompt if options or run.prompt is not None else free_template(thinking=run.thinking)
    device = pick_device(run.device)
    answerer = Answerer(run, device, templates=None if template is None else {TASK.name: template})
    question = free_question(video, arguments.question, options)
    prompt = LoadedPrompt(question, answerer.builder.build(question))
    with CluePerception(answerer, run.clue_perception) as passes:
        (prediction,) = passes.answer([prompt])
    record = prediction.extra[CLUE_PERCEPTION]
    chosen = record["passes"][record["answered_by"]]
    return {
        "question": arguments.question,
        "options": list(options),
        "video": str(arguments.video),
        "answer": chosen["answer"],
        "clues": chosen["clues"],
        **record,
        "settings": run.settings(device),
    }


def ask_about_pictures(arguments: argparse.Namespace, pictures: Pictures, options: Sequence[str]) -> dict[str, Any]:
    """The answer, and what the model wrote.

    Raises:
        ConfigError: the model cannot be loaded, or settings that cannot work.
        DataError: the question cannot be asked.
        DivergedError: the model's weights, or what it computes, are NaN or infinite.
        VideoError: a picture cannot be used.
    """
    with loading("torch and transformers"):
        from videochat_r1.evaluation.answering.answerer import Answerer, pick_device
        from videochat_r1.evaluation.answering.options import RunOptions
        from videochat_r1.training.loader import LoadedPrompt

    target = ChoiceTarget(tuple(options), "A") if options else CaptionTarget("")
    task = TASKS["multi_choice_qa" if options else "captioning"]
    question = Sample("question", task.name, pictures, arguments.question, target)
    run = RunOptions.of({**vars(arguments), "batch_size": 1, "workers": 1, "retry_failed": False})
    template = run.prompt if options or run.prompt is not None else PICTURE_TEMPLATE
    device = pick_device(run.device)
    answerer = Answerer(run, device, templates=None if template is None else {task.name: template})
    (prediction,) = answerer.answer([LoadedPrompt(question, answerer.builder.build(question))])
    completion = prediction.completion or ""
    return {
        "question": arguments.question,
        "options": list(options),
        **media_in_row(pictures),
        "answer": task.parse(completion, target, untagged=not options),
        "completion": completion,
        **{name: prediction.extra[name] for name in ("num_prompt_tokens", "num_tokens", "ended")},
        "settings": run.settings(device),
    }


def as_text(result: dict[str, Any]) -> str:
    """The result for people: every pass, or what was written about pictures, then the answer."""
    lines: list[str] = []
    if "images" in result:
        return "\n".join(
            [
                f"{counted(len(result['images']), 'picture')}, {result['num_prompt_tokens']} prompt tokens",
                f"  {result['completion']}",
                _answer(result),
            ]
        )
    for number, one in enumerate(result["passes"], start=1):
        saw = one["saw"]
        where = _spans(saw["segments"]) or "the whole video"
        where += f" and at {saw['rest_fps']:.2f} fps of the rest" if saw["segments"] and saw["rest_fps"] else ""
        width, height = saw["frame_size"]
        lines += [
            f"pass {number}: {saw['num_frames']} frames of {width} x {height} at {saw['fps']:.2f} fps, "
            f"{saw['num_tokens']} tokens, of {where}",
            f"  {one['completion']}",
        ]
    if problem := result.get("problem"):
        lines.append(f"no further pass: {problem}")
    lines += [_answer(result), f"clues: {_spans(result['clues']) or 'none'}"]
    return "\n".join(lines)


def _answer(result: dict[str, Any]) -> str:
    answer = result["answer"]
    if answer is None:
        return "answer: none that can be read"
    if result["options"]:
        return f"answer: ({answer}) {result['options'][LETTERS.index(answer)]}"
    return f"answer: {answer}"


def _spans(spans: Sequence[Sequence[float]]) -> str:
    return ", ".join(f"{start:.2f} to {end:.2f} s" for start, end in spans)
