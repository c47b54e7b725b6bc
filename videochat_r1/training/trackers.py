"""Where the trackers of `report_to` write: TensorBoard and wandb both into the run's folder, without a network."""

import logging
import os

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
