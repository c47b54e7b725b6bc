"""The command chat: what it refuses before a model is loaded, and what it takes over from the model's training."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from videochat_r1.cli import main
from videochat_r1.commands.chat import load, parse
from videochat_r1.modeling.tiny import build_tiny

RECORD: dict[str, Any] = {
    "model": {"model_name_or_path": "x", "model_family": None},
    "data": {
        "thinking": True,
        "prompt_layout": "text_first",
        "prompts": {"temporal_grounding": "When? {query}"},
        "max_prompt_length": None,
        "video": {"fps": 4.0, "min_pixels": 784, "max_pixels": 784, "isolation": "none"},
    },
}


def test_what_cannot_work_is_said_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        mistakes = [["--port", port], ["--videos", str(tmp_path / "gone")]]
        for mistake in mistakes:
            assert main(["chat", "--model", str(tmp_path / "no_model"), *mistake]) == 2
            assert mistake[1] in capsys.readouterr().err
    for told, mistake in (("no_model", []), ("at most 4 further looks", ["--clue-rounds", "9"])):
        assert main(["chat", "--model", str(tmp_path / "no_model"), "--port", "0", *mistake]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("load_model", "does not fit into the memory of cpu"),
        ("Answerer.complete", "and a first answer beside it does not"),
    ],
)
def test_a_model_that_does_not_fit_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, where: str, told: str
) -> None:
    build_tiny(tmp_path, hidden=64, layers=2, vision_hidden=32)
    monkeypatch.setattr(f"videochat_r1.evaluation.answering.answerer.{where}", lambda *_, **__: torch.empty(1 << 60))
    assert main(["chat", "--model", str(tmp_path), "--port", "0", "--device", "cpu"]) == 2
    assert told in capsys.readouterr().err


def test_the_model_sees_and_is_asked_as_in_its_training(tmp_path: Path) -> None:
    build_tiny(tmp_path, hidden=64, layers=2, vision_hidden=32)
    assert parse(["--model", str(tmp_path)]).fps == 2.0, "a folder without a record"
    (tmp_path / "resolved_config.yaml").write_text(yaml.safe_dump(RECORD))
    arguments = parse(["--model", str(tmp_path), "--prompt-layout", "video_first", "--device", "cpu"])
    assert (arguments.fps, arguments.max_pixels, arguments.thinking) == (4.0, 784, True)
    assert arguments.prompt_layout == "video_first", "what is given counts"
    assert parse(["--model", "hub/name", "--adapter", str(tmp_path / "checkpoint-7")]).fps == 4.0
    talker = load(arguments)
    talker.warm_up()
    assert talker.about.thinking and talker.answerer.builder.budget.fps == 4.0
