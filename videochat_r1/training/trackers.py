"""Where the trackers of `report_to` write: TensorBoard and wandb both into the run's folder, without a network."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import TrainingArguments

logger = logging.getLogger(__name__)


def keep_wandb_local(args: TrainingArguments) -> None:
    """Let wandb record into `output_dir` and upload nothing, unless WANDB_MODE says otherwise.

    Its own default looks for a key and a server when training begins, and ends the run where there is neither.
    """
    if "wandb" not in args.report_to:
        return
    os.environ.setdefault("WANDB_DIR", str(args.output_dir))
    if os.environ.setdefault("WANDB_MODE", "offline") == "offline" and args.process_index == 0:
        logger.info(
            "wandb records into %s/wandb; WANDB_MODE=online uploads, `wandb sync` later", os.environ["WANDB_DIR"]
        )


def send_videos(videos: Mapping[str, Sequence[tuple[Path, str]]], step: int) -> None:
    """Hand videos with their captions to wandb under the names they are found by, as of an update; it copies the files.

    Where wandb has no run that is going on, a warning says so.
    """
    import wandb  # takes seconds, and a run may do without

    if wandb.run is None:
        logger.warning("wandb has no run that is going on: the videos of update %d are not sent", step)
        return
    sent = {
        name: [wandb.Video(str(file), caption=text, format="mp4") for file, text in own] for name, own in videos.items()
    }
    wandb.log({**sent, "train/global_step": step})
