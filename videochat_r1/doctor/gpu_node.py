"""What training on GPUs needs of a node besides the GPUs: driver, compiler, caches, open files, shared memory."""

import ctypes
import resource
import shutil
import tempfile
from pathlib import Path

import torch

from videochat_r1.doctor.compiler import compiler_problem
from videochat_r1.doctor.report import Problem, Section

GB = 1e9
# A loader hands tensors over as open files: some for each prompt that lies ready.
_OPEN_FILES = 1024
_OTHER_BUILD = "update the driver, or install torch for the driver that is here: bash training_scripts/setup.sh --torch-backend auto"


def check_gpus(section: Section) -> None:
    """Adds the GPUs and, where there are some, everything that a run meets only after it has loaded its model."""
    driver = driver_cuda()
    if driver is not None:
        section.facts["CUDA"] = f"driver up to {_dotted(driver)}, torch built for {torch.version.cuda or 'none'}"
    if not torch.cuda.is_available():
        section.facts["gpus"] = "none"
        if Path("/dev/nvidiactl").exists():
            section.problems.append(
                driver_problem(driver, torch.version.cuda)
                or Problem(f"there is an NVIDIA device, but torch {torch.__version__} cannot use it", _OTHER_BUILD)
            )
        else:
            section.notes.append("without a GPU only small models train: NUM_GPUS=0, or the quickstart")
        return
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    section.facts["gpus"] = [f"{gpu.name} {gpu.total_memory / GB:.0f} GB" for gpu in gpus]
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        section.problem(f"{gpus[0].name} has no bf16 arithmetic", "use GPUs of the Ampere generation or later")
    found = (
        driver_problem(driver, torch.version.cuda),
        compiler_problem(),
        cache_problem(_triton_cache()),
        files_problem(),
    )
    section.problems += [problem for problem in found if problem is not None]


def driver_cuda() -> int | None:
    """The newest CUDA that the driver runs, 13000 for 13.0; None without one."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed else version.value


def driver_problem(driver: int | None, built_for: str | None) -> Problem | None:
    """Whether a driver runs a build of torch. Within one major version every driver runs every build.

    Args:
        driver: see `driver_cuda`.
        built_for: `torch.version.cuda`, such as "13.0"; None for a build without CUDA.
    """
    if built_for is None:
        return Problem(
            f"there is an NVIDIA device, but torch {torch.__version__} is a build without CUDA",
            "bash training_scripts/setup.sh --torch-backend default",
        )
    if driver is None or driver // 1000 >= int(built_for.split(".")[0]):
        return None
    return Problem(f"the driver runs CUDA up to {_dotted(driver)}, torch is built for {built_for}", _OTHER_BUILD)


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _triton_cache() -> Path:
    from triton import knobs

    return Path(knobs.cache.dir)


def cache_problem(folder: Path) -> Problem | None:
    """Whether Triton can keep there what it compiles."""
    reason = write_failure(folder)
    if reason is None:
        return None
    return Problem(
        f"Triton needs a folder for what it compiles: {reason}",
        "name one that can be written with TRITON_CACHE_DIR, or set HOME to one",
    )


def write_failure(folder: Path) -> str | None:
    """Why nothing can be written in a folder, or in the one where it would be made; None where it can. Leaves nothing behind."""
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    except OSError as error:
        return f"{error.filename} cannot be looked into: {error.strerror}"
    try:
        with tempfile.NamedTemporaryFile(dir=existing) as file:
            file.write(b"videochat-r1")
            file.flush()
    except OSError as error:
        return f"{existing} cannot be written: {error.strerror}"
    return None


def files_problem(allowed: int | None = None) -> Problem | None:
    """Whether a process may open enough files. `allowed`: the limit; None asks the system."""
    if allowed is None:
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY or allowed >= _OPEN_FILES:
        return None
    return Problem(
        f"a process may open {allowed:,} files, and every tensor that a loader hands over is one", "ulimit -n 65536"
    )


def shared_memory_problem(needed: float, folder: Path = Path("/dev/shm")) -> Problem | None:
    """Whether the loaders' prompts have room. Containers have 64 MB unless told otherwise.

    Args:
        needed: bytes, see `memory.loader_bytes`.
        folder: of the shared memory.
    """
    if needed == 0:
        return None
    size = shutil.disk_usage(folder).total if folder.is_dir() else 0
    if size >= needed:
        return None
    return Problem(
        f"the loaders hand over up to {needed / GB:.2g} GB through {folder}, which has {size / GB:.2g} GB",
        "start the container with --ipc=host or --shm-size, or lower dataloader_num_workers (0 needs none)",
    )
