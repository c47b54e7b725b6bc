"""Model folders that whoever may read the rest of the disk can read too."""

import os
from pathlib import Path

from transformers import PreTrainedModel, ProcessorMixin


def save_model_folder(model: PreTrainedModel, processor: ProcessorMixin, folder: str | Path) -> None:
    """Weights, config and processor, as `from_pretrained` takes them."""
    model.save_pretrained(str(folder))
    processor.save_pretrained(str(folder))
    follow_umask(folder)


def follow_umask(folder: str | Path) -> None:
    """Give the weights of a folder the permissions of any new file in it: safetensors writes for its owner alone."""
    # Not os.umask, which tells only by changing it for all threads, and knows nothing of a folder's own defaults.
    probe = Path(folder) / f".new_file_{os.getpid()}"
    probe.touch()
    permissions = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in Path(folder).glob("*.safetensors"):
        path.chmod(permissions)
