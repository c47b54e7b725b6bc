"""Where questions are answered: one model, one thread, a short queue, and the conversations that go on."""

import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from videochat_r1.chat.events import Event, Problem, Waiting
from videochat_r1.chat.question import Question
from videochat_r1.errors import VideoChatR1Error, counted
from videochat_r1.sample import Media
from videochat_r1.second_look.options import ClueOptions

logger = logging.getLogger(__name__)

_OVER = "this conversation is over, as later ones took its place: begin a new one about the same video"
_UNEXPECTED = "something went wrong that should not have; the log of the server says what. The conversation can go on"
_CLOSED = "the server is ending"


@dataclass(frozen=True, slots=True)
class About:
    """What a page tells of the model.

    Args:
        model: name of its folder, without the path.
        engine: transformers or vllm.
        streams: whether answers come piece by piece.
        thinking: whether questions ask for a thought unless told otherwise.
        clues: what a second look does unless told otherwise.
        note: what to know before asking, e.g. that the model knows synthetic scenes only; None for nothing.
    """

    model: str
    engine: str
    streams: bool
    thinking: bool
    clues: ClueOptions
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return asdict(self)


class Reader(Protocol):
    """Whom an answer is told."""

    @property
    def going(self) -> bool:
        """Whether somebody still reads."""
        ...

    def put(self, event: Event) -> None:
        """Tell what happens."""
        ...


class Talk(Protocol):
    """A conversation about one video or about pictures. All calls come from the desk's thread."""

    def ask(self, question: Question, reader: Reader) -> None:
        """Answer a question; it belongs to the conversation from `Done` on.

        Args:
            question: checked.
            reader: told the events; where it no longer reads, the answer ends, also between two tokens.

        Raises:
            VideoChatR1Error: the question cannot be answered; the message is for people and names no folder.
        """
        ...


class Talker(Protocol):
    """A model that can be talked to."""

    about: About

    def begin(self, media: Media) -> Talk:
        """A conversation; nothing is read yet."""
        ...


class Reply(Iterator[Event]):
    """The events of one question as they come, from any thread. The last one is `Done` or `Problem`, unless it is closed before."""

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self.over = False
        """Whether all events have been taken."""

    def __next__(self) -> Event:
        event = self.wait()
        if event is None:
            raise StopIteration
        return event

    def wait(self, seconds: float | None = None) -> Event | None:
        """The next event; None when there are no more (`over`), or when none has come in so many seconds."""
        if self.over:
            return None
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        self.over = event is None
        return event

    def close(self) -> None:
        """Nobody reads any more: the model stops writing, and the question is not part of the conversation."""
        self._closed.set()

    @property
    def going(self) -> bool:
        """Whether somebody reads."""
        return not self._closed.is_set()

    def put(self, event: Event | None) -> None:
        """Of the desk: an event, or None behind the last one."""
        self._events.put(event)


class Desk:
    """Answers questions one after the other.

    Args:
        talker: the model.
        most_waiting: questions that may wait while another is answered.
        most_conversations: that can be gone on with; the one that was idle longest makes room.
    """

    def __init__(self, talker: Talker, *, most_waiting: int = 8, most_conversations: int = 16) -> None:
        self.about = talker.about
        self._talker = talker
        self._most_waiting, self._most_conversations = most_waiting, most_conversations
        self._talks: OrderedDict[str, Talk] = OrderedDict()
        self._line: list[Reply] = []
        self._lock = threading.RLock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self._open = True

    def begin(self, media: Media) -> str:
        """A new conversation about a video or pictures; nothing is read yet. Returns its name, which cannot be guessed."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._talks[name] = self._talker.begin(media)
            while len(self._talks) > self._most_conversations:
                self._talks.popitem(last=False)
        return name

    def ask(self, conversation: str, question: Question) -> Reply:
        """The events of the answer; where there is none, a `Problem` says why. Close it when its reader goes away.

        A conversation has one question at a time: what is still being written in it ends, as its reader has turned away, which the
        server may learn later than the next question.
        """
        reply = Reply(conversation)
        with self._lock:
            talk = self._talks.get(conversation)
            for earlier in self._line:
                if earlier.conversation == conversation:
                    earlier.close()
            if talk is None or not self._open or sum(one.going for one in self._line) > self._most_waiting:
                reply.put(Problem(_OVER if talk is None else self._full() if self._open else _CLOSED))
                reply.put(None)
                return reply
            self._talks.move_to_end(conversation)
            if before := sum(one.going for one in self._line):
                reply.put(Waiting(before))
            self._line.append(reply)
            answered = self._thread.submit(self._answer, talk, question, reply)
        answered.add_done_callback(lambda done: self._leave(reply, done))
        return reply

    def close(self) -> None:
        """Stop what is being written and let nobody wait."""
        with self._lock:
            self._open = False
            for reply in self._line:
                reply.close()
        self._thread.shutdown(cancel_futures=True)

    def _full(self) -> str:
        waiting = counted(self._most_waiting, "question")
        return f"{waiting} {'waits' if self._most_waiting == 1 else 'wait'} already: ask again in a moment"

    def _answer(self, talk: Talk, question: Question, reply: Reply) -> None:
        if not reply.going:
            return
        try:
            talk.ask(question, reply)
        except VideoChatR1Error as error:
            reply.put(Problem(str(error)))

    def _leave(self, reply: Reply, done: "Future[None]") -> None:
        """The question is answered or given up: those behind it move on."""
        problem = None if done.cancelled() else done.exception()
        if problem is not None:
            logger.error("a question was not answered", exc_info=problem)
            reply.put(Problem(_UNEXPECTED))
        reply.put(None)
        with self._lock:
            self._line.remove(reply)
            going = [one for one in self._line if one.going]
            for before, waiting in enumerate(going[1:], start=1):
                waiting.put(Waiting(before))
