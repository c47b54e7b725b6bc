"""Which settings may differ when a run goes on."""

from types import SimpleNamespace

import pytest

from videochat_r1.errors import ConfigError
from videochat_r1.sample import CaptionTarget, Pictures, Sample, Video
from videochat_r1.training import settings
from videochat_r1.training.settings import changes, refuse_changes

BEFORE = {
    "command": "grpo",
    "learning_rate": 1e-6,
    "num_processes": 2,
    "zero_stage": None,
    "mixture": [{"manifest": "a.jsonl", "max_samples": None}],
    "data_root": "data",
    "samples": "abc",
    "model_name_or_path": "model",
    "model": "def",
    "video": {"fps": 2.0, "timeout_seconds": 60.0},
    "judge": {"model": "j", "base_url": "here"},
    "logging_steps": 1,
    "save_steps": 100,
    "report_to": ["wandb"],
    "run_name": "first",
    "dataloader_num_workers": 4,
    "gradient_checkpointing": True,
}


def with_changes(**values):
    return {**BEFORE, **values}


def digest(*media):
    samples = [Sample("1", "captioning", one, "what?", CaptionTarget("A dog.")) for one in media]
    return settings._digest_of_samples(SimpleNamespace(samples=lambda epoch: samples))


def test_what_is_shown_decides_wherever_it_lies():
    assert digest(Pictures(("here/a.jpg", "b.jpg"))) == digest(Pictures(("there/a.jpg", "b.jpg")))
    shown = [Pictures(("a.jpg", "b.jpg")), Pictures(("b.jpg", "a.jpg")), Pictures(("a.jpg",)), Video(path="a.jpg")]
    assert len({digest(one) for one in shown}) == len(shown)


@pytest.mark.parametrize(
    "values",
    [
        {"logging_steps": 5, "save_steps": 7, "report_to": [], "run_name": "second"},
        {"dataloader_num_workers": 0, "gradient_checkpointing": False},
        {"data_root": "elsewhere", "mixture": [{"manifest": "moved/a.jsonl", "max_samples": 1000}]},
        {"model_name_or_path": "moved"},
        {"video": {"fps": 2.0, "timeout_seconds": 5.0}},
        {"judge": {"model": "j", "base_url": "there"}},
    ],
)
def test_what_changes_no_number_may_differ(values):
    assert not refuse_changes(BEFORE, with_changes(**values), where="it", insist=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"video": {"fps": 1.0, "timeout_seconds": 60.0}}, {"video.fps was 2.0, is 1.0"}),
        ({"judge": None}, {"judge was {'model': 'j', 'base_url': 'here'}, is None"}),
        ({"samples": "other"}, {"the samples behind mixture and data_root changed"}),
        ({"samples": "other", "data_root": "new"}, {"data_root was 'data', is 'new'"}),
        ({"model": "other"}, {"the model behind model_name_or_path changed"}),
        ({"picture": {"max_pixels": 784}}, {"picture was None, is {'max_pixels': 784}"}),
        ({"samples": "other", "sampling": {"by": "iou"}}, {"sampling was None, is {'by': 'iou'}"}),
        ({"new_option": 1}, {"new_option was None, is 1"}),
    ],
)
def test_what_changes_numbers_is_named_with_both_values(values, said):
    assert set(changes(BEFORE, with_changes(**values)).values()) == said


@pytest.mark.parametrize(
    ("before", "now", "stuck"),
    [
        ({"zero_stage": 3}, {"zero_stage": 2}, "zero_stage"),
        ({"zero_stage": 3}, {"zero_stage": None}, "zero_stage"),
        ({"zero_stage": None}, {"zero_stage": 3}, "zero_stage"),
        ({"zero_stage": 3}, {"zero_stage": 3, "num_processes": 1}, "num_processes"),
        ({"zero_stage": 3}, {"zero_stage": 3, "learning_rate": 1.0}, "learning_rate"),
        ({}, {"command": "sft"}, "command"),
        ({}, {"lora": {"r": 4}}, "lora"),
        ({}, {"bf16": True}, "bf16"),
    ],
)
def test_what_states_are_made_for_cannot_be_insisted_on(before, now, stuck):
    with pytest.raises(ConfigError, match=rf"{stuck} was .*cannot go on with another {stuck}: use the same settings"):
        refuse_changes(with_changes(**before), with_changes(**{**before, **now}), where="it", insist=True)


@pytest.mark.parametrize(("mid_generation", "fits"), [(False, True), (True, False)])
def test_plain_runs_may_be_spread_anew_between_generations(mid_generation, fits):
    now = with_changes(num_processes=4)
    if fits:
        assert refuse_changes(BEFORE, now, where="it", insist=True, mid_generation=mid_generation)
    else:
        with pytest.raises(ConfigError, match="cannot go on with another num_processes"):
            refuse_changes(BEFORE, now, where="it", insist=True, mid_generation=mid_generation)
