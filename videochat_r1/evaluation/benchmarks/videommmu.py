"""Video-MMMU: what is learned from lectures, in three tracks of 300 questions (Hu et al. 2025)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from videochat_r1.datasets.annotation_files import Row, read_json
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Source
from videochat_r1.evaluation.benchmarks.video_r1 import ACCURACY_DEFINITION, VIDEO_R1_ACCURACY, VideoR1Benchmark
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.text import listing

TRACKS = ("perception", "comprehension", "adaptation")
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


class VideoMMMU(VideoR1Benchmark):
    """The authors' `<track>_video.json`, their folder, or Video-R1's JSON; videos `<domain>/<id>.mp4`."""

    name = "videommmu"
    video_r1_file = "eval_videommmu.json"
    video_r1_columns = ("question_type",)
    num_samples: ClassVar = {ALL: 900, **dict.fromkeys(TRACKS, 300)}
    definitions: ClassVar = {
        "accuracy": "share of questions answered with the right option, or the right number in two decimals (Hu et al. 2025)",
        OFFICIAL_ACCURACY: "share of the questions with options whose answer names the right letter as `A.` or `A:`, else `(A)`, "
        "else before a space, else by its text; of several the last counts (Video-MMMU's own rule)",
        VIDEO_R1_ACCURACY: ACCURACY_DEFINITION,
    }

    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `<track>/<id>`."""
        for file in self.authors_files(source.annotations):
            tracks = Row.of(read_json(file), str(file))
            for name in tracks.values:
                if source.subset in (ALL, name.lower()):
                    where = f"{file}, {name}"
                    for number, row in Row.of(tracks.get(name), where).values.items():
                        yield _sample(Row.of(row, f"{where}, question {number}"), name.lower())

    def authors_files(self, annotations: Path) -> list[Path]:
        """The tracks' files."""
        if not annotations.is_dir():
            return [annotations]
        found = [file for track in TRACKS if (file := annotations / f"{track}_video.json").is_file()]
        if not found:
            raise DataError(f"{annotations} has no {TRACKS[0]}_video.json; it holds {listing(annotations)}")
        return found

    def is_officially_right(self, text: str, target: ChoiceTarget) -> bool:
        """Whether the authors read the right letter."""
        return official_option(text, target.options) == target.answer


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


def _sample(row: Row, track: str) -> Sample:
    name, answer = row.text("id"), row.text("answer").strip()
    subject = "_".join(name.split("_")[1:-1])
    domain = next((domain for domain, subjects in DOMAINS.items() if subject in subjects), None)
    if domain is None:
        raise DataError(f"{row.where}: the id {name!r} names no subject of Video-MMMU")
    task, target = "multi_choice_qa", None
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
    return Sample(
        id=f"{track}/{name}",
        task=task,
        media=Video(path=f"{domain}/{name}.mp4"),
        query=row.text("question").strip(),
        target=target,
        source="videommmu",
        extra={"track": track, "domain": domain, "subject": subject},
    )
