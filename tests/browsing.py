"""A page of the project in a real browser, for tests that click and type; importing this skips a module where there is no Playwright."""

from pathlib import Path

import pytest

from tests.window_runs import wait_for

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: training_scripts/setup.sh dev"
)
CHROMIUM = Path("/usr/bin/chromium")
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
    page = context.new_page()
    page.set_default_timeout(20_000)
    failures, asked = [], []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert not failures, failures
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in asked), asked


def until(page, expression):
    """Waits for it to hold. The page's policy lets Playwright's own waiting run no code in it."""
    wait_for(lambda: page.evaluate(expression), 20.0)


def playing(page):
    """Waits for the video, and gives back what reads its time."""
    until(page, "document.querySelector('video')?.readyState >= 2")
    return lambda: page.evaluate("document.querySelector('video').currentTime")
