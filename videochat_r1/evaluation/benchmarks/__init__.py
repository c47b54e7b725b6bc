"""The table of benchmarks: adding one is a file in this folder, a line here, and a script in `eval_scripts/`."""

import difflib
from collections.abc import Iterator

from videochat_r1.datasets import ALIASES
from videochat_r1.errors import ConfigError
from videochat_r1.evaluation.benchmarks.activitynet import ActivityNet
from videochat_r1.evaluation.benchmarks.base import Benchmark, Source
from videochat_r1.evaluation.benchmarks.charades_sta import CharadesSTA
from videochat_r1.evaluation.benchmarks.dream1k import Dream1k
from videochat_r1.evaluation.benchmarks.got10k import GOT10k
from videochat_r1.evaluation.benchmarks.longvideobench import LongVideoBench
from videochat_r1.evaluation.benchmarks.mvbench import MVBench
from videochat_r1.evaluation.benchmarks.nextgqa import NExTGQA
from videochat_r1.evaluation.benchmarks.perception_test import PerceptionTest
from videochat_r1.evaluation.benchmarks.videomme import VideoMME
from videochat_r1.evaluation.benchmarks.vidtab_quality import VidTABQuality

BENCHMARKS: dict[str, Benchmark] = {
    "charades_sta": CharadesSTA(),
    "activitynet": ActivityNet(),
    "nextgqa": NExTGQA(),
    "got10k": GOT10k(),
    "vidtab_quality": VidTABQuality(),
    "videomme": VideoMME(),
    "mvbench": MVBench(),
    "perception_test": PerceptionTest(),
    "longvideobench": LongVideoBench(),
    "dream1k": Dream1k(),
}


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name or of its corpus's other names, whatever the case and with `-` for `_`.

    Raises:
        ConfigError: there is none, naming the nearest.
    """
    known = name.strip().lower().replace("-", "_")
    known = ALIASES.get(known, known)
    if known not in BENCHMARKS:
        near = difflib.get_close_matches(known, BENCHMARKS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(f"unknown benchmark {name!r}{hint} Known: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[known]


def benchmark_ids(name: str, source: Source) -> Iterator[str]:
    """The ids of a benchmark's samples in file order; videos are not needed.

    Raises:
        ConfigError: an unknown benchmark, task or subset.
        DataError: the annotations are not in its format.
    """
    for sample in get_benchmark(name).load(source):
        yield sample.id


__all__ = ["BENCHMARKS", "Benchmark", "Source", "benchmark_ids", "get_benchmark"]
