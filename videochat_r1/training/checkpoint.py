"""Checkpoints that survive a kill at any moment: complete ones are marked, and completions in use are kept with them."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.saving import follow_umask
from videochat_r1.training.loader import BadSamples

logger = logging.getLogger(__name__)

MARKER = "complete.json"
_BUFFER = "generation_buffer"


def checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoint folders by step, complete or not."""
    found = [
        path
        for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and path.name.rpartition("-")[2].isdigit()
    ]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The update that a checkpoint was saved after, by its name."""
    return int(folder.name.rpartition("-")[2])


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint; None when there is none."""
    complete = [path for path in checkpoints(output_dir) if (path / MARKER).is_file()]
    return complete[-1] if complete else None


def remove_incomplete(output_dir: Path) -> list[Path]:
    """Delete the folders that a kill left half-written, and return them."""
    broken = [path for path in checkpoints(output_dir) if not (path / MARKER).is_file()]
    for path in broken:
        logger.warning("%s was not completely written and is removed", path)
        shutil.rmtree(path)
    return broken


def mark_complete(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """State that everything of this checkpoint is on disk; the last write of all. `state` is kept with it."""
    temporary = folder / f"{MARKER}.tmp"
    temporary.write_text(json.dumps({"step": step, **state}) + "\n")
    temporary.replace(folder / MARKER)


def read_marker(folder: Path) -> dict[str, Any]:
    """What `mark_complete` kept.

    Raises:
        ConfigError: the checkpoint is not complete.
    """
    path = folder / MARKER
    if not path.is_file():
        raise ConfigError(f"{folder} is not a complete checkpoint: it has no {MARKER}; use an earlier one")
    return dict(json.loads(path.read_text()))


def rotate(output_dir: Path, limit: int | None) -> None:
    """Keep the newest `limit` complete checkpoints; run only after the newest is marked."""
    if limit is None or limit <= 0:
        return
    complete = [path for path in checkpoints(output_dir) if (path / MARKER).is_file()]
    for path in complete[:-limit]:
        # The marker goes first: a kill in between must not leave a folder that looks complete.
        (path / MARKER).unlink()
        shutil.rmtree(path)


class ResumableTrainer:
    """What a transformers `Trainer` needs so that a run killed at any moment goes on as if nothing had happened.

    Put before the trainer class among the bases. Overrides, with their reasons:

    * `_save_checkpoint`: transformers deletes old checkpoints before anything says that the new one is complete.
    * `_load_from_checkpoint`: transformers 5 saves Qwen-VL weights under their published names but loads a checkpoint
      by the module's own, so that a resumed run would silently go on with the vision tower it started from.
    * `_prepare_for_training`: DeepSpeed reads its checkpoints as pickle, which may run anything; see `without_pickle`.
    * `_load_optimizer_and_scheduler`: the one call that tells a trainer which folder it resumes from.
    """

    bad_samples: BadSamples
    resumed_from: Path | None = None

    def save_more(self, folder: Path) -> None:
        """Write what a subclass needs to go on; every rank calls it."""

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        output_dir = Path(self.args.output_dir)
        folder = output_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        finally:
            self.args.save_total_limit = limit
        self.save_more(folder)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            mark_complete(folder, self.state.global_step, {"bf16": self.args.bf16, **self.bad_samples.state()})
            rotate(output_dir, limit)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        model = model or self.model
        if not isinstance(model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict())

    def _prepare_for_training(
        self: Any, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> tuple[Any, Any]:
        reading = without_pickle() if self.is_deepspeed_enabled and resume_from_checkpoint else nullcontext()
        with reading:
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is not None:
            self.resumed_from = Path(checkpoint)
            self.bad_samples.restore(read_marker(self.resumed_from))


@contextmanager
def without_pickle() -> Iterator[None]:
    """In which DeepSpeed's checkpoints are read as tensors, plain values and the few classes that ZeRO saves with them.

    Raises:
        ConfigError: from the reading, when a file holds anything else.
    """
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    def load(engine: Any, path: str, map_location: Any = None) -> Any:
        with torch.serialization.safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address]):
            try:
                return torch.load(path, map_location=map_location, weights_only=True)
            except UnpicklingError as error:
                # Not torch's own text, which says how to load it all the same.
                raise ConfigError(
                    f"{path} holds objects besides the states of a ZeRO run, and loading them could run any code: it was not "
                    "loaded. Resume from another checkpoint"
                ) from error

    original, TorchCheckpointEngine.load = TorchCheckpointEngine.load, load
    try:
        yield
    finally:
        TorchCheckpointEngine.load = original


def save_generation_buffer(folder: Path, rank: int, batches: Sequence[Mapping[str, Any]]) -> None:
    """Keep the completions that later updates of the same generation still need: one file per rank, tensors only, as
    prompts are built again from their samples."""
    flat = {
        # Micro-batches share their 0-dimensional values, and safetensors refuses shared memory.
        f"{index}.{name}": tensor.detach().cpu().clone()
        for index, batch in enumerate(batches)
        for name, tensor in batch.items()
        if isinstance(tensor, torch.Tensor)
    }
    save_file(flat, folder / f"{_BUFFER}_{rank}.safetensors")
    follow_umask(folder)


def load_generation_buffer(folder: Path, rank: int, device: torch.device) -> list[dict[str, torch.Tensor]]:
    """Inverse of `save_generation_buffer`.

    Raises:
        ConfigError: the checkpoint holds none for this rank, as it was written by another number of processes.
    """
    path = folder / f"{_BUFFER}_{rank}.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"{folder} was saved between two updates of one generation by another number of processes; "
            "resume it with the same number, or from an earlier checkpoint"
        )
    batches: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        index, _, name = key.partition(".")
        batches.setdefault(int(index), {})[name] = tensor.to(device)
    return [batches[index] for index in sorted(batches)]


def resume_folder(args: TrainingArguments) -> str | None:
    """What to resume from: the folder that the recipe names, else the newest complete checkpoint of the output folder.

    Raises:
        ConfigError: the named folder is not a complete checkpoint, or was saved in another precision.
    """
    named = args.resume_from_checkpoint
    by_name = isinstance(named, str) and named.lower() not in ("true", "auto")
    folder = Path(str(named)) if by_name else last_checkpoint(Path(args.output_dir))
    if folder is None:
        return None
    # DeepSpeed ends without a word when its optimiser states come in another precision.
    saved = read_marker(folder)["bf16"]
    if saved != args.bf16:
        raise ConfigError(
            f"{folder} was saved with bf16={saved} and this run has bf16={args.bf16}: resume it with --bf16 {saved}, or "
            "choose another output_dir"
        )
    logger.info("resuming from %s", folder)
    return str(folder)
