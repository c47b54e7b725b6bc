"""The trainer end to end on a tiny model: what is learned from, what is logged, what a kill loses (nothing)."""

import inspect
import itertools
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from deepspeed.runtime.checkpoint_engine import torch_checkpoint_engine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLModel, Trainer
from trl import GRPOTrainer

from tests.tiny_prompts import shift_one_position, without_last_token
from tests.tiny_runs import logged_rollouts, make_corpus, make_picture_corpus, make_trainer
from videochat_r1.errors import ConfigError, VideoError
from videochat_r1.grpo import rows, run
from videochat_r1.grpo import trainer as grpo_trainer
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.rows import noise_seed
from videochat_r1.grpo.shared_prefix import SharedPrefixDifference, completion_logps
from videochat_r1.grpo.token_log import read_tokens
from videochat_r1.grpo.trainer import VideoGRPOTrainer
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.media_features import unwrap
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.modeling.vision_segments import ATTENTION_NAME
from videochat_r1.recipe import ModelArguments
from videochat_r1.sample import Pictures, Sample, Video, media_in_row
from videochat_r1.training import checkpoint, loader, resumable
from videochat_r1.training.damage import sound_checkpoint
from videochat_r1.training.divergence import StopsWhenDiverged
from videochat_r1.training.resumable import ResumableTrainer
from videochat_r1.training.saving import SavesPlainFolders


def weights_of(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def largest_difference(a, b):
    return max((a[name].float() - b[name].float()).abs().max().item() for name in a)


def rollouts_of(folder):
    return logged_rollouts(folder / "run")


def history_value(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grpo")


@pytest.fixture(scope="module")
def plain_run(folder):
    """Two updates of two mixed-task prompts each, as most tests compare with it."""
    trainer = make_trainer(folder)
    before = weights_of(trainer)
    trainer.train()
    return trainer, before, rollouts_of(folder)


def test_an_update_moves_language_model_and_vision_tower(plain_run):
    trainer, before, _ = plain_run
    after = weights_of(trainer)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("visual" in name for name in moved) and any("language_model" in name for name in moved)


def test_trainer_and_sampler_agree_on_log_probabilities(plain_run):
    trainer, _, _ = plain_run
    assert max(history_value(trainer, "sampling/sampling_logp_difference/max")) < 2e-5


def test_every_completion_is_logged_with_its_own_tasks_rewards_only(plain_run):
    _, _, rows = plain_run
    assert len(rows) == 2 * 2 * 4
    for row in rows:
        applies = {name for name, value in row["rewards"].items() if value is not None}
        expected = {
            "temporal_grounding": {"format", "iou"},
            "tracking": {"format", "iou"},
            "grounded_qa": {"format", "iou", "accuracy"},
        }[row["task"]]
        assert applies == expected | {"chatty_parse_reward"}
        assert row["reward"] == pytest.approx(sum(value for value in row["rewards"].values() if value is not None))
    for begin in range(0, len(rows), 4):
        group = rows[begin : begin + 4]
        assert len({row["sample_id"] for row in group}) == 1
        assert sum(row["advantage"] for row in group) == pytest.approx(0.0, abs=1e-4)


def test_metrics_are_kept_per_task(plain_run):
    trainer, _, rows = plain_run
    tasks = {row["task"] for row in rows}
    logged = {name for entry in trainer.state.log_history for name in entry}
    for task in tasks:
        for name in ("rewards/format/mean", "rewards/iou/std", "frac_reward_zero_std", "ended/length"):
            assert f"{task}/{name}" in logged
        assert f"{task}/parse_rate" in logged and f"{task}/completions/mean_length" in logged
    assert ("temporal_grounding/whole_video_ratio" in logged) == ("temporal_grounding" in tasks)
    assert ("temporal_grounding/past_end_ratio" in logged) == ("temporal_grounding" in tasks)
    assert not {"tracking/whole_video_ratio", "tracking/past_end_ratio"} & set(logged)


def test_what_ended_for_its_length_is_what_trl_takes_for_truncated(plain_run):
    trainer, _, rows = plain_run
    clipped = history_value(trainer, "completions/clipped_ratio")
    for step, share in enumerate(clipped, start=1):
        ended = [row["ended"] for row in rows if row["step"] == step]
        assert ended.count("length") / len(ended) == share
    assert len(clipped) == trainer.state.global_step


def test_repeating_prompts_gives_the_same_weights(plain_run, folder):
    trainer, _, _ = plain_run
    repeated = make_trainer(folder, share_prompt=False, output_dir=str(folder / "repeated"))
    repeated.train()
    assert largest_difference(weights_of(trainer), weights_of(repeated)) < 2e-4  # Adam amplifies the last digits


def slower_video(prompt):
    """The prompt with twice the seconds per temporal step."""
    positions, is_video = prompt.position_ids.clone(), (prompt.position_ids != prompt.position_ids[0]).any(0)
    begin, end = int(is_video.nonzero()[0]), int(is_video.nonzero()[-1]) + 1
    steps = positions[0, begin:end] - positions[0, begin]
    positions[0, begin:end] += steps
    positions[:, end:] += steps[-1]
    return replace(prompt, position_ids=positions)


def with_one_thing_wrong(wrong):
    """`completion_logps` whose shared prompts have a wrong position or timing, or a token too few."""
    change = {"position": shift_one_position, "seconds": slower_video}.get(wrong, lambda prompt: prompt)

    def perturbed(model, prompts, ids, mask, *, share_prompt, **options):
        made = {id(prompt): change(prompt) for prompt in prompts}
        used = without_last_token(mask) if wrong == "mask" else mask
        return completion_logps(model, [made[id(p)] for p in prompts], ids, used, share_prompt=share_prompt, **options)

    return perturbed


@pytest.fixture(scope="module")
def sharp_folder(tmp_path_factory):
    """Of models whose attention depends on positions, which that of a freshly made one hardly does."""
    path = tmp_path_factory.mktemp("sharp")
    for family in FAMILIES:
        build_tiny(
            path / f"model_{family}", hidden=64, layers=2, vision_hidden=32, initializer_range=0.125, family=family
        )
    return path


ALL_AT_ONCE = {"beta": 0.5, "num_iterations": 2, "gradient_checkpointing": True, "max_steps": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.0, "max_steps": 1},
        {"beta": 0.5, "max_steps": 2},
        *({"family": family, **ALL_AT_ONCE} for family in FAMILIES),
    ],
    ids=["no KL", "KL", *FAMILIES],
)
def test_repeating_prompts_gives_the_same_weights_with(sharp_folder, options, monkeypatch):
    """Plain gradient steps, which amplify nothing; old policies count in the second iteration. Whatever is wrong in the
    shared prompts shows in the weights."""
    exact = {**options, "optim": "sgd", "learning_rate": 0.01, "max_grad_norm": 0.0}
    shared = make_trainer(sharp_folder, **exact)
    before = weights_of(shared)
    shared.train()
    repeated = make_trainer(sharp_folder, **exact, share_prompt=False, output_dir=str(sharp_folder / "repeated"))
    repeated.train()
    moved = largest_difference(before, weights_of(shared))
    assert largest_difference(weights_of(shared), weights_of(repeated)) < 1e-4 * moved
    monkeypatch.setattr(grpo_trainer, "refuse_other_sampler", lambda difference, exact: None)
    timed = options.get("family") != "qwen3_vl"  # its positions know no seconds
    for wrong in ("position", "mask", *(["seconds"] if timed else [])):
        monkeypatch.setattr(grpo_trainer, "completion_logps", with_one_thing_wrong(wrong))
        perturbed = make_trainer(sharp_folder, **exact)
        perturbed.train()
        assert largest_difference(weights_of(perturbed), weights_of(repeated)) > 1e-3 * moved, wrong


def test_the_first_batch_is_verified_when_asked(folder, monkeypatch):
    compared = []

    def too_far(*args, **kwargs):
        compared.append(1)
        return SharedPrefixDifference(logps=2e-4 if len(compared) > 1 else 5e-5, entropy=0.0)

    monkeypatch.setattr(grpo_trainer, "verify_shared", too_far)
    make_trainer(folder, verify_shared_prompt=True).train()
    assert compared == [1]
    with pytest.raises(ConfigError, match=r"differ by 0.0002 .* Train with share_prompt=false"):
        make_trainer(folder, verify_shared_prompt=True).train()
    make_trainer(folder).train()
    assert compared == [1, 1]


def test_the_time_that_a_step_waits_for_videos_is_logged(folder, monkeypatch):
    """A clock that moves one second each time somebody looks at it."""
    clock = itertools.count()
    monkeypatch.setattr(loader, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    trainer = make_trainer(folder)
    trainer.train()
    assert history_value(trainer, "time/video_wait") == [1.0, 1.0]


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"])
def test_every_loss_type_of_trl_trains(folder, loss_type):
    level = {"importance_sampling_level": "sequence"} if loss_type == "luspo" else {}
    trainer = make_trainer(folder, loss_type=loss_type, max_steps=1, beta=0.0, **level)
    before = weights_of(trainer)
    trainer.train()
    assert largest_difference(before, weights_of(trainer)) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"num_iterations": 2, "prompts_per_step": 4, "per_device_train_batch_size": 8},
        {"gradient_checkpointing": True},
        {"bf16": True},
        {"dataloader_num_workers": 2},
        {"verify_shared_prompt": True},
        *({"freeze": True, "family": family} for family in FAMILIES),
        *({"lora": {"r": 4, "lora_alpha": 8}, "family": family} for family in FAMILIES),
    ],
    ids=lambda options: "-".join([next(iter(options)), options.get("family", "")]),
)
def test_variants_train(folder, options):
    adapters = dict(options)
    if lora := adapters.pop("lora", None):
        targets = FAMILIES[options["family"]].lora_targets
        adapters["peft_config"] = LoraConfig(task_type="CAUSAL_LM", target_modules=targets, **lora)
    trainer = make_trainer(folder, **adapters)
    before = weights_of(trainer)
    trainer.train()
    after = weights_of(trainer)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    for row in logged_rollouts(Path(trainer.args.output_dir)):
        text, tokens = read_tokens(row)
        assert len(tokens) == row["num_tokens"] and "".join(text[one.start : one.end] for one in tokens) == text
        # Where a second iteration needs the trainer's log-probabilities before the first update.
        apart = [one.difference for one in tokens]
        assert max(map(abs, apart)) < 1e-3 if "num_iterations" in options else set(apart) == {None}
    if options.get("freeze"):
        assert not any("visual" in name for name in moved)
    if lora:
        assert all("lora" in name and "language_model" in name for name in moved)
        assert len({name.partition(".lora_")[0] for name in moved}) == 2 * 7, (
            "every linear layer of both decoder layers"
        )


def rewards_equal_for_some(completions, sample_id, **columns):
    """Half of the samples get equal rewards, whatever the completion."""
    return [
        0.5 if int(name[1:]) % 2 else (sum(map(ord, text)) % 97) / 97
        for text, name in zip(completions, sample_id, strict=True)
    ]


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_skipping_groups_without_signal_gives_the_same_weights(folder, loss_type):
    options = {
        "reward_entries": [{"name": f"{__name__}:rewards_equal_for_some"}],
        "beta": 0.0,
        "loss_type": loss_type,
        "optim": "sgd",
        "num_iterations": 2,
        "max_steps": 3,
        "max_grad_norm": 0.0,
    }
    all_groups = make_trainer(folder, **options, output_dir=str(folder / "all"))
    all_groups.train()
    skipping = make_trainer(folder, **options, skip_uninformative_groups=True, output_dir=str(folder / "skipping"))
    skipping.train()
    # A number of groups per update, of two: each sample with an odd number is one.
    assert set(history_value(skipping, "groups_skipped")) <= {0.0, 1.0, 2.0}
    assert max(history_value(skipping, "groups_skipped")) > 0
    assert largest_difference(weights_of(all_groups), weights_of(skipping)) < 1e-7


def test_dynamic_sampling_fills_the_batch_with_groups_that_differ(folder):
    entries = [{"name": f"{__name__}:rewards_equal_for_some"}]
    trainer = make_trainer(folder, reward_entries=entries, dynamic_sampling_draws=6, num_iterations=2, max_steps=4)
    trainer.train()
    for batch in trainer._buffered_inputs:
        assert batch["advantages"].view(-1, 4).abs().amax(dim=1).min() > 0
    assert sum(history_value(trainer, "dynamic_sampling/groups_replaced")) > 0
    assert max(history_value(trainer, "sampling/sampling_logp_difference/max")) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_resuming_inside_a_generation_finds_the_prompts_of_replaced_groups(tmp_path, family):
    entries = [{"name": f"{__name__}:rewards_equal_for_some"}]
    replacing = {"reward_entries": entries, "dynamic_sampling_draws": 6}
    options = {**replacing, "num_iterations": 2, "max_steps": 2, "family": family}
    whole = make_trainer(tmp_path, **options, save_strategy="steps", save_steps=1, output_dir=str(tmp_path / "whole"))
    whole.train()
    assert sum(history_value(whole, "dynamic_sampling/groups_replaced")) > 0
    resumed = make_trainer(tmp_path, **options, output_dir=str(tmp_path / "resumed"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert largest_difference(weights_of(whole), weights_of(resumed)) == 0.0


def test_close_rewards_count_unless_their_difference_is_rounding():
    """Of three groups the second's rewards are equal up to rounding, the third's differ by 0.004."""
    rewards = torch.tensor([[0.0, 1.0], [0.3, 0.3 + 5e-8], [0.500, 0.504]])
    centred = rewards - rewards.mean(1, keepdim=True)
    by_group = centred / (rewards.std(1, keepdim=True) + 1e-4)
    for scale, advantages in (("group", by_group), ("none", centred), ("batch", centred / rewards.std())):
        rounding = rows.advantage_rounding(scale, "sum_then_normalize")
        assert rows.informative_groups(advantages.flatten(), 2, rounding).tolist() == [True, False, True]


def test_dropout_is_refused_before_anything_is_drawn(folder):
    lora = LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.1)
    with pytest.raises(ConfigError, match=r"lora_dropout.* has dropout 0\.1.*share_prompt to false"):
        make_trainer(folder, peft_config=lora)
    make_trainer(folder, peft_config=lora, share_prompt=False)
    model_args = ModelArguments(model_name_or_path="nowhere", lora={"lora_dropout": 0.1})
    with pytest.raises(ConfigError, match=r"lora\.lora_dropout is 0\.1"):
        run.check_dropout(model_args, VideoGRPOConfig(output_dir=str(folder), use_cpu=True, bf16=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_vision_tower_sees_each_video_once(folder, family):
    trainer = make_trainer(folder, family=family, freeze=True, num_iterations=2, max_steps=2, beta=0.0)
    frames_seen = []
    tower = trainer.model.model.visual
    tower.register_forward_pre_hook(
        lambda module, args, kwargs: frames_seen.append(kwargs["grid_thw"]), with_kwargs=True
    )
    trainer.train()
    assert len(frames_seen) == 1 + 2  # the blank stand-in once, and one generation of two prompts


@pytest.mark.parametrize("family", FAMILIES)
def test_every_vision_tower_attends_in_few_calls(folder, family):
    trainer = make_trainer(folder, family=family)
    for model in (trainer.model, trainer.ref_model):
        assert unwrap(model).model.visual.config._attn_implementation == ATTENTION_NAME


def test_features_that_the_model_would_swallow_are_refused(folder, monkeypatch):
    monkeypatch.setattr(Qwen2_5_VLModel, "forward", lambda self, input_ids=None, **kwargs: None)
    make_trainer(folder)
    with pytest.raises(ConfigError, match=r"transformers \d.* takes no features .* install 5\.18"):
        make_trainer(folder, freeze=True)


@pytest.mark.parametrize("freeze", [False, True])
def test_rollouts_are_computed_in_the_precision_of_training(sharp_folder, freeze):
    trainer = make_trainer(sharp_folder, bf16=True, beta=0.0, freeze=freeze, max_steps=1, max_completion_length=24)
    assert trainer.model.dtype == torch.float32
    trainer.train()
    # 0.0085 where the arithmetic of rollouts is fp32.
    assert history_value(trainer, "sampling/sampling_logp_difference/mean")[0] < 0.005


def test_loader_workers_do_not_change_the_run(folder, plain_run):
    _, _, rows = plain_run
    trainer = make_trainer(folder, dataloader_num_workers=2, output_dir=str(folder / "workers"))
    trainer.train()
    again = logged_rollouts(folder / "workers")
    assert [row["completion"] for row in again] == [row["completion"] for row in rows]


@pytest.mark.parametrize("bad", ["no.mp4", "no.png", "torn.png"])
def test_what_cannot_be_shown_is_left_out_counted_and_listed(folder, bad):
    samples, (sound, two) = make_corpus(folder, 4), make_picture_corpus(folder, 2)
    broken = replace(samples[0], id="broken", media=Video(path=str(folder / bad)))
    if bad.endswith(".png"):
        whole = Path(sound.media.paths[0]).read_bytes()
        (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
        broken = replace(two, id="broken", media=Pictures((two.media.paths[0], str(folder / bad))))
    trainer = make_trainer(folder, samples=[samples[1], broken], max_steps=1, output_dir=str(folder / "bad"))
    trainer.train()
    assert {row["sample_id"] for row in logged_rollouts(folder / "bad")} == {samples[1].id}
    assert history_value(trainer, "data/bad_samples") == [1.0]
    [listed] = trainer.bad_samples.listed
    assert listed == {"sample_id": "broken", **media_in_row(broken.media), "problem": listed["problem"]}
    assert listed["problem"].startswith(f"VideoError: {folder / bad}: ")
    assert history_value(trainer, f"{broken.task}/ended/video_error") == [1.0]


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "bnpo"])
def test_a_left_out_group_weighs_nothing_and_the_others_their_full_share(folder, loss_type):
    samples = make_corpus(folder, 2)
    broken = Sample("broken", samples[0].task, Video(path=str(folder / "no.mp4")), "q", samples[0].target, 2.0, "toy")
    options = {"max_steps": 1, "max_grad_norm": 0.0, "optim": "sgd", "beta": 0.0, "loss_type": loss_type}
    options["entropy_coef"] = 0.05
    alone = make_trainer(folder, samples=[samples[0]], prompts_per_step=1, **options)
    alone.train()
    beside = make_trainer(folder, samples=[samples[0], broken], **options)
    beside.train()
    assert largest_difference(weights_of(alone), weights_of(beside)) < 1e-7


def test_a_completion_that_is_masked_as_truncated_keeps_its_share_as_in_trl():
    mask = torch.ones(8, 3, dtype=torch.long)
    mask[1] = 0
    valid = torch.ones(8, dtype=torch.bool)
    output = {"completion_mask": mask, "row_valid": valid}
    rows.weigh_rows(output, "grpo", 2, lambda counts: counts)
    assert (output["loss_scale"], output["num_items_in_batch"]) == (1.0, 21)
    mask[4:] = 0
    valid[4:] = False
    rows.weigh_rows(output, "grpo", 2, lambda counts: counts)
    assert (output["loss_scale"], output["num_items_in_batch"]) == (2.0, 9)


def test_checkpoints_of_deepspeed_are_read_without_pickle(tmp_path):
    """A class of this test stands for code that somebody hid in a file."""
    engine = torch_checkpoint_engine.TorchCheckpointEngine()
    unpatched = engine.load.__func__
    states = {"optimizer": {"state": [torch.ones(2)], "zero_stage": ZeroStageEnum.weights}, "scaler": LossScaler(1.0)}
    engine.save(states, tmp_path / "good.pt")
    engine.save({"state": SimpleNamespace(a=1)}, tmp_path / "bad.pt")
    with resumable.without_pickle():
        assert engine.load(tmp_path / "good.pt")["optimizer"]["zero_stage"] is ZeroStageEnum.weights
        with pytest.raises(ConfigError, match=r"bad.pt holds objects besides the states of a ZeRO run"):
            engine.load(tmp_path / "bad.pt")
    assert engine.load.__func__ is unpatched


def test_too_many_bad_videos_stop_the_run(folder):
    target = make_corpus(folder, 1)[0].target
    broken = [
        Sample(f"b{index}", "temporal_grounding", Video(path=str(folder / "no.mp4")), "q", target, 2.0, "toy")
        for index in range(8)
    ]
    with pytest.raises(VideoError, match=r"6 of 6 samples could not be used.*b\d"):
        make_trainer(folder, samples=broken, max_steps=4).train()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_final_folder_loads_with_plain_transformers(folder, family):
    final = folder / f"final_{family}"
    trainer = make_trainer(folder, family=family, max_steps=1, output_dir=str(final))
    before = weights_of(trainer)
    trainer.train()
    assert largest_difference(before, weights_of(trainer)) > 0
    trainer.save_model(str(final))
    trainer.processing_class.save_pretrained(str(final))
    model = AutoModelForImageTextToText.from_pretrained(final)
    AutoProcessor.from_pretrained(final)
    assert type(model) is FAMILIES[family].model_class and model.config._attn_implementation == "sdpa"
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    loaded = model.state_dict()
    assert largest_difference({name: weights_of(trainer)[name] for name in loaded}, loaded) == 0.0


def test_noise_is_keyed_by_seed_step_draw_sample_and_generation():
    sample = Sample("a", "temporal_grounding", Video(path="v"), "q", None, 1.0, "corpus")
    other = Sample("a", "temporal_grounding", Video(path="v"), "q", None, 1.0, "another corpus")
    seeds = {
        noise_seed(0, 0, 0, sample, 0),
        noise_seed(1, 0, 0, sample, 0),
        noise_seed(0, 1, 0, sample, 0),
        noise_seed(0, 0, 1, sample, 0),
        noise_seed(0, 0, 0, sample, 1),
        noise_seed(0, 0, 0, other, 0),
    }
    assert len(seeds) == 6 and noise_seed(0, 0, 0, sample, 0) in seeds


# Two iterations over generations of two updates: steps 1 to 3 lie inside the first generation's reuse.
REUSED = {
    "num_iterations": 2,
    "prompts_per_step": 2,
    "steps_per_generation": 4,
    "max_steps": 5,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 2,
}


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """Folders of runs that died by SIGKILL at step 3: after its checkpoint was marked complete, and just before."""
    folders = {when: tmp_path_factory.mktemp(when) for when in ("after_marker", "before_marker")}
    runs = [
        {
            "folder": str(folder),
            "kill": {"step": 3, "when": when},
            "overrides": {**REUSED, "output_dir": f"{folder}/run"},
        }
        for when, folder in folders.items()
    ]
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "tests.tiny_runs", json.dumps(runs)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == [signal.SIGKILL] * 2, result.stderr[-2000:]
    return folders


@pytest.mark.parametrize(
    ("when", "resumes_at"),
    [("after_marker", 3), ("before_marker", 2)],
    ids=["between two updates of one generation", "while a checkpoint is written"],
)
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(killed_runs, when, resumes_at):
    folder = killed_runs[when]
    whole = make_trainer(folder, **REUSED, output_dir=str(folder / "whole"))
    whole.train()
    trainer = make_trainer(folder, **REUSED)
    output = Path(trainer.args.output_dir)
    removed = checkpoint.remove_incomplete(output)
    assert [path.name for path in removed] == ([] if when == "after_marker" else ["checkpoint-3"])
    resumed_from = sound_checkpoint(checkpoint.last_checkpoint(output))
    assert resumed_from == output / f"checkpoint-{resumes_at}"
    trainer.train(resume_from_checkpoint=str(resumed_from))
    assert largest_difference(weights_of(whole), weights_of(trainer)) == 0.0
    uninterrupted = (folder / "whole" / "rollouts.jsonl").read_text()
    assert (output / "rollouts.jsonl").read_text() == uninterrupted
    assert sorted(path.name for path in checkpoint.checkpoints(output)) == ["checkpoint-4", "checkpoint-5"]


def test_a_video_that_has_gone_since_the_checkpoint_has_no_part_in_the_rest_of_its_generation(tmp_path):
    options = {"num_iterations": 2, "save_strategy": "steps", "save_steps": 1, "lr_scheduler_type": "constant"}
    first = make_trainer(tmp_path, **options, max_steps=1)
    first.train()
    gone = rollouts_of(tmp_path)[0]["sample_id"]
    samples = [
        replace(sample, media=Video(path=str(tmp_path / "gone.mp4"))) if sample.id == gone else sample
        for sample in make_corpus(tmp_path)
    ]
    again = make_trainer(tmp_path, **options, max_steps=2, samples=samples)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    masks = torch.cat([part["completion_mask"] for part in again._buffered_inputs])
    assert masks.any(dim=1).tolist() == [False] * 4 + [True] * 4
    assert largest_difference(weights_of(first), weights_of(again)) > 0


def test_a_checkpoint_of_the_second_epoch_resumes_with_that_epochs_order(tmp_path):
    options = {"max_steps": 8, "save_strategy": "steps", "save_steps": 7}
    whole = make_trainer(tmp_path, **options, output_dir=str(tmp_path / "whole"))
    whole.train()
    again = make_trainer(tmp_path, **options, output_dir=str(tmp_path / "again"))
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-7"))
    assert largest_difference(weights_of(whole), weights_of(again)) == 0.0


OVERRIDDEN = {
    "_generate_and_score_completions": "(self, inputs: list[dict[str, torch.Tensor | typing.Any]]) -> dict[str, torch.Tensor | typing.Any]",
    "_generate": "(self, prompts: list)",
    "_calculate_rewards": "(self, inputs, prompts, completions, completion_ids_list)",
    "_prepare_inputs": "(self, generation_batch: dict[str, torch.Tensor | typing.Any]) -> dict[str, torch.Tensor | typing.Any]",
    "_compute_loss": "(self, model, inputs)",
    "get_train_dataloader": "(self)",
    "log": "(self, logs: dict[str, float], start_time: float | None = None) -> None",
    "_get_per_token_logps_and_entropies": None,
}


def test_the_overridden_signatures_of_trl_are_those_this_was_written_for():
    own = {name for name, value in vars(VideoGRPOTrainer).items() if inspect.isfunction(value)}
    inherited = {name for name in own if hasattr(GRPOTrainer, name) and not name.startswith("__")}
    assert inherited == set(OVERRIDDEN)
    for name, signature in OVERRIDDEN.items():
        if signature is not None:
            found = str(inspect.signature(getattr(GRPOTrainer, name))).replace("typing.Any", "Any")
            assert found == signature.replace("typing.Any", "Any"), name
    for mixin, count in ((ResumableTrainer, 7), (StopsWhenDiverged, 3), (SavesPlainFolders, 2)):
        replaced = {name for name in vars(mixin) if hasattr(GRPOTrainer, name) and not name.startswith("__")}
        assert len(replaced) == count, mixin
        # `_run_epoch` hands its many arguments on by name; a call by position would fail.
        for name in replaced - {"create_model_card", "_run_epoch"}:
            own_names = list(inspect.signature(getattr(mixin, name)).parameters)
            assert own_names == list(inspect.signature(getattr(Trainer, name)).parameters), name
    keywords = set(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
    assert {"model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"} <= keywords
