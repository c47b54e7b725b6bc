"""What a benchmark is: a reader of its annotations, per-sample scores of its metrics, and how they are broken down."""

import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.base import DurationProbe, check_sample, with_root
from videochat_r1.datasets.problems import UNREAD, problems_of, right_option
from videochat_r1.errors import ConfigError, DataError, counted, first_ten, shown
from videochat_r1.evaluation.metrics.score_table import Derived
from videochat_r1.judge import Judge
from videochat_r1.parsing import answer_text, official_letter
from videochat_r1.sample import BoxesTarget, ChoiceTarget, GroundedChoiceTarget, LabelTarget, Sample, SpanTarget, Video
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.base import Scores

ALL = "all"
OFFICIAL_ACCURACY = "accuracy_official"
Groups = Mapping[str, str | tuple[str, ...]]
"""Breakdown -> the group that a sample belongs to, or the groups where it may have several."""
SUBTITLE_CHARS = 24_000
"""About 6,000 tokens."""
_ANNOTATION_SUFFIXES = (".json", ".jsonl", ".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a benchmark is read from.

    Args:
        annotations: file or folder in the benchmark's own format.
        videos: folder of its videos; None leaves video paths relative, which is enough for scoring.
        task: one of the benchmark's tasks; None for its first.
        subset: one of the benchmark's subsets.
        subtitles: folder of subtitle files that prompts quote; None for prompts without subtitles.
        subtitle_chars: most characters of subtitles in a prompt.
        durations: file or folder with durations, for annotations that carry none.
        probe_durations: asks video files for their durations where no table gives them.
    """

    annotations: Path
    videos: Path | None = None
    task: str | None = None
    subset: str = ALL
    subtitles: Path | None = None
    subtitle_chars: int = SUBTITLE_CHARS
    durations: Path | None = None
    probe_durations: DurationProbe | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge made of one answer.

    Args:
        scores: metric -> value in [0, 1]; None for an unscored answer.
        verdicts: what they rest on, for result files.
        unscored: why there are none.
    """

    scores: Scores | None
    verdicts: dict[str, Any] = field(default_factory=dict)
    unscored: str | None = None


class Benchmark(ABC):
    """One annotation format, one or more tasks, one set of metrics. Targets are the published ones, not mended."""

    name: ClassVar[str]
    """In `BENCHMARKS`, or `package.module:Name`: results are read again under it."""
    tasks: ClassVar[tuple[str, ...]]
    """Tasks that the annotations serve; the first is the default."""
    num_samples: ClassVar[Mapping[str, int]]
    """Subset -> rows of the published benchmark; other counts are pointed out."""
    definitions: ClassVar[Mapping[str, str]]
    """Metric -> what it is and whose definition that is."""
    unanswerable: ClassVar[frozenset[str]] = frozenset()
    """Ids of published questions that no answer is right for, kept because their authors count them."""
    takes_subtitles: ClassVar[bool] = False
    judged: ClassVar[bool] = False
    """Whether answers are scored by `judge`; `score` then only says what can be told without one."""
    partly_judged: ClassVar[bool] = False
    """Whether only some are, those that `is_judged` or `is_left_to_judge` names: without a judge the others make the result."""

    def load(self, source: Source) -> list[Sample]:
        """The samples in file order, with unique ids and video paths joined to the videos folder.

        Raises:
            ConfigError: a task, a subset or subtitles that the benchmark does not have.
            DataError: the annotations are not in the benchmark's format, the right answer of a row is not among its options,
                or a target holds no box, or a number that is not finite.
        """
        self._check(source)
        samples = list(self.read(source))
        if not samples:
            raise DataError(f"{source.annotations} holds no sample of {self.name}, subset {source.subset}")
        times = Counter(sample.id for sample in samples)
        if len(times) < len(samples):
            repeated = [name for name, count in times.items() if count > 1]
            raise DataError(f"{source.annotations}: these ids occur more than once: {first_ten(repeated)}")
        for problem, is_sound in _SOUND.items():
            unsound = [one.id for one in samples if one.id not in self.unanswerable and not is_sound(one)]
            if unsound:
                raise DataError(
                    f"{source.annotations}: {problem} {first_ten(unsound)}; correct them, or leave their rows out"
                )
        return samples

    @abstractmethod
    def read(self, source: Source) -> Iterator[Sample]:
        """The samples in file order, with joined video paths."""

    def files(self, annotations: Path) -> list[Path]:
        """The annotation files that `read` reads, for a hash of the source."""
        if not annotations.is_dir():
            return [annotations]
        return sorted(file for file in annotations.iterdir() if file.suffix.lower() in _ANNOTATION_SUFFIXES)

    def parse(self, completion: str, sample: Sample, *, untagged: bool) -> Any:
        """The answer in a completion as the task reads it in training; None if there is none."""
        return TASKS[sample.task].parse(completion, sample.target, untagged=untagged)

    def parsed_to_json(self, parsed: Any, sample: Sample) -> Any:
        """The parsed answer for result files."""
        return TASKS[sample.task].parsed_to_json(parsed)

    def score(self, parsed: Any, sample: Sample) -> Scores:
        """Of one sample; for None, 0 in every metric that does not depend on the form of the answer."""
        return TASKS[sample.task].scores(parsed, sample.target)

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """Metric -> value by the rule of the benchmark's authors where they read an answer in another way; 0 for None."""
        return {}

    def is_judged(self, sample: Sample) -> bool:
        """Whether answers to this sample are scored by `judge`."""
        return self.judged

    async def judge(self, judge: Judge, parsed: Any, sample: Sample) -> Judgement:
        """The scores of one answer by a judge; 0 in every metric for None, without asking.

        Raises:
            UnscoredError: the judge gives no usable answer.
        """
        raise NotImplementedError(f"benchmark {self.name} is not judged")

    def is_left_to_judge(self, completion: str, sample: Sample) -> bool:
        """Whether the authors let a language model read this answer, so that `official_scores` is not their last word."""
        return False

    async def read_with_judge(self, judge: Judge, completion: str, sample: Sample) -> Judgement:
        """The official scores of such an answer, in place of those without a judge.

        Raises:
            UnscoredError: the judge gives no usable answer.
        """
        raise NotImplementedError(f"the answers of benchmark {self.name} are read by rules")

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Metric -> weight of every sample, for metrics that are no plain mean over samples."""
        return {}

    def derived(self) -> Mapping[str, Derived]:
        """Metrics that are computed from the means of others, and how; their per-sample values are for reports."""
        return {}

    def groups(self, sample: Sample) -> Groups:
        """Where the sample counts in breakdowns."""
        return {}

    def headline(self, task: str) -> str:
        """The metric that models are compared by."""
        return TASKS[task].headline

    def distributions(self, task: str) -> tuple[str, ...]:
        """Metrics whose values per sample a report draws as histograms: none that only says right or wrong."""
        return (self.headline(task),)

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names that `Source.subset` may have."""
        return tuple(self.num_samples)

    def _check(self, source: Source) -> None:
        if source.task is not None and source.task not in self.tasks:
            raise ConfigError(f"benchmark {self.name} has the tasks {', '.join(self.tasks)}, not {source.task!r}")
        if source.subset not in self.subsets:
            raise ConfigError(f"benchmark {self.name} has the subsets {', '.join(self.subsets)}, not {source.subset!r}")
        if source.subtitles is not None and not self.takes_subtitles:
            raise ConfigError(f"benchmark {self.name} has no subtitles")
        for folder in (source.videos, source.subtitles):
            if folder is not None and not folder.is_dir():
                raise DataError(f"the folder {folder} does not exist")


class CorpusBenchmark(Benchmark):
    """A benchmark whose annotations are read by a corpus."""

    corpus: ClassVar[str] = ""
    """In `CORPORA`, or `package.module:Name`; empty for the corpus of the benchmark's name."""

    def read(self, source: Source) -> Iterator[Sample]:
        """As the corpus does; a duration that no file gives is NaN, and a sample that could not be read is refused."""
        samples = CORPORA[self.corpus or self.name].read(
            source.annotations,
            source.videos,
            task=source.task or self.tasks[0],
            durations=source.durations,
            probe_durations=source.probe_durations,
            allow_unknown_durations=True,
        )
        unread = [problem for sample in samples for problem in problems_of(sample) if problem.kind in UNREAD]
        if unread:
            kind, name, detail = unread[0]
            raise DataError(
                f"{source.annotations}: {counted(len(unread), 'sample')} of {len(samples):,} cannot be scored, the first is "
                f"{shown(name)} ({kind}: {shown(detail, 300)})"
            )
        yield from samples

    def files(self, annotations: Path) -> list[Path]:
        """As the corpus says."""
        return CORPORA[self.corpus or self.name].files(annotations)


class ChoiceBenchmark(Benchmark):
    """Multiple-choice questions in a format of their own, compared by accuracy."""

    tasks = ("multi_choice_qa",)
    definitions: ClassVar[Mapping[str, str]] = {
        "accuracy": "share of questions answered with the right option",
        OFFICIAL_ACCURACY: "share of questions whose answer has the right letter as its first capital letter of an option: "
        "the authors' rule for Video-MME and LongVideoBench, whose random draw where there is none is left out",
    }

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """Accuracy by `is_officially_right` of the text of the last answer tag, else of the whole completion."""
        assert isinstance(sample.target, ChoiceTarget)
        text = None if completion is None else answer_text(completion, untagged=True)
        return {OFFICIAL_ACCURACY: float(text is not None and self.is_officially_right(text, sample.target))}

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the benchmark's authors take an answer for right."""
        return official_letter(text, len(target.options)) == target.answer

    def headline(self, task: str) -> str:
        """Accuracy, of its questions without options too."""
        return "accuracy"

    def distributions(self, task: str) -> tuple[str, ...]:
        """None: an option is right or wrong."""
        return ()

    @abstractmethod
    def questions(self, source: Source) -> Iterator[Sample]:
        """The samples, with video paths relative to the videos folder."""

    def read(self, source: Source) -> Iterator[Sample]:
        """As `questions`, with paths checked and joined."""
        for sample in self.questions(source):
            check_sample(sample, f"{source.annotations}, sample {shown(sample.id)!r}")
            yield with_root(sample, source.videos)

    def groups(self, sample: Sample) -> Groups:
        """All text columns that the reader kept."""
        return {name: value for name, value in sample.extra.items() if isinstance(value, str)}


def _answerable(sample: Sample) -> bool:
    target = sample.target
    if isinstance(target, ChoiceTarget | GroundedChoiceTarget | LabelTarget):
        return right_option(target) is not None
    return True


def _has_boxes(sample: Sample) -> bool:
    return not isinstance(sample.target, BoxesTarget) or len(sample.target.boxes) > 0


def _is_finite(sample: Sample) -> bool:
    """Whether every span, box, duration and clip of a sample is; a duration that no file gives is NaN."""
    target, media = sample.target, sample.media
    clip = (media.start, media.end) if isinstance(media, Video) else ()
    numbers = [number for number in clip if number is not None]
    if isinstance(target, BoxesTarget):
        numbers += itertools.chain.from_iterable(target.boxes)
    elif isinstance(target, SpanTarget):
        numbers += target.span
    elif isinstance(target, GroundedChoiceTarget):
        numbers += itertools.chain.from_iterable(target.spans)
    return all(map(math.isfinite, numbers)) and not math.isinf(getattr(target, "duration", 0.0))


_SOUND: Mapping[str, Callable[[Sample], bool]] = {
    "the right answer is not among the options of": _answerable,
    "there is no box in": _has_boxes,
    "a span, box or duration is infinite or no number in": _is_finite,
}
"""What is wrong, up to the ids -> whether a sample is free of it."""
