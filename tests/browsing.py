"""A page of the project in a real browser, for tests that click and type; importing this skips a module where there is no Playwright."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.window_runs import SECONDS_TO_WAIT, wait_for

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: training_scripts/setup.sh dev"
)
CHROMIUM = Path("/usr/bin/chromium")
expect = sync_api.expect
expect.set_options(timeout=1000 * SECONDS_TO_WAIT)
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def started_chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def fresh_tab(chromium):
    """A page of its own; it may ask its own server only, and may not fail."""
    context = chromium.new_context(viewport={"width": 1300, "height": 850})
    context.set_default_timeout(1000 * SECONDS_TO_WAIT)
    page = context.new_page()
    failures, asked = [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert not failures, failures
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in asked), asked


def until(page, expression):
    """Waits for it to hold. The page's policy lets Playwright's own waiting run no code in it."""
    wait_for(lambda: page.evaluate(expression))


def comes(read: Callable[[], Any], expected: Any) -> None:
    """Waits until what is read is as expected: what a page does after a click it need not have done at once."""
    end = time.monotonic() + SECONDS_TO_WAIT
    while (found := read()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert found == expected, f"{found} instead of {expected}"


def playing(page):
    """Waits for the video, and for what the page makes of it."""
    # Metadata may be there before the page has been told, which then goes to the video's start and lays it out.
    until(
        page,
        """(() => {
            const video = document.querySelector("video");
            return video?.readyState >= 2 && !video.seeking && video.parentElement.style.getPropertyValue("--ratio") !== "";
        })()""",
    )


def stands_at(page, seconds):
    """Waits until the video stands at a time."""
    comes(lambda: page.evaluate("document.querySelector('video').currentTime"), pytest.approx(seconds, abs=0.05))


def plays(page, act, begin, end):
    """Does something that plays a part of the video, however fast the machine is that looks on."""
    page.evaluate(
        """() => {
            const isFirst = window.played === undefined;
            window.played = [];
            const tell = ({ type, target }) => window.played.push([type, target.currentTime]);
            if (isFirst) for (const type of ["play", "pause"]) document.querySelector("video").addEventListener(type, tell);
        }"""
    )
    act()
    comes(
        lambda: [value for told in page.evaluate("window.played") for value in told],
        ["play", pytest.approx(begin, abs=0.05), "pause", pytest.approx(end, abs=0.001)],
    )


def box_stands(page, key, sides):
    """Waits until a box is drawn around these parts of the frame."""
    comes(
        lambda: page.evaluate(
            """key => {
                const box = document.querySelector(`.box[data-key="${key}"]`)?.getBoundingClientRect();
                const frame = document.querySelector("video").getBoundingClientRect();
                if (box === undefined) return null;
                const across = (x) => (x - frame.left) / frame.width;
                const down = (y) => (y - frame.top) / frame.height;
                return [across(box.left), down(box.top), across(box.right), down(box.bottom)];
            }""",
            key,
        ),
        pytest.approx(sides, abs=0.004),
    )


def press(page, place, x, to=None):
    """Presses the mouse on a line that goes from left to right, at a share of its length; drags it to another."""
    box = place.bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    if to is not None:
        page.mouse.move(box["x"] + to * box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
