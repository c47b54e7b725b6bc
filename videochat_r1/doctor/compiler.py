"""Whether Triton can build its launcher here: on a GPU it compiles a piece of C against Python.h when a kernel first runs.

`python -m videochat_r1.doctor.compiler` ends with what is missing, and says nothing where all is there.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from videochat_r1.doctor.report import Problem

_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES = f"Debian, Ubuntu: apt-get install gcc libc6-dev {_PYTHON}-dev"


def compiler_problem() -> Problem | None:
    """What keeps Triton from building, found by doing the same; None where it works."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return Problem(
            "no C compiler is on the PATH (gcc or clang), and on a GPU Triton builds with one before the first update",
            f"install one ({_PACKAGES}), or name one with CC",
        )
    include = Path(sysconfig.get_paths(scheme="posix_prefix")["include"])
    if not (include / "Python.h").is_file():
        return Problem(
            f"Python's headers are missing ({include / 'Python.h'}), and on a GPU Triton builds with them before the first update",
            f"install them ({_PACKAGES}), or take a Python of uv's, whose headers come along: uv python install "
            f"{_PYTHON[6:]}, then training_scripts/setup.sh --python with the path that `uv python find` gives",
        )
    return _failure(compiler, include)


def _failure(compiler: str, include: Path) -> Problem | None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "launcher.c"
        source.write_text("#include <stdlib.h>\n#include <Python.h>\n")
        command = [compiler, str(source), "-shared", "-fPIC", f"-I{include}", "-o", str(source.with_suffix(".so"))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            return Problem(
                f"the C compiler {compiler!r} cannot be started: {error.strerror}", "name another one with CC"
            )
    if done.returncode == 0:
        return None
    reason = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
    return Problem(f"{compiler} cannot compile against Python.h: {reason}", f"install what is missing ({_PACKAGES})")


if __name__ == "__main__" and (_problem := compiler_problem()) is not None:
    sys.exit(f"launch: error: {_problem.what}\nlaunch: to mend it: {_problem.mend}")
