"""GOT-10k validation: follow an object through 8 instants (the paper's form) or through every frame (the official one)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from videochat_r1.datasets.got10k_sequence import read_sequence
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.base import CorpusBenchmark, Source
from videochat_r1.evaluation.metrics.tracking import DenseTruth, interpolate_boxes, sequence_scores, to_pixels
from videochat_r1.geometry import Box
from videochat_r1.parsing import answer_text, parse_boxes
from videochat_r1.parsing.numbers import MAX_ANSWER_CHARS
from videochat_r1.sample import BoxesTarget, Sample
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.base import Scores

DENSE = "dense_truth"
_BOX_CHARS = 200


class Boxes(NamedTuple):
    """An answer's boxes at the sample's 8 instants, and all of them where it has one per frame."""

    at_instants: list[Box | None]
    dense: list[Box | None] | None


class GOT10k(CorpusBenchmark):
    """The official metrics need a box for every frame: the annotation folder, or the released JSON with the videos folder.

    An answer with boxes for at least half of the frames is one box per frame, missing ones count 0; of any other, the first 8
    count, as in training.
    """

    name = "got10k"
    tasks = ("tracking",)
    num_samples: ClassVar = {"all": 180}
    definitions: ClassVar = {
        "overlap": "mean over sequences of the mean IoU of the 8 boxes, the given one included (paper, Table 1)",
        "R@0.5": "share of sequences whose overlap is >= 0.5; also 0.7 (paper, Tables 1 and 4)",
        "overlap_without_given": "the same over the 7 boxes that are not given; R@0.5_without_given, R@0.7_without_given likewise",
        "AO": "mean IoU over the frames of all sequences, a box answered for every frame; the first frame and frames in "
        "which the object is not visible (cover 0) left out (GOT-10k toolkit)",
        "SR0.5": "share of those frames with IoU > 0.5; also 0.75 (GOT-10k toolkit)",
        "AO_interpolated": "AO with the boxes between the 8 answered ones interpolated; no official number. "
        "SR0.5_interpolated, SR0.75_interpolated likewise",
    }

    def read(self, source: Source) -> Iterator[Sample]:
        """As the corpus does, with the truth of every frame where its files are there."""
        for sample in super().read(source):
            folder = _sequence_folder(sample, source.annotations)
            if folder is None:
                yield sample
                continue
            truth = read_sequence(folder)
            odd = np.argwhere(~np.isfinite(truth.pixels))
            if len(odd):
                raise DataError(
                    f"{folder / 'groundtruth.txt'}, line {odd[0, 0] + 1}: a box with a number that is infinite or none; "
                    "correct it, or leave the sequence out"
                )
            cover = [8] * len(truth.pixels) if truth.cover is None else truth.cover
            dense = DenseTruth(np.array(truth.pixels, dtype=np.float64), np.array(cover), truth.size)
            yield replace(sample, extra={**sample.extra, DENSE: dense})

    def parse(self, completion: str, sample: Sample, *, untagged: bool) -> Boxes | None:
        """The first 8 boxes of the answer as in training, or one per frame."""
        assert isinstance(sample.target, BoxesTarget)
        text = answer_text(completion, untagged=untagged)
        num_frames = sample.extra.get("num_frames", 0)
        max_chars = max(num_frames * _BOX_CHARS, MAX_ANSWER_CHARS)
        boxes = None if text is None else parse_boxes(text, num_frames, max_chars=max_chars)
        if boxes and 2 * len(boxes) >= num_frames and len(boxes) >= min(len(sample.target.boxes) + 1, num_frames):
            dense = [*boxes, *[None] * (num_frames - len(boxes))]
            return Boxes([dense[frame] for frame in sample.extra["frame_indices"]], dense)
        first = TASKS[sample.task].parse(completion, sample.target, untagged=untagged)
        return None if first is None else Boxes(first, None)

    def parsed_to_json(self, parsed: Boxes, sample: Sample) -> Any:
        """The list of boxes as answered; null for one that could not be read."""
        boxes = parsed.at_instants if parsed.dense is None else parsed.dense
        return [None if box is None else list(box) for box in boxes]

    def score(self, parsed: Boxes | None, sample: Sample) -> Scores:
        """The paper's metrics, and the official ones or their interpolated likeness."""
        task = TASKS[sample.task]
        scores = task.scores(None if parsed is None else parsed.at_instants, sample.target)
        truth: DenseTruth | None = sample.extra.get(DENSE)
        if parsed is None or truth is None:
            return scores
        if parsed.dense is not None:
            return {**scores, **sequence_scores(to_pixels(parsed.dense, truth.size), truth)}
        boxes = interpolate_boxes(parsed.at_instants, sample.extra["frame_indices"], len(truth.boxes))
        interpolated = sequence_scores(to_pixels(boxes, truth.size), truth)
        return {**scores, **{f"{name}_interpolated": value for name, value in interpolated.items()}}

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """The official metrics pool frames, so a sequence weighs as many as it has."""
        truths: list[DenseTruth | None] = [sample.extra.get(DENSE) for sample in samples]
        frames = [0.0 if truth is None else float(truth.counted.sum()) for truth in truths]
        names = ("AO", "SR0.5", "SR0.75")
        return {f"{name}{suffix}": frames for name in names for suffix in ("", "_interpolated")}

    def groups(self, sample: Sample) -> dict[str, str]:
        """By the classes of object and motion that `meta_info.ini` names."""
        return {name: sample.extra[name] for name in ("major_class", "motion_class") if name in sample.extra}


def _sequence_folder(sample: Sample, annotations: Path) -> Path | None:
    """Where the sequence's `groundtruth.txt` lies; None if nowhere known."""
    if not sample.video.frames:
        return None
    beside = Path(sample.video.frames[0]).parent
    folders = [annotations / beside.name, beside] if annotations.is_dir() else [beside]
    return next((folder for folder in folders if (folder / "groundtruth.txt").is_file()), None)
