"""Rollouts of several looks: what each is paid, what is learned from it, what is logged, and that a run stays exact."""

import json
import statistics
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from transformers import TrainerCallback

from tests.test_algorithms import by_hand
from tests.tiny_prompts import plain_arguments
from tests.tiny_runs import by_letters, chatty_parse_reward, make_corpus, make_picture_corpus, make_trainer
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.grpo import looks
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.credit import credited
from videochat_r1.grpo.reward_calls import Outcome
from videochat_r1.grpo.rollout_log import Drawn
from videochat_r1.grpo.rows import weigh_rows
from videochat_r1.grpo.second_look import AskedForClues, second_look
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.load import load_model
from videochat_r1.rollout.ended import Ended
from videochat_r1.sample import ChoiceTarget, Video
from videochat_r1.second_look import next_look
from videochat_r1.second_look.options import ClueOptions

NAMES = ("format", "iou", "accuracy")


def varied(completions, **columns):
    return [(sum(map(ord, text)) % 41) / 41 for text in completions]


def plain(completions, **columns):
    return [float(len(text) % 3) for text in completions]


ANSWER, CLUE, OTHER = "chatty_parse_reward", "varied", "plain"
TRAINED = {
    "reward_entries": [
        {"name": f"tests.tiny_runs:{ANSWER}"},
        *({"name": f"{__name__}:{name}"} for name in (CLUE, OTHER)),
    ],
    "second_look": {"padding": 0.1, "credit": {"clue": [CLUE], "answer": [ANSWER], "share": 0.5}},
    "optim": "sgd",
    "learning_rate": 0.01,
    "max_grad_norm": 0.0,
}


@pytest.fixture
def clues(monkeypatch):
    monkeypatch.setattr(looks, "read", by_letters)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("looks")


@pytest.fixture(scope="module")
def mixture(folder):
    """Questions that may be looked at again, with known clues and without, and samples that may not."""
    corpus = make_corpus(folder, 6)
    question = replace(
        corpus[2], id="m0", task="multi_choice_qa", target=ChoiceTarget(("red", "blue"), "A"), duration=None
    )
    return [corpus[2], corpus[0], question, *make_picture_corpus(folder, 1)]


def lines(trainer):
    return [json.loads(line) for line in Path(trainer.args.output_dir, "rollouts.jsonl").read_text().splitlines()]


def weights_of(trainer):
    return torch.cat([value.detach().flatten() for value in trainer.model.parameters()])


def history(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


VARIANTS = {
    "reused": {"num_iterations": 2, "family": "qwen3_vl"},
    "frozen tower": {"freeze": True, "beta": 0.0, "loss_type": "bnpo"},
    "two groups": {
        "per_device_train_batch_size": 8,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "loss_type": "dapo",
    },
    "two rounds": {"second_look": {**TRAINED["second_look"], "rounds": 2}, "rollout_batch_rows": 4},
    "one clip": {
        "second_look": {**TRAINED["second_look"], "clue_time": "relative"},
        "skip_uninformative_groups": True,
        "beta": 0.0,
    },
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_looks_are_trained_as_they_were_drawn_with_shared_and_with_repeated_prompts(folder, mixture, clues, options):
    moved = []
    for share in (True, False):
        output = str(folder / f"run_{share}")
        trainer = make_trainer(folder, samples=mixture, share_prompt=share, output_dir=output, **{**TRAINED, **options})
        before = weights_of(trainer)
        trainer.train()
        assert max(history(trainer, "sampling/sampling_logp_difference/max")) < 2e-5
        assert sum(history(trainer, "looks/2/share")) > 0
        moved.append(weights_of(trainer) - before)
    assert moved[0].norm() > 1e-3 and (moved[0] - moved[1]).norm() < 1e-4 * moved[0].norm()


class KeepGradients(TrainerCallback):
    """Of the first update, before the optimiser sees them."""

    def __init__(self):
        self.gradients = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}


def advantages_by_hand(rewards):
    mean, deviation = statistics.fmean(rewards), statistics.stdev(rewards)
    return [(reward - mean) / (deviation + 1e-4) for reward in rewards]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != DEFAULT_FAMILY])
def test_gradients_are_those_of_a_loop_over_the_looks_of_every_rollout(folder, mixture, clues, family):
    """Each look alone through the model, its whole prompt before it, with rewards and advantages written out."""
    kept = KeepGradients()
    options = {**TRAINED, "samples": [mixture[0], mixture[2]], "callbacks": [kept], "max_steps": 1, "beta": 0.0}
    trainer = make_trainer(folder, family=family, **options)
    trainer.train()
    turns = trainer._turns
    assert len(turns) == 2 * 2 * 4
    model = load_model(folder / f"model_{family}", dtype=torch.float32)
    number = sum(turn.rollout is not None for turn in turns)
    assert 8 < number < 16, "some look again and some do not"
    for begin in (0, 8):
        first, second = turns[begin : begin + 4], turns[begin + 4 : begin + 8]
        last = [two if two.rollout is not None else one for one, two in zip(first, second, strict=True)]
        answer = chatty_parse_reward([turn.completion for turn in last], None)
        clue, other = varied([turn.completion for turn in first]), plain([turn.completion for turn in first])
        final = plain([turn.completion for turn in last])
        of_first = advantages_by_hand([o + c + 0.5 * a for o, c, a in zip(other, clue, answer, strict=True)])
        of_second = advantages_by_hand([o + a for o, a in zip(final, answer, strict=True)])
        for turn, advantage in zip([*first, *second], [*of_first, *of_second], strict=True):
            if turn.rollout is not None:
                logps = logps_of(model, turn)
                (-advantage * torch.exp(logps - logps.detach()).mean() / number).backward()
    assert max(weight.grad.abs().max() for weight in model.parameters()) > 1e-4
    for name, weight in model.named_parameters():
        expected = kept.gradients[name]
        assert (weight.grad - expected).norm() <= 1e-5 * expected.norm() + 1e-8, name


def logps_of(model, turn):
    """Of one completion, by transformers' own forward of prompt and completion."""
    return scores_of(model, turn)[0]


def scores_of(model, turn):
    """Log-probabilities and entropies."""
    prompt, ids = turn.prompt, torch.tensor(turn.rollout.completion_ids)
    following = (prompt.next_position + torch.arange(len(ids))).expand(3, -1)
    whole = torch.cat([prompt.input_ids, ids]).unsqueeze(0)
    positions = torch.cat([prompt.position_ids, following], dim=1).unsqueeze(1)
    outputs = model(input_ids=whole, position_ids=positions, **plain_arguments([prompt]))
    logs = outputs.logits[0, prompt.num_tokens - 1 : -1].log_softmax(-1)
    return logs.gather(1, ids.unsqueeze(1)).squeeze(1), -(logs.exp() * logs).sum(-1)


LOSSES = [
    *((name, "token") for name in ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo")),
    *((name, "sequence") for name in ("grpo", "dapo", "luspo")),
]


@pytest.fixture(scope="module", params=["whole", "lora"])
def off_policy(request, folder, mixture):
    """A trainer whose weights are far from those that drew its two groups; and of every token, by a loop over the looks, the policy's
    log-probability and entropy, and the reference's log-probability."""
    adapters = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    peft_config = adapters if request.param == "lora" else None
    options = {**TRAINED, "samples": [mixture[0], mixture[2]], "num_iterations": 2, "max_steps": 1, "beta": 0.3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "read", by_letters)
        trainer = make_trainer(folder, peft_config=peft_config, **options)
        trainer.train()
    model, draw = trainer.model, torch.Generator().manual_seed(0)
    for weight in (weight for weight in model.parameters() if weight.requires_grad):
        weight.data += 0.02 * torch.randn(weight.shape, generator=draw)
    found = [torch.zeros(16, 6) for _ in range(3)]
    for row, turn in enumerate(trainer._turns):
        if turn.rollout is not None:
            with torch.no_grad(), nullcontext() if peft_config is None else model.disable_adapter():
                reference, _ = scores_of(trainer.ref_model or model, turn)
            for values, own in zip(found, (*scores_of(model, turn), reference), strict=True):
                values[row, : len(own)] = own
    return trainer, found


@pytest.mark.parametrize(("loss_type", "level"), LOSSES)
def test_every_loss_is_that_of_a_loop_over_the_looks_that_were_taken(off_policy, monkeypatch, loss_type, level):
    """With its clipping, a KL term and a bonus for entropy, in an update after the first."""
    trainer, (logps, entropies, reference) = off_policy
    parts = trainer._buffered_inputs
    names = ("completion_mask", "old_per_token_logps", "advantages", "row_valid")
    batch = {name: torch.cat([part[name] for part in parts]) for name in names}
    assert 8 < batch["row_valid"].sum() < 16, "some look again and some do not"
    high = 1.1 if loss_type == "cispo" else 0.02 if level == "sequence" else 0.1
    set_to = {"loss_type": loss_type, "importance_sampling_level": level, "epsilon_low": high, "epsilon_high": high}
    for name, value in (set_to | {"entropy_coef": 0.05, "_entropy_bonus_enabled": True}).items():
        monkeypatch.setattr(trainer, name, value)
    monkeypatch.setattr(trainer, "_compare_with_sampler", lambda inputs: None)
    weigh_rows(batch, loss_type, 2, lambda counts: counts)
    weights = {name: batch[name] for name in ("num_items_in_batch", "loss_scale", "entropy_scale")}
    loss = sum(trainer._compute_loss(trainer.model, {**part, **weights}) for part in parts)
    options = SimpleNamespace(**{**vars(trainer.args), **set_to, "epsilon": high, "entropy_coef": 0.05})
    expected = by_hand(options, batch, logps, entropies, reference)
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    found, right = (
        torch.cat([one.flatten() for one in torch.autograd.grad(each, trained, retain_graph=True)])
        for each in (loss, expected)
    )
    assert right.norm() > 1e-3 and (found - right).norm() < 1e-4 * right.norm()


def test_a_run_that_is_resumed_inside_a_generation_finds_its_looks_again(tmp_path, clues):
    corpus = make_corpus(tmp_path, 12)
    options = {**TRAINED, "samples": [corpus[2], corpus[0], corpus[5], corpus[8]], "num_iterations": 2, "max_steps": 4}
    options |= {"dynamic_sampling_draws": 1, "save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(tmp_path, **options, output_dir=str(tmp_path / "whole"))
    whole.train()
    for step in (1, 3):
        again = make_trainer(tmp_path, **options, output_dir=str(tmp_path / f"again_{step}"))
        again.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert torch.equal(weights_of(whole), weights_of(again))
        if step == 1:
            assert lines(again) == [line for line in lines(whole) if line["step"] > step]


def test_a_line_tells_the_looks_of_a_rollout_and_of_others_what_it_always_did(folder, mixture, clues):
    gone = replace(mixture[0], id="gone", media=Video(path=str(folder / "gone.mp4")))
    trainer = make_trainer(folder, samples=[*mixture, gone], prompts_per_step=5, max_steps=1, **TRAINED)
    trainer.train()
    groups = {group["sample_id"]: group for group in lines(trainer)}
    assert len(groups) == 4 and "gone" not in groups, "what cannot be read has no look"
    assert history(trainer, "grounded_qa/ended/video_error") == [pytest.approx(4 / 12)]
    assert groups["m0"]["task"] == "grounded_qa" and groups["m0"]["target"]["spans"] is None
    numbers = []
    for name, group in groups.items():
        assert len(group["rollouts"]) == 4
        for rollout in group["rollouts"]:
            if name not in ("q2", "m0"):
                assert "looks" not in rollout
                continue
            one, *further = rollout["looks"]
            assert one["saw"]["segments"] == [] and all(look["saw"]["segments"] for look in further)
            last = rollout["looks"][-1]
            for key in ("completion", "parsed", "rewards", "num_tokens", "ended", "advantage"):
                assert rollout[key] == last[key]
            assert rollout["reward"] == pytest.approx(sum(last["rewards"].values()))
            own = one["rewards"][OTHER] + one["rewards"][CLUE]
            assert one["reward"] == pytest.approx(own + 0.5 * last["rewards"][ANSWER], abs=1e-6)
            if further:
                assert last["reward"] == pytest.approx(last["rewards"][OTHER] + last["rewards"][ANSWER], abs=1e-6)
            numbers.append(len(rollout["looks"]))
    assert history(trainer, "looks/2/share") == [numbers.count(2) / 8]
    finals = [rollout for group in groups.values() for rollout in group["rollouts"]]
    assert history(trainer, "reward") == pytest.approx([statistics.fmean(one["reward"] for one in finals)])
    firsts = [rollout["looks"][0] for group in groups.values() for rollout in group["rollouts"] if "looks" in rollout]
    assert history(trainer, f"looks/1/rewards/{ANSWER}/mean") == pytest.approx(
        [statistics.fmean(one["rewards"][ANSWER] for one in firsts)]
    )


def test_equal_clues_share_a_prompt_and_none_is_read_twice(folder, mixture, clues, monkeypatch):
    read = []
    monkeypatch.setattr(
        looks, "next_look", lambda *args, **named: read.append(args) or next_look.next_look(*args, **named)
    )
    trainer = make_trainer(folder, samples=mixture[:1], prompts_per_step=1, max_steps=1, num_generations=8,
                           per_device_train_batch_size=8, **TRAINED)  # fmt: skip
    trainer.train()
    second = [turn.prompt for turn in trainer._turns[8:] if turn.prompt is not None]
    assert len({id(prompt) for prompt in second}) == len(read) < len(second)


def test_clues_that_cannot_be_looked_at_leave_a_rollout_its_first_answer(folder, mixture, clues, monkeypatch, caplog):
    def gone(*args, **named):
        raise VideoError("the disk is gone")

    monkeypatch.setattr(next_look, "closer_prompt", gone)
    trainer = make_trainer(folder, samples=mixture[:1], prompts_per_step=1, max_steps=1, **TRAINED)
    trainer.train()
    (group,) = lines(trainer)
    found = [look.get("problem") for rollout in group["rollouts"] for look in rollout["looks"]]
    assert set(found) <= {None, "the disk is gone"} and len(found) == 4
    assert history(trainer, "looks/unreadable") == [float(found.count("the disk is gone"))] != [0.0]
    assert "cannot be looked at: the disk is gone" in caplog.text


def row(look, ended=Ended.STOP, problem=None):
    return Drawn({"look": look}, "", 1, ended, Outcome(False, None, False), None, {"segments": []}, problem)


NONE = float("nan")


def test_credit_and_advantages_worked_by_hand():
    """Four rollouts: two look again, one names no clue, one's clue cannot be read."""
    drawn = [row(0), row(0), row(0), row(0, problem="gone"), row(1), row(1), row(1, None), row(1, None)]
    measured = torch.tensor(
        [
            # format, iou, accuracy: first looks
            [1.0, 0.5, 0.0],
            [1.0, 0.2, 1.0],
            [0.0, 0.0, 1.0],
            [1.0, 0.4, 1.0],
            # second looks; what is measured on a row that is not there does not count
            [1.0, 0.9, 1.0],
            [0.0, 0.9, 0.0],
            [9.0, 9.0, 9.0],
            [9.0, 9.0, 9.0],
        ]
    )
    options = second_look({"credit": {"share": 0.5}})
    paid = credited(measured, drawn, NAMES, options, 4)
    expected = [
        [1.0, 0.5, 0.5],
        [1.0, 0.2, 0.0],
        [0.0, 0.0, 0.5],
        [1.0, 0.4, 0.5],
        [1.0, NONE, 1.0],
        [0.0, NONE, 0.0],
        [0.0, NONE, 1.0],
        [1.0, NONE, 1.0],
    ]
    assert torch.equal(paid.nan_to_num(-1.0), torch.tensor(expected).nan_to_num(-1.0))
    # The second look of the first rollout came out 0.75 above the mean (2 + 0 + 1 + 2) / 4 of all four, that of the second
    # 1.25 below it.
    sums = paid[4:].nansum(1)
    assert (sums - sums.mean())[:2].tolist() == [0.75, -1.25]
    strict = credited(measured, drawn, NAMES, second_look({"credit": {"share": 0.5}, "fallback": "nothing"}), 4)
    assert strict[:, 2].tolist() == [0.5, 0.0, 0.0, 0.5, 1.0, 0.0, 0.0, 1.0]


def test_credit_of_what_has_one_look_or_no_score():
    measured = torch.ones(4, 3)
    alone = [Drawn({"look": k}, "", 1, ended, Outcome(False, None, False)) for k, ended in ((0, Ended.STOP), (0, Ended.STOP), (1, None), (1, None))]  # fmt: skip
    paid = credited(measured, alone, NAMES, second_look({}), 2)
    assert paid[:2].tolist() == [[1.0] * 3] * 2 and paid[2:].isnan().all()
    late = [row(0), row(0), row(1, Ended.UNSCORED), row(1, None)]
    paid = credited(measured, late, NAMES, second_look({}), 2)
    assert paid[[0, 2]].isnan().all() and paid[1].tolist() == [1.0] * 3
    none_looks = [row(0), row(0), row(1, None), row(1, None)]
    assert credited(measured, none_looks, NAMES, second_look({}), 2)[2:].isnan().all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("twice", "second_look is 'twice'; expected a mapping, or null"),
        ({"resolution": 2}, "'resolution' in second_look; did you mean 'resolution_boost'"),
        ({"rounds": 0}, "second_look: clue rounds are 0"),
        ({"resolution_boost": 0.5}, "second_look: resolution_boost is 0.5"),
        ({"clue_time": "fast"}, "clue_time"),
        ({"credit": {"share": 2}}, "second_look.credit.share is 2"),
        ({"credit": {"shar": 1}}, "shar"),
        ({"credit": {"answer": []}}, "second_look.credit.answer is empty"),
        ({"credit": {"clue": ["accuracy"]}}, "under one of them"),
        ({"fallback": "zero"}, "fallback"),
    ],
)
def test_options_that_cannot_work_are_refused_with_their_place(tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        VideoGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, second_look=options)


def test_what_does_not_go_together_is_refused_before_training(folder, tmp_path):
    with pytest.raises(ConfigError, match="leave one of them out"):
        VideoGRPOConfig(output_dir=str(tmp_path), use_cpu=True, second_look={}, temporal_contrast="release")
    with pytest.raises(ConfigError, match=r"credit.answer names 'acuracy'.*did you mean 'accuracy'"):
        make_trainer(folder, second_look={"credit": {"answer": ["acuracy"]}})
    with pytest.raises(ConfigError, match="the mixture has none"):
        make_trainer(folder, samples=make_corpus(folder, 2), second_look={})


def test_options_are_those_of_clue_perception_and_are_recorded_in_full(tmp_path):
    assert second_look({}).clues == ClueOptions() and second_look(None) is None
    args = VideoGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, second_look={"fps_boost": "3"})
    assert args.second_look["fps_boost"] == 3.0 and args.second_look["credit"]["clue"] == ["iou"]


def test_questions_with_options_about_a_video_are_asked_for_clues_and_the_rest_stays(mixture):
    class Given:
        def samples(self, epoch):
            return mixture

    found = AskedForClues(Given()).samples(0)
    assert [one.task for one in found] == ["grounded_qa", "temporal_grounding", "grounded_qa", "multi_choice_qa"]
    assert [one for one in found if one.id != "m0"] == [one for one in mixture if one.id != "m0"]
