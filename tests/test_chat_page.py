"""The server of a conversation's page: what can be talked about, uploads, streams, and what it gives to nobody."""

import json
from pathlib import Path

import httpx
import pytest

from tests.chat_pages import chat_page, write_folder
from tests.echo_talker import EchoTalker
from tests.window_runs import wait_for
from videochat_r1.chat.desk import Desk
from videochat_r1.chat.library import Library
from videochat_r1.chat.page_text import CHAT
from videochat_r1.errors import ConfigError

LOOK = {"segments": [], "num_frames": 8, "fps": 2.0, "frame_size": [56, 28], "num_tokens": 8}
CLOSER = {**LOOK, "segments": [[1, 2]], "num_frames": 2, "times": [1.0, 1.5], "time": "dense", "rest_fps": 0.5}
PICTURE = {**LOOK, "num_frames": 1, "fps": None}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def address(videos):
    with chat_page(Desk(EchoTalker()), Library(videos)) as where:
        yield where


@pytest.fixture(scope="module")
def small(videos):
    """A server that takes little: its address, and the folder of uploads, which every test leaves empty."""
    library = Library(None, most_bytes=1 << 18)
    with chat_page(Desk(EchoTalker(), most_waiting=0), library) as where:
        yield where, Path(library._held.name)


def keys(address):
    return {item["name"]: item["key"] for item in httpx.get(f"{address}/api/media").json()["media"]}


def begun(address, name="cat.mp4"):
    return httpx.post(f"{address}/api/media/{keys(address)[name]}/conversations", timeout=60).json()["conversation"]


def events(address, conversation, **question):
    answer = httpx.post(f"{address}/api/conversations/{conversation}/ask", json=question, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    return [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: ")]


def upload(address, name, content):
    return httpx.post(f"{address}/api/media", params={"name": name}, content=content, timeout=60)


def test_what_can_be_chosen_is_told_by_name_alone(videos, address):
    assert set(keys(address)) == {"cat.mp4", "inner/old.avi", "photo.png"}, "links that lead out lead nowhere"
    found = httpx.get(f"{address}/api/media", params={"text": "OLD"}).json()
    assert [item["name"] for item in found["media"]] == ["inner/old.avi"] and not found["more"]
    key = keys(address)["cat.mp4"]
    about = httpx.post(f"{address}/api/media/{key}/conversations", timeout=60).json()["media"]
    assert about["kind"] == "video" and about["duration"] == pytest.approx(4.0)
    texts = [httpx.get(address + place).text for place in ("/", "/api/about", "/api/media")]
    assert not [text for text in [*texts, json.dumps(about)] if str(videos.parent) in text]
    with pytest.raises(ConfigError, match="--videos does not exist"):
        Library(videos / "none")


def test_more_than_a_list_holds_is_searched_for(videos, monkeypatch):
    monkeypatch.setattr("videochat_r1.chat.library.MOST_LISTED", 2)
    items, more = Library(videos).listed()
    assert [item.name for item in items] == ["cat.mp4", "photo.png"] and more


def test_media_are_served_in_ranges_and_what_no_browser_plays_as_a_copy(address):
    cat, old, photo = (
        f"{address}/api/media/{keys(address)[name]}" for name in ("cat.mp4", "inner/old.avi", "photo.png")
    )
    whole, part = httpx.get(f"{cat}/video"), httpx.get(f"{cat}/video", headers={"Range": "bytes=4-7"})
    assert part.status_code == 206 and part.content == whole.content[4:8] == b"ftyp"
    assert httpx.get(f"{old}/copy", timeout=60).content[4:8] == b"ftyp"
    assert httpx.get(f"{photo}/pictures/0").headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "path",
    [
        "/api/media/none/video",
        "/api/media/..%2fsecret.mp4/video",
        "/page/../server.js",
        "/page/group.js",
        "/secret.mp4",
    ],
)
def test_other_files_are_served_to_nobody(address, path):
    assert httpx.get(address + path).status_code == 404


def test_all_modules_that_the_page_imports_come_with_it(address):
    texts = {name: httpx.get(f"{address}/page/{name}.js").text for name in CHAT.modules}
    imported = {
        line.split('"')[1] for text in texts.values() for line in text.splitlines() if line.startswith("import ")
    }
    assert (
        imported <= {f"window/{name}" for name in texts} and ".composer" in httpx.get(f"{address}/page/window.css").text
    )


def test_an_upload_is_talked_about_and_removed(videos, small):
    address, held = small
    item = upload(address, "../../etc/<b>my cat</b>.mp4", (videos / "cat.mp4").read_bytes()).json()
    assert item["name"] == "b>.mp4" and item["kind"] == "video" and keys(address) == {}, "others do not see it"
    media = f"{address}/api/media/{item['key']}"
    conversation = httpx.post(f"{media}/conversations", timeout=60).json()["conversation"]
    assert events(address, conversation, text="hello")[-1] == {
        "event": "done",
        "answered_by": 0,
        "answer": "hello",
        "note": None,
    }
    assert httpx.delete(media).status_code == 204 and not list(held.iterdir())
    assert [httpx.delete(media).status_code, httpx.get(f"{media}/video").status_code] == [404, 404]


def test_uploads_are_bounded_and_gone_with_the_window(videos):
    library = Library(None, most_uploads=2)
    with chat_page(Desk(EchoTalker()), library) as where:
        sent = [
            upload(where, f"{number}.png", (videos / "photo.png").read_bytes()).json()["key"] for number in range(3)
        ]
        found = [httpx.get(f"{where}/api/media/{key}/pictures/0").status_code for key in sent]
        assert found == [404, 200, 200] and len(list(Path(library._held.name).iterdir())) == 2
    assert not Path(library._held.name).exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.txt", b"x", "no video and no picture by its ending"),
        ("", b"x", "no video and no picture by its ending"),
        ("big.mp4", b"x" * (1 << 18 | 1), "big.mp4 is larger than 0.25 MB"),
        ("big.mp4", iter([b"x" * (1 << 17)] * 3), "big.mp4 is larger than 0.25 MB"),
        ("cat.mp4", b"no video", "cat.mp4: cannot be opened as a video"),
        ("cat.png", b"no picture", "cat.png: cannot be read as an image"),
        ("cat.mp4", b"", "cat.mp4: the file is empty"),
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/hostname\n", "list.mp4: "),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_in_a_sentence_and_leaves_nothing(small, name, content, sentence):
    address, held = small
    refused = upload(address, name, content)
    assert refused.status_code == 422 and sentence in refused.text and str(held) not in refused.text
    assert not list(held.iterdir())


def test_an_answer_comes_as_events_and_the_next_question_knows_of_it(address):
    conversation = begun(address)
    told = events(address, conversation, text="what?", thinking=True, clue_perception=True)
    assert [event["event"] for event in told if event["event"] != "text"] == [
        *["preparing", "preparing", "saw", "pass_done", "preparing", "saw", "pass_done", "done"]
    ]
    ended = [event for event in told if event["event"] == "pass_done"]
    assert [part["kind"] for part in ended[1]["parts"]] == ["think", "answer"] and ended[0]["clues"] == [[1.0, 2.5]]
    assert events(address, conversation, text="why?")[-1]["answer"] == "what? / why?"
    assert events(address, conversation, text="broken")[-1]["event"] == "problem"
    assert events(address, "none", text="why?")[-1]["event"] == "problem"


@pytest.mark.parametrize(
    "question", [{}, [], {"text": "x", "odd": 1}, {"text": "x", "task": "track"}, {"text": "x" * 70_000}]
)
def test_questions_that_cannot_be_asked_are_refused_in_a_sentence(address, question):
    refused = httpx.post(f"{address}/api/conversations/{begun(address)}/ask", json=question)
    assert refused.status_code == 422 and "Traceback" not in refused.text and len(refused.text) < 300


def test_who_goes_away_stops_the_model_and_a_full_queue_says_so(small, videos):
    address, _ = small
    item = upload(address, "cat.mp4", (videos / "cat.mp4").read_bytes()).json()
    conversation, other = (
        httpx.post(f"{address}/api/media/{item['key']}/conversations", timeout=60).json()["conversation"]
        for _ in range(2)
    )
    ask = f"{address}/api/conversations/{conversation}/ask"
    with httpx.stream("POST", ask, json={"text": "hold"}, timeout=60) as answer:
        lines = answer.iter_lines()
        while "hold" not in next(lines):
            pass
        [full] = events(address, other, text="now?")
        assert full["event"] == "problem" and "wait" in full["sentence"]
    wait_for(lambda: events(address, other, text="now?")[-1]["event"] == "done")
    assert events(address, conversation, text="so?")[-1]["answer"] == "so?", "what was stopped is not said"
    assert httpx.delete(f"{address}/api/media/{item['key']}").status_code == 204


def test_what_the_model_saw_is_shown_frame_by_frame(address):
    for name, look, seconds in (
        ("cat.mp4", LOOK, [place / 2 for place in range(8)]),
        ("cat.mp4", CLOSER, [1.0, 1.5]),
        ("photo.png", PICTURE, [None]),
    ):
        view = httpx.post(f"{address}/api/media/{keys(address)[name]}/saw", json=look, timeout=120).json()
        assert [frame["seconds"] for frame in view["frames"]] == seconds and view["size"] == [56, 28]
        assert [view[name] for name in ("segments", "fps", "rest_fps")] == [
            *(look["segments"], look["fps"]),
            look.get("rest_fps", 0.0),
        ]
        assert all(frame["image"].startswith("data:image/") for frame in view["frames"])


@pytest.mark.parametrize("changes", [{"frame_size": [1, 99_999]}, {"num_frames": 5000}, {"segments": 3}])
def test_looks_that_no_model_had_are_refused(address, changes):
    refused = httpx.post(f"{address}/api/media/{keys(address)['cat.mp4']}/saw", json={**LOOK, **changes}, timeout=120)
    assert refused.status_code == 422 and "/" not in refused.text


def test_who_may_ask(address, videos):
    assert httpx.post(f"{address}/api/media", headers={"Origin": "http://evil"}).status_code == 403
    assert httpx.get(address, headers={"Host": "evil:80"}).status_code == 403
    with chat_page(Desk(EchoTalker()), Library(videos), "secret") as where:
        assert httpx.get(f"{where}/api/media").status_code == 403 == upload(where, "a.mp4", b"").status_code
