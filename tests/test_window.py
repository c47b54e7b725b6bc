"""The window's server: what it finds, what it serves, and what it serves to nobody."""

import json
import logging
import math
import subprocess
import sys
from contextlib import closing

import av
import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.video_files import HEIGHT, WIDTH, number_of, numbered_image, write_video
from tests.window_runs import (
    BOXES,
    grounding,
    group,
    rollout,
    run_address,
    window,
    write_evaluation,
    write_run,
    written_run,
)
from videochat_r1.cli import main
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.alarms import alarms
from videochat_r1.grpo.drawable import answer_of, plain_question, truth_of
from videochat_r1.grpo.reward_calls import Outcome
from videochat_r1.grpo.rollout_file import drop_rollouts_after
from videochat_r1.grpo.rollout_log import Drawn, RolloutLog
from videochat_r1.grpo.rows import Turn
from videochat_r1.grpo.tally import Sum
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.rollout.base import Rollout
from videochat_r1.rollout.ended import Ended
from videochat_r1.training.metrics_file import MetricsReader, append_metrics
from videochat_r1.window.group_view import group_view
from videochat_r1.window.index import Index
from videochat_r1.window.media import Folders
from videochat_r1.window.playable import Copies, make_copy
from videochat_r1.window.query import Query
from videochat_r1.window.runs import open_runs, whole_group
from videochat_r1.window.training_view import training_view

run, address = written_run, run_address
QUIET = {"libx265": {"preset": "ultrafast", "x265-params": "log-level=none"}, "libx264": {"preset": "ultrafast"}}


def lines_of(*groups):
    return "".join(json.dumps(one) + "\n" for one in groups)


def indexed(path):
    index = Index(path, whole_group)
    for _ in index.read_on():
        pass
    return index


# --- the index -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [Query(task="t"), Query(source="s"), Query(task="t", source="s", sample="a")])
def test_no_list_is_looked_for_by_what_most_groups_have(tmp_path, asked):
    """Whose index would be read from end to end for the few groups of a sample."""
    path = tmp_path / "rollouts.jsonl"
    path.write_text(lines_of(grounding(1, "a", "a.mp4")))
    where, values = asked.condition()
    plan = indexed(path)._ask(f"explain query plan select sample, mean from groups where {where}", values)
    told = " ".join(row[3] for row in plan)
    assert "by_task" not in told and "by_source" not in told
    assert ("by_sample" in told) == (asked.sample is not None)


def test_an_index_goes_on_where_it_was_and_waits_for_the_end_of_a_line(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    whole = lines_of(grounding(1, "a", "a.mp4"), grounding(1, "b", "b.mp4"))
    path.write_text(whole + lines_of(grounding(2, "c", "c.mp4"))[:100])
    index = indexed(path)
    assert index.count() == 2 and index.known == len(whole)
    index.close()
    path.write_text(whole + lines_of(grounding(2, "c", "c.mp4")))
    again = indexed(path)
    assert again.count() == 3 and again.group(3)["sample_id"] == "c" and again.updates() == (1, 2)
    assert list((tmp_path).iterdir()) != [path], "it lies beside the log"


def test_a_log_that_a_resumed_run_rewrote_is_read_anew(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    path.write_text(lines_of(*(grounding(step, f"s{step}", "a.mp4") for step in range(1, 6))))
    index = indexed(path)
    drop_rollouts_after(path, 2)
    with path.open("a") as file:
        file.write(lines_of(*(grounding(step, f"again{step}", "a.mp4") for step in range(3, 9))))
    for _ in index.read_on():
        pass
    assert [row["sample"] for row in index.rows(Query(), 0, 9)] == [
        "s1",
        "s2",
        *(f"again{step}" for step in range(3, 9)),
    ]
    assert [one["reward"].count for one in index.latest("temporal_grounding", 9)] == [3] * 8, "nothing is counted twice"


@pytest.mark.parametrize("content", [b"notes of mine", b"SQLite format 3\0" + bytes(100)])
def test_a_file_of_somebody_elses_is_not_replaced(tmp_path, content, caplog):
    path = tmp_path / "rollouts.jsonl"
    path.write_text(lines_of(grounding(1, "a", "a.mp4")))
    path.with_suffix(".index").write_bytes(content)
    with caplog.at_level(logging.INFO):
        assert indexed(path).count() == 1
    assert path.with_suffix(".index").read_bytes() == content and "kept until the end only" in caplog.text


def test_damaged_lines_are_counted_and_left_out(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    odd = [{}, {"task": 3}, {"rollouts": ["x"]}, {"rollouts": [{"rewards": 3}]}]
    strange = grounding(1, "strange", "a.mp4") | {"target": 3, "prompt": None, "video": 5}
    strange["rollouts"] += [
        {"rewards": {"iou": 10**400, "x": [1]}, "reward": 10**400, "parsed": {"spans": 3}, "ended": []}
    ]
    path.write_bytes(b"\0\0\n{\n[]\n" + lines_of(*({"step": 1, "rollouts": []} | one for one in odd), strange).encode())
    index = indexed(path)
    assert [row["sample"] for row in index.rows(Query(), 0, 9)] == ["strange"] and index.damaged() == 7
    assert group_view(1, strange, Folders([]).shown(strange))["rollouts"][-1]["reward"] is None


def test_a_true_answer_among_the_rollouts_is_called_so_and_spreads_nothing(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    one = group(1, "a", "counting", {"number": 3}, [rollout(0, "3", 3, 1.5), rollout(1, "3", 3, 2.0, truth=True)])
    path.write_text(lines_of(one))
    assert [spread for _, _, _, spread, _ in indexed(path).spreads(9)] == [0.0]
    names = [each["name"] for each in group_view(1, one, Folders([]).shown(one))["rollouts"]]
    assert names == [None, "the true answer, put among them"]


def test_lists_are_narrowed_ordered_and_searched(run):
    index = indexed(run / "rollouts.jsonl")

    def names(**asked):
        return [row["sample"] for row in index.rows(Query(**asked), 0, 9)]

    assert names(task="tracking") == ["where", "listed"] and names(flags=("unparsable", "truncated")) == ["where"]
    assert names(flags=("all_equal",)) == ["tell", "stolen", "clip", "listed"] and names(steps=(2, 2))[0] == "how many"
    assert names(order="disagreement")[0] == "where" and names(sample="when") == ["when"]
    assert index.neighbours(1, Query(steps=(1, 2))) == {
        "previous": None,
        "next": 2,
        "previous_step": None,
        "next_step": 4,
    }
    assert index.search(Query(), "FROM 2", 0, 9, 9.0) == ([1, 6], 8)
    assert index.search(Query(), "from 2", 1, 9, 9.0) == ([6], 8)
    assert index.search(Query(task="tracking"), '"x', 0, 9, 9.0) == ([], 8)
    assert index.search(Query(), "a", 0, 1, 9.0) == ([1], 1), "a search that has enough says where it came to"


def test_metrics_go_on_and_what_a_resumed_run_does_again_counts_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    assert not reader.read_on() and reader.values == {}
    for step, kl in ((1, 0.1), (2, 0.2), (3, math.inf), (2, 0.25)):
        append_metrics(path, step, {"kl": kl, "loss": float(step), "note": "x"})
    with path.open("a") as file:
        file.write('{"kl": 0.4, "st')
    assert reader.read_on() and not reader.read_on()
    assert reader.values == {"kl": {1: 0.1, 2: 0.25}, "loss": {1: 1.0, 2: 2.0}}


def update(**shares):
    return {name.replace("__", "/"): Sum(total, count) for name, (total, count) in shares.items()}


@pytest.mark.parametrize(
    ("sums", "sentence"),
    [
        ({"all_equal": (7, 8)}, "tracking: 140 of 160 groups all equal over 20 updates: they teach nothing"),
        ({"whole_video": (39, 64)}, "tracking: 61% of 1,280 answers cover the whole video over 20 updates"),
        ({"ended__length": (40, 64)}, "tracking: 62% of 1,280 answers are cut off at the length limit over 20 updates"),
        ({"read": (0, 64)}, "tracking: 0 of 64 answers could be read"),
        ({"all_equal": (5, 8), "whole_video": (20, 64), "ended__length": (9, 64), "read": (1, 64)}, None),
    ],
)
def test_alarms_say_what_to_look_at(sums, sentence):
    assert list(alarms("tracking", [update(**sums)] * 20).values()) == ([] if sentence is None else [sentence])
    assert set(alarms("tracking", [update(**sums)] * 19)) <= {"read"}, "of fewer updates only what is certain"


def test_the_page_and_the_console_tell_the_same_alarms(tmp_path, caplog):
    log = RolloutLog(tmp_path / "rollouts.jsonl", ["iou"], [1.0], 8)
    shared = {
        **grounding(1, "a", "a.mp4"),
        "truth": False,
        **dict.fromkeys(("duration", "response", "pictures", "video_parts")),
    }
    drawn = [
        Drawn.of(
            Turn(
                {**shared, "generation": place},
                None,
                0,
                rollout=Rollout([1], [0.0], Ended("stop")),
                completion=f"no idea {place}",
            ),
            Outcome(judged=False, reason=None, stop=False),
        )
        for place in range(8)
    ]
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            log.score(step, drawn, [[0.0]] * 8)
            log.write([0.0] * 8)
    sentence = "temporal_grounding: 0 of 8 answers could be read; the first one: 'no idea 0'"
    assert [record.getMessage() for record in caplog.records] == [sentence], "said once"
    [run] = open_runs([tmp_path], [])
    for _ in run.index.read_on():
        pass
    told = training_view(run)
    assert told["alarms"] == [sentence] and told["tasks"]["temporal_grounding"]["read"] == [(1, 0.0), (2, 0.0)]
    assert [cell[:4] for cell in told["cells"]] == [
        (1, 1, "temporal_grounding", 0.0),
        (2, 2, "temporal_grounding", 0.0),
    ]


# --- what the page is sent --------------------------------------------------------------------------------------------


def test_question_truth_and_answers_have_one_form_for_all_tasks():
    prompt = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>When?\nSay it.<|im_end|>\n<|im_start|>assistant\n"
    assert plain_question(prompt) == "When?\nSay it."
    assert truth_of({"span": [1, 2], "duration": 4}) == {"spans": [[1.0, 2.0]]}
    assert truth_of({"options": ["a", "b"], "answer": "B", "spans": [[0, 1]], "duration": 4}) == {
        "spans": [[0.0, 1.0]],
        "choice": "B",
    }
    assert truth_of({"boxes": BOXES})["boxes"] == BOXES and truth_of({"answer": "12"}) == {"text": "12"}
    assert answer_of({"answer": "B", "spans": [[0, 1], "x"]}, {}) == {"choice": "B", "spans": [[0.0, 1.0]]}
    assert answer_of([BOXES[0], None], {"boxes": BOXES})["boxes"] == [BOXES[0], None]
    assert answer_of(None, {}) is None and answer_of([2.0, 1.0], {"span": [0, 1]}) == {"spans": [[2.0, 1.0]]}


def test_no_answer_of_the_server_holds_a_path(run, address):
    pages = ["/", "/api/runs", "/api/runs/0/groups", *(f"/api/runs/0/groups/{number}" for number in range(1, 7))]
    texts = [httpx.get(address + page).text for page in pages]
    assert not [text for text in texts if str(run.parent) in text or "/videos/" in text]
    view = httpx.get(f"{address}/api/runs/0/groups/1").json()
    thought = view["rollouts"][0]["parts"][0]
    assert view["media"]["name"] == "clip.mp4" and (thought["kind"], thought["text"]) == ("think", "from 0")


def test_a_video_is_served_in_ranges_and_what_no_browser_plays_as_a_copy(address):
    video = f"{address}/api/runs/0/groups/1/video"
    whole = httpx.get(video)
    part = httpx.get(video, headers={"Range": "bytes=4-7"})
    assert (
        part.status_code == 206 and part.content == whole.content[4:8] and whole.headers["content-type"] == "video/mp4"
    )
    copy = httpx.get(f"{address}/api/runs/0/groups/3/copy", timeout=60)
    assert copy.content[4:8] == b"ftyp" and copy.headers["content-type"] == "video/mp4"
    assert httpx.get(f"{address}/api/runs/0/groups/4/pictures/1").headers["content-type"] == "image/png"


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mp4", "libx265"), ("a.avi", "mpeg4"), ("a", "png")]
)
def test_a_copy_shows_upright_what_is_stored_turned(tmp_path, name, codec, degrees):
    if codec == "mpeg4" and degrees:
        pytest.skip("AVI cannot say that it is turned")

    def stored(number):
        return np.rot90(numbered_image(number), -degrees // 90)

    if codec == "png":
        files, times = [tmp_path / f"{number}.png" for number in range(3)], [0.0, 0.1, 0.2]
        turned = Image.Exif()
        turned[0x0112] = {0: 1, 90: 8, 180: 3, 270: 6}[degrees]
        for number, file in enumerate(files):
            Image.fromarray(stored(number)).save(file, exif=turned)
    else:
        files, times = (
            [
                write_video(
                    tmp_path / name,
                    3,
                    fps=10,
                    codec=codec,
                    options=QUIET.get(codec, {}),
                    rotation=degrees,
                    image=stored,
                )
            ],
            [],
        )
    make_copy(files, times, tmp_path / "copy.mp4")
    with av.open(str(tmp_path / "copy.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert frames[0].shape == (HEIGHT, WIDTH, 3) and [number_of(frame) for frame in frames[:3]] == [0, 1, 2]


def test_copies_are_made_once_and_the_longest_unused_one_makes_room(tmp_path):
    old, new = (write_video(tmp_path / f"{name}.avi", 3, fps=10, codec="mpeg4", options={}) for name in ("old", "new"))
    with closing(Copies()) as roomy:
        assert roomy.of([old]) == roomy.of([old])
    with closing(Copies(most_bytes=1)) as copies:
        first = copies.of([old])
        assert copies.of([new]).exists() and not first.exists()


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/0/groups/6/video",  # a file outside of the folders
        "/api/runs/0/groups/4/pictures/2",
        "/api/runs/0/groups/99/video",
        "/api/runs/9/groups/1/video",
        "/page/../server.js",
        "/page/%2e%2e%2fserver.js",
        "/rollouts.jsonl",
        "/api/runs/0/groups/../../../rollouts.jsonl",
    ],
)
def test_other_files_are_served_to_nobody(address, path):
    assert httpx.get(address + path).status_code == 404


@pytest.mark.parametrize(
    "leads_to", ["/etc/passwd", "../outside.mp4", "../run/rollouts.jsonl", "rollouts.jsonl", "a\0b.mp4", "x" * 5000]
)
def test_names_and_links_lead_out_of_the_folders_for_nobody(tmp_path, leads_to):
    run = write_run(tmp_path)
    (run.parent / "videos" / "link.mp4").symlink_to(run.parent / "outside.mp4")
    (run / "rollouts.jsonl").write_text(
        lines_of(grounding(1, "a", leads_to), grounding(1, "b", str(run.parent / "videos" / "link.mp4")))
    )
    with window([run], [run.parent / "videos"]) as where:
        assert [httpx.get(f"{where}/api/runs/0/groups/{number}/video").status_code for number in (1, 2)] == [404, 404]


def test_videos_of_a_run_from_another_machine_are_found_below_the_folder(tmp_path):
    run = write_run(tmp_path)
    (run / "rollouts.jsonl").write_text(lines_of(grounding(1, "a", "/elsewhere/data/videos/clip.mp4")))
    with window([run], [tmp_path]) as where:
        assert httpx.get(f"{where}/api/runs/0/groups/1/video").status_code == 200


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_what_the_model_saw_is_made_as_the_run_made_it(tmp_path, family):
    run = write_run(tmp_path)
    model = tmp_path / "model"
    build_tiny(model, hidden=32, family=family)
    prompt = "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>When?<|im_end|>"
    with (run / "rollouts.jsonl").open("a") as file:
        prompted = grounding(4, "prompted", str(run.parent / "videos" / "clip.mp4")) | {"prompt": prompt}
        file.write(lines_of(prompted, grounding(4, "broken", str(run.parent / "videos" / "broken.mp4"))))
    (run.parent / "videos" / "broken.mp4").write_bytes(b"no video")
    config = {
        "model": {"model_name_or_path": str(model)},
        "data": {"video": {"fps": 2.0, "min_pixels": 784, "max_pixels": 56 * 56, "isolation": "none"}},
    }
    (run / "resolved_config.yaml").write_text(yaml.safe_dump(config))
    with window([run], [run.parent / "videos"]) as where:
        [seen] = httpx.get(f"{where}/api/runs/0/groups/1/saw", timeout=120).json()
        [pictures] = httpx.get(f"{where}/api/runs/0/groups/4/saw", timeout=120).json()
        refused, broken = (httpx.get(f"{where}/api/runs/0/groups/{number}/saw", timeout=120) for number in (6, 10))
        [prompted] = httpx.get(f"{where}/api/runs/0/groups/9/saw", timeout=120).json()
    assert prompted["prompt_tokens"] > prompted["tokens"] == seen["tokens"]
    assert prompted["positions"].startswith("positions 0 to ")
    assert [frame["seconds"] for frame in seen["frames"]] == [place / 2 for place in range(8)]
    assert seen["original"] == [128, 64] and seen["size"][0] * seen["size"][1] <= 56 * 56
    assert seen["tokens"] == 4 * seen["tokens_of_step"] and seen["prompt_tokens"] is None, (
        "the log's prompt shows no video"
    )
    assert seen["written"] == (
        ["<0.2 seconds>", "<1.2 seconds>", "<2.2 seconds>", "<3.2 seconds>"] if "3" in family else []
    )
    assert len(pictures["frames"]) == 2 and refused.status_code == broken.status_code == 422
    assert "as the run did: broken.mp4: " in broken.text and str(tmp_path) not in refused.text + broken.text


def test_both_looks_of_clue_perception_are_shown_with_what_they_saw(tmp_path):
    build_tiny(tmp_path / "model", hidden=32)
    write_evaluation(tmp_path / "scored", tmp_path / "clip.mp4", [[1.0, 3.0]])
    saw = {
        "segments": [[1.0, 2.0]],
        "num_frames": 4,
        "fps": 4.0,
        "frame_size": [84, 56],
        "num_tokens": 12,
        "rest_fps": 0.5,
        "times": [1.0, 1.25, 1.5, 1.75],
    }
    passes = [
        {"completion": "<answer>A</answer><glue>[(1, 2)]</glue>", "clues": [[1, 2]], "saw": {**saw, "segments": []}},
        {"completion": "<think>closer</think><answer>B</answer>", "clues": [], "saw": saw},
    ]
    file, results = tmp_path / "scored" / "samples.jsonl", tmp_path / "scored" / "results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "clue_perception": {"passes": passes}}) + "\n")
    recorded = json.loads(results.read_text())
    recorded["settings"] |= {"mode": "run", "model": str(tmp_path / "model"), "video": {"isolation": "none"}}
    results.write_text(json.dumps(recorded))
    with window([tmp_path / "scored"]) as where:
        view = httpx.get(f"{where}/api/runs/0/groups/1").json()
        first, second = httpx.get(f"{where}/api/runs/0/groups/1/saw", timeout=120).json()
    told = view["rollouts"][0]["looks"]
    assert told[0]["clues"] == [[1.0, 2.0]] and told[0]["segments"] == [] and told[1]["segments"] == [[1.0, 2.0]]
    assert told[0]["rest_fps"] == told[1]["rest_fps"] == second["rest_fps"] == 0.5
    assert told[1]["parts"] == [{"kind": "think", "text": "closer"}, {"kind": "answer", "text": "B"}]
    assert len(first["frames"]) == 8 and first["segments"] == []
    assert [frame["seconds"] for frame in second["frames"]] == [1.0, 1.25, 1.5, 1.75]
    assert (second["size"], second["tokens"], second["tokens_of_step"]) == ([84, 56], 12, 6)


def test_without_the_models_folder_it_says_so_and_names_no_path(tmp_path):
    run = write_run(tmp_path)
    (run / "resolved_config.yaml").write_text(
        yaml.safe_dump({"model": {"model_name_or_path": str(tmp_path / "gone")}, "data": {}})
    )
    with window([run], [run.parent / "videos"]) as where:
        refused = httpx.get(f"{where}/api/runs/0/groups/1/saw", timeout=120)
    assert (
        refused.status_code == 422
        and "model folder cannot be read" in refused.text
        and str(tmp_path) not in refused.text
    )


def test_who_may_look(run, address):
    assert httpx.get(address, headers={"Host": "evil.example:80"}).status_code == 403
    assert httpx.get(address, headers={"Host": "localhost:9"}).status_code == 200
    posted = [httpx.post(address, headers={"Origin": origin}).status_code for origin in ("http://evil", address)]
    assert posted == [403, 405], "what changes something is taken from the page itself"
    policy = httpx.get(address).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    with window([run], token="secret") as where, httpx.Client(follow_redirects=True) as browser:
        assert httpx.get(where).status_code == 403 == httpx.get(f"{where}/api/runs").status_code
        assert httpx.get(f"{where}/?token=wrong").status_code == 403
        assert browser.get(f"{where}/?token=secret").status_code == 200
        assert browser.get(f"{where}/api/runs").json()[0]["groups"] == 8 and "secret" not in browser.get(where).text


def test_outputs_that_are_no_runs_are_refused(tmp_path, run):
    for output in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match=r"holds"):
            open_runs([output], [])
    with pytest.raises(ConfigError, match="--videos does not exist"):
        open_runs([run], [tmp_path / "none"])
    assert [one.name for one in open_runs([run.parent, run], [])] == ["run"], "below a folder, and once each"
    for name in ("a/grpo", "b/grpo", "c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "resolved_config.yaml").write_text("data: {}")
    assert [one.name for one in open_runs([tmp_path], [])] == ["a/grpo", "b/grpo", "c"], "begun, and told apart"


def test_the_command_prints_where_to_look_and_starts_without_torch(run):
    assert main(["view", str(run / "nothing")]) == 2
    code = f"import sys, uvicorn; uvicorn.Server.run = lambda *a, **k: None; from videochat_r1.cli import main; main(['view', {str(run)!r}, '--port', '0'])"
    code += "; sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "ssh -N -L" in done.stdout and str(run) not in done.stdout, done.stderr
