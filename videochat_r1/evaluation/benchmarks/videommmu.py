"""Video-MMMU: what is learned from lectures, in three tracks of 300 questions (Hu et al. 2025)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videochat_r1.datasets.annotation_files import Row, read_json
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Groups, Source
from videochat_r1.evaluation.benchmarks.video_r1 import ACCURACY_DEFINITION, VIDEO_R1_ACCURACY, VideoR1Benchmark
from videochat_r1.evaluation.metrics.score_table import Array, Derived
from videochat_r1.parsing import answer_text
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.text import listing

ADAPTATION = "adaptation"
TRACKS = ("perception", "comprehension", ADAPTATION)
BEFORE, GAIN = "before", "knowledge_gain"
"""The questions of adaptation asked without their lectures, and the subset of these and of adaptation."""
DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Art": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Medicine": (
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine"),
        *("Pharmacy", "Public_Health"),
    ),
    "Humanities": ("History", "Literature", "Sociology", "Psychology"),
    "Engineering": (
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power"),
        *("Materials", "Mechanical_Engineering"),
    ),
}
"""Folder of the videos -> its subjects."""
_FORMS = ("{}.", "{}:", "({})", "{} ")
_LEAST_OPTIONS = 4
_OPEN_ANSWER = "open_answer"
"""Key of a sample's `extra`: the true answer as it is written."""
_GAINS: Mapping[str, str] = {"accuracy": GAIN, OFFICIAL_ACCURACY: f"{GAIN}_official"}
"""Accuracy -> its gain."""
# Their order decides where the end of a line leaves nothing behind one of them.
_BEFORE_ANSWERS = (
    *("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "are ", "in total ", "total "),
    *("identify ", "recognize ", "calculated as ", "counted as ", "measured as ", "observed as ", "concluded as "),
    *("found to be ", "equals ", "determined to be ", "number of ", "value is ", "adds up to ", "have ", "has "),
)
_NO_ANSWERS = (*":,.!?;'",)
# A number begins with the first of its digits, which keeps the time linear.
_DIGITS, _EXPONENT = r"(?<!\d)\d+", r"e[+-]?\d+"
_NUMBERS = tuple(
    re.compile(f"-?{form}")
    for form in (
        r"\b\d{1,3}(?:,\d{3})+\b",
        rf"{_DIGITS}(?:\.\d+)?{_EXPONENT}",
        rf"(?:(?:{_DIGITS})?\.\d+|{_DIGITS}\b)(?!{_EXPONENT}|[,\d])",
    )
)
"""With separators of thousands, with an exponent, and plain."""


class VideoMMMU(VideoR1Benchmark):
    """The authors' `<track>_video.json`, their folder, or Video-R1's JSON; videos `<domain>/<id>.mp4`."""

    name = "videommmu"
    video_r1_file = "eval_videommmu.json"
    video_r1_columns = ("question_type",)
    num_samples: ClassVar = {ALL: 900, **dict.fromkeys(TRACKS, 300), GAIN: 600}
    definitions: ClassVar = {
        "accuracy": "share of questions answered with the right option, or the right number in two decimals (Hu et al. 2025)",
        OFFICIAL_ACCURACY: "share of questions whose answer names the right letter as `A.` or `A:`, else `(A)`, else before a space, "
        "else by its text, of several the last; without options, whose last words of a line behind one like `is` hold the right "
        "text or a number that is the right one in two decimals (Video-MMMU's own rules)",
        GAIN: "of adaptation: (accuracy - accuracy_before) / (1 - accuracy_before), the latter of the same questions without the "
        "lectures (Hu et al. 2025)",
        f"{GAIN}_official": "the same of the official accuracies",
        VIDEO_R1_ACCURACY: ACCURACY_DEFINITION,
    }

    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `<track>/<id>`."""
        for file in self.authors_files(source.annotations):
            tracks = Row.of(read_json(file), str(file))
            for name in tracks.values:
                where = f"{file}, {name}"
                for track in _asked(name.lower(), source.subset):
                    for number, row in Row.of(tracks.get(name), where).values.items():
                        yield _sample(Row.of(row, f"{where}, question {number}"), track)

    def authors_files(self, annotations: Path) -> list[Path]:
        """The tracks' files."""
        if not annotations.is_dir():
            return [annotations]
        found = [file for track in TRACKS if (file := annotations / f"{track}_video.json").is_file()]
        if not found:
            raise DataError(f"{annotations} has no {TRACKS[0]}_video.json; it holds {listing(annotations)}")
        return found

    def score(self, parsed: Any, sample: Sample) -> dict[str, float]:
        """By the task."""
        return _by_time(super().score(parsed, sample), sample)

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """By the authors' rules, of open questions too, and by Video-R1's."""
        scores = super().official_scores(completion, sample)
        if (truth := _open_answer(sample)) is not None:
            text = None if completion is None else answer_text(completion, untagged=True)
            scores[OFFICIAL_ACCURACY] = float(text is not None and is_open_answer(text, truth))
        return _by_time(scores, sample)

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the authors read the right letter."""
        return official_option(text, target.options) == target.answer

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """What is asked without a lecture has accuracies of its own."""
        after = [float(not _is_before(sample)) for sample in samples]
        video_r1 = super().weights(samples)[VIDEO_R1_ACCURACY]
        return {
            **dict.fromkeys(_GAINS, after),
            **{f"{name}_{BEFORE}": [1.0 - weight for weight in after] for name in _GAINS},
            VIDEO_R1_ACCURACY: [own * weight for own, weight in zip(video_r1, after, strict=True)],
            # No sample has a gain.
            **dict.fromkeys(_GAINS.values(), [0.0] * len(samples)),
        }

    def derived(self) -> Mapping[str, Derived]:
        """The gains are shares of what was left to learn."""
        return {gain: _gain_of(name) for name, gain in _GAINS.items()}

    def groups(self, sample: Sample) -> Groups:
        """By track, domain and subject, or the columns of Video-R1's form."""
        return {name: value for name, value in super().groups(sample).items() if name != _OPEN_ANSWER}


def official_option(text: str, options: tuple[str, ...]) -> str | None:
    """The letter that the authors read; None where they find none."""
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    letters = LETTERS[: len(options)]
    dotted, colons, brackets, spaced = ([one for one in letters if form.format(one) in text] for form in _FORMS)
    # Where some letter has a full stop, the last place of each with one counts, and none is before all.
    for found, form in ((dotted + colons, "{}." if dotted else "{}:"), (brackets, "({})"), (spaced, " {} ")):
        if found:
            return max(found, key=lambda one: text.rfind(form.format(one)))
    if len(text.split()) <= 5:
        return None
    places = {letter: text.lower().rfind(option.lower()) for letter, option in zip(letters, options, strict=True)}
    return max(places, key=lambda one: places[one]) if max(places.values()) >= 0 else None


def is_open_answer(text: str, truth: str) -> bool:
    """Whether the authors take an answer to a question without options for right: it holds the true text, or the true number.

    Args:
        text: what was answered.
        truth: as the annotations write it, a list too; a single character counts where a space stands beside it.
    """
    true = _values(truth)
    said = [value for part in _parts(text) for found in (part, *_numbers(part)) for value in _values(found)]
    return any(
        value in true if isinstance(value, float) else any(isinstance(one, str) and one in value for one in true)
        for value in said
    )


def _parts(text: str) -> list[str]:
    """Of each line the shortest end behind one of the words that answers follow; the whole text where there is none."""
    whole = text.strip().strip(".").lower()
    *lines, last = whole.split("\n")
    ends = [_end(line, _BEFORE_ANSWERS) for line in lines] + [_end(last, (*_BEFORE_ANSWERS, "="))]
    return [end for end in ends if end and end not in _NO_ANSWERS] or [whole]


def _end(line: str, words: Sequence[str]) -> str:
    """Empty where none of the words occurs."""
    shortest = ""
    for word in words:
        _, found, end = line.rpartition(word)
        if found and (not shortest or len(end.strip()) < len(shortest)):
            shortest = end.strip()
    return shortest


def _numbers(text: str) -> Iterator[str]:
    for pattern in _NUMBERS:
        yield from pattern.findall(text)


def _values(text: str) -> tuple[float | str, ...]:
    """A number in two decimals, or the text in small letters."""
    text = text.strip()
    try:
        return (round(float(text.replace(",", "")), 2),)
    except ValueError:
        text = text.lower()
    return (f" {text}", f"{text} ") if len(text) == 1 else (text,)


def _open_answer(sample: Sample) -> str | None:
    """The true answer of a question without options; None of one with them."""
    written = sample.extra.get(_OPEN_ANSWER)
    if written is not None or isinstance(sample.target, ChoiceTarget):
        return written
    return str(TASKS[sample.task].target_to_json(sample.target)["answer"])


def _asked(track: str, subset: str) -> tuple[str, ...]:
    """As which tracks a file's questions are asked for a subset."""
    if subset == GAIN:
        return (track, BEFORE) if track == ADAPTATION else ()
    return (track,) if subset in (ALL, track) else ()


def _is_before(sample: Sample) -> bool:
    return sample.extra.get("track") == BEFORE


def _by_time(scores: Mapping[str, Any], sample: Sample) -> dict[str, Any]:
    """The scores, of what is asked without a lecture under names of their own, with a place for the gains."""
    if not _is_before(sample):
        return dict(scores)
    gains = {gain: 0.0 for name, gain in _GAINS.items() if name in scores}
    return {f"{name}_{BEFORE}" if name in _GAINS else name: value for name, value in scores.items()} | gains


def _gain_of(name: str) -> Derived:
    """NaN where nothing was left to learn, or one of the two accuracies is missing."""

    def gain(means: Mapping[str, Array]) -> Array:
        after, before = means[name], means[f"{name}_{BEFORE}"]
        return np.divide(after - before, 1.0 - before, out=np.full_like(before, np.nan), where=before < 1.0)

    return gain


def _sample(row: Row, track: str) -> Sample:
    name, answer = row.text("id"), row.text("answer").strip()
    subject = "_".join(name.split("_")[1:-1])
    domain = next((domain for domain, subjects in DOMAINS.items() if subject in subjects), None)
    if domain is None:
        raise DataError(f"{row.where}: the id {name!r} names no subject of Video-MMMU")
    task, target = "multi_choice_qa", None
    extra = {"track": track, "domain": domain, "subject": subject}
    if row.items("options"):
        options = tuple(option.strip() for option in row.options("options"))
        target = ChoiceTarget(options, answer_letter(answer, options) if len(answer) > 1 else answer)
    elif len(answer) == 1 and answer in LETTERS:
        # The picture holds what the letters stand for.
        target = ChoiceTarget(tuple(LETTERS[: max(LETTERS.index(answer) + 1, _LEAST_OPTIONS)]), answer)
    else:
        # Of several ways to write the number, in a list, the last has the fewest digits.
        task = "numerical_qa"
        target = TASKS[task].target_from_json({"answer": answer.split(",")[-1].strip(" []'")})
    if not row.items("options"):
        extra[_OPEN_ANSWER] = answer
    return Sample(
        id=f"{track}/{name}",
        task=task,
        media=Video(path=f"question_only/{name}_image.mp4" if track == BEFORE else f"{domain}/{name}.mp4"),
        query=row.text("question").strip(),
        target=target,
        source="videommmu",
        extra=extra,
    )
