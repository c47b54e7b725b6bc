"""MMVU, validation: questions of experts on videos of 27 subjects, with options and open (Zhao et al. 2025)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from videochat_r1.datasets.annotation_files import Row
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import read_rows
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Judgement, Source
from videochat_r1.evaluation.benchmarks.video_r1 import ACCURACY_DEFINITION, VIDEO_R1_ACCURACY, VideoR1Benchmark
from videochat_r1.judge import Judge
from videochat_r1.judge.answers import final_option_question, same_answer_question
from videochat_r1.parsing import option_texts
from videochat_r1.sample import LETTERS, ChoiceTarget, Sample, Video
from videochat_r1.tasks import TASKS
from videochat_r1.tasks.base import Scores

CHOICE, OPEN = "multiple-choice", "open-ended"
_SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "Science": (
        *("Astronomy", "Biology", "Chemistry", "Electromagnetism", "Geography", "Materials Science", "Mechanics"),
        *("Modern Physics", "Neurobiology", "Thermodynamics"),
    ),
    "Engineering": (
        *("Biomedical Engineering", "Civil Engineering", "Computer Science", "Electrical Engineering"),
        *("Electronics and Communication", "Mechanical Engineering"),
    ),
    "Healthcare": ("Basic Medicine", "Clinical Medicine", "Dentistry", "Pharmacy", "Preventive Medicine"),
    "Humanities and Social Science": ("Art", "Economics", "History", "Law", "Literature", "Management"),
}
DISCIPLINES = {subject: discipline for discipline, subjects in _SUBJECTS.items() for subject in subjects}
"""Of each subject."""
_VIDEOS = "/videos/"
_JUDGED = ("accuracy", OFFICIAL_ACCURACY)
"""Of open questions the same."""


class MMVU(VideoR1Benchmark):
    """The authors' `validation.json` or Video-R1's `eval_mmvu.json`; videos `<subject>/<n>.mp4`."""

    name = "mmvu"
    video_r1_file = "eval_mmvu.json"
    video_r1_columns = ("subject",)
    num_samples: ClassVar = {ALL: 1000, CHOICE: 625, OPEN: 375}
    judged = True
    partly_judged = True
    definitions: ClassVar = {
        "accuracy": "share of questions answered with the right option, open ones with what a judge finds to say the same as the "
        "true answer; subset multiple-choice is what Video-R1 reports",
        OFFICIAL_ACCURACY: "the same, but a judge reads which option the whole completion ends with, as the authors have a language "
        "model do; without a judge left out",
        VIDEO_R1_ACCURACY: ACCURACY_DEFINITION,
    }

    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question, `id` its id."""
        for sample in map(self._sample, read_rows(source.annotations)):
            if source.subset in (ALL, self.video_r1_subset(sample)):
                yield sample

    def video_r1_subset(self, sample: Sample) -> str:
        """By the kind of question, in either form."""
        return CHOICE if isinstance(sample.target, ChoiceTarget) else OPEN

    def score(self, parsed: Any, sample: Sample) -> Scores:
        """Of an open question only what can be told without a judge."""
        return {"parse_rate": float(parsed is not None)} if self.is_judged(sample) else super().score(parsed, sample)

    def is_judged(self, sample: Sample) -> bool:
        """Open ones."""
        return not isinstance(sample.target, ChoiceTarget)

    async def judge(self, judge: Judge, parsed: Any, sample: Sample) -> Judgement:
        """Whether an open answer says what the true one does."""
        if parsed is None:
            return Judgement({**dict.fromkeys(_JUDGED, 0.0), "parse_rate": 0.0})
        truth = str(TASKS[sample.task].target_to_json(sample.target)["answer"])
        right = await judge.ask(same_answer_question(sample.query, truth, str(parsed)))
        return Judgement({**dict.fromkeys(_JUDGED, float(right)), "parse_rate": 1.0}, {"same": right})

    def is_left_to_judge(self, completion: str, sample: Sample) -> bool:
        """Of questions with options every answer, a bare letter too."""
        return not self.is_judged(sample)

    async def read_with_judge(self, judge: Judge, completion: str, sample: Sample) -> Judgement:
        """By the option that the judge reads."""
        assert isinstance(sample.target, ChoiceTarget)
        text = completion[-judge.config.max_description_chars :]
        found = await judge.ask(final_option_question(sample.query, text, sample.target.options))
        return Judgement({OFFICIAL_ACCURACY: float(found == sample.target.answer)}, {"option": found})

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """Video-R1's; the authors have no rule but a judge."""
        scores = super().official_scores(completion, sample)
        scores.pop(OFFICIAL_ACCURACY, None)
        return scores

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Both kinds of questions have an official accuracy."""
        return {**super().weights(samples), OFFICIAL_ACCURACY: [1.0] * len(samples)}

    def groups(self, sample: Sample) -> dict[str, str]:
        """By kind of question, discipline and subject."""
        groups, subject = {"question_type": self.video_r1_subset(sample)}, sample.extra.get("subject")
        if subject is not None:
            groups["subject"] = subject
        if subject in DISCIPLINES:
            groups["discipline"] = DISCIPLINES[subject]
        return groups

    def _sample(self, row: Row) -> Sample:
        kind = row.text("question_type")
        if kind not in (CHOICE, OPEN):
            raise DataError(f"{row.where}: 'question_type' is {kind!r}; expected {CHOICE} or {OPEN}")
        metadata = Row.of(row.get("metadata"), f"{row.where}, 'metadata'")
        return Sample(
            id=row.text("id"),
            task="multi_choice_qa" if kind == CHOICE else "free_form_qa",
            media=Video(path=row.text("video").rpartition(_VIDEOS)[2]),
            query=row.text("question").strip(),
            target=_choices(row) if kind == CHOICE else _text(row),
            source=self.name,
            extra={"question_type": kind, "subject": metadata.text("subject")},
        )


def _choices(row: Row) -> ChoiceTarget:
    choices = Row.of(row.get("choices"), f"{row.where}, 'choices'")
    options = option_texts([choices.text(letter) for letter in LETTERS[: len(choices.values)]])
    return ChoiceTarget(options, answer_letter(row.text("answer"), options))


def _text(row: Row) -> object:
    return TASKS["free_form_qa"].target_from_json({"answer": row.text("answer")})
