"""Charades-STA: find the moment that a sentence describes (Gao et al. 2017)."""

from typing import ClassVar

from videochat_r1.evaluation.benchmarks.moments import MomentBenchmark


class CharadesSTA(MomentBenchmark):
    """Test split, 1,334 videos."""

    name = "charades_sta"
    num_samples: ClassVar = {"all": 3720}
