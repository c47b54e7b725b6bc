"""The desk in front of a model: its queue, its conversations, and what it says when something is the matter."""

import pytest

from tests.echo_talker import EchoTalker
from videochat_r1.chat.desk import Desk
from videochat_r1.chat.events import Done, Event, PassDone, Problem, Text, Waiting
from videochat_r1.chat.question import Question
from videochat_r1.sample import Video

VIDEO = Video("clip.mp4")


@pytest.fixture
def desk() -> Desk:
    talker = EchoTalker()
    desk = Desk(talker, most_waiting=2, most_conversations=4)
    yield desk
    talker.let_go.set()
    desk.close()


def events_of(desk: Desk, conversation: str, text: str) -> list[Event]:
    return list(desk.ask(conversation, Question(text)))


def test_a_conversation_goes_on_and_another_knows_nothing_of_it(desk: Desk) -> None:
    one, other = desk.begin(VIDEO), desk.begin(VIDEO)
    events_of(desk, one, "first")
    assert events_of(desk, one, "second")[-1] == Done(0, "first / second")
    assert events_of(desk, other, "third")[-1] == Done(0, "third")


def test_pieces_of_text_are_the_completion(desk: Desk) -> None:
    events = events_of(desk, desk.begin(VIDEO), "what is it")
    [done] = [event for event in events if isinstance(event, PassDone)]
    assert "".join(event.piece for event in events if isinstance(event, Text)).strip() == done.completion


def test_those_who_wait_are_told_their_place_and_one_too_many_is_sent_away(desk: Desk) -> None:
    *conversations, another = [desk.begin(VIDEO) for _ in range(4)]
    holding = desk.ask(conversations[0], Question("hold"))
    waiting = [desk.ask(name, Question("hold on")) for name in conversations[1:]]
    assert [reply.wait() for reply in waiting] == [Waiting(1), Waiting(2)]
    [sent_away] = desk.ask(another, Question("me too"))
    assert isinstance(sent_away, Problem) and "wait already" in sent_away.sentence
    holding.close()
    assert waiting[1].wait() == Waiting(1), "it moves up when the first has given up"
    waiting[1].close()
    waiting[0].close()
    assert not [event for event in waiting[1] if isinstance(event, Done)]
    assert events_of(desk, conversations[2], "after all")[-1] == Done(0, "after all"), (
        "what was given up is not remembered"
    )


def test_a_question_ends_the_one_before_it_in_its_conversation_and_needs_no_place_of_its_own() -> None:
    desk = Desk(EchoTalker(), most_waiting=0)
    one, other = desk.begin(VIDEO), desk.begin(VIDEO)
    stopped = desk.ask(one, Question("hold"))
    assert next(stopped) is not None, "it is being answered, and nobody has told the desk that its reader is gone"
    assert events_of(desk, one, "again")[-1] == Done(0, "again")
    assert not [event for event in stopped if isinstance(event, Done)]
    holding = desk.ask(other, Question("hold"))
    [sent_away] = desk.ask(one, Question("me too"))
    assert isinstance(sent_away, Problem), "that of another conversation goes on"
    holding.close()
    desk.close()


@pytest.mark.parametrize("what, told", [("broken", "cannot be read"), ("bug", "log of the server")])
def test_the_desk_lives_on_after_a_problem(desk: Desk, what: str, told: str) -> None:
    name = desk.begin(VIDEO)
    problem = events_of(desk, name, what)[-1]
    assert isinstance(problem, Problem) and told in problem.sentence
    assert events_of(desk, name, "and now")[-1] == Done(0, "and now")


def test_the_longest_idle_conversation_makes_room(desk: Desk) -> None:
    names = [desk.begin(VIDEO) for _ in range(4)]
    events_of(desk, names[0], "first")
    names.append(desk.begin(VIDEO))
    assert events_of(desk, names[0], "again")[-1] == Done(0, "first / again")
    [problem] = events_of(desk, names[1], "again")
    assert isinstance(problem, Problem) and "begin a new one" in problem.sentence
