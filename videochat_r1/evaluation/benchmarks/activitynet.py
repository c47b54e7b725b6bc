"""ActivityNet Captions as temporal grounding (Krishna et al. 2017), `val_2`."""

from typing import ClassVar

from videochat_r1.evaluation.benchmarks.moments import MomentBenchmark


class ActivityNet(MomentBenchmark):
    """4,885 videos; out of domain for the paper's models."""

    name = "activitynet"
    num_samples: ClassVar = {"all": 17031}
