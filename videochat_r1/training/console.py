"""What a person at the console sees of a training run: a progress bar, and a short line per logged step."""

from typing import Any

from tqdm import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)


class ConsoleLog(TrainerCallback):
    """A bar with the time left and, every `logging_steps`, the few numbers that say how training goes.

    The complete set of metrics goes to `report_to` and to the trainer's state.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        if state.is_world_process_zero and not args.disable_tqdm:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="update")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the line above the bar."""
        if state.is_world_process_zero and logs and "loss" in logs:
            tqdm.write(summary_line(state.global_step, logs))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def summary_line(step: int, logs: dict[str, Any]) -> str:
    """`step 20  reward 1.41  temporal_grounding 1.52 (iou 0.55)  ...  kl 0.003  tokens 18  2.1 s`."""
    parts = [f"step {step:>5}"]
    if "reward" in logs:
        parts.append(f"reward {float(logs['reward']):.3f}")
    else:
        parts.append(f"loss {float(logs['loss']):.4f}")
    for key in sorted(logs):
        task, _, name = key.partition("/")
        if name == "reward":
            details = [
                f"{reward} {float(value):.2f}"
                for reward in ("iou", "accuracy", "recall")
                if (value := logs.get(f"{task}/rewards/{reward}/mean")) is not None
            ]
            parts.append(f"{task} {float(logs[key]):.2f}" + (f" ({', '.join(details)})" if details else ""))
    for key, label, form in (
        ("kl", "kl", ".4f"),
        ("grad_norm", "grad", ".2f"),
        ("completions/mean_length", "tokens", ".0f"),
        ("step_time", "s/step", ".2f"),
    ):
        if logs.get(key) is not None:
            parts.append(f"{label} {float(logs[key]):{form}}")
    return "  ".join(parts)


def use_console_log(trainer: Trainer) -> None:
    """Replace transformers' own console callbacks, which print every metric of every step as one dictionary."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ConsoleLog())
    if trainer.is_deepspeed_enabled:
        # accelerate sets the same when DeepSpeed starts, but warns of a mismatch with the 1 that transformers gave it.
        trainer.accelerator.gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
