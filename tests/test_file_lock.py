"""A lock that names its holder and ends with it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from videochat_r1.errors import ConfigError
from videochat_r1.file_lock import locked

HOLDER = """
import os, sys, time
from pathlib import Path
from videochat_r1.file_lock import locked
with locked(Path(sys.argv[1]), what="it", mend="wait"):
    if sys.argv[2] == "with a worker" and os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(60)
        os._exit(0)
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)
"""


@pytest.mark.parametrize("holder", ["alone", "with a worker"])
def test_a_killed_holder_leaves_the_lock_open_and_a_living_one_is_named(tmp_path, project_root, holder):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path), holder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project_root) as process:
        pids = {int(process.stdout.readline()) for _ in range(1 if holder == "alone" else 2)}
        with (
            pytest.raises(ConfigError, match=rf"is writing it \(process {process.pid} on \S+ since 20\d\d-.*\); wait$"),
            locked(path, what="it", mend="wait"),
        ):
            pass
        process.kill()
        process.wait()
        with locked(path, what="it", mend="wait"):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        for pid in pids - {process.pid}:
            os.kill(pid, signal.SIGKILL)


def test_a_lock_can_be_waited_for(tmp_path, project_root):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), "alone"], stdout=subprocess.PIPE, text=True, cwd=project_root
    ) as process:
        process.stdout.readline()
        ending = subprocess.Popen(
            [sys.executable, "-c", f"import os, time; time.sleep(0.5); os.kill({process.pid}, 9)"]
        )
        begin = time.monotonic()
        with locked(path, what="it", mend="wait", wait=True):
            assert time.monotonic() - begin > 0.1
        ending.wait()
