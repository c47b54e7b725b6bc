"""The page of a conversation in a real browser: what a person chooses, asks, draws, plays and reads."""

import threading
from pathlib import Path

import pytest
import torch

from tests.browsing import (
    box_stands,
    comes,
    expect,
    fresh_tab,
    needs_chromium,
    playing,
    plays,
    press,
    stands_at,
    started_chromium,
    until,
)
from tests.chat_pages import SECONDS, chat_page, write_folder
from tests.echo_talker import EchoTalker
from tests.window_runs import NASTY, wait_for
from videochat_r1.chat.desk import Desk
from videochat_r1.chat.library import Library
from videochat_r1.chat.talker import ModelTalker
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.video.frames import VideoBudget

chromium, tab = started_chromium, fresh_tab
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def echo():
    return EchoTalker()


@pytest.fixture(scope="module")
def library(videos):
    return Library(videos, most_bytes=1 << 19)


@pytest.fixture(scope="module")
def address(library, echo):
    with chat_page(Desk(echo, most_waiting=1), library) as where:
        yield where


@pytest.fixture
def about(tab, address, echo):
    """Begins a conversation about a file of the folder."""
    echo.let_go.clear()
    tab.goto(address)

    def begin(name="cat.mp4"):
        tab.get_by_role("button", name=name).click()
        tab.get_by_label("question", exact=True).wait_for()
        return tab

    return begin


def put(page, text):
    """Asks, once the question before it is done with."""
    page.get_by_role("button", name="ask", exact=True).wait_for()
    page.get_by_label("question", exact=True).fill(text)
    page.keyboard.press("Enter")


def ask(page, text, answer=None):
    """Asks, and waits for an answer."""
    put(page, text)
    page.locator(".answer").get_by_text(answer or text, exact=True).last.wait_for()


def test_an_answer_is_seen_while_it_is_written_and_can_be_stopped(about, echo):
    page = about()
    page.locator(".log").get_by_text("it only says again").wait_for()
    put(page, "hold this")
    page.get_by_text("hold hold").wait_for()
    assert page.locator(".answered").get_attribute("aria-busy") == "true" and page.locator(".answer").count() == 0
    page.get_by_role("button", name="stop").click()
    page.get_by_text("stopped").wait_for()
    expect(page.get_by_label("question", exact=True)).to_have_value("hold this")
    ask(page, "what?")
    ask(page, "why?", "what? / why?")
    page.get_by_role("button", name="new conversation").click()
    expect(page.locator(".exchange")).to_have_count(0)
    ask(page, "again?")


def test_who_reads_on_is_left_where_he_is_when_the_answer_ends(about, echo):
    page = about()
    put(page, "hold this")
    page.get_by_role("button", name="what the model saw").focus()
    echo.let_go.set()
    page.get_by_role("button", name="ask", exact=True).wait_for()
    assert page.evaluate("document.activeElement.textContent") == "what the model saw"


def test_clues_stand_on_the_time_line_and_are_played(about):
    page = about()
    playing(page)
    ask(page, "when?")
    plays(page, page.get_by_role("button", name="▶ 1 to 2.5 s").click, 1.0, 2.5)
    plays(page, page.locator(".timeline .bar").click, 1.0, 2.5)  # wherever it is clicked
    press(page, page.locator(".timeline .row .axis"), 0.9)
    stands_at(page, SECONDS * 0.9)


def test_a_moment_is_found_and_what_is_shown_described(about):
    page = about()
    page.get_by_text("find a moment", exact=True).click()
    put(page, "it jumps")
    page.locator(".asked", has_text="it jumps").get_by_text("find a moment").wait_for()
    page.get_by_role("button", name="▶ 1 to 2.5 s").wait_for()
    page.get_by_text("describe", exact=True).click()
    put(page, "")
    page.get_by_text("Describe what is shown.").wait_for()
    page.locator(".answer").get_by_text("it jumps /").wait_for()


def test_both_passes_are_shown_with_what_they_saw_and_thoughts_apart(about):
    page = about()
    page.get_by_label("think first").check()
    page.get_by_label("look again at the clues").check()
    ask(page, "what?")
    page.get_by_text("This answer stands").wait_for()
    first, second = page.get_by_role("region", name="look 1"), page.get_by_role("region", name="look 2")
    assert first.locator(".thought summary").count() == 1 and not first.get_by_text("what was said before").is_visible()
    second.locator(".thought summary").click()
    second.get_by_text("what was said before").wait_for()
    assert page.locator(".timeline .row > text").all_text_contents()[0].startswith("clues 1")
    second.get_by_text("1 to 2.5 s · 8 frames, one every 0.25 s").wait_for()
    second.get_by_role("button", name="what the model saw").click()
    until(page, "document.querySelector('.pass .frames img')?.naturalWidth === 56")
    second.locator(".frames button").nth(2).click()
    stands_at(page, 0.5)


def test_how_closely_to_look_again_is_chosen_and_what_cannot_be_is_a_sentence(about):
    page = about()
    expect(page.get_by_text("how closely")).to_be_hidden()
    page.get_by_label("look again at the clues").check()
    page.get_by_text("how closely").click()
    expect(page.get_by_label("× resolution")).to_have_value("2")
    page.get_by_label("further looks").fill("9")
    put(page, "what?")
    page.get_by_text("at most 4 further looks").wait_for()
    page.get_by_label("further looks").fill("2")
    page.get_by_label("what a further look shows").select_option("dense")
    page.get_by_label("× frame rate").fill("2.5")
    ask(page, "what?")
    page.get_by_role("region", name="look 3").get_by_text(
        "the whole video, with more of 1 to 2.5 s · 8 frames, one every 0.2 s there, and every 0.5 s elsewhere"
    ).wait_for()


def test_a_box_is_drawn_on_the_first_frame_and_followed_through_the_video(about):
    page = about()
    playing(page)
    page.get_by_text("track", exact=True).click()
    put(page, "the ball")
    page.get_by_text("Draw a box around it on the first frame.").wait_for()
    frame = page.locator("video").bounding_box()
    page.mouse.move(frame["x"] + 0.2 * frame["width"], frame["y"] + 0.3 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.5 * frame["width"], frame["y"] + 0.7 * frame["height"], steps=5)
    page.mouse.up()
    sides = [page.get_by_label(f"{side} in percent") for side in ("left", "top", "right", "bottom")]
    comes(lambda: [float(side.input_value() or "nan") for side in sides], pytest.approx([20, 30, 50, 70], abs=0.5))
    page.locator(".boxes.drawing").press("ArrowRight")
    page.locator(".boxes.drawing").press("Shift+ArrowUp")
    page.get_by_label("top in percent").fill("35")
    page.get_by_label("question", exact=True).press("Enter")
    page.get_by_role("button", name="▶ 8 boxes").wait_for()
    page.get_by_text("box: 21.0, 35.0, 51.0, 69.0 %").wait_for()
    page.get_by_text("boxes as written").wait_for()
    assert page.locator(".answer").count() == 0
    page.evaluate("document.querySelector('video').currentTime = 1.75")
    # Boxes drift to the right by a fortieth every half second.
    box_stands(page, "answer", [0.2975, 0.35, 0.5975, 0.69])


def test_options_are_edited_and_the_chosen_one_is_told(about):
    page = about()
    page.get_by_text("choose", exact=True).click()
    ask_for = page.get_by_label("question", exact=True)
    ask_for.fill("which?")
    ask_for.press("Enter")
    page.get_by_text("Write at least two options.").wait_for()
    page.get_by_label("option A", exact=True).fill("table")
    page.get_by_label("option A", exact=True).press("Enter")
    page.keyboard.type(NASTY)
    page.get_by_role("button", name="remove option D").click()
    expect(page.get_by_label("option D", exact=True)).to_have_count(0)
    page.get_by_role("button", name="add an option").click()
    page.keyboard.type("box")
    ask_for.press("Enter")
    page.locator(".answered[aria-busy=false]").wait_for()
    assert page.locator(".words .answer").inner_text() == f"(B) {NASTY}" and page.locator(".lettered li").count() == 3


def test_an_upload_by_button_or_drop_is_asked_about_and_what_cannot_be_read_is_told(tab, address, videos, tmp_path):
    tab.goto(address)
    broken = tmp_path / f"{NASTY.replace('/', '')}.mp4"
    broken.write_bytes(b"no video")
    tab.locator("#file").set_input_files({"name": "big.mp4", "mimeType": "", "buffer": b"x" * (1 << 20)})
    tab.get_by_text("big.mp4 is too large: 0.5 MB at most").wait_for()
    tab.locator("#file").set_input_files(broken)
    tab.get_by_text("cannot be opened as a video").wait_for()
    assert (
        tab.get_by_role("alert").first.inner_text().startswith("<script>") and str(videos.parent) not in tab.content()
    )
    tab.locator("#file").set_input_files(videos / "photo.png")
    until(tab, "document.querySelector('.pictures img')?.naturalWidth === 60")
    assert not tab.get_by_text("track", exact=True).is_visible() and not tab.get_by_label("look again").is_visible()
    ask(tab, "what?")
    picture = tab.locator(".pictures img").get_attribute("src")
    content = list((videos / "cat.mp4").read_bytes())
    tab.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.mp4"));
            for (const type of ["dragover", "drop"]) dispatchEvent(new DragEvent(type, { dataTransfer: data, cancelable: true }));
        }""",
        content,
    )
    playing(tab)
    assert tab.locator(".bar .name").inner_text() == "dropped.mp4"
    # The one before it is removed.
    until(tab, f"fetch('{picture}').then((answer) => answer.status === 404)")


@pytest.mark.parametrize("when", ["of slow.mp4 is there", "looking whether slow.mp4 can be read"])
def test_an_upload_can_be_cancelled_and_is_gone(tab, address, library, videos, monkeypatch, when):
    held, let_go = set(Path(library._held.name).iterdir()), threading.Event()
    monkeypatch.setattr(library, "length", lambda _: let_go.wait(60))
    tab.goto(address)
    content = (videos / "cat.mp4").read_bytes()
    if "is there" in when:
        content += bytes(1 << 18)
        network = tab.context.new_cdp_session(tab)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 1 << 14}
        network.send("Network.emulateNetworkConditions", slow)
    tab.locator("#file").set_input_files({"name": "slow.mp4", "mimeType": "", "buffer": content})
    tab.get_by_text(when).wait_for()
    tab.get_by_role("button", name="cancel").click()
    tab.get_by_text("slow.mp4 was not sent").wait_for()
    expect(tab.get_by_role("button", name="cancel")).to_have_count(0)
    let_go.set()
    wait_for(lambda: set(Path(library._held.name).iterdir()) == held)


def test_no_text_of_model_or_question_becomes_markup(about):
    page = about("inner/old.avi")
    page.get_by_text("shown as a copy").wait_for()
    text = NASTY.replace("broken", "run")
    ask(page, text)
    assert page.locator(".asked p").inner_text() == text, "it is shown as it was written"
    assert page.evaluate(
        "window.run === undefined && document.querySelectorAll('main script, main [onerror], main img[src=\"x\"]').length === 0"
    )


def test_a_full_queue_and_a_problem_are_sentences_and_the_words_are_not_lost(about, chromium, address, echo):
    page = about()
    put(page, "broken")
    page.get_by_text("it ends in the middle of a frame").wait_for()
    expect(page.get_by_label("question", exact=True)).to_have_value("broken")
    put(page, "hold on")
    page.get_by_text("hold hold").wait_for()
    others = chromium.new_context()
    for told in ("one question is answered before yours", "1 question waits already: ask again in a moment"):
        other = others.new_page()
        other.goto(address)
        other.get_by_role("button", name="photo.png").click()
        put(other, "me too")
        other.get_by_text(told).wait_for()
    others.close()
    echo.let_go.set()
    page.locator(".answer").get_by_text("hold on", exact=True).wait_for()


def test_all_by_keyboard(tab, address):
    tab.goto(address)
    tab.locator(".media-list button").first.wait_for()
    while tab.evaluate("document.activeElement.textContent !== 'cat.mp4'"):
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    until(tab, "document.activeElement.tagName === 'TEXTAREA'")
    tab.keyboard.type("when?\n")
    tab.get_by_role("button", name="▶ 1 to 2.5 s").wait_for()
    tab.get_by_role("button", name="ask", exact=True).wait_for()
    while tab.evaluate("!document.activeElement.closest('.clues')"):
        tab.keyboard.press("Shift+Tab")
    plays(tab, lambda: tab.keyboard.press("Enter"), 1.0, 2.5)
    tab.locator("input[name=task]:checked").focus()
    tab.keyboard.press("ArrowRight")
    comes(lambda: tab.evaluate("document.activeElement.value"), "moment")
    unnamed = tab.evaluate(
        "[...document.querySelectorAll('button, input, textarea, [tabindex]')].filter((e) => !e.labels?.length && !e.ariaLabel && !e.textContent.trim() && !e.closest('[hidden], .hidden') && e.tagName !== 'VIDEO' && e.id !== 'main').map((e) => e.outerHTML)"
    )
    assert unnamed == []


@pytest.mark.parametrize("width", [360, 1300])
def test_nothing_is_wider_than_the_screen(about, width):
    page = about()
    page.set_viewport_size({"width": width, "height": 740})
    ask(page, "x" * 200)
    for task in ("track", "choose", "ask"):
        page.get_by_text(task, exact=True).first.click()
        expect(page.get_by_label(task, exact=True)).to_be_checked()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), task


def test_with_a_model_from_the_question_to_what_it_saw(tab, videos, tmp_path):
    build_tiny(tmp_path / "model", hidden=32, layers=1, vision_hidden=32)
    budget = VideoBudget(fps=1.0, min_pixels=28 * 28, max_pixels=56 * 56, isolation="none")
    run = RunOptions(str(tmp_path / "model"), video=budget, max_new_tokens=6, dtype="float32")
    with chat_page(Desk(ModelTalker(run, torch.device("cpu"))), Library(videos)) as where:
        tab.goto(where)
        tab.get_by_text("a tiny model").first.wait_for()
        tab.get_by_role("button", name="cat.mp4").click()
        for count in (1, 2):
            put(tab, "what?")
            until(tab, f"document.querySelectorAll('.answered[aria-busy=false] .pass').length === {count}")
        tab.get_by_role("button", name="what the model saw").last.click()
        tab.locator(".frames img").first.wait_for()
        assert tab.locator(".frames li span").all_inner_texts() == ["0 s", "1 s", "2 s", "3 s"]
        assert tab.get_by_text("cut off at the length limit").count() == 2 and str(tmp_path) not in tab.content()
