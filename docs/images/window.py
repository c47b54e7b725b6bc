"""Makes README's pictures of the window and of a conversation, and the animation of answers that close in on the truth, from a
quickstart's run:

    .venv/bin/python docs/images/window.py outputs/quickstart

Needs Chromium. Writes `window_group.png`, `window_training.png`, `window_chat.png` and `window_answers.webp` beside this file.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from videochat_r1.evaluation.reports.drawing import COLOURS
from videochat_r1.geometry import Span, span_iou
from videochat_r1.grpo.rollout_file import ROLLOUTS, read_rollouts

HERE = Path(__file__).resolve().parent
CHROMIUM = "/usr/bin/chromium"
TASK = "temporal_grounding"
ROWS, FRAMES, MILLISECONDS = 24, 36, 110
WIDTH, HEIGHT, TOP, GAP = 640, 300, 44, 10
GROUND, SOFT = "#15181c", "#98a1ad"


def main() -> None:
    """All of them."""
    run = Path(sys.argv[1])
    photograph(run)
    talk(run)
    animate(answers_of(run / ROLLOUTS))


@contextmanager
def served(*command: str) -> Iterator[tuple[Page, str]]:
    """A browser's page, and the address at which this command of the project shows something."""
    window = subprocess.Popen(
        [sys.executable, "-m", "videochat_r1.cli", *command, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert window.stdout is not None
        address = next(line.split()[1] for line in window.stdout if line.startswith("open "))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            yield browser.new_page(viewport={"width": 1280, "height": 800}), address
            browser.close()
    finally:
        window.terminate()
        window.wait()


def photograph(run: Path) -> None:
    """The group whose tracking answers differ most, and how training went."""
    with served("view", str(run)) as (page, address):
        page.goto(f"{address}#/0/groups?task=tracking&order=disagreement")
        page.locator(".list a").first.click()
        page.locator(".timeline").focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        page.locator(".answers button").first.click()
        page.wait_for_timeout(1500)
        page.screenshot(path=HERE / "window_group.png")
        page.goto(f"{address}#/0/training")
        page.locator(".map").wait_for()
        page.screenshot(path=HERE / "window_training.png")


def talk(run: Path) -> None:
    """The first question about a colour, put to the trained model, while a clue of its answer plays."""
    lines = (run / "data" / "eval.jsonl").read_text().splitlines()
    sample = next(row for row in map(json.loads, lines) if row["task"] == "grounded_qa")
    with served("chat", "--model", str(run / "checkpoints" / "grpo"), "--videos", str(run / "data" / "videos")) as (
        page,
        address,
    ):
        page.goto(address)
        page.get_by_role("button", name=Path(sample["video"]["path"]).name).click()
        page.get_by_text("choose", exact=True).click()
        for letter, option in zip("ABCD", sample["target"]["options"], strict=True):
            page.get_by_label(f"option {letter}", exact=True).fill(option)
        page.get_by_label("question", exact=True).fill(sample["query"])
        page.get_by_label("question", exact=True).press("Enter")
        page.locator(".answered[aria-busy=false]").wait_for(timeout=300_000)
        page.locator(".clues button").click()
        page.wait_for_timeout(700)
        page.screenshot(path=HERE / "window_chat.png")


def answers_of(rollouts: Path) -> list[tuple[int, list[tuple[float, float, float]]]]:
    """(update, its answers in order of overlap) for each frame; an answer is start, end and overlap where the truth lasts from 0 to 1."""
    by_update: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
    for group in read_rollouts(rollouts):
        if group["task"] != TASK:
            continue
        truth = Span(*group["target"]["span"])
        for rollout in group["rollouts"]:
            if rollout["parsed"] is not None:
                answer = Span(*rollout["parsed"])
                places = ((side - truth.start) / truth.length for side in answer)
                by_update[group["step"]].append((*places, span_iou(answer, truth)))
    updates = sorted(by_update)
    shown = [updates[place * len(updates) // FRAMES] for place in range(min(FRAMES, len(updates)))]
    return [(update, spread(sorted(by_update[update], key=lambda answer: -answer[2]))) for update in shown]


def spread(answers: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """As many of them as there are rows, from the best to the worst."""
    return [answers[place * len(answers) // ROWS] for place in range(min(ROWS, len(answers)))]


def animate(frames: Sequence[tuple[int, Sequence[tuple[float, float, float]]]]) -> None:
    """Rows of answers under the truth, update by update."""
    font = ImageFont.load_default(15)

    def across(place: float) -> float:
        return min(max((place + 1.0) / 3.0, 0.0), 1.0) * WIDTH

    images = []
    for update, answers in frames:
        image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
        draw = ImageDraw.Draw(image)
        mean = sum(overlap for *_, overlap in answers) / len(answers)
        draw.text((10, 10), f"update {update}: answers to “when?”, mean overlap with the truth {mean:.2f}", SOFT, font)
        draw.rectangle((across(0.0), TOP, across(1.0), HEIGHT - 1), fill="#1e3a2c")
        draw.rounded_rectangle((across(0.0), TOP - 8, across(1.0), TOP), 3, COLOURS["truth"])
        for row, (start, end, _) in enumerate(answers):
            y = TOP + 6 + row * GAP
            left, right = sorted((across(start), across(end)))
            draw.rounded_rectangle((left, y, max(right, left + 3), y + GAP - 4), 2, COLOURS["after"])
        images.append(image)
    last = [MILLISECONDS] * (len(images) - 1) + [2500]
    images[0].save(
        HERE / "window_answers.webp", save_all=True, append_images=images[1:], duration=last, loop=0, quality=70
    )


if __name__ == "__main__":
    main()
