"""The doctor: every defect it looks for is made here for real and must be named, with a mend."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.tiny_runs import make_corpus
from videochat_r1.commands.doctor import main
from videochat_r1.datasets.manifest import sample_to_json
from videochat_r1.doctor import machine
from videochat_r1.doctor.data import tokens_of_clip, tokens_of_frames
from videochat_r1.doctor.memory import ModelShape, Strategy, rollout_bytes, state_bytes, update_bytes
from videochat_r1.doctor.model_folder import check_model, file_defect
from videochat_r1.doctor.report import Section, to_json, to_text
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.video.frames import VideoBudget

ROOT = Path(__file__).resolve().parent.parent
TINY = str(ROOT / "configs" / "grpo" / "tiny.yaml")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a corpus in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("doctor")
    build_tiny(folder / "model", hidden=64, layers=2, vision_hidden=32)
    rows = [sample_to_json(sample) for sample in make_corpus(folder, 12)]
    for row in rows:
        row["video"]["path"] = Path(row["video"]["path"]).name
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def model(good: Path, tmp_path: Path) -> Path:
    """A copy of the model folder that a test may damage."""
    return Path(shutil.copytree(good / "model", tmp_path / "model"))


def problems(section: Section) -> str:
    assert all(problem.mend for problem in section.problems)
    return "\n".join(problem.what for problem in section.problems)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def of_section(result: dict, *names: str) -> list[str]:
    return [problem["what"] for problem in result["problems"] if problem["section"] in names]


def test_state_bytes_by_hand() -> None:
    """100 parameters, all trained, on 4 processes: 2 + 2 bytes of weights, 2 + 4 + 8 of what belongs to training."""
    both = {"bf16": True, "reference": True, "lora": False}
    assert state_bytes(100, 100, Strategy(3), 4, **both) == ((2 * 200 + 14 * 100) / 4, 0)
    assert state_bytes(100, 100, Strategy(3, offload=True), 4, **both) == (0, 450)
    assert state_bytes(100, 100, Strategy(2), 4, **both) == (400 + 350, 0)
    # Without DeepSpeed weights and gradients are fp32 and there is no second copy.
    assert state_bytes(100, 100, Strategy(0), 1, **both) == (4 * 200 + 12 * 100, 0)
    assert state_bytes(100, 1, Strategy(0), 1, bf16=True, reference=False, lora=True) == (2 * 100 + 14, 0)
    assert state_bytes(100, 100, Strategy(3), 1, bf16=False, reference=False, lora=False) == (400 + 1200, 0)


def test_activation_bytes_by_hand() -> None:
    shape = ModelShape(1000, 100, layers=3, hidden=4, intermediate=10, key_width=2, vision_layers=2, vision_hidden=5,
                       vision_intermediate=7, vocabulary=11, tied=False)  # fmt: skip
    same = {"tokens": 10, "video_tokens": 2, "bf16": True}
    inside, vision_inside = 8 * 4 + 2 * 2 + 3 * 10, 8 * 5 + 3 * 7
    language, vision = 10 * (3 * 4 + 2 * inside), 8 * (2 * 5 + 2 * vision_inside)
    kept = update_bytes(shape, Strategy(2), rows=2, checkpointing=True, frozen_vision=False, **same)
    assert kept == 2 * 2 * (language + vision)
    frozen = update_bytes(shape, Strategy(3), rows=1, checkpointing=True, frozen_vision=True, **same)
    assert frozen == 2 * 1000 + 2 * language
    everything = update_bytes(shape, Strategy(0), rows=1, checkpointing=False, frozen_vision=True, **same)
    assert everything == 2 * 10 * inside * 3
    assert rollout_bytes(shape, Strategy(0), tokens=10, groups=3, bf16=False) == 2 * 4 * 3 * 2 * 10 * 3
    assert rollout_bytes(shape, Strategy(3), tokens=10, groups=1, bf16=True) == 2 * 1000 + 2 * 2 * 3 * 2 * 10


def test_tokens_of_the_papers_example() -> None:
    """30 s of 480 x 360: 60 frames of 336 x 252 make 30 x 9 x 12 tokens."""
    assert tokens_of_clip(30.0, 480, 360, VideoBudget()) == 30 * 9 * 12 == 3240
    assert tokens_of_frames(7, 56, 56, VideoBudget(min_pixels=784, max_pixels=3136)) == 4 * 2 * 2


def test_whole_model_folder_has_no_problem(good: Path) -> None:
    section, shape = check_model(str(good / "model"))
    assert section.problems == []
    assert shape is not None and section.facts["stored values"] == f"{shape.parameters:,}"


def test_truncated_weights(model: Path) -> None:
    file = model / "model.safetensors"
    assert file_defect(file) is None
    file.write_bytes(file.read_bytes()[:-100])
    section, _ = check_model(str(model))
    assert "bytes, its header says" in problems(section)
    file.write_bytes(b"<html>not found</html>")
    assert "is not a safetensors file" in problems(check_model(str(model))[0])


def test_missing_shard(model: Path) -> None:
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors").rename(model / names["a"])
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    found = problems(check_model(str(model))[0])
    assert "1 of 2 weight files are missing: model-00002-of-00002.safetensors" in found


def test_no_weights_no_processor_wrong_type(model: Path, good: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "processor_config.json").unlink()
    (model / "tokenizer.json").unlink()
    found = problems(check_model(str(model))[0])
    assert "holds neither model.safetensors nor" in found and "processor" in found
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    assert "'llama'" in problems(check_model(str(model))[0])
    assert "no folder on this machine" in problems(check_model("Qwen/Qwen2.5-VL-7B-Instruct")[0])


def test_tokenizer_of_another_release(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"video_token_id": 3}))
    assert "the config says 3" in problems(check_model(str(model))[0])


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_decoder_that_works(backend: str) -> None:
    assert machine.check_decoder(VideoBudget(backend=backend)).problems == []


def test_decoder_that_does_not_exist() -> None:
    assert "could not be written and read" in problems(machine.check_decoder(VideoBudget(backend="nonesuch")))


def test_output_that_cannot_be_written_or_is_too_small(tmp_path: Path) -> None:
    assert machine.check_output(tmp_path / "new" / "run").problems == []
    assert not (tmp_path / "new").exists(), "looking must not leave anything behind"
    (tmp_path / "file").write_text("")
    assert "cannot be written" in problems(machine.check_output(tmp_path / "file" / "run"))
    assert "the checkpoints need" in problems(machine.check_output(tmp_path, needed_bytes=1e18))


def test_versions(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# comment\ntorch==0.0.1\nno-such-package==1.0\n")
    section = machine.check_versions(pins)
    assert "not the pinned versions: torch" in problems(section) and "no-such-package" not in problems(section)
    assert machine.version_differences({"torch": "2.13.0"}, {"torch": "2.13.0+cpu"}) == {}


def test_a_recipe_with_nothing_wrong(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", TINY, "--model", str(good / "model"), "--data", str(good), "--output", str(tmp_path)]
    code, result = run(capsys, *arguments, "--num-processes", "2")
    # The versions are those of whoever runs the tests; everything else is made here.
    assert {problem["section"] for problem in result["problems"]} <= {"versions"}
    assert code == (0 if result["ok"] else 1)
    facts = result["sections"]["recipe"]["facts"]
    assert (facts["prompts per update"], facts["completions per update"], facts["updates"]) == (2, 8, 4)
    assert facts["DeepSpeed"] == "zero3" and "  zero3_offload" in facts
    assert result["sections"]["data"]["facts"]["samples per epoch"] == 12
    assert main(arguments) == code
    assert "prompts per update" in capsys.readouterr().out


def test_every_problem_of_a_recipe_is_named_at_once(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(good, tmp_path / "data"))
    (data / "0.mp4").unlink()
    (data / "1.mp4").write_bytes(b"")
    recipe = yaml.safe_load(Path(TINY).read_text())
    recipe["mixture"] += [
        {"dataset": "charades_sta", "annotations": "no.json"},
        {"dataset": "charade_sta", "annotations": "x"},
    ]
    recipe["deepspeed"] = "no/such.json"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    arguments = ["--config", str(tmp_path / "recipe.yaml"), "--data", str(data), "--model", str(tmp_path / "none")]
    code, result = run(capsys, *arguments, "--num-processes", "3", "--output", str(tmp_path))
    assert code == 1 and not result["ok"]
    data_problems = of_section(result, "data")
    assert len(data_problems) == 4
    assert any("1 of the first 4 videos are missing" in text for text in data_problems)
    assert any("1 of the first 4 videos cannot be decoded" in text for text in data_problems)
    assert any("no.json" in text for text in data_problems) and any("charades_sta" in text for text in data_problems)
    assert any("nearest that can" in text for text in of_section(result, "recipe"))
    assert any("no/such.json" in text for text in of_section(result, "recipe"))
    assert any("no folder on this machine" in text for text in of_section(result, "model"))


def test_a_misspelt_key_is_a_problem_that_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run(capsys, "--config", TINY, "--learning_rat", "1")
    assert code == 1
    assert "did you mean 'learning_rate'" in of_section(result, "recipe")[0]


def test_flags_override_the_recipe(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--deepspeed", "none", "--prompts_per_step", "4", "--video.fps", "1", "--num-processes", "2"]
    paths = ["--model", str(good / "model"), "--data", str(good), "--output", str(tmp_path)]
    _, result = run(capsys, "--config", TINY, *paths, *flags)
    facts = result["sections"]["recipe"]["facts"]
    assert (facts["DeepSpeed"], facts["prompts per update"]) == ("without DeepSpeed", 4)


def test_report_text_ends_with_the_problems() -> None:
    section = Section("disk", {"free": 3})
    assert to_text([section]).endswith("no problems") and to_json([section])["ok"]
    section.problem("full", "empty it")
    assert to_text([section]).endswith("1 problem\n  disk: full\n    mend: empty it") and not to_json([section])["ok"]


def test_what_only_a_recipe_can_use_is_not_ignored_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", "data"])
    assert "--data and --num-processes need --config" in capsys.readouterr().err
