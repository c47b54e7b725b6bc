"""The doctor: every defect it looks for is made here for real and must be named, with a mend."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.small_shapes import small_shape
from tests.tiny_runs import make_corpus
from videochat_r1.commands.doctor import main
from videochat_r1.datasets.manifest import sample_to_json, write_manifest
from videochat_r1.doctor import compiler, gpu_node, machine
from videochat_r1.doctor.data import check_data, grid_of, grid_of_clip
from videochat_r1.doctor.flops import VideoGrid
from videochat_r1.doctor.memory import (
    Strategy,
    loader_bytes,
    model_shape,
    rollout_bytes,
    state_bytes,
    update_bytes,
)
from videochat_r1.doctor.model_folder import check_model, file_defect
from videochat_r1.doctor.recipe import Recipe
from videochat_r1.doctor.recipe_check import check_recipe
from videochat_r1.doctor.report import Section, to_json, to_text
from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import FAMILIES, published_config
from videochat_r1.modeling.load import load_config, load_model, load_processor
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.recipe import DataArguments
from videochat_r1.sample import CaptionTarget, Pictures, Sample, Video
from videochat_r1.video.frames import VideoBudget
from videochat_r1.video.probe import VideoInfo

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


@pytest.mark.parametrize("mergers", [1, 4])
def test_activation_bytes_by_hand(mergers: int) -> None:
    shape = small_shape(mergers=mergers)
    same = {"tokens": 10, "video_tokens": 2, "scored_tokens": 6, "bf16": True, "trained_head": False}
    inside, vision_inside = 8 * 4 + 3 * (6 + 2) + 4 * 10, 15 * 5 + 4 * 7
    features, merging = mergers * 2 * 4, mergers * 2 * 20 * 5
    kept, recomputed = 10 * 3 * 4 + features + 8 * 2 * 5 + merging, 8 * (vision_inside + 2 * 7)
    update = update_bytes(shape, Strategy(2), rows=2, checkpointing=True, frozen_vision=False, **same)
    assert update == 2 * 2 * (kept + max(recomputed, 10 * (inside + 2 * 10)))
    frozen = update_bytes(shape, Strategy(3), rows=1, checkpointing=True, frozen_vision=True, **same)
    assert frozen == 2 * 1000 + 2 * (10 * 3 * 4 + features + 10 * (inside + 2 * 10))
    everything = update_bytes(shape, Strategy(0), rows=1, checkpointing=False, frozen_vision=True, **same)
    assert everything == 2 * (10 * inside * 3 + features) + 2 * 6 * 11
    head = update_bytes(
        shape, Strategy(0), rows=3, checkpointing=False, frozen_vision=True, **same | {"trained_head": True}
    )
    assert head == 3 * 2 * (10 * inside * 3 + features) + 2 * 3 * 6 * 11 + 6 * 11 * 4


@pytest.mark.parametrize("mergers", [1, 4])
def test_rollout_bytes_by_hand(mergers: int) -> None:
    """Four groups of a prompt of 7,000 tokens, two of which are prefilled together; their videos weigh more than a layer."""
    shape = small_shape(mergers=mergers)
    of = {"tokens": 7100, "groups": 4, "prompt_tokens": 7000, "video_tokens": 6000}
    layer = 7000 * (5 * 4 + 3 * 10)
    tower = 24000 * ((24 + 10) * 5 + 6 * 1176) - 2 * 2 * 3 * 2 * 7000
    keys, features = 2 * 2 * 3 * 2 * 7100 * 4, 2 * mergers * 6000 * 4
    assert rollout_bytes(shape, Strategy(0), bf16=True, **of) == keys + 2 * (features + tower)
    assert rollout_bytes(shape, Strategy(3), bf16=True, **of) == 2 * 1000 + keys + 2 * (features + tower)
    of = {"tokens": 10, "groups": 3, "prompt_tokens": 7, "video_tokens": 0}
    assert rollout_bytes(shape, Strategy(0), bf16=False, **of) == 2 * 4 * 3 * 2 * 10 * 3 + 3 * 4 * layer // 1000


@pytest.mark.parametrize(("name", "side", "times"), [("Qwen2.5-VL-7B", 28, 0), ("Qwen3-VL-8B", 32, 9)])
def test_tokens_of_the_papers_example(name: str, side: int, times: int) -> None:
    """30 s of 480 x 360: 60 frames of 9 x 12 tokens; 7 images of 2 x 2 tokens, the last one a pair of its own."""
    config = published_config(name)
    assert config is not None
    shape = model_shape(config)
    clip = grid_of_clip(30.0, 480, 360, VideoBudget(), shape)
    assert (clip.tokens, clip.prompt_tokens) == (30 * 9 * 12, 3240 + 30 * times)
    area = side**2
    images = Video(frames=("a.png",) * 7, frame_times=tuple(range(7)))
    info = VideoInfo(12.0, 7, 1.0, 2 * side, 2 * side)
    few = grid_of(images, info, VideoBudget(min_pixels=area, max_pixels=4 * area), shape)
    assert few == VideoGrid(4, 2, 2, 4 * times)


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_model_folder_has_no_problem(family: str, tmp_path: Path) -> None:
    build_tiny(tmp_path / "model", hidden=64, layers=2, vision_hidden=32, family=family)
    section, shape = check_model(str(tmp_path / "model"))
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


@pytest.mark.parametrize("family", FAMILIES)
def test_processors_of_another_family(family: str, tmp_path: Path) -> None:
    """Its numbers fit every shape, but not the weights."""
    build_tiny(tmp_path / "model", hidden=64, layers=2, vision_hidden=32, family=family)
    processor = load_processor(tmp_path / "model")
    for part in (processor.video_processor, processor.image_processor):
        part.image_mean, part.patch_size = [0.4, 0.5, 0.5], 12
    processor.save_pretrained(tmp_path / "model")
    found = problems(check_model(str(tmp_path / "model"))[0])
    for kind in ("video", "image"):
        assert f"{kind} processor's image_mean is (0.4, 0.5, 0.5)" in found
        assert f"{kind} processor's patch_size is 12" in found
    assert "image_std" not in found and "merge_size" not in found


def test_a_published_checkpoint_that_is_not_here_has_its_known_sizes() -> None:
    section, shape = check_model("Qwen/Qwen3-VL-2B-Instruct")
    assert shape is not None and shape.token_side == 32 and len(section.problems) == 1


def test_limits_that_do_not_fit_the_models_tokens(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--video.total_pixels", "null", "--video.min_pixels", "null", "--video.max_pixels", "1000"]
    code, result = run(capsys, "--config", TINY, "--model", str(good / "model"), "--data", str(good), *flags)
    assert code == 1 and any("max_pixels 1000" in text for text in of_section(result, "model"))


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


def checkpoint(folder: Path, step: int, *files: str) -> None:
    for name in files:
        path = folder / f"checkpoint-{step}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def finished(folder: Path, step: int, last: int) -> None:
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": last}))
    (folder / "model.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "problem", "note"),
    [
        (lambda folder: None, None, None),
        (lambda folder: (folder / "notes.txt").write_text(""), None, None),
        (lambda folder: checkpoint(folder, 6, "complete.json"), None, "ended at checkpoint-6, and the same command"),
        (
            lambda folder: (checkpoint(folder, 6, "complete.json"), finished(folder, 8, 8)),
            None,
            "finished run of 8 updates",
        ),
        (
            lambda folder: (checkpoint(folder, 6, "complete.json"), finished(folder, 6, 8)),
            None,
            "ended at checkpoint-6",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "write over", None),
        (
            lambda folder: checkpoint(folder, 500, "precious.bin"),
            "checkpoint-500 was not written by this project",
            None,
        ),
        (lambda folder: (folder / "trainer_state.json").write_text("[1"), None, None),
        (lambda folder: (folder / "trainer_state.json").write_text("[]"), None, None),
    ],
)
def test_what_the_output_folder_holds(tmp_path: Path, make: Any, problem: str | None, note: str | None) -> None:
    make(tmp_path)
    section = machine.check_output(tmp_path)
    assert len(section.problems) == (problem is not None) and (problem or "") in problems(section)
    assert len(section.notes) == (note is not None) and all(note in text for text in section.notes)


@contextmanager
def acting_as_nobody() -> Iterator[None]:
    """root may read everything; the other users who run these tests may not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("inside", ["private", "private/run", "private/a/b"])
def test_what_may_not_be_read_or_written_is_said(inside: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "private").mkdir()
        (Path(name) / "private").chmod(0o700 if os.geteuid() == 0 else 0)
        folder = Path(name) / inside
        with acting_as_nobody():
            section, cache = machine.check_output(folder), gpu_node.cache_problem(folder)
            model, shape = check_model(str(folder))
        (Path(name) / "private").chmod(0o700)
    assert "Permission denied" in problems(section) and "Permission denied" in str(cache)
    assert shape is None and "may not be read" in problems(model)


def test_weights_that_only_their_owner_may_read(good: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(good / "model", Path(name) / "model"))
        Path(name).chmod(0o755)
        (folder / "model.safetensors").chmod(0o600 if os.geteuid() == 0 else 0)
        with acting_as_nobody():
            section, shape = check_model(str(folder))
            for load in (load_config, load_processor, load_model):
                with pytest.raises(ConfigError, match=r"model\.safetensors may not be read by this user.*chmod"):
                    load(folder)
    assert shape is None and "model.safetensors may not be read by this user" in problems(section)
    assert "chmod" in section.problems[0].mend


@pytest.mark.parametrize("broken", [False, True])
def test_a_machine_with_gpus(broken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    gpu = SimpleNamespace(name="NVIDIA H100", total_memory=80e9)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: not broken)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr(gpu_node, "driver_cuda", lambda: 12040 if broken else 13010)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / ("file/cache" if broken else "cache")))
    monkeypatch.setenv("CC", "/nothing" if broken else "true")
    monkeypatch.setattr(compiler.Path, "is_file", lambda path: True)
    monkeypatch.setattr(gpu_node.resource, "getrlimit", lambda which: (16 if broken else 4096, 4096))
    section = Section("machine")
    gpu_node.check_gpus(section)
    assert section.facts["gpus"] == ["NVIDIA H100 80 GB"] * 2
    assert section.facts["CUDA"].startswith("driver up to 12.4" if broken else "driver up to 13.1")
    expected = (
        ("bf16", "the driver runs CUDA up to 12.4", "compiler", "Triton needs a folder", "16 files") if broken else ()
    )
    assert len(section.problems) == len(expected)
    assert all(text in problem.what for text, problem in zip(expected, section.problems, strict=True))


def test_a_hub_name_is_looked_for_with_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_network(name: str) -> None:
        raise OSError(f"{name} cannot be reached")

    monkeypatch.setattr("transformers.PretrainedConfig.get_config_dict", no_network)
    with caplog.at_level("INFO", "videochat_r1"), pytest.raises(ConfigError, match="cannot be reached"):
        load_config("someone/some-model")
    assert "someone/some-model is no folder here; looking for it on the model hub" in caplog.text


@pytest.mark.parametrize(
    ("driver", "built", "wrong"),
    [
        (13000, "13.0", False),
        (13020, "13.0", False),
        (13000, "13.2", False),
        (14000, "13.0", False),
        (None, "13.0", False),
        (12040, "13.0", True),
        (12080, "12.6", False),
        (11080, "12.6", True),
        (12040, None, True),
    ],
)
def test_a_driver_runs_builds_of_its_own_major_version_and_older(
    driver: int | None, built: str | None, wrong: bool
) -> None:
    problem = gpu_node.driver_problem(driver, built)
    assert (problem is not None) == wrong
    assert problem is None or "--torch-backend" in problem.mend


@pytest.mark.parametrize(
    ("programs", "headers", "reason"),
    [
        ({"gcc": "exit 0"}, True, None),
        ({"clang": "exit 0"}, True, None),
        ({}, True, "no C compiler"),
        ({"cc": "exit 0"}, True, "no C compiler"),
        ({"gcc": "exit 0"}, False, "Python's headers are missing"),
        ({"gcc": "echo a.c:1: fatal error: stdlib.h: No such file >&2; exit 1"}, True, "fatal error: stdlib.h"),
        ({"gcc": "exit 3"}, True, "exit code 3"),
    ],
)
def test_what_keeps_triton_from_building(
    programs: dict[str, str], headers: bool, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "include").mkdir()
    if headers:
        (tmp_path / "include" / "Python.h").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler.sysconfig, "get_paths", lambda **_: {"include": str(tmp_path / "include")})
    problem = compiler.compiler_problem()
    assert (problem.what if problem else None) is None if reason is None else reason in str(problem)
    assert problem is None or "apt-get install" in problem.mend
    monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    assert not headers or "cannot be started" in str(compiler.compiler_problem())


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_a_real_compiler_against_real_headers() -> None:
    problem = compiler.compiler_problem()
    assert problem is None or "headers are missing" in problem.what


def test_open_files_and_shared_memory(tmp_path: Path) -> None:
    assert gpu_node.files_problem(1024) is gpu_node.files_problem(-1) is None
    assert "256 files" in str(gpu_node.files_problem(256))
    assert gpu_node.shared_memory_problem(0.0, tmp_path / "none") is None
    assert gpu_node.shared_memory_problem(1e3, tmp_path) is None
    for folder in (tmp_path, tmp_path / "none"):
        problem = gpu_node.shared_memory_problem(1e18, folder)
        assert problem is not None and "--shm-size" in problem.mend
    # 8 processes of 4 workers with 30 s of 480 x 360: 61 MB a prompt.
    config = published_config("Qwen2.5-VL-7B")
    assert config is not None
    assert loader_bytes(model_shape(config), 3240, workers=4, processes=8) == pytest.approx(96 * 61e6, rel=0.01)


@pytest.mark.parametrize("written", ["[]", "zero_optimization: 3", "zero_optimization: {stage: many}", "{", "\0"])
def test_a_deepspeed_file_that_is_none(written: str, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(written)
    recipe = Recipe(TINY, ["--deepspeed", str(tmp_path / "ds.json")])
    with pytest.raises(ConfigError, match=r"ds\.json"):
        recipe.strategy.name  # noqa: B018


@pytest.mark.parametrize("written", ["[]", "- a", "text", "{", "3"])
def test_a_recipe_that_is_none(written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text(written)
    code, result = run(capsys, "--config", str(tmp_path / "recipe.yaml"))
    assert code == 1 and "recipe.yaml" in of_section(result, "recipe")[0]


@pytest.mark.parametrize(
    ("gigabytes", "share", "fits"), [(80, 0.3, True), (80, 0.2, False), (40, 0.5, True), (40, 0.3, False)]
)
def test_vllms_share_has_to_hold_the_weights_and_a_completion(
    gigabytes: float, share: float, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16.6 GB of weights and 0.3 GB of keys and values."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: name)
    flags = ["--use_vllm", "true", "--vllm_gpu_memory_utilization", str(share), "--bf16", "true", "--data_root", "none"]
    recipe = Recipe(str(ROOT / "configs/grpo/joint.yaml"), flags)
    config = published_config("Qwen/Qwen2.5-VL-7B-Instruct")
    assert config is not None
    shape = model_shape(config)
    section = check_recipe(
        recipe, processes=8, samples_per_epoch=0, videos=[], shape=shape, gpu_bytes=gigabytes * 1e9, num_gpus=8
    )
    assert any("vLLM gets" in problem.what for problem in section.problems) == (not fits)


@pytest.mark.parametrize("rows, problem", [(8, True), (16, True), (32, False)])
def test_questions_of_a_video_have_to_fit_into_a_micro_batch(rows: int, problem: bool) -> None:
    flags = ["--mixture.0.questions_together", "4", "--mixture.0.queries_per_video", "all", "--data_root", "none"]
    recipe = Recipe(str(ROOT / "configs/grpo/joint.yaml"), [*flags, "--per_device_train_batch_size", str(rows)])
    section = check_recipe(recipe, processes=2, samples_per_epoch=0, videos=[], shape=None, gpu_bytes=None)
    assert ("tears 4 questions" in problems(section)) == problem
    assert problem or section.facts["questions about a video"] == "up to 4 in one micro-batch"


def test_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# comment\ntorch==0.0.1\nno-such-package==1.0\n")
    section = machine.check_versions(pins)
    assert "not the pinned versions: torch" in problems(section) and "no-such-package" not in problems(section)
    pins.write_text("torch==2.13.0\nnvidia-cublas==13.1\ncuda-bindings==13.5\nnumpy==2.3.5\n")
    others = {"nvidia-cublas": "12.6", "cuda-bindings": "12.9", "numpy": "2.3.5"}
    for torch_version, problem in (("2.13.0", "nvidia-cublas 12.6"), ("2.13.0+cu126", "")):
        found = {"torch": torch_version, **others}
        monkeypatch.setattr(machine, "_installed", lambda names, found=found: found)
        text = problems(machine.check_versions(pins))
        assert problem in text and ("nvidia" in text) == bool(problem)
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
    assert "further looks per update" not in facts
    assert main(arguments) == code
    assert "prompts per update" in capsys.readouterr().out


@pytest.mark.parametrize("rounds", [1, 2])
def test_further_looks_are_completions_of_an_update_too(rounds: int) -> None:
    flags = ["--data_root", "none", "--second_look.rounds", str(rounds)]
    recipe = Recipe(str(ROOT / "configs/grpo/joint.yaml"), flags)
    section = check_recipe(recipe, processes=8, samples_per_epoch=0, videos=[], shape=None, gpu_bytes=None)
    assert section.facts["completions per update"] == 64
    assert section.facts["further looks per update"] == f"at most {64 * rounds}"


def test_pictures_of_a_recipe_are_read_and_their_tokens_counted(tmp_path: Path) -> None:
    for name, size in (("a.png", (280, 140)), ("b.png", (56, 56))):
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    shown = [("a.png", "b.png"), ("b.png",), ("gone.png",), ("a.png", "cut.png")]
    target = CaptionTarget("A dog.")
    samples = [Sample(str(i), "captioning", Pictures(paths), "What?", target) for i, paths in enumerate(shown)]
    write_manifest(tmp_path / "own.jsonl", samples)
    mixture = [{"manifest": "own.jsonl", "videos": "."}]
    data = DataArguments(mixture=mixture, data_root=str(tmp_path), picture={"max_pixels": 20 * 28 * 28})
    found = check_data(data, 0, shape=small_shape(), num_videos=10)
    assert set(found.videos) == {VideoGrid(1, 2, 2), VideoGrid(2, 3, 6)}
    assert "1 of the first 4 pictures are missing" in problems(found.section)
    assert "1 of the first 4 pictures cannot be decoded" in problems(found.section)


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
    recipe |= {"deepspeed": "no/such.json", "extends": "joint"}
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
    assert to_text([section]).startswith("disk  (1 problem)\n")
    assert to_text([section]).endswith("\n1 problem\n  disk: full\n    mend: empty it") and not to_json([section])["ok"]


def test_what_only_a_recipe_can_use_is_not_ignored_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", "data"])
    assert "--data and --num-processes need --config" in capsys.readouterr().err
