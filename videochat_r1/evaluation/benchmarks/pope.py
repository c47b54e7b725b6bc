"""POPE: does a picture show an object? Yes or no, 3,000 questions of each of three samplings (Li et al. 2023)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.datasets.base import check_sample, with_root
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, Benchmark, Source
from videochat_r1.evaluation.metrics.score_table import Array, Derived, harmonic_mean
from videochat_r1.parsing import answer_text
from videochat_r1.sample import LabelTarget, Pictures, Sample
from videochat_r1.text import listing

SUBSETS = ("random", "popular", "adversarial")
"""How the objects that are not there were drawn."""
METRICS = ("accuracy", "precision", "recall", "F1", "yes_ratio", "TP")
_OFFICIAL = "_official"
_LABELS = ("yes", "no")
_NEGATIONS = ("No", "not", "no")


class POPE(Benchmark):
    """The authors' JSON lines `..._pope_<subset>.json`: one of the files, or a folder of them. Pictures are named by the rows."""

    name = "pope"
    tasks = ("quality_assessment",)
    num_samples: ClassVar = {ALL: 9000, **dict.fromkeys(SUBSETS, 3000)}
    definitions: ClassVar = {
        "F1": "harmonic mean of precision and recall as given here (POPE, Li et al. 2023)",
        "accuracy": "share of questions answered rightly (the same)",
        "precision": "of the questions answered with yes the share where that is right; 0 where none is (the same)",
        "recall": "of the questions whose answer is yes the share that is answered so (the same)",
        "yes_ratio": "share of questions answered with yes (the same)",
        "TP": "share of questions whose answer is yes and that are answered so (the same, there as a count)",
        f"F1{_OFFICIAL}": "the same, and so on, an answer being no if No, no or not is a word of its first sentence, and yes whatever else "
        "it says (POPE's evaluate.py)",
    }

    def read(self, source: Source) -> Iterator[Sample]:
        """One sample per row; ids are `<subset>/<question_id>`, in the order random, popular, adversarial."""
        for subset, file in _files(source.annotations).items():
            if source.subset not in (ALL, subset):
                continue
            for row in read_rows(file):
                sample = _sample(row, subset)
                check_sample(sample, row.where)
                yield with_root(sample, source.videos)

    def files(self, annotations: Path) -> list[Path]:
        """The subsets' files."""
        return list(_files(annotations).values())

    def score(self, parsed: Any, sample: Sample) -> dict[str, float]:
        """An answer that cannot be read is wrong, and no yes."""
        assert isinstance(sample.target, LabelTarget)
        return {**_scores(parsed, sample.target.answer), "parse_rate": float(parsed is not None)}

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """By the words of the last answer tag, else of the whole completion."""
        assert isinstance(sample.target, LabelTarget)
        text = None if completion is None else answer_text(completion, untagged=True)
        found = _scores(None if text is None else official_label(text), sample.target.answer)
        return {f"{name}{_OFFICIAL}": value for name, value in found.items()}

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Recall is a mean over the questions whose answer is yes."""
        is_yes = [float(sample.target.answer == "yes") for sample in samples]
        return dict.fromkeys(("recall", f"recall{_OFFICIAL}"), is_yes)

    def derived(self) -> Mapping[str, Derived]:
        """Precision and F1 are those of all answers, no means."""
        found: dict[str, Derived] = {}
        for suffix in ("", _OFFICIAL):
            found[f"precision{suffix}"] = partial(_precision, suffix=suffix)
            found[f"F1{suffix}"] = partial(_f1, suffix=suffix)
        return found

    def groups(self, sample: Sample) -> dict[str, str]:
        """By the sampling of absent objects."""
        return {"subset": sample.extra["subset"]} if "subset" in sample.extra else {}

    def headline(self, task: str) -> str:
        """F1, which the authors compare by."""
        return "F1"

    def distributions(self, task: str) -> tuple[str, ...]:
        """None: an answer is right or wrong."""
        return ()


def official_label(text: str) -> str:
    """`no` if No, no or not is a word of what stands before the first full stop, commas left out; else `yes`, also of nothing."""
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "no" if any(word in words for word in _NEGATIONS) else "yes"


def _scores(answer: str | None, truth: str) -> dict[str, float]:
    """Metric -> value of one sample, in the order of `METRICS`; what is derived has its value where it is that of one sample."""
    right, says_yes = float(answer == truth), float(answer == "yes")
    found = right * says_yes
    return dict(zip(METRICS, (right, found, found, found, says_yes, found), strict=True))


def _precision(means: Mapping[str, Array], suffix: str) -> Array:
    answered = means[f"yes_ratio{suffix}"]
    return np.divide(means[f"TP{suffix}"], answered, out=np.zeros_like(answered), where=answered > 0.0)


def _f1(means: Mapping[str, Array], suffix: str) -> Array:
    return harmonic_mean(_precision(means, suffix), means[f"recall{suffix}"])


def _sample(row: Row, subset: str) -> Sample:
    label = row.text("label").strip().lower()
    if label not in _LABELS:
        raise DataError(f"{row.where}: 'label' is {row.text('label')!r}, expected yes or no")
    return Sample(
        id=f"{subset}/{row.get('question_id')}",
        task="quality_assessment",
        media=Pictures((row.text("image"),)),
        query=row.text("text").strip(),
        target=LabelTarget(_LABELS, label),
        source=POPE.name,
        extra={"subset": subset},
    )


def _files(annotations: Path) -> dict[str, Path]:
    """Subset -> its file, of those that are there, in the order of `SUBSETS`."""
    if annotations.is_dir():
        files = {subset: sorted(annotations.glob(f"*pope_{subset}.json*")) for subset in SUBSETS}
        if several := [found for found in files.values() if len(found) > 1]:
            raise DataError(
                f"{annotations} has several files of one subset: {', '.join(map(str, several[0]))}; name one"
            )
        found = {subset: each[0] for subset, each in files.items() if each}
    else:
        found = {subset: annotations for subset in SUBSETS if annotations.stem.endswith(f"pope_{subset}")}
    if not found:
        held = f". It holds {listing(annotations)}" if annotations.is_dir() else ""
        raise DataError(
            f"{annotations}: expected coco_pope_random.json, ..._popular.json or ..._adversarial.json{held}"
        )
    return found
