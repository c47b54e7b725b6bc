"""The page of a conversation in a real browser: what a person chooses, asks, draws, plays and reads."""

import pytest
import torch

from tests.browsing import fresh_tab, needs_chromium, playing, started_chromium, until
from tests.chat_pages import SECONDS, chat_page, write_folder
from tests.echo_talker import EchoTalker
from tests.window_runs import NASTY
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
def address(videos, echo):
    with chat_page(Desk(echo, most_waiting=0), Library(videos, most_bytes=1 << 19)) as where:
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


def ask(page, text, answer=None):
    """Asks, and waits for an answer."""
    page.get_by_label("question", exact=True).fill(text)
    page.keyboard.press("Enter")
    page.locator(".answer").get_by_text(answer or text, exact=True).last.wait_for()


def time_of(page):
    return page.evaluate("document.querySelector('video').currentTime")


def test_an_answer_is_seen_while_it_is_written_and_can_be_stopped(about, echo):
    page = about()
    page.locator(".log").get_by_text("it only says again").wait_for()
    page.get_by_label("question", exact=True).fill("hold this")
    page.keyboard.press("Enter")
    page.get_by_text("hold hold").wait_for()
    assert page.locator(".answered").get_attribute("aria-busy") == "true" and page.locator(".answer").count() == 0
    page.get_by_role("button", name="stop").click()
    page.get_by_text("stopped").wait_for()
    until(page, "document.querySelector('textarea').value === 'hold this'")
    ask(page, "what?")
    ask(page, "why?", "what? / why?")
    page.get_by_role("button", name="new conversation").click()
    until(page, "document.querySelectorAll('.exchange').length === 0")
    ask(page, "again?")


def test_clues_stand_on_the_time_line_and_are_played(about):
    page = about()
    playing(page)
    ask(page, "when?")
    page.get_by_role("button", name="▶ 1 to 2.5 s").click()
    until(page, "!document.querySelector('video').paused")
    assert 1.0 <= time_of(page) < 2.5
    until(page, "document.querySelector('video').paused")
    assert time_of(page) == pytest.approx(2.5, abs=0.2), "it ends where the clue does"
    bar = page.locator(".timeline .bar").bounding_box()
    page.mouse.click(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    until(page, "!document.querySelector('video').paused")
    assert 1.0 <= time_of(page) < 1.7, "from its start"
    axis = page.locator(".timeline .row .axis").bounding_box()
    page.mouse.click(axis["x"] + axis["width"] * 0.9, axis["y"])
    assert time_of(page) == pytest.approx(SECONDS * 0.9, abs=0.1)


def test_both_passes_are_shown_with_what_they_saw_and_thoughts_apart(about):
    page = about()
    page.get_by_label("think first").check()
    page.get_by_label("look again at the clues").check()
    ask(page, "what?")
    page.get_by_text("This answer stands").wait_for()
    first, second = page.get_by_role("region", name="look 1"), page.get_by_role("region", name="look 2")
    assert first.locator(".thought summary").count() == 1 and not first.get_by_text("what was said before").is_visible()
    second.locator(".thought summary").click()
    assert second.get_by_text("what was said before").is_visible()
    assert page.locator(".timeline .row > text").all_text_contents()[0].startswith("clues 1")
    second.get_by_role("button", name="what the model saw").click()
    until(page, "document.querySelector('.pass .frames img')?.naturalWidth === 56")
    second.locator(".frames button").nth(2).click()
    assert time_of(page) == pytest.approx(0.5, abs=0.3)


def test_a_box_is_drawn_on_the_first_frame_and_followed_through_the_video(about):
    page = about()
    playing(page)
    page.get_by_text("track", exact=True).click()
    page.get_by_label("question", exact=True).fill("the ball")
    page.keyboard.press("Enter")
    page.get_by_text("Draw a box around it on the first frame.").wait_for()
    frame = page.locator("video").bounding_box()
    page.mouse.move(frame["x"] + 0.2 * frame["width"], frame["y"] + 0.3 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.5 * frame["width"], frame["y"] + 0.7 * frame["height"], steps=5)
    page.mouse.up()
    sides = [
        float(page.get_by_label(f"{side} in percent").input_value()) for side in ("left", "top", "right", "bottom")
    ]
    assert sides == pytest.approx([20, 30, 50, 70], abs=0.5)
    page.locator(".boxes.drawing").press("ArrowRight")
    page.locator(".boxes.drawing").press("Shift+ArrowUp")
    page.get_by_label("top in percent").fill("35")
    page.get_by_label("question", exact=True).press("Enter")
    page.get_by_role("button", name="▶ 8 boxes").wait_for()
    assert page.get_by_text("box: 21.0, 35.0, 51.0, 69.0 %").is_visible()
    assert page.locator(".answer").count() == 0 and page.get_by_text("boxes as written").is_visible()
    page.evaluate("document.querySelector('video').currentTime = 1.75")
    # Boxes drift to the right by a fortieth every half second.
    until(
        page, "Math.abs(document.querySelector('.box[data-key=answer]')?.getAttribute('x') - (0.21 + 3.5 / 40)) < 0.005"
    )
    drawn = page.evaluate(
        "(() => { const b = document.querySelector('.box[data-key=answer]').getBoundingClientRect(); return [b.left, b.top]; })()"
    )
    assert drawn == pytest.approx([frame["x"] + 0.2975 * frame["width"], frame["y"] + 0.35 * frame["height"]], abs=3.0)


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
    assert page.get_by_label("option D", exact=True).count() == 0
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
    until(tab, f"fetch('{picture}').then((answer) => answer.status === 404)"), "the one before it is removed"


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
    page.get_by_label("question", exact=True).fill("broken")
    page.keyboard.press("Enter")
    page.get_by_text("it ends in the middle of a frame").wait_for()
    until(page, "document.querySelector('textarea').value === 'broken'")
    page.get_by_label("question", exact=True).fill("hold on")
    page.keyboard.press("Enter")
    page.get_by_text("hold hold").wait_for()
    other = chromium.new_page()
    other.goto(address)
    other.get_by_role("button", name="photo.png").click()
    other.get_by_label("question", exact=True).fill("me too")
    other.keyboard.press("Enter")
    other.get_by_text("wait already: ask again in a moment").wait_for()
    other.close()
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
    until(tab, "document.activeElement.tagName === 'TEXTAREA'")
    for _ in range(3):
        tab.keyboard.press("Shift+Tab")
    while tab.evaluate("!document.activeElement.closest('.clues')"):
        tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Enter")
    until(tab, "!document.querySelector('video').paused")
    tab.locator("input[name=task]:checked").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.value") == "moment"
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
        page.wait_for_timeout(100)
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
            tab.get_by_label("question", exact=True).fill("what?")
            tab.keyboard.press("Enter")
            until(tab, f"document.querySelectorAll('.answered[aria-busy=false] .pass').length === {count}")
        tab.get_by_role("button", name="what the model saw").last.click()
        tab.locator(".frames img").first.wait_for()
        assert tab.locator(".frames li span").all_inner_texts() == ["0 s", "1 s", "2 s", "3 s"]
        assert tab.get_by_text("cut off at the length limit").count() == 2 and str(tmp_path) not in tab.content()
