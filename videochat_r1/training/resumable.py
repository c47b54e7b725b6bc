"""What makes a transformers trainer go on after a kill as if nothing had happened: saving and loading of its checkpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.load import is_out_of_memory
from videochat_r1.modeling.saving import follow_umask
from videochat_r1.training import checkpoint
from videochat_r1.training.checkpoint import read_mark
from videochat_r1.training.loader import BadSamples

_BUFFER = "generation_buffer"


class Kept(Protocol):
    """Something whose state, the same on every rank, a resumed run goes on with."""

    def state(self) -> dict[str, Any]:
        """As JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """From all that was kept."""
        ...


class ResumableTrainer:
    """What a transformers `Trainer` needs so that a run killed at any moment goes on as if nothing had happened.

    Put before the trainer class among the bases. Overrides, with their reasons:

    * `_save_checkpoint`: transformers deletes old checkpoints, whoever wrote them, before anything says that the new one is
      complete.
    * `_load_from_checkpoint`: transformers 5 saves Qwen-VL weights under their published names but loads a checkpoint
      by the module's own, so that a resumed run would silently go on with the vision tower it started from.
    * `_init_training_state`: transformers goes on with the checkpoint's `save_steps` and `logging_steps`.
    * `_run_epoch`: transformers looks whether a run has come to its end only after a further update.
    * `_prepare_for_training`: DeepSpeed reads its checkpoints as pickle, which may run anything; see `without_pickle`.
    * `_load_optimizer_and_scheduler`: the one call that tells a trainer which folder it resumes from. Of an optimiser,
      torch restores the options, too, which are the recipe's where they were changed on purpose.
    * `_load_rng_state`: torch's refusal of unsafe pickles says how to load them all the same.
    """

    bad_samples: BadSamples
    also_kept: Sequence[Kept] = ()
    """Whose states a checkpoint's mark keeps, too."""
    resumed_from: Path | None = None
    settings: Mapping[str, Any] = {}
    """What numbers depend on; kept with every checkpoint."""
    settings_changed = False
    """Whether the checkpoint was made with others, and the recipe's count from now on."""

    def save_more(self, folder: Path) -> None:
        """Write what a subclass needs to go on; every rank calls it."""

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        output_dir = Path(self.args.output_dir)
        folder = output_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.accelerator.is_main_process:
            checkpoint.begin(folder)
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        finally:
            self.args.save_total_limit = limit
        self.save_more(folder)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            state = {"settings": self.settings, "optimizer": not self.args.save_only_model}
            for kept in (self.bad_samples, *self.also_kept):
                state |= kept.state()
            checkpoint.mark_complete(folder, self.state.global_step, state)
            checkpoint.rotate(output_dir, limit)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        model = model or self.model
        if not isinstance(model, PreTrainedModel):
            with _reading(resume_from_checkpoint):
                super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        with _reading(resume_from_checkpoint):
            # The model's own config: without one in the folder, transformers would build the published size of its type.
            # Not its attention, which transformers looks for on the hub where it is this project's.
            saved, found = type(model).from_pretrained(
                resume_from_checkpoint,
                config=model.config,
                dtype=model.dtype,
                attn_implementation="eager",
                output_loading_info=True,
            )
        if found["missing_keys"]:
            raise ConfigError(
                f"{resume_from_checkpoint} lacks weights of this model: {sorted(found['missing_keys'])[:3]}"
            )
        model.load_state_dict(saved.state_dict())

    def _init_training_state(
        self: Any,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        place: tuple[int, int] = super()._init_training_state(  # type: ignore[misc]
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        self.state.compute_steps(self.args, max_steps)
        if self.state.global_step > max_steps:
            raise ConfigError(
                f"{self.state.global_step} updates have been made, more than the {max_steps} asked for: name an earlier "
                "checkpoint with --resume_from_checkpoint, or ask for more"
            )
        return place

    def _run_epoch(self: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(**kwargs)  # type: ignore[misc]

    def _prepare_for_training(
        self: Any, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> tuple[Any, Any]:
        reading = without_pickle() if self.is_deepspeed_enabled and resume_from_checkpoint else nullcontext()
        with reading:
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        ours = self.settings_changed and not self.is_deepspeed_enabled
        restore_options = _optimizer_options(self.optimizer, self.lr_scheduler) if ours else None
        with _reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if restore_options is not None:
            restore_options()
        self.resumed_from = Path(checkpoint)
        for kept in (self.bad_samples, *self.also_kept):
            kept.restore(read_mark(self.resumed_from))

    def _load_rng_state(self: Any, checkpoint: str | None) -> None:
        with _reading(checkpoint):
            super()._load_rng_state(checkpoint)  # type: ignore[misc]


@contextmanager
def _reading(folder: str | None) -> Iterator[None]:
    """In which a checkpoint is read that `damage` has found nothing wrong with.

    Raises:
        ConfigError: it is damaged all the same, within its values.
    """
    try:
        yield
    except (UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        if is_out_of_memory(error):
            raise
        # The first line only: what follows can say how to load an unsafe file all the same.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{folder} cannot be loaded: {reason}. Delete it to go on from an earlier one") from error


def _optimizer_options(optimizer: Any, scheduler: Any) -> Callable[[], None]:
    """Puts the learning rate and all other options that optimiser and schedule have now back, once their states are loaded."""
    if not isinstance(scheduler, LambdaLR):
        raise ConfigError("settings cannot be changed in mid-run with a schedule that follows the loss")
    options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    rates = list(scheduler.base_lrs)

    def restore() -> None:
        for group, kept in zip(optimizer.param_groups, options, strict=True):
            group.update(kept)
        scheduler.base_lrs = rates
        shares = [scale(scheduler.last_epoch) for scale in scheduler.lr_lambdas]
        for group, rate, share in zip(optimizer.param_groups, rates, shares, strict=True):
            group["lr"] = rate * share
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]

    return restore


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
