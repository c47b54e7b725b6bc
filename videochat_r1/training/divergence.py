"""Ends a run whose numbers are no longer finite, before anything of it is saved."""

import math
from pathlib import Path
from typing import Any

import torch

from videochat_r1.errors import DivergedError
from videochat_r1.training import checkpoint


class StopsWhenDiverged:
    """What a transformers `Trainer` needs to say that it has diverged, and to keep its checkpoints sound.

    Put before the trainer class among the bases. Overrides, with their reasons:

    * `log`: the norm of the gradients and the loss, known to all ranks alike, are on the host here anyway; transformers goes
      on with them, whatever they are.
    * `_save_checkpoint`, `save_model`: transformers saves any weights.
    """

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called by transformers every `logging_steps`."""
        for name in ("loss", "grad_norm"):
            # With fp16 a gradient that overflows is part of the search for a loss scale.
            if not math.isfinite(logs.get(name, 0.0)) and not (self.args.fp16 and name == "grad_norm"):
                raise self.diverged(f"{name} is {logs[name]}")
        super().log(logs, start_time)  # type: ignore[misc]

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        """Before anything of the checkpoint's folder is there."""
        self.refuse_diverged_weights()
        super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def save_model(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Called on all ranks together; by transformers for a checkpoint, whose weights have been looked at."""
        if not _internal_call:
            self.refuse_diverged_weights()
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]

    def refuse_diverged_weights(self: Any) -> None:
        """Raises DivergedError on all ranks if any has a weight that is NaN or infinite."""
        finite = weights_are_finite(self.model).int().unsqueeze(0)
        if not self.accelerator.gather(finite).all():
            raise self.diverged("the weights are NaN or infinite")

    def diverged(self: Any, what: str) -> DivergedError:
        """The error that says so, with the mend."""
        if self.state.global_step == 0:
            return DivergedError(
                f"{what} before the first update: the weights to start from are damaged, or too large for fp16"
            )
        step = self.state.global_step
        complete = checkpoint.complete_checkpoints(Path(self.args.output_dir))
        before = [path for path in complete if checkpoint.step(path) < step]
        kept = f"the last checkpoint before is {before[-1].name}" if before else "there is no checkpoint from before"
        if complete and checkpoint.step(complete[-1]) == step:
            kept += f", and {complete[-1].name} is useless: delete it"
        return DivergedError(
            f"{what} at update {step}: the run has diverged. Lower learning_rate (now {self.args.learning_rate:g}) or "
            f"max_grad_norm; {kept}"
        )


def weights_are_finite(model: torch.nn.Module) -> torch.Tensor:
    """A bool without dimensions on the model's device. Of weights that ZeRO has divided, this rank's part."""
    parts = [getattr(weight, "ds_tensor", weight).detach() for weight in model.parameters()]
    # A sum is as little finite as its parts (no sound weights add up to 3e38), and needs no second tensor of their size.
    return torch.stack([part.sum(dtype=torch.float32) for part in parts]).isfinite().all()
