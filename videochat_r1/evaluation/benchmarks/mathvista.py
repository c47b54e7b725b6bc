"""MathVista, testmini: mathematics in pictures, answered with an option, a number or a list (Lu et al. 2024)."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videochat_r1.datasets.annotation_files import Row, kind, read_json
from videochat_r1.datasets.base import check_sample, with_root
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import columns, text_or_none
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Benchmark, Groups, Judgement, Source
from videochat_r1.evaluation.benchmarks.mvbench import answer_letter_of_text
from videochat_r1.evaluation.metrics.score_table import Array, Derived
from videochat_r1.judge import Judge
from videochat_r1.judge.answers import final_option_question, final_text_question
from videochat_r1.parsing import answer_text
from videochat_r1.sample import LETTERS, ChoiceTarget, Pictures, Sample
from videochat_r1.tasks import TASKS

FILE = "testmini.json"
DIRECT, AS_WRITTEN = "direct_official", "accuracy_as_written"
BREAKDOWNS = ("question_type", "answer_type", "language", "source", "category", "task", "context", "grade", "skills")
_TASK_OF = {"text": "multi_choice_qa", "integer": "numerical_qa", "float": "numerical_qa", "list": "free_form_qa"}
_VALUE_OF = {
    "integer": "the whole number in digits",
    "float": "the number in digits",
    "list": "the list, like [1, 2, 3],",
}
_FORM_OF = {"integer": "The answer is a whole number.", "list": "The answer is a list of numbers such as [1, 2, 3]."}
_LETTER = re.compile(r"\(([a-zA-Z])\)")


class MathVista(Benchmark):
    """The authors' `testmini.json`, or the folder that holds it; pictures are named by the rows (`images/1.jpg`)."""

    name = "mathvista"
    tasks = ("multi_choice_qa",)
    num_samples: ClassVar = {ALL: 1000}
    judged = True
    partly_judged = True
    definitions: ClassVar = {
        "accuracy": "share of questions answered rightly: with the right option, the right number, or the list as it is written",
        OFFICIAL_ACCURACY: "share of right answers of those that are nothing but an answer, read as the authors do (MathVista, "
        "calculate_score.py): a letter alone or in brackets, or an option's text; a whole number, its fraction cut off; a number, rounded to "
        "the precision of the question; a list as it is written. Of all other answers a judge extracts one, as their language model does; "
        "those that none has read are left out",
        DIRECT: "share of the answers on which accuracy_official rests; those without a completion are among them",
        AS_WRITTEN: "share of right answers by the authors' normalisation alone: each completion is taken as what was extracted, and stands "
        "for the option that it is most like (the same, of a file of extractions)",
    }

    def read(self, source: Source) -> Iterator[Sample]:
        """One sample per question, `pid` its id."""
        (file,) = self.files(source.annotations)
        entries: Any = read_json(file)
        if not isinstance(entries, Mapping):
            raise DataError(f"{file}: expected problems by their pid, found {kind(entries)}")
        for row in Row.all_of(
            (f"{file}, pid {pid!r}", {"pid": pid, **value} if isinstance(value, Mapping) else value)
            for pid, value in entries.items()
        ):
            sample = _sample(row)
            check_sample(sample, row.where)
            yield with_root(sample, source.videos)

    def files(self, annotations: Path) -> list[Path]:
        """The one file."""
        return [annotations / FILE if annotations.is_dir() else annotations]

    def score(self, parsed: Any, sample: Sample) -> dict[str, float]:
        """Accuracy by the task; a list has to be the true one as it is written."""
        if sample.extra.get("answer_type") == "list":
            accuracy: float | None = float(parsed is not None and parsed.strip() == sample.extra["answer"])
        else:
            accuracy = TASKS[sample.task].accuracy(parsed, sample.target)
        return {"accuracy": accuracy or 0.0, "parse_rate": float(parsed is not None)}

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """Of the text of the last answer tag, else of the whole completion."""
        text = None if completion is None else answer_text(completion, untagged=True)
        if text is None:
            return {OFFICIAL_ACCURACY: 0.0, DIRECT: 1.0, AS_WRITTEN: 0.0}
        right, direct = _is_right(text, sample), is_direct(text, sample.extra)
        return {OFFICIAL_ACCURACY: float(right and direct), DIRECT: float(direct), AS_WRITTEN: float(right)}

    def is_judged(self, sample: Sample) -> bool:
        """None: a judge only reads."""
        return False

    def is_left_to_judge(self, completion: str, sample: Sample) -> bool:
        """Answers that have to be extracted."""
        text = answer_text(completion, untagged=True)
        return text is not None and not is_direct(text, sample.extra)

    async def read_with_judge(self, judge: Judge, completion: str, sample: Sample) -> Judgement:
        """By what the judge extracts."""
        text = (answer_text(completion, untagged=True) or "")[-judge.config.max_description_chars :]
        if choices := sample.extra["choices"]:
            found = await judge.ask(final_option_question(sample.query, text, choices))
        else:
            found = await judge.ask(final_text_question(sample.query, text, _VALUE_OF[sample.extra["answer_type"]]))
        right = found is not None and _is_right(found, sample)
        return Judgement({OFFICIAL_ACCURACY: float(right), DIRECT: 1.0}, {"extracted": found})

    def derived(self) -> Mapping[str, Derived]:
        """The official accuracy is a share of the answers that were read."""
        return {OFFICIAL_ACCURACY: _of_direct}

    def groups(self, sample: Sample) -> Groups:
        """By the authors' attributes; a question may take several skills."""
        return {name: sample.extra[name] for name in BREAKDOWNS if name in sample.extra}

    def headline(self, task: str) -> str:
        """Accuracy, of all kinds of answers."""
        return "accuracy"

    def distributions(self, task: str) -> tuple[str, ...]:
        """None: an answer is right or wrong."""
        return ()


def is_direct(text: str, problem: Mapping[str, Any]) -> bool:
    """Whether an answer is nothing but an answer, so that nothing has to be extracted from it.

    Args:
        text: what was answered.
        problem: `choices` (empty for free answers), `answer_type` and `precision` of the question.
    """
    said, choices = text.strip(), problem["choices"]
    if not said or text in choices or said in choices:
        return True
    if choices:
        return _LETTER.fullmatch(said) is not None or said in tuple(LETTERS[: len(choices)])
    if problem["answer_type"] == "list":
        return said.startswith("[") and said.endswith("]")
    try:
        float(said)
    except ValueError:
        return False
    return True


def normalised(extraction: str, problem: Mapping[str, Any]) -> str | None:
    """What the authors compare with the answer (MathVista, calculate_score.py): of options the text of the one whose letter is named,
    else of the one with the smallest edit distance; None for what is no number.
    """
    if choices := problem["choices"]:
        return _choice(extraction.strip(), choices)
    if problem["answer_type"] == "list":
        return extraction.strip()
    try:
        number = float(extraction)
    except ValueError:
        return None
    if problem["answer_type"] == "float":
        return str(round(number, problem["precision"]))
    return str(int(number)) if math.isfinite(number) else None


def _choice(said: str, choices: Sequence[str]) -> str:
    from rapidfuzz.distance import Levenshtein

    letter = _LETTER.search(said)
    mark = letter[1].upper() if letter else said
    if mark in tuple(LETTERS[: len(choices)]):
        return choices[LETTERS.index(mark)]
    return min(choices, key=lambda choice: Levenshtein.distance(mark, choice))


def _is_right(extraction: str, sample: Sample) -> bool:
    return normalised(extraction, sample.extra) == sample.extra["answer"]


def _of_direct(means: Mapping[str, Array]) -> Array:
    """NaN where no answer was read."""
    direct = means[DIRECT]
    return np.divide(means[OFFICIAL_ACCURACY], direct, out=np.full_like(direct, np.nan), where=direct > 0.0)


def _sample(row: Row) -> Sample:
    answer_type, answer = row.text("answer_type"), row.text("answer").strip()
    if answer_type not in _TASK_OF:
        raise DataError(f"{row.where}: 'answer_type' is {answer_type!r}; expected one of {', '.join(_TASK_OF)}")
    choices = tuple(row.options("choices")) if answer_type == "text" else ()
    precision = int(row.number("precision")) if row.values.get("precision") is not None else 0
    task = _TASK_OF[answer_type]
    if choices:
        target: Any = ChoiceTarget(choices, answer_letter_of_text(answer, choices))
    else:
        target = TASKS[task].target_from_json({"answer": answer})
    metadata = Row.of(row.get("metadata"), f"{row.where}, 'metadata'")
    return Sample(
        id=str(row.get("pid")),
        task=task,
        media=Pictures((row.text("image"),)),
        query=_query(row, answer_type, precision),
        target=target,
        source=MathVista.name,
        extra={
            **columns(row, "question_type", "answer_type"),
            **columns(metadata, *BREAKDOWNS[2:-1]),
            "skills": tuple(metadata.texts("skills")),
            "choices": choices,
            "precision": precision,
            "answer": answer,
        },
    )


def _query(row: Row, answer_type: str, precision: int) -> str:
    """The question, with its unit and what kind of number is asked for."""
    unit = text_or_none(row, "unit")
    question = row.text("question").strip() + (f" (Unit: {unit})" if unit else "")
    if answer_type == "float":
        return (
            f"{question}\nThe answer is a number, rounded to {precision} decimal place{'' if precision == 1 else 's'}."
        )
    return "\n".join(filter(None, [question, _FORM_OF.get(answer_type)]))
