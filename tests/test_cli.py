"""The console command: what it says of its commands, of a mistyped one, and of a recipe's options."""

import time

import pytest

from videochat_r1 import cli
from videochat_r1.commands import logs


@pytest.mark.parametrize(
    ("typed", "said"),
    [("grop", "did you mean 'grpo'?"), ("Data", "did you mean 'data'?"), ("xyzzy", "known: ask, chat, data")],
)
def test_a_mistyped_command_is_answered_with_the_nearest(capsys, typed, said):
    assert cli.main([typed]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help(capsys, command):
    try:
        code = cli.main([command, "--help"])
    except SystemExit as left:
        code = left.code
    assert code == 0
    assert f"usage: videochat-r1 {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "own", "inside", "library"),
    [("grpo", "--prompts_per_step", "queries_per_video", "--epsilon_high"), ("sft", "--samples_per_step", "max_frames", "--warmup_steps")],
)  # fmt: skip
def test_help_of_a_trainer_tells_its_own_options_and_all_on_request(capsys, command, own, inside, library):
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert own in text and inside in text and library not in text
    assert max(map(len, text.splitlines())) <= 120
    assert cli.main([command, "--help", "all"]) == 0
    assert library in capsys.readouterr().out


def test_slow_imports_are_announced_and_quick_ones_are_not(capsys, monkeypatch):
    with logs.loading("nothing"):
        pass
    monkeypatch.setattr(logs, "_SECONDS_OF_SILENCE", 0.0)
    with logs.loading("torch"):
        time.sleep(0.2)
        print("a library greets")
    assert capsys.readouterr() == ("", "loading torch ...\na library greets\n")
