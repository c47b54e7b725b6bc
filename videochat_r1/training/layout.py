"""How many passes of all processes make one optimiser update, so that its batch does not depend on their number."""

import os

from videochat_r1.errors import ConfigError, counted

RESUME_CHANGED = "Go on from a checkpoint that was made with other settings, where that can be exact."
"""Help of an option that GRPO and SFT share."""


def world_size() -> int:
    """Number of processes of this launch; torchrun states it to each of them before any process group exists."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_data_parallel(num_gpus: int) -> None:
    """For the GPUs that one process would train on.

    Raises:
        ConfigError: more than one: without a launcher, transformers splits each batch over them, videos and positions included.
    """
    if num_gpus > 1:
        raise ConfigError(
            f"one process sees {num_gpus} GPUs and cannot train on all of them: start one process per GPU "
            f"(NUM_GPUS={num_gpus} bash training_scripts/launch.sh ...), or show it one with CUDA_VISIBLE_DEVICES=0"
        )


def passes_per_update(wanted: int, per_process: int, num_processes: int, *, what: str, option: str) -> int:
    """Forward and backward passes of each process that make an update of exactly `wanted` items.

    Args:
        wanted: items of one update.
        per_process: items of one pass of one process.
        num_processes: of the launch, all nodes together.
        what: the items, "prompts" or "samples".
        option: which option `wanted` is.

    Raises:
        ConfigError: no number of passes does; the nearest layouts that can are named.
    """
    if wanted < 1 or per_process < 1:
        raise ConfigError(f"{option}={wanted} with {per_process} {what} on each process: both must be at least 1")
    per_pass = per_process * num_processes
    if wanted % per_pass == 0:
        return wanted // per_pass
    raise ConfigError(
        f"{num_processes} processes with {per_process} {what} each make {per_pass} {what} per pass, which cannot add up to "
        f"{option}={wanted}. {_nearest(wanted, per_process, num_processes, option)}"
    )


def refuse_torn_questions(together: int, per_process: int, rows: int = 1) -> None:
    """For a mixture whose order brings `together` questions about a video into slices of that size.

    Args:
        together: the largest `questions_together` of the mixture.
        per_process: prompts (SFT: samples) of a micro-batch of one process.
        rows: of `per_device_train_batch_size`, that a prompt takes.

    Raises:
        ConfigError: a micro-batch would hold part of a slice only.
    """
    if per_process % together:
        fitting = -(-per_process // together) * together
        raise ConfigError(
            f"questions_together={together}: a micro-batch holds {counted(per_process, 'prompt')}, which tears {together} "
            f"questions about a video apart. Use per_device_train_batch_size={fitting * rows} ({counted(fitting, 'prompt')}; "
            f"what makes an update has to hold whole micro-batches of them), or a questions_together that divides {per_process}"
        )


def _nearest(wanted: int, per_process: int, num_processes: int, option: str) -> str:
    fitting = [n for n in range(1, wanted + 1) if wanted % (n * per_process) == 0]
    hints = []
    if fitting:
        nearest = min(fitting, key=lambda n: (abs(n - num_processes), -n))
        hints.append(f"nearest that can: {nearest} process{'es' if nearest > 1 else ''}")
    per_pass = num_processes * per_process
    multiples = {max(1, wanted // per_pass) * per_pass, (wanted // per_pass + 1) * per_pass}
    near = min(multiples, key=lambda value: (abs(value - wanted), value))
    hints.append(f"{option}={near} on {num_processes} processes (the learning rate was chosen for {wanted})")
    return "; or ".join(hints) + "."
