"""Temporal grounding benchmarks: one sentence, one true span."""

from collections.abc import Mapping
from typing import Any, ClassVar

from videochat_r1.evaluation.benchmarks.base import CorpusBenchmark
from videochat_r1.evaluation.metrics.grounding import moment_scores
from videochat_r1.sample import Sample, SpanTarget

_SHARES = ((0.1, "under 10 %"), (0.25, "10-25 %"), (0.5, "25-50 %"))


class MomentBenchmark(CorpusBenchmark):
    """Scored on the span as answered, not clipped to the video: the paper's evaluation and TALL's."""

    tasks = ("temporal_grounding",)
    definitions: ClassVar[Mapping[str, str]] = {
        "mIoU": "mean IoU of the answered and the true span (paper, Table 1; Gao et al. 2017, TALL)",
        "R1@0.3": "share of queries with IoU >= 0.3; also 0.5, 0.7 (Gao et al. 2017, TALL)",
    }

    def score(self, parsed: Any, sample: Sample) -> dict[str, float]:
        """mIoU, which is the reward too, and recalls."""
        assert isinstance(sample.target, SpanTarget)
        return {**moment_scores(parsed, sample.target.span), "parse_rate": float(parsed is not None)}

    def groups(self, sample: Sample) -> dict[str, str]:
        """By the share of the video that the true span takes: short moments are the hard ones."""
        assert isinstance(sample.target, SpanTarget)
        duration = sample.target.duration
        if not duration > 0.0:
            return {}
        share = sample.target.span.length / duration
        return {"span_share": next((name for limit, name in _SHARES if share < limit), "50 % and more")}
