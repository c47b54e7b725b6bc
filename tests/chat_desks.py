"""A desk whose answers are scripted, and a page of a conversation in front of any desk."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from tests.window_runs import wait_for
from videochat_r1.chat.desk import About, Desk, Talk
from videochat_r1.chat.events import Done, Event, PassDone, Preparing, Saw, Text
from videochat_r1.chat.library import Library
from videochat_r1.chat.question import Question
from videochat_r1.chat.server import chat_app
from videochat_r1.errors import VideoError
from videochat_r1.evaluation.answering.clue_options import ClueOptions
from videochat_r1.sample import Media, Pictures
from videochat_r1.window.playable import Copies
from videochat_r1.window.serving import WindowServer, listen

NASTY = "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
LOOK = {"segments": [], "num_frames": 8, "fps": 2.0, "frame_size": [84, 56], "num_tokens": 24}
CLOSER = {"segments": [[1.0, 2.0]], "num_frames": 4, "fps": 4.0, "frame_size": [84, 56], "num_tokens": 12}
PICTURE = {"segments": [], "num_frames": 1, "fps": None, "frame_size": [56, 56], "num_tokens": 4}


class Scripted:
    """A model that answers what the question asks for by a word in it; `gate` holds back the second half of what it writes to "slow".

    Attributes:
        asked: every question, with how many were answered before in its conversation.
        stopped: questions whose reader went away.
    """

    def __init__(self, note: str | None = None) -> None:
        self.about = About("toy", "transformers", True, False, ClueOptions(), note)
        self.gate = threading.Event()
        self.asked: list[tuple[int, Question]] = []
        self.stopped: list[str] = []

    def begin(self, media: Media) -> Talk:
        return _ScriptedTalk(self, media)


class _ScriptedTalk:
    def __init__(self, model: Scripted, media: Media) -> None:
        self._model, self._media, self._answered = model, media, 0

    def rest(self) -> None:
        return

    def ask(self, question: Question, going: Callable[[], bool]) -> Iterator[Event]:
        self._model.asked.append((self._answered, question))
        if "unreadable" in question.text:
            raise VideoError("the video cannot be read: it is damaged")
        yield Preparing("reading")
        passes = 2 if question.clue_perception else 1
        for number in range(passes):
            yield Saw(number, PICTURE if isinstance(self._media, Pictures) else CLOSER if number else LOOK)
            ended = self._ended(number, question)
            half = len(ended.completion) // 2
            yield Text(number, ended.completion[:half])
            if "slow" in question.text:
                while not self._model.gate.wait(0.02):
                    if not going():
                        self._model.stopped.append(question.text)
                        return
            yield Text(number, ended.completion[half:])
            yield ended
        self._answered += 1
        yield Done(passes - 1, ended.answer)

    def _ended(self, number: int, question: Question) -> PassDone:
        answer = NASTY if "nasty" in question.text else f"answer {self._answered} of look {number}"
        thought = "let me see" if question.thinking else None
        completion = f"<think>{thought}</think>" * question.thinking + f"<answer>{answer}</answer>"
        if question.task == "choice":
            return PassDone(number, completion, thought, answer, choice=1)
        if question.task == "track":
            moved = ((0.1, 0.2, 0.3, 0.6), (0.5, 0.2, 0.7, 0.6))
            return PassDone(number, completion, thought, answer, boxes=moved, box_times=(0.0, 2.0))
        clues: Sequence[tuple[float, float]] = [] if isinstance(self._media, Pictures) else [(1.0, 1.5 + number)]
        return PassDone(number, completion, thought, answer, clues=tuple(clues))


@contextmanager
def conversation(
    desk: Desk, videos: Path | None = None, token: str | None = None, library: Library | None = None
) -> Iterator[str]:
    """Serves the page of a desk in a thread of this process; gives its address."""
    with (
        closing(Copies()) as copies,
        closing(library or Library(videos)) as of_files,
        closing(desk),
        closing(listen("127.0.0.1", 0)) as listening,
    ):
        server = WindowServer(chat_app(desk, of_files, copies, token), desk.close)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
