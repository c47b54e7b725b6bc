"""VidTAB quality assessment: is the video of high or low quality? (Li et al. 2024, VideoEval)"""

from typing import ClassVar

from videochat_r1.evaluation.benchmarks.base import CorpusBenchmark
from videochat_r1.sample import LabelTarget, Sample


class VidTABQuality(CorpusBenchmark):
    """Test list."""

    name = "vidtab_quality"
    tasks = ("quality_assessment",)
    num_samples: ClassVar = {"all": 724}
    definitions: ClassVar = {"accuracy": "share of videos given the right label (paper, Table 6)"}

    def groups(self, sample: Sample) -> dict[str, str]:
        """By the true label."""
        assert isinstance(sample.target, LabelTarget)
        return {"label": sample.target.answer}

    def distributions(self, task: str) -> tuple[str, ...]:
        """None: a label is right or wrong."""
        return ()
