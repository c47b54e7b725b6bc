"""The table of benchmarks: adding one is a file in this folder, a line here, and a script in `eval_scripts/`."""

from collections.abc import Iterator

from videochat_r1.datasets import ALIASES
from videochat_r1.evaluation.benchmarks.activitynet import ActivityNet
from videochat_r1.evaluation.benchmarks.base import Benchmark, Source
from videochat_r1.evaluation.benchmarks.charades_sta import CharadesSTA
from videochat_r1.evaluation.benchmarks.dream1k import Dream1k
from videochat_r1.evaluation.benchmarks.egoschema import EgoSchema
from videochat_r1.evaluation.benchmarks.got10k import GOT10k
from videochat_r1.evaluation.benchmarks.longvideobench import LongVideoBench
from videochat_r1.evaluation.benchmarks.lvbench import LVBench
from videochat_r1.evaluation.benchmarks.mathvista import MathVista
from videochat_r1.evaluation.benchmarks.mlvu import MLVU
from videochat_r1.evaluation.benchmarks.mmvu import MMVU
from videochat_r1.evaluation.benchmarks.mvbench import MVBench
from videochat_r1.evaluation.benchmarks.nextgqa import NExTGQA
from videochat_r1.evaluation.benchmarks.perception_test import PerceptionTest
from videochat_r1.evaluation.benchmarks.pope import POPE
from videochat_r1.evaluation.benchmarks.tempcompass import TempCompass
from videochat_r1.evaluation.benchmarks.videomme import VideoMME
from videochat_r1.evaluation.benchmarks.videommmu import VideoMMMU
from videochat_r1.evaluation.benchmarks.vidtab_quality import VidTABQuality
from videochat_r1.evaluation.benchmarks.vsi_bench import VSIBench
from videochat_r1.named import Table

BENCHMARKS: Table[Benchmark] = Table(
    "benchmark",
    {
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
        "vsi_bench": VSIBench(),
        "mmvu": MMVU(),
        "tempcompass": TempCompass(),
        "videommmu": VideoMMMU(),
        "pope": POPE(),
        "mlvu": MLVU(),
        "egoschema": EgoSchema(),
        "lvbench": LVBench(),
        "mathvista": MathVista(),
    },
    fits=lambda entry: isinstance(entry, Benchmark),
    aliases=ALIASES,
)


def benchmark_ids(name: str, source: Source) -> Iterator[str]:
    """The ids of a benchmark's samples in file order; videos are not needed.

    Raises:
        ConfigError: an unknown benchmark, task or subset.
        DataError: the annotations are not in its format.
    """
    for sample in BENCHMARKS[name].load(source):
        yield sample.id


__all__ = ["BENCHMARKS", "Benchmark", "Source", "benchmark_ids"]
