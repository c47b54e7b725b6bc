"""A model that talks about videos and pictures: each is read, encoded and prefilled once, whatever the number of questions."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from videochat_r1.chat.desk import About, Reader
from videochat_r1.chat.events import Done, PassDone, Preparing, Saw, Text
from videochat_r1.chat.meaning import Meaning, meaning_of, sample_of, templates_for, thought_in
from videochat_r1.chat.question import Question
from videochat_r1.errors import ConfigError, DataError, VideoChatR1Error
from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.harness import tokens_text
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.modeling.inputs import Medium, PromptInputs
from videochat_r1.modeling.prompts import PromptBuilder, Turn
from videochat_r1.modeling.sizes import decoder_sizes
from videochat_r1.parsing.box_units import BoxFormat
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import Media, Sample, Video
from videochat_r1.second_look.next_look import NoLook, next_look
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.question import Reading, in_video_time, standing
from videochat_r1.second_look.view import Look, first_look
from videochat_r1.video.probe import probe

logger = logging.getLogger(__name__)

KEPT_TOKENS = 32768
"""Of conversations whose keys and values are kept: a few of usual length."""

_TINY = 50_000_000


class ModelTalker:
    """A `Talker` of a model folder, with either engine.

    Args:
        options: model, prompts, decoding.
        device: where the model is put.
        templates: task -> prompt template that replaces the task's own.
        box_format: see `PromptBuilder`.

    Raises:
        ConfigError: the model cannot be loaded, or an option does not fit it.
        DivergedError: its weights are NaN or infinite.
    """

    def __init__(
        self,
        options: RunOptions,
        device: torch.device,
        *,
        templates: Mapping[str, str] | None = None,
        box_format: BoxFormat = "normalised",
    ) -> None:
        self.templates = dict(templates or {})
        self.answerer = Answerer(options, device, box_format=box_format, max_kept_tokens=KEPT_TOKENS)
        config = options.config()
        self.max_positions = int(config.get_text_config().max_position_embeddings)
        self.folder = options.model
        self.about = About(
            model=Path(options.model).name or options.model,
            engine=options.engine,
            streams=True,
            thinking=options.thinking,
            clues=options.clue_perception or ClueOptions(),
            note=note_of(Path(options.model).name, decoder_sizes(config).weights),
        )

    def begin(self, media: Media) -> "ModelTalk":
        """A conversation; nothing is read yet."""
        return ModelTalk(self, media)

    def builder(self, question: Question) -> PromptBuilder:
        """Of the question's prompt."""
        templates = templates_for(question, self.templates)
        return self.answerer.builder.asking(thinking=question.thinking, templates=templates)


class ModelTalk:
    """A conversation about one video or about pictures."""

    def __init__(self, talker: ModelTalker, media: Media) -> None:
        self._talker, self._media = talker, media
        self._shown: tuple[Medium, ...] = ()
        self._duration: float | None = None
        self._turns: list[Turn] = []

    def ask(self, question: Question, reader: Reader) -> None:
        """See `Talk`."""
        try:
            self._ask(question, reader)
            return
        except _ReaderLeftError:
            return
        except torch.OutOfMemoryError as error:
            logger.warning("out of memory: %s", str(error).partition("\n")[0])
        except VideoChatR1Error as error:
            raise type(error)(self._without_folders(str(error))) from error
        # Only here, where no traceback holds tensors any more.
        self._talker.answerer.forget()
        raise ConfigError(
            "the model ran out of memory over this question: begin a new conversation, or start `videochat-r1 chat` with fewer "
            "--max-frames or --total-pixels"
        )

    def _ask(self, question: Question, reader: Reader) -> None:
        builder = self._talker.builder(question)
        first = not self._shown
        if first:
            reader.put(Preparing("reading"))
        sample, inputs = self._prompt(builder, question)
        if first:
            reader.put(Preparing("encoding"))
        look = first_look(inputs, factor=builder.factor) if isinstance(self._media, Video) else None
        exchange = _Exchange(self._talker, question, sample, reader, f"turn {len(self._turns)}")
        exchange.take(inputs, look)
        note = self._look_again(exchange, builder, inputs)
        number, completion = exchange.result()
        self._turns.append(Turn(builder.instruction(sample, inputs.box_units), completion))
        reader.put(Done(number, exchange.meanings[number].answer, note))

    def _prompt(self, builder: PromptBuilder, question: Question) -> tuple[Sample, PromptInputs]:
        """The question with all that was said before it; what it is about is read where it has not been yet."""
        if not self._shown and isinstance(self._media, Video):
            budget = builder.budget
            self._duration = probe(self._media, backend=budget.backend, timeout_seconds=budget.timeout_seconds).duration
        sample = sample_of(question, self._media, self._duration)
        inputs = builder.ask(sample, self._shown, self._turns) if self._shown else builder.build(sample)
        needed = inputs.next_position + self._talker.answerer.sampling.max_new_tokens
        if needed > self._talker.max_positions:
            raise DataError(
                f"question, answer and all before them need {needed:,} positions, and the model has "
                f"{self._talker.max_positions:,}: begin a new conversation, or ask for less"
            )
        self._shown = inputs.media
        return sample, inputs

    def _look_again(self, exchange: "_Exchange", builder: PromptBuilder, first: PromptInputs) -> str | None:
        """Further passes while there are clues; why there are no more of them although there is a clue, or None."""
        options = exchange.question.clue_perception
        if options is None or not isinstance(self._media, Video):
            return None
        for number in range(1, options.rounds + 1):
            clues = exchange.meanings[-1].clues
            if not clues:
                return None
            exchange.reader.put(Preparing("looking_again"))
            found = next_look(builder, self._media, first, clues, options, number=number)
            if isinstance(found, NoLook):
                return None if found.problem is None else self._without_folders(found.problem)
            exchange.take(*found)
        return None

    def _without_folders(self, sentence: str) -> str:
        for path in sorted([*self._media.files, self._talker.folder], key=len, reverse=True):
            for name in {path, str(Path(path).resolve())}:
                sentence = sentence.replace(name, Path(path).name)
        return sentence


class _Exchange:
    """One question and the passes of its answer."""

    def __init__(self, talker: ModelTalker, question: Question, sample: Sample, reader: Reader, name: str) -> None:
        self._talker, self._sample, self._name = talker, sample, name
        self.question, self.reader = question, reader
        self.meanings: list[Meaning] = []
        self._completions: list[str] = []
        self._looks: list[Look | None] = []

    def take(self, inputs: PromptInputs, look: Look | None) -> None:
        """A pass: tell what it shows, what the model writes as it does, and what it says.

        Raises:
            _ReaderLeftError: nobody reads any more.
        """
        number, answerer = len(self.meanings), self._talker.answerer
        self.reader.put(Saw(number, _pictures_seen(inputs, answerer.factor) if look is None else look.to_json()))
        pieces = _Pieces(inputs, answerer)

        def watch(_: int, group: list[list[int]]) -> None:
            if not self.reader.going:
                raise _ReaderLeftError
            if piece := pieces.more(group[0]):
                self.reader.put(Text(number, piece))

        if not self.reader.going:
            raise _ReaderLeftError
        [rollout] = answerer.complete([inputs], answerer.sampling, [f"{self._name}#{number}"], watch)
        completion = answerer.text(inputs, rollout)
        said = inputs.judged(tokens_text(rollout.completion_ids, answerer.tokenizer, answerer.sampling))
        meaning = meaning_of(said, self.question, self._sample, inputs, look)
        self.meanings.append(meaning)
        self._completions.append(completion)
        self._looks.append(look)
        truncated = rollout.ended is Ended.LENGTH
        self.reader.put(PassDone(number, completion, thought_in(completion), **meaning._asdict(), truncated=truncated))

    def result(self) -> tuple[int, str]:
        """The number of the pass whose answer stands, and its completion in the time of the video."""
        readings = [Reading(meaning.answer, meaning.clues) for meaning in self.meanings]
        number = standing(readings)
        look = self._looks[number]
        if look is None or not look.is_clip:
            return number, self._completions[number]
        return number, in_video_time(self._completions[number], readings[number], self._sample, look)


class _Pieces:
    """What a completion has become longer by: whole characters only."""

    def __init__(self, inputs: PromptInputs, answerer: Answerer) -> None:
        self._inputs, self._answerer = inputs, answerer
        self._told = ""

    def more(self, tokens: Sequence[int]) -> str:
        """The new characters of a completion of these tokens so far."""
        text = self._inputs.completion(tokens_text(tokens, self._answerer.tokenizer, self._answerer.sampling))
        # The rest of a character may still come.
        text = text.rstrip("\ufffd")
        if not text.startswith(self._told):
            return ""
        piece, self._told = text[len(self._told) :], text
        return piece


class _ReaderLeftError(Exception):
    """Nobody reads any more."""


def _pictures_seen(inputs: PromptInputs, factor: int) -> dict[str, object]:
    """What `Look.to_json` says of a video, of pictures."""
    first = inputs.media[0]
    return {
        "segments": [],
        "num_frames": len(inputs.media),
        "fps": None,
        "frame_size": [first.columns * factor, first.rows * factor],
        "num_tokens": sum(medium.num_tokens for medium in inputs.media),
    }


def note_of(name: str, weights: int) -> str | None:
    """What to know of a small model before it is asked; None of others."""
    if weights >= _TINY:
        return None
    size = f"{weights / 1e6:.1f} million"
    return (
        f"{name} is a tiny model of about {size} weights, made to try things out. It knows the kind of scenes it was trained on, in the "
        "quickstart coloured shapes that come and go and move, and has never seen the world: of other videos it can only guess"
    )
