"""Trainings and time: how long one took, and one that takes as long as another."""

import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from videochat_r1.progress import progress_bar


class Clock(TrainerCallback):
    """Counts the seconds of a training, those before it was interrupted too."""

    def __init__(self) -> None:
        self._before = 0.0
        self._begin: float | None = None
        self.seconds = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The clock starts."""
        self._begin = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A look at the clock."""
        assert self._begin is not None
        self.seconds = self._before + time.perf_counter() - self._begin

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"seconds": self.seconds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From one."""
        self._before = self.seconds = state["seconds"]


class TimeLimit(TrainerCallback):
    """Stops after so many seconds; the bar counts them, and the learning rate falls to zero with them."""

    def __init__(self, seconds: float, description: str) -> None:
        self._seconds = seconds
        self._total = max(1, round(seconds))
        self._bar = progress_bar(
            total=self._total, desc=description, unit="s", bar_format="{l_bar}{bar}| {n}/{total} s"
        )
        self._begin = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The clock starts."""
        self._begin = time.perf_counter()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the learning rate of this step."""
        left = max(0.0, 1.0 - (time.perf_counter() - self._begin) / self._seconds)
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = args.learning_rate * left

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar, and stop when time is up."""
        elapsed = time.perf_counter() - self._begin
        self._bar.update(min(round(elapsed), self._total) - self._bar.n)
        if elapsed >= self._seconds:
            self._bar.close()
            control.should_training_stop = True
