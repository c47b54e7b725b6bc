"""The judge's client against a real local HTTP server that behaves and misbehaves."""

import asyncio
import hashlib
import json
import multiprocessing
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from videochat_r1.errors import ConfigError, JudgeError
from videochat_r1.judge import Judge, JudgeConfig, UnscoredError, read_judge_config
from videochat_r1.judge.cache import JudgeCache, stored_bytes
from videochat_r1.judge.events import event_precision, event_recall, f1_score, label_events
from videochat_r1.judge.prompts import label_question
from videochat_r1.judge.rule_server import FAULTS, MODEL, RuleJudgeServer
from videochat_r1.judge.server import reply_text, retry_after

REFERENCE = "A man opens a door. He walks into the kitchen. A red square appears."
CAPTION = "A man opens a door and then walks into a kitchen. A blue square appears. A dog sleeps."


@pytest.fixture
def server():
    with RuleJudgeServer() as running:
        yield running


def config(server, tmp_path=None, **options):
    cache_dir = None if tmp_path is None else str(tmp_path / "cache")
    values = {"base_url": server.base_url, "model": MODEL, "cache_dir": cache_dir, "backoff_seconds": 0.005}
    return JudgeConfig(**{**values, **options})


def run(settings, work):
    """What `work(judge)` returns, the judge's counts and the seconds it took."""

    async def inside():
        async with Judge(settings) as judge:
            began = time.monotonic()
            return await work(judge), judge.counts, time.monotonic() - began

    return asyncio.run(inside())


async def label_all(judge, captions):
    """Label tuple or UnscoredError of each caption."""
    jobs = (label_events(judge, ["A man opens a door.", "A dog barks."], caption) for caption in captions)
    return await asyncio.gather(*jobs, return_exceptions=True)


def captions(number):
    return [f"A man opens door {index}. A {'cat' if index % 2 else 'dog'} barks." for index in range(number)]


def expected(number):
    return [("entailment", "neutral" if index % 2 else "entailment") for index in range(number)]


def labels_of(verdicts):
    return [verdict.labels for verdict in verdicts]


# --- answers ------------------------------------------------------------------------------------------------------------


def test_recall_and_precision(server):
    async def both(judge):
        return await event_recall(judge, CAPTION, REFERENCE), await event_precision(judge, CAPTION, REFERENCE)

    (recall, precision), counts, _ = run(config(server), both)
    assert recall.events == ("A man opens a door", "He walks into the kitchen", "A red square appears")
    assert recall.labels == ("entailment", "entailment", "contradiction")
    assert recall.share == pytest.approx(2 / 3)
    assert precision.labels == ("entailment", "entailment", "contradiction", "neutral")
    assert precision.share == 0.5
    assert counts["requests"] == server.counts["answered"] == 4


def test_supplied_events_cost_no_extraction_and_a_reference_without_events_is_one(server):
    async def both(judge):
        supplied = await event_recall(judge, CAPTION, "unread", ["A dog sleeps."])
        return supplied, await event_recall(judge, "Silence", "Silence.")

    (supplied, silent), counts, _ = run(config(server), both)
    assert (supplied.labels, silent.events) == (("entailment",), ("Silence.",))
    assert counts["requests"] == 3


def test_f1_of_precision_and_recall():
    assert f1_score(0.5, 1.0) == pytest.approx(2 / 3)
    assert f1_score(0.0, 0.0) == 0.0


def test_equal_questions_under_way_are_asked_once(server):
    server.latency_seconds = 0.05
    verdicts, counts, _ = run(config(server), lambda judge: label_all(judge, captions(1) * 8))
    assert labels_of(verdicts) == expected(1) * 8
    assert (counts["requests"], counts["joined"]) == (1, 7)


def test_no_more_requests_at_once_than_allowed(server):
    server.latency_seconds = 0.02
    verdicts, _, _ = run(config(server, concurrency=5), lambda judge: label_all(judge, captions(25)))
    assert labels_of(verdicts) == expected(25)
    assert 1 < server.counts["peak"] <= 5


def test_no_more_requests_a_minute_than_allowed(server):
    _, _, seconds = run(config(server, requests_per_minute=1200.0), lambda judge: label_all(judge, captions(9)))
    assert seconds >= 8 * 0.05
    assert config(server, requests_per_minute=90.0, concurrency=7).share_of(3).requests_per_minute == 30.0
    assert config(server, concurrency=7).share_of(3).concurrency == 2


def test_the_key_and_further_fields_are_sent(server, monkeypatch):
    server.api_key = "secret"
    monkeypatch.setenv("TEST_JUDGE_KEY", "secret")
    settings = config(server, api_key_env="TEST_JUDGE_KEY", response_format="text", extra_body={"top_p": 0.9})
    verdicts, _, _ = run(settings, lambda judge: label_all(judge, captions(1)))
    assert labels_of(verdicts) == expected(1)


# --- the cache ----------------------------------------------------------------------------------------------------------


def test_a_second_pass_makes_no_request_even_after_a_restart(server, tmp_path):
    first, _, _ = run(config(server, tmp_path), lambda judge: label_all(judge, captions(20)))
    server.stop()
    second, counts, _ = run(config(server, tmp_path), lambda judge: label_all(judge, captions(20)))
    assert labels_of(first) == labels_of(second) == expected(20)
    assert (counts["requests"], counts["cache_hits"]) == (0, 20)


def test_another_model_or_temperature_does_not_get_these_answers(server, tmp_path):
    server.models = (MODEL, "other")
    run(config(server, tmp_path), lambda judge: label_all(judge, captions(1)))
    changes = ({"model": "other"}, {"temperature": 0.5}, {"extra_body": {"top_p": 0.5}}, {"response_format": "text"})
    for change in changes:
        _, counts, _ = run(config(server, tmp_path, **change), lambda judge: label_all(judge, captions(1)))
        assert counts["requests"] == 1


def test_bad_answers_are_not_kept(server, tmp_path):
    server.fault_rate, server.faults = 1.0, ("bad_reply",)
    run(config(server, tmp_path, max_attempts=1), lambda judge: label_all(judge, captions(3)))
    assert len(JudgeCache(tmp_path / "cache")) == 0


def test_the_cache_stays_under_its_size_and_forgets_the_longest_unused(tmp_path, monkeypatch):
    clock = [1000]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    cache = JudgeCache(tmp_path, megabytes=0.02)
    entry = stored_bytes(b"%032d" % 0, "x" * 68)
    for number in range(300):
        clock[0] += 7200
        cache.put(b"%032d" % number, "x" * 68)
        assert cache.get(b"%032d" % 0) is not None, "used all the time"
        assert cache.size() <= 20_000
    assert cache.get(b"%032d" % 1) is None
    assert cache.get(b"%032d" % 299) == "x" * 68
    assert cache.size() == entry * len(cache) > 16_000


@pytest.mark.parametrize("length", [14, 70, 700])
def test_the_file_stays_under_its_size(tmp_path, length):
    cache = JudgeCache(tmp_path, megabytes=1.0)
    for begin in range(0, 12_000, 100):
        keys = [hashlib.sha256(b"%d" % number).digest() for number in range(begin, begin + 100)]
        cache.put_all(dict.fromkeys(keys, "x" * length))
        assert cache.path.stat().st_size <= 1_000_000
    assert cache.path.stat().st_size > 700_000


def test_an_unreadable_answer_is_asked_for_again(server, tmp_path):
    settings = config(server, tmp_path)
    question = label_question(["A man opens a door.", "A dog barks."], captions(1)[0])
    for damaged in ("no JSON", "3", '{"labels": {}}'):
        kept = JudgeCache(settings.cache_dir)
        kept.drop(Judge(settings).key(question))
        kept.put(Judge(settings).key(question), damaged)
        kept.close()
        for requests in (1, 0):
            verdicts, counts, _ = run(settings, lambda judge: label_all(judge, captions(1)))
            assert labels_of(verdicts) == expected(1) and counts["requests"] == requests


def test_the_first_answer_stays(tmp_path):
    cache = JudgeCache(tmp_path)
    assert cache.put(b"key", "first") == "first"
    assert cache.put(b"key", "second") == "first"
    assert cache.get(b"key") == "first" and cache.size() == stored_bytes(b"key", "first")


def _fill(folder, first):
    cache = JudgeCache(folder)
    for number in range(first, first + 200):
        cache.put(b"%d" % number, str(number))
        assert cache.get(b"%d" % number) == str(number)


def test_processes_share_the_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(tmp_path, first)) for first in (0, 100, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    cache = JudgeCache(tmp_path)
    expected_size = sum(stored_bytes(b"%d" % number, str(number)) for number in range(400))
    assert len(cache) == 400 and cache.size() == expected_size


def test_a_damaged_cache_says_what_to_do(tmp_path):
    (tmp_path / "answers.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(JudgeError, match=r"answers\.sqlite3.*Delete it"):
        JudgeCache(tmp_path)


# --- faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_survived(server, fault):
    server.script += [fault, fault]
    server.hang_seconds, server.down_seconds = 0.4, 0.0
    verdicts, counts, _ = run(config(server, timeout_seconds=0.2), lambda judge: label_all(judge, captions(1)))
    assert labels_of(verdicts) == expected(1)
    assert counts["retries"] >= 2 and server.counts[fault] == 2 and server.counts["answered"] == 1


def test_a_server_that_wants_to_be_left_alone_is(server):
    server.script.append("429")
    server.retry_after = 1
    verdicts, counts, seconds = run(config(server, concurrency=1), lambda judge: label_all(judge, captions(3)))
    assert labels_of(verdicts) == expected(3)
    assert seconds >= 1.0 and counts["requests"] == 4


def test_retry_after_as_seconds_and_as_a_date():
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
    assert retry_after({"retry-after": formatdate(time.time() - 30, usegmt=True)}) == 0.0
    for unreadable in ({}, {"retry-after": "soon"}, {"retry-after": "Wed, 21 Oct 99999 07:28:00 GMT"}):
        assert retry_after(unreadable) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("bad_reply", "no JSON object"), ("wrong_count", "labels 2 statements"), ("broken_json", "no chat completion")],
)
def test_a_question_without_usable_reply_is_given_up_with_its_reason(server, fault, reason):
    server.fault_rate, server.faults = 1.0, (fault,)
    ((error,), counts, _) = run(config(server, max_attempts=3), lambda judge: label_all(judge, captions(1)))
    assert isinstance(error, UnscoredError) and reason in error.reason and "3 attempts" in error.reason
    assert not error.outage
    assert (counts["requests"], counts["unscorable"]) == (3, 1)


def test_a_question_that_the_server_fails_on_does_not_stop_the_others(server):
    server.poison = "door 3."
    verdicts, _, _ = run(config(server, max_attempts=2), lambda judge: label_all(judge, captions(8)))
    error = verdicts.pop(3)
    assert "HTTP 500" in error.reason and "answers other questions" in error.reason and not error.outage
    assert labels_of(verdicts) == expected(3) + expected(8)[4:]


def test_a_question_that_the_server_fails_on_is_given_up_also_when_it_is_alone(server):
    server.poison = "door 0."
    ((error,), _, _) = run(config(server, max_attempts=2), lambda judge: label_all(judge, captions(1)))
    assert "HTTP 500" in error.reason and not error.outage


def test_with_a_fifth_of_all_requests_failing_every_caption_is_accounted_for_once(server, tmp_path):
    server.fault_rate = 0.2
    number = 200
    verdicts, counts, _ = run(config(server, tmp_path), lambda judge: label_all(judge, captions(number)))
    unscored = [verdict for verdict in verdicts if isinstance(verdict, UnscoredError)]
    scored = [(verdict.labels, right) for verdict, right in zip(verdicts, expected(number), strict=True)
              if not isinstance(verdict, UnscoredError)]  # fmt: skip
    assert len(scored) + len(unscored) == number == len(verdicts)
    assert all(labels == right for labels, right in scored)
    assert len(scored) > 0.95 * number
    assert len(JudgeCache(tmp_path / "cache")) == len(scored) == server.counts["answered"]
    assert counts["unscorable"] == len(unscored)
    assert sum(server.counts[fault] for fault in server.faults) > 0.1 * number


def test_a_refused_question_is_not_asked_again(server):
    settings = config(server, extra_body={"messages": "none"})
    ((error,), counts, _) = run(settings, lambda judge: label_all(judge, captions(1)))
    assert "HTTP 400" in error.reason and counts["requests"] == 1


# --- outages ------------------------------------------------------------------------------------------------------------


def test_an_outage_is_waited_for(server):
    async def work(judge):
        before = await label_all(judge, captions(2))
        server.stop()
        jobs = asyncio.create_task(label_all(judge, captions(20)[2:]))
        while not judge.is_out:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        assert not jobs.done()
        server.start()
        return before + await jobs

    verdicts, _, seconds = run(config(server, max_attempts=2), work)
    assert labels_of(verdicts) == expected(20)
    assert seconds >= 0.5


@pytest.mark.parametrize("options", [{"on_outage": "stop"}, {"max_wait_seconds": 0.3}])
def test_an_outage_that_does_not_end_is_told_apart(server, options):
    server.stop()
    verdicts, _, seconds = run(config(server, max_attempts=2, **options), lambda judge: label_all(judge, captions(5)))
    assert all(isinstance(error, UnscoredError) and error.outage for error in verdicts)
    assert "no connection" in verdicts[0].reason
    assert seconds < 5.0


def test_a_restart_in_the_middle_loses_nothing(server, tmp_path):
    server.latency_seconds = 0.3  # those under way are still so when the server goes

    async def work(judge):
        jobs = asyncio.create_task(label_all(judge, captions(24)))
        while server.counts["answered"] < 12:
            await asyncio.sleep(0.01)
        server.stop()
        server.start()
        return await jobs

    verdicts, counts, _ = run(config(server, tmp_path, concurrency=8), work)
    assert labels_of(verdicts) == expected(24)
    assert counts["retries"] > 0


# --- before anything depends on it --------------------------------------------------------------------------------------


async def check(judge):
    await judge.check()


def test_a_good_judge_passes_even_with_hiccups(server, tmp_path):
    server.script += ["500", "bad_reply"]
    run(config(server, tmp_path), check)
    assert server.counts["requests"] == 3


def test_no_server_is_refused_with_address_reason_and_mend(server):
    server.stop()
    with pytest.raises(
        JudgeError, match=rf"{server.base_url} cannot be asked: no connection .*`vllm serve rules --port"
    ):
        run(config(server), check)


def test_a_wrong_key_is_refused(server, monkeypatch):
    server.api_key = "secret"
    with pytest.raises(JudgeError, match=r"HTTP 401: the key is not known here.*wants a key.*api_key_env"):
        run(config(server), check)
    monkeypatch.setenv("TEST_JUDGE_KEY", "wrong")
    with pytest.raises(JudgeError, match=r"HTTP 401.*right key in the environment variable TEST_JUDGE_KEY"):
        run(config(server, api_key_env="TEST_JUDGE_KEY"), check)
    monkeypatch.setenv("TEST_JUDGE_KEY", "two words")
    with pytest.raises(ConfigError, match="TEST_JUDGE_KEY holds a space"):
        run(config(server, api_key_env="TEST_JUDGE_KEY"), check)
    monkeypatch.delenv("TEST_JUDGE_KEY")
    with pytest.raises(ConfigError, match="TEST_JUDGE_KEY, which is not set"):
        run(config(server, api_key_env="TEST_JUDGE_KEY"), check)


def test_an_unknown_model_is_refused_with_those_that_are_served(server):
    with pytest.raises(
        JudgeError, match=r"HTTP 404: the model 'rule' does not exist.*It serves rules\. Set judge\.model"
    ):
        run(config(server, model="rule"), check)


@pytest.mark.parametrize("change", [lambda url: f"{url}/chat/completions", lambda url: url.removesuffix("/v1")])
def test_a_wrong_path_is_refused(server, change):
    with pytest.raises(JudgeError, match=r"HTTP 404.*judge\.base_url end where /chat/completions begins"):
        run(config(server, base_url=change(server.base_url)), check)


def test_a_judge_that_does_not_answer_as_agreed_is_refused(server):
    server.fault_rate, server.faults = 1.0, ("bad_reply",)
    with pytest.raises(JudgeError, match=r"does not answer as agreed: .*'I would rather.*response_format: text"):
        run(config(server, max_attempts=2), check)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": 3}, "base_url"),
        ({"base_url": "http://localhost:99999/v1"}, "base_url"),
        ({"base_url": "http://[::1/v1"}, "base_url"),
        ({"api_key_env": 3}, "api_key_env"),
        ({"cache_dir": ""}, "cache_dir"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"decoy": "no"}, "decoy"),
        ({"extra_body": {"top_p": float("nan")}}, "extra_body"),
        ({"model": ""}, "model"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 2.5}, "concurrency"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"max_wait_seconds": True}, "max_wait_seconds"),
        ({"on_outage": "wait"}, "pause, stop"),
        ({"response_format": "yaml"}, "json_schema"),
        ({"extra_body": []}, "extra_body"),
        ({"modle": "x"}, "did you mean 'model'"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        JudgeConfig.from_dict({"base_url": "http://localhost:1/v1", "model": "m", **change})


def test_a_judge_is_read_from_its_own_file_or_a_recipe(tmp_path: Path):
    own, recipe, wrong = tmp_path / "own.yaml", tmp_path / "recipe.yaml", tmp_path / "wrong.yaml"
    own.write_text("base_url: http://localhost:1/v1\nmodel: m\n")
    recipe.write_text("learning_rate: 1\njudge:\n  base_url: http://localhost:1/v1\n  model: m\n")
    wrong.write_text("model: m\n")
    assert read_judge_config(own) == read_judge_config(recipe)
    with pytest.raises(ConfigError, match=r"wrong\.yaml has no base_url"):
        read_judge_config(wrong)
    with pytest.raises(ConfigError, match="does not exist"):
        read_judge_config(tmp_path / "none.yaml")
    for text, message in (
        ("judge: 3", "`judge` of .* must be a mapping"),
        ("learning_rate: 1\njudge: null", "no judge"),
    ):
        wrong.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_judge_config(wrong)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        '{"choices": []}',
        '{"choices": [{"message": {}}]}',
        '{"choices": [{"message": {"content": null}}]}',
    ],
)
def test_a_response_without_text_is_a_bad_reply(body):
    with pytest.raises(Exception, match=r"no chat completion|empty"):
        reply_text(body)


def test_a_reply_that_was_cut_off_is_a_bad_reply():
    body = {"choices": [{"finish_reason": "length", "message": {"content": '{"events": ["a'}}]}
    with pytest.raises(Exception, match="max_tokens"):
        reply_text(json.dumps(body))
