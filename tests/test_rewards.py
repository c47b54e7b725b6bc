import asyncio
import functools
import inspect
import math
import pickle
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import task_targets
from videochat_r1.errors import ConfigError, DataError
from videochat_r1.evaluation.benchmarks import BENCHMARKS
from videochat_r1.judge import Judge, JudgeConfig
from videochat_r1.judge.rule_server import MODEL, RuleJudgeServer
from videochat_r1.rewards import REWARDS, make_reward
from videochat_r1.sample import Sample, Video
from videochat_r1.tasks import TASKS

TARGETS = {name: truth for name, (truth, _) in task_targets.TARGETS.items()} | {
    "temporal_grounding": {"span": [5, 10], "duration": 30},
    "tracking": {"boxes": [[0, 0, 1, 1]] * 8},
    "multi_choice_qa": {"options": ["cat", "dog", "cow"], "answer": "C"},
    "grounded_qa": {"options": ["cat", "dog", "cow"], "answer": "C", "spans": [[5, 10]], "duration": 30},
    "quality_assessment": {"choices": ["low quality", "high quality"], "answer": "low quality"},
    "captioning": {"caption": "A man opens a door. He walks in."},
}


@pytest.fixture(scope="module")
def rewards():
    """Name -> its values for completions and columns; recall asks a local judge."""
    loop = asyncio.new_event_loop()
    with RuleJudgeServer() as server:
        judge = Judge(JudgeConfig(base_url=server.base_url, model=MODEL, cache_dir=None, concurrency=8))

        def call(reward, completions, **rows):
            if inspect.iscoroutinefunction(reward):
                return loop.run_until_complete(reward(completions, judge=judge, **rows))
            return reward(completions, **rows)

        yield {name: functools.partial(call, reward) for name, reward in REWARDS.items()}
        loop.run_until_complete(judge.close())
    loop.close()


def columns(names, thinking=False):
    return {
        "task": list(names),
        "target": [TARGETS[name] for name in names],
        "thinking": [thinking] * len(names),
        "sample_id": [str(place) for place in range(len(names))],
        "query": ["q"] * len(names),
        # What TRL adds on its own.
        "prompts": [None] * len(names),
        "completion_ids": [[1]] * len(names),
        "trainer_state": object(),
    }


def gold(name, thinking=False):
    return TASKS[name].gold(TASKS[name].target_from_json(TARGETS[name]), thinking=thinking)


def test_every_task_uses_known_rewards_and_gets_none_from_the_others(rewards):
    names = list(TASKS)
    rows = {name: reward([gold(task) for task in names], **columns(names)) for name, reward in rewards.items()}
    for place, task in enumerate(names):
        assert set(TASKS[task].reward_names) <= set(REWARDS)
        values = {name: row[place] for name, row in rows.items()}
        assert values == {name: 1.0 if name in TASKS[task].reward_names else None for name in REWARDS}


def test_rewards_of_the_paper_per_task():
    expected = {
        "temporal_grounding": ("format", "iou"),
        "tracking": ("format", "iou"),
        "multi_choice_qa": ("format", "accuracy"),
        "grounded_qa": ("format", "iou", "accuracy"),
        "quality_assessment": ("format", "accuracy"),
        "captioning": ("format", "recall"),
    }
    assert {name: TASKS[name].reward_names for name in expected} == expected


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("wrote", [True, False])
def test_a_thought_is_required_exactly_if_it_was_asked_for(asked, wrote):
    names = list(TASKS)
    completions = [gold(name, thinking=wrote) for name in names]
    assert REWARDS["format"](completions, **columns(names, thinking=asked)) == [float(asked == wrote)] * len(names)


def test_thinking_is_read_per_row():
    rows = {**columns(["temporal_grounding"] * 2), "thinking": [True, False]}
    assert REWARDS["format"]([gold("temporal_grounding", thinking=True)] * 2, **rows) == [1.0, 0.0]


def test_a_payload_that_cannot_be_read_costs_the_format():
    payloads = {
        "temporal_grounding": "soon to later",
        "tracking": "[[0, 0, 1, 1]]",
        "multi_choice_qa": "D",
        "quality_assessment": "medium",
        "captioning": " ",
    }
    completions = [f"<answer>{payload}</answer>" for payload in payloads.values()]
    assert REWARDS["format"](completions, **columns(payloads)) == [0.0] * len(payloads)


def test_a_failed_answer_does_not_inherit_its_neighbours_score():
    completions = [
        "<answer>5 to 10</answer>",
        "<answer>?</answer>",
        "<answer>5 to 5</answer>",
        "<answer>0 to 10</answer>",
    ]
    assert REWARDS["iou"](completions, **columns(["temporal_grounding"] * 4)) == [1.0, 0.0, 0.0, 0.5]


def test_overlap_with_the_given_box_is_an_option():
    boxes = [[0, 0, 1, 1], *[[0, 0, 0.5, 0.5]] * 7]
    rows = {**columns(["tracking"]), "target": [{"boxes": boxes}]}
    echo = f"<answer>{[[0, 0, 1, 1]] * 8}</answer>"
    assert make_reward("iou")([echo], **rows) == pytest.approx([(1 + 7 * 0.25) / 8])
    assert make_reward("iou", score_given_box=False)([echo], **rows) == pytest.approx([0.25])


def test_options_are_checked_and_keep_the_name_that_logs_show():
    reward = make_reward("iou", score_given_box=False)
    assert reward.__name__ == "iou"
    assert pickle.loads(pickle.dumps(reward)).keywords == {"score_given_box": False}
    assert [make_reward(name).__name__ for name in REWARDS] == list(REWARDS)
    with pytest.raises(ConfigError, match="did you mean 'score_given_box'"):
        make_reward("iou", score_given_boxes=False)
    with pytest.raises(ConfigError, match="none"):
        make_reward("format", weight=2)
    with pytest.raises(ConfigError, match="task"):
        make_reward("iou", task="tracking")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acuracy", "did you mean 'accuracy'"),
        ("iou:", "expected package.module:Name"),
        (":iou", "expected package.module:Name"),
        ("no_such_module:f", "no_such_module"),
        ("videochat_r1.rewards.iou:nothing", "nothing"),
        ("videochat_r1.rewards.iou:__doc__", "is a str, which is no reward"),
    ],
)
def test_an_unknown_reward_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        REWARDS[name]


def test_a_users_function_is_found_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "own_rewards_in_cwd.py").write_text(
        textwrap.dedent("""
            def short(completions, *, limit=5, **columns):
                return [float(len(completion) <= limit) for completion in completions]
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    reward = make_reward("own_rewards_in_cwd:short", limit=3)
    assert reward(["abc", "abcd"], **columns(["tracking"] * 2)) == [1.0, 0.0]
    assert reward.__name__ == "short"


def test_a_users_module_that_does_not_import_says_why(tmp_path, monkeypatch):
    (tmp_path / "own_rewards_broken.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="a_package_that_is_not_there"):
        REWARDS["own_rewards_broken:f"]


@pytest.mark.parametrize("name", list(REWARDS))
def test_bad_columns_are_data_errors_not_zero_rewards(name, rewards):
    rows = columns(["tracking"])
    with pytest.raises(DataError, match="traking"):
        rewards[name](["x"], **{**rows, "task": ["traking"]})
    with pytest.raises(DataError, match="boxes"):
        rewards[name](["x"], **{**rows, "target": [{"span": [1, 2]}]})
    with pytest.raises(DataError, match="2 completions"):
        rewards[name](["x", "y"], **rows)


@settings(deadline=None, derandomize=True)
@given(completions=st.lists(st.text(), min_size=len(TASKS), max_size=len(TASKS)), thinking=st.booleans())
def test_rewards_are_total(rewards, completions, thinking):
    names = list(TASKS)
    for reward in rewards.values():
        values = reward([f"<answer>{text}</answer>" for text in completions], **columns(names, thinking=thinking))
        assert len(values) == len(names)
        assert all(value is None or (math.isfinite(value) and 0.0 <= value <= 1.0) for value in values)


# What a benchmark calls a reward of its task; each has the same value on every text.
METRICS = {
    "temporal_grounding": {"iou": "mIoU"},
    "tracking": {"iou": "overlap"},
    "grounded_qa": {"iou": "union_mIoU", "accuracy": "accuracy"},
    "multi_choice_qa": {"accuracy": "accuracy"},
    "quality_assessment": {"accuracy": "accuracy"},
    # A judge's; what it is shown is compared.
    "captioning": {},
}
WORDS = "the cat sits by the window and looks out "
PAYLOADS = [
    *["", "C", "(C) cow", "C because A is wrong", "A or C", "dog", "low quality", "A man opens a door.", "答案：C"],
    *[
        "5 to 10",
        "5 to 1000000",
        "0 to 30",
        "20 to 45",
        "10 to 5",
        "[(5, 10), (20, 40)]",
        "12,54 to 17,83",
        "5 to 10.5%",
    ],
    *[str([[0, 0, 1, 1]] * count) for count in (1, 7, 8, 9, 20, 49)],
    *[(WORDS * 50)[:pad] + ": [0, 0, 1, 0.5] " for pad in (1, 2000)],
    "".join(f"Frame [{i}], {(WORDS * 5)[:170]}: [0, 0, 1, 0.5]\n" for i in range(8)),
    "".join(f"{(WORDS * 80)[:2900]}: [0, 0, 1, 0.5]\n" for _ in range(8)),
    "[[0, 0, 1, 1], null, [0.5, 0.5, nan, 1], [0, 0, 1, 1]]",
    "(0, 0), (1, 1)",
]
payloads = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            ["5", " to ", ",", "[", "]", "30", "1e6", "[0,0,1,1]", ".5", "A", "C", " or ", "is wrong", ":", "\n", "（"]
        ),
        max_size=30,
    ).map("".join),
)


def assert_a_reward_is_its_metric(benchmark, name, completion, extra):
    task, columns_of_row = TASKS[name], columns([name])
    target = task.target_from_json(TARGETS[name])
    sample = Sample("id", name, Video(path="v.mp4"), "q", target, extra=extra)
    parsed = benchmark.parse(completion, sample, untagged=False)
    scores = benchmark.score(parsed, sample)
    for reward, metric in METRICS[name].items():
        assert REWARDS[reward]([completion], **columns_of_row) == [scores[metric]], (reward, metric)
    if not METRICS[name]:
        assert parsed == task.parse(completion, target)


@pytest.mark.parametrize(
    ("benchmark", "name"), [(benchmark, name) for benchmark, each in BENCHMARKS.items() for name in each.tasks]
)
def test_a_reward_is_the_benchmarks_metric_of_the_same_text(benchmark, name):
    # With the annotation folder of GOT-10k the number of frames is known, with the released JSON it is not.
    frames = {"num_frames": 100, "frame_indices": list(range(0, 100, 13))}
    for extra in ({}, frames):
        for payload in PAYLOADS:
            for tags in ("<answer>{0}</answer>", "<answer>{0}</answer><glue>{0}</glue>", "{0}"):
                assert_a_reward_is_its_metric(BENCHMARKS[benchmark], name, tags.format(payload), extra)

    @settings(deadline=None, derandomize=True, max_examples=60)
    @given(payload=payloads)
    def on_any_text(payload):
        assert_a_reward_is_its_metric(
            BENCHMARKS[benchmark], name, f"<answer>{payload}</answer><glue>{payload}</glue>", {}
        )

    on_any_text()
