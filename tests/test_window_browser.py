"""The window's page in a real browser: what a person sees, clicks, drags and types."""

import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.browsing import (
    box_stands,
    comes,
    expect,
    fresh_tab,
    needs_chromium,
    playing,
    press,
    stands_at,
    started_chromium,
    until,
)
from tests.video_files import write_video
from tests.window_runs import (
    BOXES,
    NASTY,
    SECONDS,
    grounding,
    group,
    rollout,
    run_address,
    wait_for,
    window,
    write_evaluation,
    written_run,
)
from videochat_r1.cli import main
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.training.metrics_file import append_metrics

run, address, chromium, tab = written_run, run_address, started_chromium, fresh_tab
pytestmark = needs_chromium


@pytest.fixture
def open_page(tab, address):
    """Opens a place of the window."""

    def go(place, where=address):
        # From one place of a page to another the former view stays until the next is there.
        tab.goto("about:blank")
        tab.goto(f"{where}/#/{place}")
        tab.wait_for_selector("main > *")
        return tab

    return go


def test_from_the_list_to_a_group_whose_video_is_sought_by_its_time_line(open_page):
    page = open_page("0/groups")
    page.get_by_text("when", exact=True).click()
    playing(page)
    labels = page.locator(".timeline .row > text").all_text_contents()
    assert [label.split()[0] for label in labels] == ["truth", "#1", "#3", "#2"], "by their rewards"
    page.locator(".timeline .row[data-key='1'] .bar").click()
    stands_at(page, 2.0)  # in the middle of 1 to 3 s
    expect(page.locator(".answers .picked strong")).to_have_text("answer 2")
    press(page, page.locator(".timeline .row[data-key='truth'] .axis"), 1 / 4, to=3 / 4)
    stands_at(page, SECONDS * 3 / 4)
    comes(lambda: float(page.get_by_role("slider").get_attribute("aria-valuenow")), pytest.approx(3.0, abs=0.05))
    thought = page.locator(".answers li").first.locator(".part.think")
    assert thought.inner_text().split() == ["thought", "from", "0"]


def test_boxes_stand_at_the_right_pixels_as_the_video_goes_on(open_page):
    page = open_page("0/groups/2")
    playing(page)
    for seconds, boxes in ((0.0, BOXES[0]), (SECONDS / 2, BOXES[1]), (SECONDS / 4, [0.3, 0.2, 0.5, 0.6])):
        page.evaluate("seconds => { document.querySelector('video').currentTime = seconds; }", seconds)
        for key, shift in (("truth", 0.0), ("0", 0.1)):
            box_stands(page, key, [boxes[0] + shift, boxes[1], boxes[2] + shift, boxes[3]])
    assert page.locator(".box").count() == 2, "an answer without boxes has none"


@pytest.mark.parametrize(
    ("name", "codec", "rotation"),
    [("a.mp4", "libx264", 90), ("a.mp4", "libx264", 180), ("a.mp4", "libx265", 270), ("a.avi", "mpeg4", 0)],
)
def test_a_box_is_drawn_around_what_it_was_told_of(open_page, tmp_path, name, codec, rotation):
    box = [0.25, 0.5, 0.5, 0.875]
    upright = np.full((128, 96, 3), 20, np.uint8)
    upright[64:112, 24:48] = 240

    def stored(number):
        return np.rot90(upright, -rotation // 90)

    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    clip = write_video(tmp_path / name, 10, fps=10, codec=codec, options=quiet, rotation=rotation, image=stored)
    line = group(1, "s", "tracking", {"boxes": [box] * 2}, [rollout(0, "-", [box] * 2, 1.0)], video=str(clip))
    (tmp_path / "rollouts.jsonl").write_text(json.dumps(line) + "\n")
    with window([tmp_path]) as where:
        page = open_page("0/groups/1", where)
        playing(page)
        place = page.locator(".box[data-key=truth]").bounding_box()
        page.evaluate("document.querySelector('.boxes').remove()")
        page.locator("video").evaluate("video => { video.controls = false; }")
        left, top, right, bottom = (
            round(value)
            for value in (place["x"], place["y"], place["x"] + place["width"], place["y"] + place["height"])
        )

        def is_around_what_is_white():
            # Decoded is not painted yet.
            seen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
            around = [
                seen[top - 4, left:right],
                seen[bottom + 4, left:right],
                seen[top:bottom, left - 4],
                seen[top:bottom, right + 4],
            ]
            within = seen[top + 3 : bottom - 3, left + 3 : right - 3]
            return within.min() > 150 and max(side.max() for side in around) < 100

        wait_for(is_around_what_is_white)


def test_a_clip_begins_at_its_start_and_image_files_stand_until_the_next(open_page):
    page = open_page("0/groups/7")
    playing(page)
    expect(page.locator("[role=slider]")).to_have_attribute("aria-valuemax", "2")
    stands_at(page, 1.0)  # of the file
    page.locator(".timeline .row[data-key='truth'] .bar").click()
    stands_at(page, 1.75)
    page = open_page("0/groups/8")
    playing(page)
    assert page.evaluate("document.querySelector('video').duration") == pytest.approx(4.0, abs=0.1)
    for seconds, boxes in ((1.9, BOXES[0]), (2.1, BOXES[1])):
        page.evaluate("seconds => { document.querySelector('video').currentTime = seconds; }", seconds)
        until(page, f"Math.abs(document.querySelector('.box[data-key=truth]')?.getAttribute('x') - {boxes[0]}) < 1e-6")


def test_choices_numbers_pictures_and_a_video_that_browsers_do_not_play(open_page):
    page = open_page("0/groups/3")
    playing(page)
    page.get_by_text("shown as a copy").wait_for()
    assert page.locator(".options .right").inner_text().startswith("✓") and page.locator(".options li").count() == 2
    page = open_page("0/groups/4")
    until(page, "[...document.querySelectorAll('.pictures img')].filter(i => i.naturalWidth === 60).length === 2")
    assert "truth 12; answers 10, 12" in page.locator(".numbers").get_attribute("aria-label")
    page = open_page("0/groups/6")
    page.get_by_text("not in the folders").wait_for()
    assert page.locator(".timeline .bar").count() == 4, "answers are drawn without their video too"


def test_a_caption_shows_which_true_events_a_judge_found_and_what_it_made_of_its_own(open_page):
    page = open_page("0/groups/5")
    marks = page.locator(".events tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert [row[1:] for row in marks] == [["✓\nfound"] * 2, ["·\nnot found"] * 2] and marks[0][0] == "a cat jumps"
    page.get_by_role("table").get_by_role("button", name="answer 2").click()
    expect(page.locator(".answers .picked strong")).to_have_text("answer 2")
    expect(page.locator(".events td.picked")).to_have_count(2)
    assert page.locator(".claims li").first.inner_text().endswith("(false)")


def test_tokens_are_shaded_by_how_likely_they_were_and_by_sampler_against_trainer(open_page):
    page = open_page("0/groups/1")
    token = page.locator(".answers > li").first.locator(".part.think span[title]")
    assert token.inner_text() == " 0" and token.get_attribute("title").startswith(
        "5\u00a0%, log-probability -3.00; 0.20 above"
    )

    def ground():
        return token.evaluate("token => getComputedStyle(token).backgroundColor")

    likely = ground()
    page.keyboard.press("t")
    wait_for(lambda: ground() not in (likely, "rgba(0, 0, 0, 0)"))
    page.get_by_label("tokens shaded by").select_option("not at all")
    comes(ground, "rgba(0, 0, 0, 0)")
    assert page.locator(".answers > li").first.get_by_text("least likely “0”, 5\u00a0%").count() == 1
    page.keyboard.press("l")
    page.get_by_role("heading", name="tracking").wait_for()
    assert page.get_by_label("tokens shaded by").count() == 0, "none were logged"


def test_what_was_seen_and_earned_at_each_look_of_the_answer_that_is_picked(open_page, tmp_path):
    clip = write_video(tmp_path / "a.mp4", 40, fps=10)
    line = grounding(1, "s", str(clip), [1.9, 1.2])
    for one, segment in zip(line["rollouts"], ([1.0, 2.0], [2.0, 3.0]), strict=True):
        saw = {"segments": [], "num_frames": 8, "fps": 2.0, "frame_size": [84, 56], "num_tokens": 24}
        times = [segment[0] + place / 4 for place in range(4)]
        closer = {**saw, "segments": [segment], "num_frames": 4, "fps": 4.0, "num_tokens": 12, "times": times}
        first = {"completion": "<answer>0 to 4</answer><glue>here</glue>", "reward": 0.5, "advantage": -0.5}
        last = {"completion": one["completion"], "reward": one["reward"], "advantage": one["advantage"]}
        one["looks"] = [{**first, "rewards": {"iou": 0.4}, "saw": saw}, {**last, "rewards": {}, "saw": closer}]
    (tmp_path / "rollouts.jsonl").write_text(json.dumps(line) + "\n")
    build_tiny(tmp_path / "model", hidden=32)
    config = {"model": {"model_name_or_path": str(tmp_path / "model")}, "data": {"video": {"isolation": "none"}}}
    (tmp_path / "resolved_config.yaml").write_text(yaml.safe_dump(config))
    with window([tmp_path]) as where:
        page = open_page("0/groups/1", where)
        told = page.locator(".answers > li").nth(1).locator(".look > p").all_inner_texts()
        assert told[0] == "look 1: the whole video, 8 frames, 24 tokens, reward 0.50, advantage −0.50, iou 0.40"
        assert told[1].startswith("look 2: 2 to 3 s, 4 frames, 12 tokens, reward 1.20")
        page.keyboard.press("s")
        page.get_by_role("heading", name="look 2 of answer 1").wait_for()
        page.keyboard.press("j")
        page.get_by_role("heading", name="look 2 of answer 2").wait_for()
        times = page.locator(".frames").nth(1).locator("span").all_inner_texts()
        assert times == ["2 s", "2.25 s", "2.5 s", "2.75 s"]


def test_no_text_of_model_file_or_annotation_becomes_markup(open_page):
    for place, what in (
        ("0/groups/5", ".events"),
        ("0/groups/3", ".options"),
        ("0/groups?text=onerror", ".list a"),
        ("0/groups?sample=<img src=x onerror=broken=1>", ".chip"),
        ("0/<script>", ".list a"),
    ):
        page = open_page(place)
        page.locator(what).first.wait_for()
        assert page.evaluate(
            "window.broken === undefined && document.querySelectorAll('main script, main [onerror], main img[src=\"x\"]').length === 0"
        )
    page = open_page("0/groups/5")
    assert page.locator(".answers code").first.inner_text() == NASTY, "it is shown as it was written"


def test_filters_orders_and_search(open_page):
    page = open_page("0/groups")

    def listed(*samples):
        comes(page.locator(".list .sample").all_inner_texts, [*samples])

    every = ["when", "where", "which", "how many", "tell", "stolen", "clip", "listed"]
    listed(*every)
    page.get_by_label("order").select_option("disagreement")
    expect(page.locator(".list .sample").first).to_have_text("where")
    page.get_by_label("all equal").check()
    comes(lambda: sorted(page.locator(".list .sample").all_inner_texts()), ["clip", "listed", "stolen", "tell"])
    page.get_by_label("all equal").uncheck()
    for flag, sample in (("unparsable", "where"), ("truncated", "where"), ("whole video", "listed")):
        page.get_by_label(flag).check()
        listed(sample)
        page.get_by_label(flag).uncheck()
        expect(page.locator(".list .sample")).to_have_count(len(every))
    page.get_by_label("task").select_option("tracking")
    listed("where", "listed")
    page.get_by_label("source").select_option("other")
    listed("listed")
    page.get_by_label("source").select_option("")
    listed("where", "listed")
    page.get_by_label("task").select_option("")
    expect(page.locator(".list .sample")).to_have_count(len(every))
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("FROM 2\n")
    listed("when", "stolen")


def test_of_two_changes_at_once_none_is_lost(open_page):
    page = open_page("0/groups")
    until(page, "document.querySelectorAll('.list a').length === 8")
    page.evaluate(
        """() => {
            const box = [...document.querySelectorAll("label")].find((label) => label.textContent === "all equal");
            const task = document.querySelector("select[aria-label=task]");
            box.click();
            task.value = "tracking";
            task.dispatchEvent(new Event("change"));
        }"""
    )
    until(page, "[...document.querySelectorAll('.list .sample')].map((one) => one.textContent).join() === 'listed'")


def test_curves_alarms_and_the_map_of_groups_lead_on(open_page, tmp_path):
    runs = []
    for name, top in (("first", 1.9), ("second", 1.0)):
        folder = tmp_path / name
        folder.mkdir()
        lines = [
            grounding(step, f"s{step}-{place}", "none.mp4", [1.0, top, 1.0])
            for step in range(1, 25)
            for place in range(3)
        ]
        (folder / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "metrics.jsonl").write_text(
            "".join(json.dumps({"step": step, "kl": step / 100}) + "\n" for step in range(1, 25))
        )
        runs.append(folder)
    supervised = tmp_path / "supervised"
    supervised.mkdir()
    append_metrics(supervised / "metrics.jsonl", 1, {"loss": 2.5})
    with window([*runs, supervised]) as where:
        open_page("2/training", where).get_by_role("img", name="loss: loss from 2.5 at 1").wait_for()
        page = open_page("1/training", where)
        page.get_by_text("60 of 60 groups all equal over 20 updates").wait_for()
        assert page.get_by_role("img", name="reward: second").count() == 0 == page.locator(".line.dashed").count()
        page.get_by_label("first").check()
        page.locator(".line.dashed").first.wait_for(state="attached")
        page.get_by_role(
            "img", name="KL to the reference: second from 0.01 at 1 to 0.24 at 24; first from 0.01"
        ).wait_for()
        drawn = page.locator(".map").evaluate("map => [...map.children].map(path => path.getAttribute('class'))")
        assert drawn == ["blind"], "all groups of the run are equal"
        places = page.locator(".map").bounding_box()
        second = {"x": places["width"] * 1.5 / 24, "y": places["height"] * 1.5 / 3}
        page.locator(".map").hover(position=second)
        page.get_by_text("update 2, temporal grounding: rewards 0.00 apart").wait_for()
        page.locator(".map").click(position=second)
        page.get_by_role("heading", name="Update 2").wait_for()
        page = open_page("0/training", where)
        press(page, page.locator(".plot.picks").first, 0.97)
        page.get_by_role("button", name="update 24").wait_for()


def test_groups_sent_as_one_file_need_no_server(chromium, run, tmp_path):
    file = tmp_path / "odd.html"
    assert (
        main(["view", str(run), "--videos", str(run.parent / "videos"), "--export", str(file), "--groups", "2,5,4"])
        == 0
    )
    assert str(run.parent) not in file.read_text()
    context = chromium.new_context(offline=True)
    page = context.new_page()
    failures = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on(
        "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or failures.append(request.url)
    )
    page.goto(file.as_uri())
    page.get_by_text("where", exact=True).click()
    playing(page)
    expect(page.locator(".box[data-key='truth']")).to_have_count(1)
    page.keyboard.press("l")
    page.get_by_role("heading", name="captioning").wait_for()
    page.keyboard.press("l")
    until(
        page,
        "document.querySelectorAll('.pictures img').length === 2 && document.querySelector('.pictures img').naturalWidth === 60",
    )
    assert page.evaluate("window.broken === undefined") and failures == []
    context.close()
    assert main(["view", str(run), "--export", str(file)]) == 2, "a file that is there is not replaced"


def test_an_evaluation_is_compared_with_another_sample_by_sample(open_page, tmp_path):
    write_evaluation(tmp_path / "old", tmp_path / "clip.mp4", [[0.0, 1.0], [1.0, 3.0], None])
    write_evaluation(tmp_path / "new", tmp_path / "clip.mp4", [[1.0, 3.0], [2.0, 3.0], None])
    with window([tmp_path]) as where:
        page = open_page("0/evaluation", where)
        assert page.locator("tr.strong").inner_text().split() == ["mIoU", "50.00", "25.00", "to", "75.00", "50.00"]
        assert "whole video" in page.locator("thead").first.inner_text()
        assert page.locator("table").nth(1).inner_text().split() == ["samples", "mIoU", "short", "3", "50.00"]
        assert "mIoU of samples: 1 from 0, 0 from 0.05" in page.locator(".histogram").get_attribute("aria-label")
        page.get_by_role("link", name="worst samples").click()
        comes(page.locator(".list .sample").all_inner_texts, ["s2", "s1", "s0"])
        page = open_page("0/evaluation", where)
        page.get_by_label("compared with").select_option("old")
        page.get_by_text("3 samples in both").wait_for()
        better, worse = page.get_by_role("region", name="better here"), page.get_by_role("region", name="worse here")
        assert better.get_by_role("link").all_inner_texts() == ["s0"] and worse.get_by_role(
            "link"
        ).all_inner_texts() == ["s1"]
        better.get_by_role("link").click()
        page.locator(".answers li").first.wait_for()
        assert page.locator(".answers strong").all_inner_texts() == ["new", "old"], "the better one first"
        until(page, "document.querySelectorAll('.timeline .bar').length === 3")


def test_what_was_learned_and_one_sample_through_training(open_page, tmp_path):
    lines = [
        grounding(step, sample, "none.mp4", [gain * step, 1.0])
        for step in (1, 5, 9)
        for sample, gain in (("up", 1), ("down", -1))
    ]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with window([tmp_path]) as where:
        page = open_page("0/changes", where)
        page.get_by_text("2 samples in both").wait_for()
        assert page.get_by_role("region", name="forgotten").get_by_role("link").all_inner_texts() == ["down"]
        page.get_by_role("region", name="learned").get_by_role("link", name="up").click()
        page.get_by_role("heading", name="Update 9").wait_for()
        page.get_by_role("link", name="update 5: 3.00").click()
        page.get_by_role("heading", name="Update 5").wait_for()
        page.keyboard.press("l")
        page.get_by_role("heading", name="Update 9").wait_for()
        assert page.locator(".heading").get_by_text("up · toy").count() == 1, "the next one of the same sample"


def test_all_by_keyboard(open_page):
    page = open_page("0/groups")
    page.wait_for_selector(".list a")
    while page.evaluate("document.activeElement.closest('.list a') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    playing(page)
    page.keyboard.press("j")
    expect(page.locator(".answers .picked strong")).to_have_text("answer 3")
    page.keyboard.press(".")
    stands_at(page, 0.5)
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    stands_at(page, 1.0)
    page.keyboard.press("l")
    page.get_by_role("heading", name="tracking").wait_for()
    page.keyboard.press("n")
    page.get_by_role("heading", name="numerical").wait_for()
    page.keyboard.press("h")
    page.get_by_role("heading", name="multiple choice").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")


def test_a_live_run_with_200_000_rollouts_and_more_coming(open_page, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    line = json.dumps(grounding(1, "SAMPLE", "none.mp4", [1.0 + place / 8 for place in range(8)]))
    text = "".join(
        line.replace('"step": 1', f'"step": {1 + number // 8}').replace("SAMPLE", f"s{number}") + "\n"
        for number in range(25_000)
    )
    (run / "rollouts.jsonl").write_text(text)
    with window([run]) as where:
        page = open_page("0/groups", where)
        page.locator(".list a").first.wait_for()
        page.get_by_text("25,000 groups").first.wait_for()
        assert page.locator(".list a").count() < 100, "only those in sight are in the page"
        page.locator(".list").evaluate("list => { list.scrollTop = list.scrollHeight; }")
        page.get_by_text("s24999", exact=True).wait_for()
        page.get_by_role("link", name="Training").focus()
        with (run / "rollouts.jsonl").open("a") as file:
            file.write(line.replace("SAMPLE", "fresh").replace('"step": 1', '"step": 4000') + "\n")
        page.get_by_text("25,001 groups up to update 4000").wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Training", "news take nobody's place"
        page.locator(".list").evaluate("list => { list.scrollTop = list.scrollHeight; }")
        page.get_by_text("fresh", exact=True).click()
        page.get_by_role("heading", name="Update 4000").wait_for()
    for place, what in (("#/0/groups", ".rows"), ("#/0/groups?text=fresh", ".found")):
        page.evaluate("place => { location.hash = place; }", place)
        page.locator(what).wait_for(state="attached")
        page.locator("main p[role=status]").get_by_text("The window's server does not answer").wait_for()


@pytest.mark.parametrize("width", [360, 1300])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page("0/groups/2")
    page.set_viewport_size({"width": width, "height": 700})
    for place, what in (
        ("0/groups/2", ".timeline"),
        ("0/groups/3", ".options"),
        ("0/groups/5", ".events"),
        ("0/groups", ".list a"),
    ):
        page = open_page(place)
        page.locator(what).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
