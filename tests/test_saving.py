"""What checkpoints and model folders hold besides the model: nothing that others cannot or should not read."""

import os

import pytest
from peft import LoraConfig

from tests.test_sft import make_sft
from tests.tiny_runs import make_trainer
from videochat_r1.modeling.saving import follow_umask
from videochat_r1.modeling.tiny import build_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("saving")
    make_trainer(path)  # builds the model
    return path


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], ids=oct)
def test_weights_follow_the_umask_as_other_files_do(tmp_path, umask):
    before = os.umask(umask)
    try:
        (tmp_path / "model.safetensors").touch(0o600)
        (tmp_path / "other.bin").touch(0o600)
        follow_umask(tmp_path)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"model.safetensors": 0o666 & ~umask, "other.bin": 0o600}


def test_a_built_model_can_be_read_by_others(tmp_path):
    build_tiny(tmp_path, hidden=64, layers=1, vision_hidden=32)
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (make_trainer, {"num_iterations": 2}),
        (make_trainer, {"peft_config": LoraConfig(r=2, target_modules=["q_proj"])}),
        (make_sft, {}),
    ],
    ids=["grpo", "grpo with adapters", "sft"],
)
def test_a_checkpoint_holds_no_card_and_no_pickled_options(folder, tmp_path, make, options):
    trainer = make(folder, max_steps=1, save_strategy="steps", save_steps=1, output_dir=str(tmp_path), **options)
    trainer.train()
    files = {path.name: path for path in (tmp_path / "checkpoint-1").iterdir()}
    assert not {"README.md", "training_args.bin"} & files.keys()
    assert not (tmp_path / "README.md").exists()
    others = files["complete.json"].stat().st_mode
    weights = [path for path in files.values() if path.suffix == ".safetensors"]
    assert weights and all(path.stat().st_mode == others for path in weights)
