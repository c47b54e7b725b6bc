"""A model that talks about videos and pictures: each is read, encoded and prefilled once, whatever the number of questions."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from videochat_r1.chat.desk import About, Reader
from videochat_r1.chat.events import Done, Preparing
from videochat_r1.chat.exchange import Exchange, ReaderLeftError
from videochat_r1.chat.meaning import sample_of, templates_for
from videochat_r1.chat.question import Question
from videochat_r1.errors import ConfigError, DataError, VideoChatR1Error, without_folders
from videochat_r1.evaluation.answering.answerer import Answerer
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.modeling.inputs import Medium, PromptInputs
from videochat_r1.modeling.load import is_out_of_memory, saying_when_memory_ends
from videochat_r1.modeling.prompts import PromptBuilder, Turn
from videochat_r1.modeling.sizes import decoder_sizes
from videochat_r1.parsing.box_units import BoxFormat
from videochat_r1.sample import Media, Sample, Video
from videochat_r1.second_look.next_look import NoLook, next_look
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.second_look.question import TASK as GROUNDED
from videochat_r1.second_look.view import first_look
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
        DataError: looks again more often or closely than a question may.
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
        clues = options.clue_perception or ClueOptions()
        # What no question may ask should not wait for the model.
        Question("?", clue_perception=clues)
        self._templates = dict(templates or {})
        # As of `ask`, for questions of one's own and for options.
        self._asked_with = {} if options.prompt is None else {GROUNDED.name: options.prompt}
        self.answerer = Answerer(options, device, box_format=box_format, max_kept_tokens=KEPT_TOKENS)
        config = options.config()
        self._max_positions = int(config.get_text_config().max_position_embeddings)
        self.folder = options.model
        self.about = About(
            model=Path(options.model).name or options.model,
            engine=options.engine,
            streams=True,
            thinking=options.thinking,
            clues=clues,
            note=note_of(Path(options.model).name, decoder_sizes(config).weights),
        )

    def warm_up(self) -> None:
        """Answer once, so that nobody has to wait for what is made at the first answer, or finds out what cannot work.

        Raises:
            ConfigError: the model leaves no memory to answer with.
            DivergedError: it computes NaN or infinite numbers.
        """
        short = replace(self.answerer.sampling, max_new_tokens=1)
        with saying_when_memory_ends(
            f"{self.folder} fits into memory, and a first answer beside it does not: --dtype bfloat16 takes half of what float32 does"
        ):
            self.answerer.complete([self.answerer.builder.blank()], short, ["blank"])
        self.answerer.forget()

    def begin(self, media: Media) -> "ModelTalk":
        """A conversation; nothing is read yet."""
        return ModelTalk(self, media)

    def too_long(self, inputs: PromptInputs) -> str | None:
        """Why a prompt cannot be answered; None where the model has positions enough."""
        needed = inputs.next_position + self.answerer.sampling.max_new_tokens
        if needed <= self._max_positions:
            return None
        return (
            f"question, answer and all before them need {needed:,} positions, and the model has {self._max_positions:,}: begin a "
            "new conversation, or ask for less"
        )

    def builder(self, question: Question) -> PromptBuilder:
        """Of the question's prompt."""
        templates = {**templates_for(question, self._templates), **self._asked_with}
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
        except ReaderLeftError:
            return
        except VideoChatR1Error as error:
            raise type(error)(self._told(str(error))) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("out of memory: %s", str(error).partition("\n")[0])
        # Only here, where no traceback holds tensors any more.
        self._talker.answerer.forget()
        raise ConfigError(
            "the model ran out of memory over this question. What earlier conversations held of it is free now: ask again; if that "
            "does not suffice, start `videochat-r1 chat` with fewer --max-frames or --total-pixels"
        )

    def _ask(self, question: Question, reader: Reader) -> None:
        builder = self._talker.builder(question)
        first = not self._shown
        if first:
            reader.put(Preparing("reading"))
        sample, inputs = self._prompt(builder, question)
        if first:
            reader.put(Preparing("encoding"))
        exchange = Exchange(self._talker.answerer, question, sample, reader, f"turn {len(self._turns)}")
        exchange.take(inputs, first_look(inputs, factor=builder.factor))
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
        if problem := self._talker.too_long(inputs):
            raise DataError(problem)
        self._shown = inputs.media
        return sample, inputs

    def _look_again(self, exchange: Exchange, builder: PromptBuilder, first: PromptInputs) -> str | None:
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
                return None if found.problem is None else self._told(found.problem)
            if problem := self._talker.too_long(found.inputs):
                return problem
            exchange.take(*found)
        return None

    def _told(self, sentence: str) -> str:
        """The sentence without folders of this machine."""
        return without_folders(sentence, {path: Path(path).name for path in (*self._media.files, self._talker.folder)})


def note_of(name: str, weights: int) -> str | None:
    """What to know of a small model before it is asked; None of others."""
    if weights >= _TINY:
        return None
    size = f"{weights / 1e6:.1f} million"
    return (
        f"{name} is a tiny model of about {size} weights, made to try things out. It knows scenes like those it was trained on (in the "
        "quickstart, coloured shapes that come, move and go) and has never seen the world: about other videos it can only guess. "
        "It also forgets easily: ask it one question per conversation, in the words of its training"
    )
