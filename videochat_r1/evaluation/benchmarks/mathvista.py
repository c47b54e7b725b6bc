"""MathVista, testmini: mathematics in pictures, answered with an option, a number or a list (Lu et al. 2024)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videochat_r1.datasets.annotation_files import Row, kind, read_json
from videochat_r1.datasets.base import check_sample, with_root
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.annotation_rows import columns, text_or_none
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Benchmark, Groups, Source
from videochat_r1.evaluation.benchmarks.mvbench import answer_letter_of_text
from videochat_r1.evaluation.metrics.score_table import Array, Derived
from videochat_r1.parsing import answer_text
from videochat_r1.sample import LETTERS, ChoiceTarget, Pictures, Sample
from videochat_r1.tasks import TASKS

FILE = "testmini.json"
DIRECT = "direct_official"
BREAKDOWNS = ("question_type", "answer_type", "language", "source", "category", "task", "context", "grade", "skills")
_TASK_OF = {"text": "multi_choice_qa", "integer": "numerical_qa", "float": "numerical_qa", "list": "free_form_qa"}
_FORM_OF = {"integer": "The answer is a whole number.", "list": "The answer is a list of numbers such as [1, 2, 3]."}
_LETTER = re.compile(r"\(([a-zA-Z])\)")


class MathVista(Benchmark):
    """The authors' `testmini.json`, or the folder that holds it; pictures are named by the rows (`images/1.jpg`)."""

    name = "mathvista"
    tasks = ("multi_choice_qa",)
    num_samples: ClassVar = {ALL: 1000}
    definitions: ClassVar = {
        "accuracy": "share of questions answered rightly: with the right option, the right number, or the list as it is written",
        OFFICIAL_ACCURACY: "share of right answers of those that are nothing but an answer, read as the authors do (MathVista, "
        "calculate_score.py): a letter alone or in brackets, or an option's text; a whole number, its fraction cut off; a number, rounded to "
        "the precision of the question; a list as it is written. Of all other answers their language model extracts one: left out",
        DIRECT: "share of answers that are nothing but an answer, on which accuracy_official rests; those without a completion count as such",
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
            return {OFFICIAL_ACCURACY: 0.0, DIRECT: 1.0}
        prediction, is_direct = official_prediction(text, sample.extra)
        return {OFFICIAL_ACCURACY: float(prediction == sample.extra["answer"]), DIRECT: float(is_direct)}

    def derived(self) -> Mapping[str, Derived]:
        """The official accuracy is a share of the direct answers."""
        return {OFFICIAL_ACCURACY: _of_direct}

    def groups(self, sample: Sample) -> Groups:
        """By the authors' attributes; a question may take several skills."""
        return {name: sample.extra[name] for name in BREAKDOWNS if name in sample.extra}

    def distributions(self, task: str) -> tuple[str, ...]:
        """None: an answer is right or wrong."""
        return ()


def official_prediction(text: str, problem: Mapping[str, Any]) -> tuple[str | None, bool]:
    """What the authors compare with the answer, and whether that took no language model to find.

    Args:
        text: what was answered.
        problem: `choices` (empty for free answers), `answer_type` and `precision` of the question.
    """
    if problem["choices"]:
        return _choice(text, problem["choices"])
    answer_type, said = problem["answer_type"], text.strip()
    if not said:
        return None, True
    if answer_type == "list":
        is_list = said.startswith("[") and said.endswith("]")
        return (said if is_list else None), is_list
    try:
        number = float(said)
    except ValueError:
        return None, False
    if answer_type == "float":
        return str(round(number, problem["precision"])), True
    return (str(int(number)) if np.isfinite(number) else None), True


def _choice(text: str, choices: tuple[str, ...]) -> tuple[str | None, bool]:
    """The option's text; of nothing, or a letter that none has, the option with the smallest edit distance to it."""
    said = text.strip()
    if text in choices or said in choices:
        # The authors read a letter first, also where the text of an option is one.
        letter = _LETTER.search(said)
        mark = letter[1].upper() if letter else said
        is_mark = letter is not None or (len(mark) == 1 and mark in LETTERS[: len(choices)])
        return (_nearest(mark, choices) if is_mark else said), True
    bracketed = _LETTER.fullmatch(said)
    letter_said = bracketed[1].upper() if bracketed else said
    if letter_said == "" or bracketed or (len(said) == 1 and said in LETTERS[: len(choices)]):
        return _nearest(letter_said, choices), True
    return None, False


def _nearest(mark: str, choices: tuple[str, ...]) -> str:
    """The option of a letter; of another mark of at most one character the first with the smallest edit distance."""
    if mark and mark in LETTERS[: len(choices)]:
        return choices[LETTERS.index(mark)]
    return min(choices, key=lambda choice: max(len(choice), len(mark)) - int(mark != "" and mark in choice))


def _of_direct(means: Mapping[str, Array]) -> Array:
    """NaN where no answer is direct."""
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
