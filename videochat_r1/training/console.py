"""What a person at the console sees of a training run: a progress bar, and a short line per logged step."""

from pathlib import Path
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

from videochat_r1.progress import progress_bar, write_line
from videochat_r1.rollout.ended import Ended
from videochat_r1.training.metrics_file import METRICS, append_metrics

# Of every step of GRPO, whatever became of its rollouts.
_GRPO_ONLY = "frac_reward_zero_std"


class ConsoleLog(TrainerCallback):
    """A bar with the time left and, every `logging_steps`, the few numbers that say how training goes.

    The complete set of metrics goes to `metrics.jsonl`, to `report_to` and to the trainer's state.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        if state.is_world_process_zero and not args.disable_tqdm:
            self._bar = progress_bar(total=state.max_steps, initial=state.global_step, desc="training", unit="update")

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
        """Write the line above the bar, and all of it into the run's folder."""
        if state.is_world_process_zero and logs and "loss" in logs:
            write_line(summary_line(state.global_step, logs))
            append_metrics(Path(str(args.output_dir)) / METRICS, state.global_step, logs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def summary_line(step: int, logs: dict[str, Any]) -> str:
    """`step    20  reward 1.410  temporal_grounding 1.52 (iou 0.55)  ...  kl 0.0030  tokens 18  s/step 2.10`.

    What a step does not have is left out: a step all of whose videos were left out has no reward.
    """
    parts = [f"step {step:>5}"]
    if _GRPO_ONLY in logs:
        parts.append(_shown(logs, "reward", "reward", ".3f") or "no rollout scored")
    else:
        parts.append(_shown(logs, "loss", "loss", ".4f"))
    for key in sorted(logs):
        task, _, name = key.partition("/")
        if name == "reward" and (mean := _shown(logs, key, task, ".2f")):
            terms = [_shown(logs, f"{task}/rewards/{term}/mean", term, ".2f") for term in ("iou", "accuracy", "recall")]
            reasons = [reason for reason in Ended if reason != Ended.STOP and logs.get(f"{task}/ended/{reason}")]
            terms += [_shown(logs, f"{task}/ended/{reason}", reason, ".2f") for reason in reasons]
            details = ", ".join(filter(None, terms))
            parts.append(f"{mean} ({details})" if details else mean)
    parts += [
        _shown(logs, "kl", "kl", ".4f"),
        _shown(logs, "grad_norm", "grad", ".2f"),
        _shown(logs, "completions/mean_length", "tokens", ".0f"),
        _shown(logs, "step_time", "s/step", ".2f"),
    ]
    if logs.get("data/bad_samples"):
        parts.append(_shown(logs, "data/bad_samples", "left out so far", ".0f"))
    return "  ".join(filter(None, parts))


def _shown(logs: dict[str, Any], key: str, label: str, form: str) -> str:
    """`label value`; empty where there is no value."""
    value = logs.get(key)
    return "" if value is None else f"{label} {float(value):{form}}"


def use_console_log(trainer: Trainer) -> None:
    """Replace transformers' own console callbacks, which print every metric of every step as one dictionary."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ConsoleLog())
    if trainer.is_deepspeed_enabled:
        # accelerate sets the same when DeepSpeed starts, but warns of a mismatch with the 1 that transformers gave it.
        trainer.accelerator.gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
