"""What is wrong with the files of a checkpoint, found before anything of it is loaded, and without running any of it."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]
from torch.serialization import get_unsafe_globals_in_checkpoint
from transformers.trainer_pt_utils import safe_globals

from videochat_r1.errors import ConfigError
from videochat_r1.training import checkpoint

# What DeepSpeed keeps in the states of a ZeRO run besides tensors and plain values.
DEEPSPEED_CLASSES = (
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.utils.tensor_fragment.fragment_address",
)


def sound_checkpoint(folder: Path) -> Path:
    """The folder, if it is whole.

    Raises:
        ConfigError: it is not complete, or damaged: file, what is wrong with it, and which checkpoint there is instead.
    """
    if (problem := damage(folder)) is None:
        return folder
    if not (folder / checkpoint.COMPLETE).exists():
        raise ConfigError(problem)
    in_the_way = [folder.name]
    for earlier in reversed(checkpoint.earlier_than(folder)):
        if damage(earlier) is None:
            raise ConfigError(f"{problem}; delete {' and '.join(in_the_way)} to go on from {earlier.name}")
        in_the_way.append(earlier.name)
    raise ConfigError(f"{problem}; there is no earlier one to go on from: restore it, or choose another output_dir")


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words that begin with its name; None if nothing is seen.

    Looked at are the presence and size of all files, that they may be read, and the heads of those that hold tensors: not
    the tensors' values.
    """
    try:
        files = checkpoint.read_mark(folder)["files"]
    except ConfigError as error:
        return str(error)
    problem = missing_part(folder, files)
    for name in files if problem is None else ():
        problem = problem or unreadable_content(folder / name)
    return None if problem is None else f"{folder} is damaged ({problem})"


def missing_part(folder: Path, sizes: Mapping[str, int]) -> str | None:
    """The first file that is not there, may not be read, or has another size than it should."""
    for name, size in sizes.items():
        try:
            with (folder / name).open("rb"):
                found = (folder / name).stat().st_size
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found != size:
            return f"{name}: {found:,} of {size:,} bytes"
    return None


def unreadable_content(path: Path) -> str | None:
    """Why the file cannot be loaded, or must not be, by its kind; None for kinds that are not known."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                return None
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        if path.suffix in (".pt", ".pth"):
            return _unsafe_pickle(path)
    except (SafetensorError, ValueError, OSError) as error:
        return f"{path.name}: {error}"
    return None


def _unsafe_pickle(path: Path) -> str | None:
    """Why a file of `torch.save` is refused: only tensors and plain values are ever loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            record = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            if record is None:
                return f"{path.name} holds no saved state"
            # Read for its checksum.
            archive.read(record)
        with safe_globals():
            others = sorted(set(get_unsafe_globals_in_checkpoint(path)) - set(DEEPSPEED_CLASSES))
    except zipfile.BadZipFile as error:
        return f"{path.name}: {error}"
    except (UnpicklingError, RuntimeError) as error:
        # The first line only: what follows says how to load it all the same.
        return f"{path.name}: {str(error).splitlines()[0]}"
    if others:
        return f"{path.name} holds {', '.join(others[:3])}: loading it could run any code, so it was not loaded"
    return None
