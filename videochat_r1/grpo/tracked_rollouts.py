"""Sends groups of rollouts to a run's trackers as videos, beside training."""

import logging
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from videochat_r1.errors import VideoError
from videochat_r1.grpo.rollout_file import ROLLOUTS, groups_of_update
from videochat_r1.grpo.rollout_video import caption_of, write_rollout_video
from videochat_r1.grpo.tally import spread
from videochat_r1.training.trackers import send_videos

logger = logging.getLogger(__name__)

_GROUPS = 2


class TracksRollouts(TrainerCallback):
    """Every so many updates two groups of the log go to wandb, drawn in a thread of the main process; no other process waits.

    Args:
        every: updates.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rollout-videos")
        self._sent: Future[None] | None = None
        self._read = 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called by transformers."""
        if state.is_world_process_zero and state.global_step % self._every == 0:
            self._wait()
            self._sent = self._pool.submit(self._send, Path(str(args.output_dir)) / ROLLOUTS, state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by transformers."""
        self._wait()
        self._pool.shutdown()

    def _wait(self) -> None:
        """Until the last ones are sent, which takes seconds; what went wrong is raised here."""
        if self._sent is not None:
            self._sent.result()

    def _send(self, log: Path, step: int) -> None:
        groups, self._read = groups_of_update(log, step, self._read)
        videos: dict[str, list[tuple[Path, str]]] = defaultdict(list)
        with tempfile.TemporaryDirectory(prefix="videochat_r1-rollouts-") as folder:
            for place, group in enumerate(most_telling(groups)):
                file = Path(folder) / f"{place}.mp4"
                try:
                    write_rollout_video(group, file)
                except VideoError as error:
                    logger.warning("a group of update %d is not sent to the trackers: %s", step, error)
                    continue
                videos[f"rollouts/{group['task']}"].append((file, caption_of(group)))
            send_videos(videos, step)


def most_telling(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Two of them whose rewards are furthest apart, of different tasks if there are several."""
    ranked = sorted(groups, key=spread, reverse=True)
    firsts = list({group["task"]: group for group in reversed(ranked)}.values())
    others = [group for group in ranked if all(group is not first for first in firsts)]
    return [*sorted(firsts, key=spread, reverse=True), *others][:_GROUPS]
