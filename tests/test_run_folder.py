"""The folder of a run: whose it is, what is refused in it, and that a run ends the same whatever happened before."""

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import videochat_r1.grpo.run as grpo_run
import videochat_r1.sft as sft
from tests.tiny_runs import write_train_manifest
from videochat_r1.cli import main
from videochat_r1.errors import ConfigError
from videochat_r1.file_lock import locked
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.training import checkpoint

OPTIONS = {
    "mixture": [{"manifest": "train.jsonl", "videos": "."}],
    "video": {"fps": 3.0, "max_frames": 16, "min_pixels": 784, "max_pixels": 3136},
    "use_cpu": True,
    "bf16": False,
    "max_steps": 3,
    "learning_rate": 1.0e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "report_to": [],
    "disable_tqdm": True,
    "save_strategy": "steps",
    "save_steps": 2,
}
GRPO = {
    "rewards": [
        {"name": "format"},
        {"name": "iou"},
        {"name": "accuracy"},
        {"name": "tests.tiny_runs:chatty_parse_reward"},
    ],
    "prompts_per_step": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 5,
}
SFT = {"samples_per_step": 4, "per_device_train_batch_size": 2}


class Runs:
    """Starts runs of one tiny model; finished ones are kept and copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        build_tiny(folder / "model", hidden=64, layers=2, vision_hidden=32)
        write_train_manifest(folder)

    def run(self, name: str, command: str = "grpo", flags: tuple = (), **options) -> int:
        """The exit code of the console command."""
        given = {
            "model_name_or_path": str(self.folder / "model"),
            "data_root": str(self.folder),
            "output_dir": str(self.folder / name),
            **OPTIONS,
            **(GRPO if command == "grpo" else SFT),
            **options,
        }
        recipe = self.folder / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump(given))
        return main([command, "--config", str(recipe), *flags])

    def finished(self, command: str = "grpo", **options) -> Path:
        """A finished run with these options."""
        name = "whole-" + hashlib.sha256(json.dumps([command, options]).encode()).hexdigest()[:8]
        if not (self.folder / name).exists():
            assert self.run(name, command, **options) == 0
        return self.folder / name

    def copy(self, name: str, command: str = "grpo", **options) -> Path:
        """Of a finished run."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(self.finished(command, **options), target))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("run folder"))


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def last_line(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]


ENDS = {
    "constant": ("grpo", {}),
    "epochs of a schedule": ("grpo", {"max_steps": -1, "num_train_epochs": 0.5, "lr_scheduler_type": "linear"}),
    "inside a generation": ("grpo", {"num_iterations": 2, "steps_per_generation": 4}),
    "adapter": ("grpo", {"lora": {"r": 4}, "merge_lora": True}),
    "sft": ("sft", {"deepspeed": "none"}),
}


@pytest.mark.parametrize(("command", "options"), ENDS.values(), ids=ENDS)
def test_a_finished_run_is_left_alone(runs, command, options, capsys, caplog):
    output = runs.copy("done", command, **options)
    before = contents(output)
    caplog.set_level("INFO", "videochat_r1")
    assert runs.run("done", command, flags=("--logging_steps", "7", "--save_steps", "5"), **options) == 0
    assert re.search(r"done holds a finished run of \d updates; nothing to do", caplog.text)
    assert f"trained model: {output}" in capsys.readouterr().out
    assert contents(output) == before


@pytest.mark.parametrize(("command", "options"), ENDS.values(), ids=ENDS)
def test_a_run_killed_before_its_end_was_saved_ends_like_another(runs, command, options, monkeypatch):
    def killed_while_saving(trainer, processor, output_dir, **_):
        (output_dir / ("adapter_model" if "lora" in options else "model")).with_suffix(".safetensors").write_bytes(
            b"half"
        )
        raise SystemExit(137)

    whole = runs.finished(command, **options)
    output = runs.folder / "killed"
    shutil.rmtree(output, ignore_errors=True)
    with monkeypatch.context() as patched:
        patched.setattr(grpo_run if command == "grpo" else sft, "save_final", killed_while_saving)
        with pytest.raises(SystemExit):
            runs.run("killed", command, **options)
    assert runs.run("killed", command, **options) == 0
    after, expected = contents(output), contents(whole)
    assert set(after) == set(expected)
    # What tells time, place or a card's name differs between any two runs.
    told = {name for name in after if Path(name).suffix in (".safetensors", ".jsonl", ".pt", ".pth")} - {
        "metrics.jsonl"
    }
    told |= {"tokenizer.json", "processor_config.json"}
    assert {name: after[name] for name in told} == {name: expected[name] for name in told}


def test_a_final_model_that_was_damaged_is_written_again(runs, capsys):
    output = runs.copy("spoilt")
    model = (output / "model.safetensors").read_bytes()
    (output / "model.safetensors").write_bytes(model[:100])
    assert runs.run("spoilt") == 0
    assert (output / "model.safetensors").read_bytes() == model
    (output / "model.safetensors").unlink()
    shutil.rmtree(output / "checkpoint-3")
    assert runs.run("spoilt") == 2
    assert "not whole (model.safetensors: No such file" in last_line(capsys)


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def garble(path):
    path.write_bytes(b"\x07" * path.stat().st_size)


def garble_pickle(path):
    content = path.read_bytes()
    begin = content.index(b"\x80\x02")  # of the pickle inside
    path.write_bytes(content[: begin + 4] + b"\xff" * 8 + content[begin + 12 :])


def harmful(path):
    class Harm:
        def __reduce__(self):
            return os.system, ("echo harm",)

    torch.save({"state": Harm()}, path)
    mark = path.parent / "complete.json"
    values = json.loads(mark.read_text())
    values["files"][path.name] = path.stat().st_size
    mark.write_text(json.dumps(values))


def write(text):
    return lambda path: path.write_text(text)


DAMAGE = {
    "weights cut": ("model.safetensors", cut, r"model.safetensors: 1,000 of [\d,]+ bytes"),
    "weights empty": ("model.safetensors", write(""), r"model.safetensors: 0 of"),
    "weights gone": ("model.safetensors", Path.unlink, r"model.safetensors: No such file"),
    "weights garbled": ("model.safetensors", garble, r"model.safetensors: .*header"),
    "state empty": ("trainer_state.json", write(""), r"trainer_state.json: 0 of"),
    "state garbled": ("trainer_state.json", garble, r"trainer_state.json: "),
    "state gone": ("trainer_state.json", Path.unlink, r"trainer_state.json: No such file"),
    "config gone": ("config.json", Path.unlink, r"config.json: No such file"),
    "optimiser cut": ("optimizer.pt", cut, r"optimizer.pt: 1,000 of"),
    "optimiser gone": ("optimizer.pt", Path.unlink, r"optimizer.pt: No such file"),
    "optimiser garbled": ("optimizer.pt", garble, r"optimizer.pt: "),
    "optimiser's head garbled": ("optimizer.pt", garble_pickle, r"optimizer.pt: Bad CRC"),
    "optimiser harmful": ("optimizer.pt", harmful, r"optimizer.pt holds posix.system: loading it could run any code"),
    "schedule gone": ("scheduler.pt", Path.unlink, r"scheduler.pt: No such file"),
    "schedule harmful": ("scheduler.pt", harmful, r"scheduler.pt holds posix.system"),
    "random states gone": ("rng_state.pth", Path.unlink, r"rng_state.pth: No such file"),
    "random states harmful": ("rng_state.pth", harmful, r"rng_state.pth holds posix.system"),
    "a folder instead": ("scheduler.pt", lambda path: (path.unlink(), path.mkdir()), r"scheduler.pt: Is a directory"),
    **{f"mark {text!r}": ("complete.json", write(text), "complete.json") for text in ("", "[]", "{}", "\0" * 40)},
}


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_file_before_anything_loads(runs, name, damage, said, capsys, monkeypatch):
    monkeypatch.setattr(grpo_run, "load_policy", lambda *_: pytest.fail("a model is loaded"))
    output = runs.copy("damaged")
    (output / "run.json").write_text('{"final": {}}')
    damage(output / "checkpoint-3" / name)
    before = contents(output)
    assert runs.run("damaged") == 2
    message = last_line(capsys)
    assert re.search(rf"checkpoint-3 is damaged \({said}.*\); delete checkpoint-3 to go on from checkpoint-2$", message)
    assert contents(output) == before


def test_values_that_only_loading_shows_to_be_wrong_end_in_one_sentence(runs, capsys):
    output = runs.copy("wrong")
    (output / "run.json").write_text('{"final": {}}')
    weights = output / "checkpoint-3" / "model.safetensors"
    tensors = load_file(weights)
    first = sorted(tensors)[0]
    size = weights.stat().st_size
    save_file(
        {name.replace(first, f"{first[:-1]}?"): tensor for name, tensor in tensors.items()}, weights, {"format": "pt"}
    )
    assert weights.stat().st_size == size, "nothing that a list of sizes could show"
    assert runs.run("wrong") == 2
    assert re.search(r"checkpoint-3 lacks weights of this model", last_line(capsys))


def test_after_a_damaged_checkpoint_the_one_before_gives_the_same_end(runs):
    output = runs.copy("one before")
    (output / "run.json").write_text('{"final": {}}')
    shutil.rmtree(output / "checkpoint-3")
    assert runs.run("one before") == 0
    for name in ("model.safetensors", "rollouts.jsonl"):
        assert (output / name).read_bytes() == (runs.finished() / name).read_bytes()


CHANGES = {
    "learning_rate": (("--learning_rate", "1e-5"), "learning_rate was 0.001, is 1e-05"),
    "seed": (("--seed", "7"), "seed was 42, is 7"),
    "data": (("--mixture.0.max_samples", "5"), "mixture.0.max_samples was None, is 5"),
    "num_generations": (("--num_generations", "2", "--prompts_per_step", "4"), "num_generations was 4, is 2"),
    "video": (("--video.fps", "1"), "video.fps was 3.0, is 1"),
    "rewards": (("--rewards.0.weight", "2"), "rewards.0.weight was None, is 2"),
    "precision": (("--bf16", "true"), "bf16 was False, is True"),
    "optim": (("--optim", "sgd"), "optim was 'adamw_torch_fused', is 'sgd'"),
    "adapters": (("--lora.r", "4"), r"lora was None, is {'r': 4}"),
    "beta": (("--beta", "0.1"), "beta was 0.0, is 0.1"),
    "max_steps": (("--max_steps", "5"), "max_steps was 3, is 5"),
}


@pytest.mark.parametrize("over", [True, False], ids=["finished", "begun"])
@pytest.mark.parametrize(("flags", "said"), CHANGES.values(), ids=CHANGES)
def test_a_changed_setting_is_refused_with_both_values(runs, over, flags, said, capsys):
    output = runs.copy("changed")
    if not over:
        (output / "run.json").write_text('{"final": {}}')
    before = contents(output)
    assert runs.run("changed", flags=flags) == 2
    message = last_line(capsys)
    assert said in message and ("finished run of 3 updates" if over else "changed/checkpoint-3") in message
    assert contents(output) == before, "nor does the record say what was not used"


@pytest.mark.parametrize("content", ["model", "samples"])
def test_other_files_behind_the_same_names_are_a_change_and_moved_ones_are_none(runs, content, capsys, tmp_path):
    output = runs.copy("moved")
    names = ["model", "train.jsonl", *(path.name for path in runs.folder.glob("*.mp4"))]
    for name in names:
        source = runs.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    places = {"data_root": str(tmp_path), "model_name_or_path": str(tmp_path / "model")}
    assert runs.run("moved", **places) == 0
    if content == "model":
        weights = tmp_path / "model" / "model.safetensors"
        tensors = load_file(weights)
        save_file({name: tensor + 1 for name, tensor in tensors.items()}, weights, {"format": "pt"})
    else:
        manifest = tmp_path / "train.jsonl"
        manifest.write_text(manifest.read_text().replace("event 0", "event zero"))
    assert runs.run("moved", **places) == 2
    assert re.search("model_name_or_path was" if content == "model" else "data_root was", last_line(capsys))
    assert (output / "run.json").read_bytes() == (runs.finished() / "run.json").read_bytes()


def test_insisted_settings_count_from_the_checkpoint_on(runs):
    output = runs.copy("insisted")
    flags = ("--learning_rate", "5e-2", "--weight_decay", "0.5", "--max_steps", "5", "--resume_changed", "true")
    assert runs.run("insisted", flags=flags) == 0
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    assert [row["learning_rate"] for row in history if "learning_rate" in row] == [1e-3] * 3 + [5e-2] * 2
    options = torch.load(output / "checkpoint-5" / "optimizer.pt")["param_groups"]
    assert {group["lr"] for group in options} == {5e-2} and {group["weight_decay"] for group in options} == {0.5, 0.0}
    assert runs.run("insisted", flags=flags[:-2]) == 0, "the new settings are now the run's"
    assert checkpoint.last_checkpoint(output).name == "checkpoint-5"


def test_more_updates_that_are_insisted_on_are_those_of_a_longer_run(runs):
    output = runs.copy("longer")
    assert runs.run("longer", flags=("--max_steps", "5", "--resume_changed", "true")) == 0
    whole = runs.finished(max_steps=5)
    for name in ("model.safetensors", "rollouts.jsonl"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()


NEVER = {
    "optim": (("--optim", "sgd"), {}),
    "precision": (("--bf16", "true"), {}),
    "adapters": (("--lora.r", "4"), {}),
    "fewer updates": (("--max_steps", "2"), {}),
    "inside a generation": (("--num_generations", "2", "--prompts_per_step", "4"), ENDS["inside a generation"][1]),
}


@pytest.mark.parametrize(("flags", "options"), NEVER.values(), ids=NEVER)
def test_what_cannot_go_on_exactly_is_refused_even_when_insisted_on(runs, flags, options, capsys):
    output = runs.copy("never", **options)
    (output / "run.json").write_text('{"final": {}}')
    assert runs.run("never", flags=(*flags, "--resume_changed", "true"), **options) == 2
    assert re.search(r"cannot go on with another|more than the 2 asked for", last_line(capsys))


def test_another_command_in_the_folder_of_a_run_is_refused(runs, capsys):
    runs.copy("sft then grpo", "sft")
    assert runs.run("sft then grpo", "grpo") == 2
    assert "command was 'sft', is 'grpo'" in last_line(capsys)


def test_a_checkpoint_of_weights_only_is_refused(runs, capsys):
    output = runs.copy("weights only", save_only_model=True)
    (output / "run.json").write_text('{"final": {}}')
    assert runs.run("weights only", save_only_model=True) == 2
    assert "checkpoint-3 was saved with save_only_model" in last_line(capsys)


FOREIGN = ["checkpoint-500/precious.bin", "model.safetensors", "README.md", "config.json", "rollouts.jsonl", "merged/a"]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("command", ["grpo", "sft"])
def test_what_others_left_in_the_folder_is_refused_by_name_and_kept(runs, command, name, capsys):
    output = runs.folder / "foreign"
    shutil.rmtree(output, ignore_errors=True)
    (output / name).parent.mkdir(parents=True)
    (output / name).write_text("precious")
    before = contents(output)
    assert runs.run("foreign", command, model_name_or_path=str(runs.folder / "nothing is loaded")) == 2
    assert f"no run of this project has written there: {name.partition('/')[0]} (1). Choose another" in last_line(
        capsys
    )
    assert contents(output) == before


@pytest.mark.parametrize("name", ["checkpoint-500/precious.bin", "model.safetensors", "tokenizer.json"])
def test_what_others_put_into_a_begun_run_is_refused_too(runs, name, capsys):
    output = runs.folder / "begun"
    shutil.rmtree(output, ignore_errors=True)
    (output / name).parent.mkdir(parents=True)
    (output / "run.json").write_text("{}")
    (output / name).write_text("precious")
    assert runs.run("begun") == 2
    assert name.partition("/")[0] in last_line(capsys)
    assert (output / name).read_text() == "precious"


@pytest.mark.parametrize("command", ["grpo", "sft"])
def test_a_second_run_in_a_folder_is_refused_with_the_first_ones_process(runs, command, capsys):
    (runs.folder / "shared").mkdir(exist_ok=True)
    with locked(runs.folder / "shared" / "run.lock", what="it", mend="wait"):
        assert runs.run("shared", command, model_name_or_path=str(runs.folder / "nothing is loaded")) == 2
    assert f"the run in {runs.folder / 'shared'} (process {os.getpid()} on " in last_line(capsys)


def test_an_output_that_is_a_file_is_refused(runs, capsys):
    (runs.folder / "file").write_text("mine")
    for name in ("file", "file/inside"):
        assert runs.run("beside", output_dir=str(runs.folder / name)) == 2
        assert "cannot be written" in last_line(capsys)
    assert (runs.folder / "file").read_text() == "mine"


FAILED_WRITES = [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 7796928 vs 7796820"),
]


@pytest.mark.parametrize("error", FAILED_WRITES, ids=str)
def test_a_full_disk_is_said_in_one_sentence_with_how_to_go_on(runs, error, monkeypatch, capsys):
    def save_more(trainer, folder):
        if folder.name == "checkpoint-3":
            raise error

    output = runs.folder / "full"
    shutil.rmtree(output, ignore_errors=True)
    with monkeypatch.context() as patched:
        patched.setattr(VideoGRPOTrainer, "save_more", save_more)
        assert runs.run("full") == 2
    message = last_line(capsys)
    assert re.search(
        r"full cannot be written: .* MB free\); make room; then the same command goes on from checkpoint-2", message
    )
    assert runs.run("full") == 0
    assert contents(output)["model.safetensors"] == contents(runs.finished())["model.safetensors"]


@pytest.mark.parametrize(("step", "said"), [(1, "begins anew"), (3, "goes on from checkpoint-2")])
def test_ctrl_c_says_how_to_go_on(runs, step, said, monkeypatch, capsys):
    original = VideoGRPOTrainer.training_step

    def interrupted(trainer, *args, **kwargs):
        if trainer.state.global_step + 1 == step:
            raise KeyboardInterrupt
        return original(trainer, *args, **kwargs)

    shutil.rmtree(runs.folder / "stopped", ignore_errors=True)
    monkeypatch.setattr(VideoGRPOTrainer, "training_step", interrupted)
    assert runs.run("stopped") == 130
    assert last_line(capsys) == f"videochat-r1 grpo: interrupted; the same command {said}"


def test_a_damaged_record_is_refused_with_the_mend(runs, capsys):
    output = runs.copy("record")
    (output / "run.json").write_text("[")
    assert runs.run("record") == 2
    assert "run.json is damaged; one that holds {} lets the run go on" in last_line(capsys)
    with pytest.raises(ConfigError, match="not a complete checkpoint"):
        checkpoint.read_mark(output)
