"""TempCompass: action, direction, speed, order and change of attributes, asked in four ways (Liu et al. 2024)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from videochat_r1.datasets.annotation_files import Row, read_json
from videochat_r1.datasets.base import VideoFinder
from videochat_r1.datasets.choices import answer_letter
from videochat_r1.errors import DataError
from videochat_r1.evaluation.benchmarks.base import ALL, OFFICIAL_ACCURACY, Judgement, Source
from videochat_r1.evaluation.benchmarks.video_r1 import ACCURACY_DEFINITION, VIDEO_R1_ACCURACY, VideoR1Benchmark
from videochat_r1.judge import Judge
from videochat_r1.judge.answers import choose_question, final_option_question
from videochat_r1.parsing import answer_text, option_texts
from videochat_r1.sample import LETTERS, CaptionTarget, ChoiceTarget, Sample, Video
from videochat_r1.text import listing

MULTI_CHOICE, YES_NO, MATCHING, CAPTIONING = PARTS = ("multi-choice", "yes_no", "caption_matching", "captioning")
"""The four tasks, by the names of their files."""
META = "meta_info.json"
_OPTION = re.compile(r"\s*[A-D]\.\s?")
_ANSWER = re.compile(r"[A-D](?=[.)]|\Z)")


class TempCompass(VideoR1Benchmark):
    """The four files of the authors' `questions`, their folder, or Video-R1's `eval_tempcompass.json`; videos `<id>.mp4`."""

    name = "tempcompass"
    video_r1_file = "eval_tempcompass.json"
    video_r1_columns = ("dim", "task")
    num_samples: ClassVar = {ALL: 7540, MULTI_CHOICE: 1580, YES_NO: 2453, MATCHING: 1503, CAPTIONING: 2004}
    judged = True
    partly_judged = True
    definitions: ClassVar = {
        "accuracy": "share of questions answered rightly; a caption is right if a judge who reads it alone gives the right answer to "
        "the first multi-choice question about the same aspect of the video (Liu et al. 2024)",
        OFFICIAL_ACCURACY: "the same by the authors' matching rules; what these cannot tell, and the authors ask a language model about, "
        "a judge reads, and without one it is wrong (TempCompass, --disable_llm)",
        VIDEO_R1_ACCURACY: f"{ACCURACY_DEFINITION}; in its own form, which has options for all four tasks",
    }

    def authors_questions(self, source: Source) -> Iterator[Sample]:
        """One sample per question; ids are `<task>/<video>/<aspect>/<number>`."""
        find, types = VideoFinder(source.videos), _types(source.annotations)
        for file in _files(source.annotations):
            if source.subset in (ALL, file.stem):
                asked = _first_questions(file.parent) if file.stem == CAPTIONING else {}
                for video, aspect, number, row in _rows(file):
                    target, query, extra = _question(row, file.stem, asked.get((video, aspect)))
                    yield Sample(
                        id=f"{file.stem}/{video}/{aspect}/{number}",
                        task="captioning" if file.stem == CAPTIONING else "multi_choice_qa",
                        media=Video(path=find(video)),
                        query=query,
                        target=target,
                        source=self.name,
                        extra={"part": file.stem, "aspect": aspect, **types.get((video, aspect), {}), **extra},
                    )

    def authors_files(self, annotations: Path) -> list[Path]:
        """The tasks' files, and the questions that captions are judged by."""
        files = _files(annotations)
        questions = annotations.parent / f"{MULTI_CHOICE}.json"
        return [*files, questions] if annotations.is_file() and annotations.stem == CAPTIONING else files

    def is_judged(self, sample: Sample) -> bool:
        """Captions."""
        return sample.task == "captioning"

    async def judge(self, judge: Judge, parsed: Any, sample: Sample) -> Judgement:
        """Whether the caption leads to the right answer."""
        if parsed is None:
            return Judgement({"accuracy": 0.0, OFFICIAL_ACCURACY: 0.0, "parse_rate": 0.0})
        description = parsed[: judge.config.max_description_chars]
        found = await judge.ask(choose_question(description, sample.extra["question"], sample.extra["options"]))
        right = float(found == sample.extra["answer"])
        return Judgement({"accuracy": right, OFFICIAL_ACCURACY: right, "parse_rate": 1.0}, {"option": found})

    def is_left_to_judge(self, completion: str, sample: Sample) -> bool:
        """What the rules cannot match."""
        part, target = sample.extra.get("part"), sample.target
        if part is None or not isinstance(target, ChoiceTarget):
            return False
        return official_option(completion, part, target) is None

    async def read_with_judge(self, judge: Judge, completion: str, sample: Sample) -> Judgement:
        """By the option that the judge reads."""
        assert isinstance(sample.target, ChoiceTarget)
        text = written_answer(completion)[-judge.config.max_description_chars :]
        found = await judge.ask(final_option_question(sample.query, text, sample.target.options))
        return Judgement({OFFICIAL_ACCURACY: float(found == sample.target.answer)}, {"option": found})

    def official_scores(self, completion: str | None, sample: Sample) -> dict[str, float]:
        """By the rules of the question's task, which Video-R1's form does not have, and by Video-R1's."""
        scores = super().official_scores(completion, sample)
        scores.pop(OFFICIAL_ACCURACY, None)
        if isinstance(sample.target, ChoiceTarget) and (part := sample.extra.get("part")) is not None:
            found = None if completion is None else official_option(completion, part, sample.target)
            scores[OFFICIAL_ACCURACY] = float(found == sample.target.answer)
        return scores

    def weights(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Captions have an official accuracy too, by a judge."""
        return {**super().weights(samples), OFFICIAL_ACCURACY: [1.0] * len(samples)}

    def groups(self, sample: Sample) -> dict[str, str]:
        """By task, by aspect, and by the finer types of these."""
        names = {"part": "task", "task": "task", "aspect": "aspect", "dim": "aspect", "type": "type"}
        return {name: sample.extra[key] for key, name in names.items() if key in sample.extra}


def written_answer(completion: str) -> str:
    """The text of the last answer tag; without one the completion as it is, but for the mark of its end."""
    tagged = answer_text(completion)
    return completion.replace("</s>", "") if tagged is None else tagged.strip()


def official_option(completion: str, part: str, target: ChoiceTarget) -> str | None:
    """The letter of the option that the authors' rules find in an answer; None where they ask a language model.

    Between tags, which only our prompt asks for, the letter that it asks for too stands for its option.
    """
    text, letters = written_answer(completion), tuple(LETTERS[: len(target.options)])
    if text in letters and answer_text(completion) is not None:
        return text
    if part == YES_NO:
        word = next((word for word in ("yes", "no") if text.lower().startswith(word)), None)
        return None if word is None else "AB"[word == "no"]
    if part == MULTI_CHOICE:
        match = _ANSWER.match(text)
        return None if match is None else match[0]
    for letter, option in zip(letters, target.options, strict=True):
        label, sentence, *_ = [*option.split(": "), ""]
        if text in (option, sentence) or sentence in text.split(") ")[1:2] or label in (text, text.replace(".", "")):
            return letter
    return None


def _question(
    row: Row, part: str, asked: tuple[str, ChoiceTarget] | None
) -> tuple[ChoiceTarget | CaptionTarget, str, dict[str, Any]]:
    """Target, query, and what a caption is judged by."""
    question, answer = row.text("question"), row.text("answer")
    if part == YES_NO:
        return ChoiceTarget(("yes", "no"), answer_letter(answer, ("yes", "no"))), question.strip(), {}
    if part == CAPTIONING:
        if asked is None:
            raise DataError(f"{row.where}: {MULTI_CHOICE}.json has no question about it, by which captions are judged")
        query, target = asked
        extra = {"question": query, "options": target.options, "answer": target.answer}
        return CaptionTarget(answer), question.strip(), extra
    query, target = _choice(row, lettered=part == MULTI_CHOICE)
    return target, query, {}


def _choice(row: Row, *, lettered: bool) -> tuple[str, ChoiceTarget]:
    """The question without its options, and these."""
    query, *lines = row.text("question").split("\n")
    answer = row.text("answer").strip()
    if lettered:
        options = option_texts([line.strip() for line in lines if _OPTION.match(line)])
        return query.strip(), ChoiceTarget(options, answer[:1])
    options = tuple(line.strip() for line in lines)
    return query.strip(), ChoiceTarget(options, LETTERS[options.index(answer)] if answer in options else answer)


def _rows(file: Path) -> Iterator[tuple[str, str, int, Row]]:
    """Video, aspect, number and question, in file order."""
    for video, aspects in Row.of(read_json(file), str(file)).values.items():
        by_aspect = Row.of(aspects, f"{file}, {video}")
        for aspect in by_aspect.values:
            for number, value in enumerate(by_aspect.items(aspect)):
                yield video, aspect, number, Row.of(value, f"{file}, {video}, {aspect}[{number}]")


def _first_questions(folder: Path) -> Mapping[tuple[str, str], tuple[str, ChoiceTarget]]:
    """Video and aspect -> the first multi-choice question about it."""
    rows = _rows(folder / f"{MULTI_CHOICE}.json")
    return {(video, aspect): _choice(row, lettered=True) for video, aspect, number, row in rows if number == 0}


def _types(annotations: Path) -> Mapping[tuple[str, str], dict[str, str]]:
    """Video and aspect -> its finer type, of `meta_info.json` beside the questions or above them; empty without that file."""
    folder = annotations if annotations.is_dir() else annotations.parent
    file = next((file for place in (folder, folder.parent) if (file := place / META).is_file()), None)
    types: dict[tuple[str, str], dict[str, str]] = {}
    for video, value in {} if file is None else Row.of(read_json(file), str(file)).values.items():
        aspects = Row.of(Row.of(value, f"{file}, {video}").get("eval_dim"), f"{file}, {video}")
        for aspect, told in aspects.values.items():
            kind = told.get("type") if isinstance(told, dict) else None
            types[video, aspect] = {"type": kind if isinstance(kind, str) else aspect}
    return types


def _files(annotations: Path) -> list[Path]:
    if annotations.is_file():
        if annotations.stem in PARTS:
            return [annotations]
        raise DataError(f"{annotations} is none of TempCompass's files {', '.join(f'{part}.json' for part in PARTS)}")
    found = [file for part in PARTS if (file := annotations / f"{part}.json").is_file()]
    if not found:
        raise DataError(
            f"{annotations} has none of TempCompass's files, such as {PARTS[0]}.json; it holds {listing(annotations)}"
        )
    return found
