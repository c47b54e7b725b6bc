"""Rollouts equal plain generation and the trainer's log-probabilities; their noise depends on nothing but its seed."""

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from tests.host_waits import counted_host_waits
from tests.tiny_prompts import PAD, make_media_prompt, make_prompt, make_questions, plain_arguments
from tests.tiny_prompts import make_model as make_flat_model
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.shared_prefix import completion_logps, encode_media, install_shared_prefix
from videochat_r1.modeling import products
from videochat_r1.modeling.attention_kernels import MATH
from videochat_r1.modeling.families import FAMILIES, family_of
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.rollout import own_keys, prefix_cache, transformers_engine
from videochat_r1.rollout.base import Rollout, RolloutEngine, SamplingSettings
from videochat_r1.rollout.decoding_step import DecodingStep
from videochat_r1.rollout.ended import Ended
from videochat_r1.rollout.sampling import TokenSampler, inverse_cdf, uniform_noise
from videochat_r1.rollout.transformers_engine import TransformersEngine

TEMPERATURE = 0.8


def make_model(family: str = "qwen2_5_vl") -> PreTrainedModel:
    """With sharp predictions, so that a wrong position changes tokens."""
    model = make_flat_model(family, tied=False)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    return model


def ragged_prompts(model: torch.nn.Module) -> list[PromptInputs]:
    """Two of nearly one length, which are padded together, and one that is much shorter."""
    return [
        make_prompt(model, 1, (4, 4, 6), 0.7),
        make_prompt(model, 2, (4, 4, 6), 1.3, num_text=13),
        make_prompt(model, 3, (2, 4, 4), 0.5),
    ]


def vision_ids(model: torch.nn.Module) -> tuple[int, ...]:
    config = model.config
    return tuple(
        sorted({config.video_token_id, config.image_token_id, config.vision_start_token_id, config.vision_end_token_id})
    )


def sampling(model: torch.nn.Module, num_tokens: int = 12, **changes) -> SamplingSettings:
    settings = SamplingSettings(
        max_new_tokens=num_tokens, temperature=TEMPERATURE, suppressed_token_ids=vision_ids(model)
    )
    return dataclasses.replace(settings, **changes)


def ids_of(groups: list[list[Rollout]]) -> list[list[list[int]]]:
    return [[rollout.completion_ids for rollout in group] for group in groups]


def seeds(num_prompts: int, num_generations: int) -> list[list[int]]:
    return [[1000 * i + g for g in range(num_generations)] for i in range(num_prompts)]


# --- the same as plain generation and as the trainer -------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1.0, 1.4])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_generate(family: str, penalty: float) -> None:
    plain = make_model(family)
    model = copy.deepcopy(plain)
    prompts = ragged_prompts(model)
    settings = sampling(model, 16, temperature=0.0, repetition_penalty=penalty)
    groups = TransformersEngine(model, PAD).generate(prompts, num_generations=2, settings=settings)
    for prompt, group in zip(prompts, groups, strict=True):
        expected = plain.generate(
            input_ids=prompt.input_ids[None],
            position_ids=prompt.position_ids[:, None],
            **plain_arguments([prompt]),
            suppress_tokens=list(vision_ids(model)),
            repetition_penalty=penalty,
            max_new_tokens=16,
            do_sample=False,
            eos_token_id=None,
        )[0, prompt.num_tokens :].tolist()
        assert [rollout.completion_ids for rollout in group] == [expected] * 2
        assert len(set(expected)) > 3


def test_greedy_notices_wrong_positions() -> None:
    model = make_model()
    settings = sampling(model, 24, temperature=0.0)
    made = TransformersEngine(model, PAD).generate(
        [make_prompt(model, 1, (4, 4, 6), 0.7), make_prompt(model, 1, (4, 4, 6), 3.0)],
        num_generations=1,
        settings=settings,
    )
    assert ids_of(made)[0] != ids_of(made)[1]


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_logps_are_the_trainers(family: str, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn:  # as on a GPU
        monkeypatch.setattr(products, "_HAS_ONEDNN", False)
    model = make_model(family)
    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    install_shared_prefix(model)
    prompts = ragged_prompts(model)
    settings = sampling(model, 20, top_p=0.9, eos_token_ids=tuple(range(100, 160)))
    groups = TransformersEngine(model, PAD).generate(
        prompts, num_generations=3, settings=settings, noise_seeds=seeds(3, 3)
    )
    flat = [rollout for group in groups for rollout in group]
    assert len({len(rollout.completion_ids) for rollout in flat}) > 2
    ids, mask = torch.zeros(9, 20, dtype=torch.long), torch.zeros(9, 20, dtype=torch.long)
    sampled = torch.zeros(9, 20)
    for row, rollout in enumerate(flat):
        size = len(rollout.completion_ids)
        ids[row, :size], mask[row, :size] = torch.tensor(rollout.completion_ids), 1
        sampled[row, :size] = torch.tensor(rollout.logps)
    for share_prompt in (True, False):
        logps, _ = completion_logps(
            model, [prompt for prompt in prompts for _ in range(3)], ids, mask,
            share_prompt=share_prompt, compute_entropy=False, pad_token_id=PAD,
        )  # fmt: skip
        torch.testing.assert_close(sampled, logps.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_as_exact_as_the_trainer(family: str) -> None:
    exact = make_model(family)
    half = copy.deepcopy(exact).to(torch.bfloat16)
    for model in (exact, half):
        add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
        install_shared_prefix(model)
    prompts = ragged_prompts(half)
    groups = TransformersEngine(half, PAD).generate(
        prompts, num_generations=4, settings=sampling(half, 20), noise_seeds=seeds(3, 4)
    )
    flat = [rollout for group in groups for rollout in group]
    ids, sampled = (torch.tensor([list(getattr(one, name)) for one in flat]) for name in ("completion_ids", "logps"))
    batch = ([prompt for prompt in prompts for _ in range(4)], ids, torch.ones_like(ids))
    with torch.no_grad():
        right, trained = (
            completion_logps(model, *batch, share_prompt=False, compute_entropy=False, pad_token_id=PAD)[0]
            for model in (exact, half)
        )
    assert 0 < (sampled - right).abs().mean() <= 1.5 * (trained - right).abs().mean()


def test_lora_weights_count() -> None:
    model = make_model()
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    prompts = ragged_prompts(model)[:1]
    settings = sampling(model, 16, temperature=0.0)
    with_adapter = TransformersEngine(wrapped, PAD).generate(prompts, num_generations=1, settings=settings)
    with wrapped.disable_adapter():
        without = TransformersEngine(wrapped, PAD).generate(prompts, num_generations=1, settings=settings)
    merged = TransformersEngine(wrapped.merge_and_unload(), PAD).generate(prompts, num_generations=1, settings=settings)
    assert ids_of(with_adapter) != ids_of(without)
    assert ids_of(with_adapter) == ids_of(merged)


# --- a video once for all its questions ------------------------------------------------------------------------------------


def questions(model: PreTrainedModel) -> list[PromptInputs]:
    """Three questions about one video and two about another, one of them a copy of the pixels, in turns; one alone; two that
    share the first of two pictures."""
    one, two, three = make_questions(model, 1, (5, 9, 2))
    four, five = make_questions(model, 2, (7, 1))
    four = dataclasses.replace(four, media=(dataclasses.replace(four.media[0], patches=four.media[0].patches.clone()),))
    six, other = (make_media_prompt(model, seed, "image", [(1, 4, 6), (1, 4, 4)]) for seed in (3, 4))
    seven = dataclasses.replace(six, media=(six.media[0], other.media[1]))
    return [one, four, two, make_prompt(model, 5, (2, 4, 4), 0.5), five, six, three, seven]


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_about_one_video_are_answered_as_alone(family: str) -> None:
    model = make_model(family)
    prompts, noise = questions(model), seeds(8, 3)
    features = [encode_media(model, prompt) for prompt in prompts]
    settings = sampling(model, 24, eos_token_ids=tuple(range(100, 260)))
    engine = TransformersEngine(model, PAD)
    alone = [
        engine.generate([prompt], num_generations=3, settings=settings, noise_seeds=[of_one])[0]
        for prompt, of_one in zip(prompts, noise, strict=True)
    ]
    # Rows, questions and a whole video end before others.
    assert len({max(len(row.completion_ids) for row in group) for group in alone}) > 3
    for rows, given in ((None, None), (None, features), (15, None), (6, features)):
        together = TransformersEngine(model, PAD, max_batch_rows=rows).generate(
            prompts, num_generations=3, settings=settings, noise_seeds=noise, media_features=given
        )
        assert ids_of(together) == ids_of(alone)
        for ours, theirs in zip(together, alone, strict=True):
            for row, expected in zip(ours, theirs, strict=True):
                assert row.logps == pytest.approx(expected.logps, abs=1e-5)


@pytest.mark.parametrize(("rows", "shared"), [(None, True), (12, True), (3, False)])
def test_what_prompts_share_is_encoded_prefilled_and_kept_once(
    rows: int | None, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are cut between videos where they can be: at 4 groups a batch they can, at 1 they cannot."""
    model = make_model()
    prompts = [prompt for prompt in questions(model) if prompt.media[0].kind == "video"]
    prompts += [*make_questions(model, 6, (3, 4))]
    patches: list[tuple[int, ...]] = []
    tokens: list[tuple[int, ...]] = []
    count_calls(model.base_model.visual, patches)
    count_calls(model.base_model.language_model, tokens)
    kept: list[int] = []
    decode = TransformersEngine._decode

    def watched(self: TransformersEngine, cache: prefix_cache.SharedPrefixCache, *args: Any) -> None:
        kept.append(sum(sum(block.lengths) for level in cache.levels for block in level))
        decode(self, cache, *args)

    monkeypatch.setattr(TransformersEngine, "_decode", watched)
    engine = TransformersEngine(model, PAD, max_batch_rows=rows)
    engine.generate(prompts, num_generations=3, settings=sampling(model, 2), noise_seeds=seeds(8, 3))
    per_video = {prompt.media[0].digest: len(prompt.media[0].patches) for prompt in prompts}
    encoded = per_video.values() if shared else [len(prompt.media[0].patches) for prompt in prompts]
    assert sum(size for (size,) in patches) == sum(encoded)
    assert sum(kept) == sum(size for _, size in tokens)


# --- noise -------------------------------------------------------------------------------------------------------------


def test_noise_depends_on_its_seed_alone() -> None:
    model = make_model()
    prompts, noise = ragged_prompts(model), seeds(3, 4)
    engine = TransformersEngine(model, PAD)
    settings = sampling(model, eos_token_ids=tuple(range(100, 130)))
    whole = ids_of(engine.generate(prompts, num_generations=4, settings=settings, noise_seeds=noise))
    reversed_order = engine.generate(prompts[::-1], num_generations=4, settings=settings, noise_seeds=noise[::-1])
    assert ids_of(reversed_order) == whole[::-1]
    for i, prompt in enumerate(prompts):
        for g in range(4):
            alone = engine.generate([prompt], num_generations=1, settings=settings, noise_seeds=[[noise[i][g]]])
            assert ids_of(alone) == [[whole[i][g]]]
    in_parts = TransformersEngine(model, PAD, max_batch_rows=5)
    assert ids_of(in_parts.generate(prompts, num_generations=4, settings=settings, noise_seeds=noise)) == whole
    assert len({tuple(row) for group in whole for row in group}) == 12
    other = engine.generate(prompts, num_generations=4, settings=settings, noise_seeds=seeds(4, 4)[1:])
    assert ids_of(other) != whole


@pytest.mark.parametrize("rows", [None, 5])
@pytest.mark.parametrize("ending", [range(100, 130), range(0)])
def test_prompts_may_want_unequal_numbers_of_rollouts(rows: int | None, ending: range) -> None:
    model = make_model()
    prompts, noise = ragged_prompts(model), seeds(3, 4)
    settings = sampling(model, eos_token_ids=tuple(ending))
    whole = TransformersEngine(model, PAD).generate(prompts, num_generations=4, settings=settings, noise_seeds=noise)
    engine, counts = TransformersEngine(model, PAD, max_batch_rows=rows), [2, 4, 1]
    part = [row[:count] for row, count in zip(noise, counts, strict=True)]
    made = engine.generate(prompts, num_generations=counts, settings=settings, noise_seeds=part)
    assert ids_of(made) == [group[:count] for group, count in zip(ids_of(whole), counts, strict=True)]
    greedy = engine.generate(prompts, num_generations=counts, settings=sampling(model, 4, temperature=0.0))
    assert [len(group) for group in greedy] == counts
    with pytest.raises(ValueError, match="noise seeds for 3 prompts"):
        engine.generate(prompts, num_generations=counts, settings=settings, noise_seeds=noise)
    with pytest.raises(ConfigError, match="expected at least 1"):
        engine.generate(prompts, num_generations=[2, 0, 1], settings=settings, noise_seeds=noise)
    with pytest.raises(ValueError, match="2 numbers of generations for 3 prompts"):
        engine.generate(prompts, num_generations=[2, 1], settings=settings, noise_seeds=noise)


def test_a_longer_limit_continues_the_same_completions() -> None:
    model = make_model()
    engine, prompts = TransformersEngine(model, PAD), ragged_prompts(model)[:1]
    short, long = (
        ids_of(engine.generate(prompts, num_generations=3, settings=sampling(model, n), noise_seeds=seeds(1, 3)))
        for n in (5, 14)
    )
    assert [row[:5] for row in long[0]] == short[0]


def test_uniform_noise_is_a_pure_function_of_large_seeds() -> None:
    noise = uniform_noise([5, 2**62 + 5, 5], 400)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(noise[:, :7], uniform_noise([5, 2**62 + 5, 5], 7))
    assert 0 <= noise.min() < 0.02
    assert 0.98 < noise.max() < 1
    assert abs(float(noise[:2].mean()) - 0.5) < 0.05


# --- what can be sampled -------------------------------------------------------------------------------------------------


def test_vision_tokens_are_never_sampled() -> None:
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[list(vision_ids(model))] = 0.0
    prompts = ragged_prompts(model)[:1]
    settings = sampling(model, 100, temperature=1.0)
    groups = TransformersEngine(model, PAD).generate(
        prompts, num_generations=64, settings=settings, noise_seeds=seeds(1, 64)
    )
    drawn = torch.tensor(ids_of(groups)).flatten()
    assert len(drawn) == 6400
    assert not torch.isin(drawn, torch.tensor(vision_ids(model))).any()
    vocabulary = model.config.get_text_config().vocab_size
    # All tokens are equally likely here, so without the mask some 25 vision tokens were to be expected.
    assert 6400 * len(vision_ids(model)) / vocabulary > 15
    assert len(set(drawn.tolist())) > 0.95 * vocabulary
    # The log-probability is of the whole vocabulary, suppressed tokens included.
    assert groups[0][0].logps == pytest.approx([-torch.tensor(float(vocabulary)).log().item()] * 100, abs=1e-5)


def test_inverse_cdf_by_hand() -> None:
    scores = torch.tensor([0.1, 0.0, 0.6, 0.3]).log().expand(6, -1)
    uniform = torch.tensor([0.0, 0.09, 0.11, 0.69, 0.71, 1.0], dtype=torch.float64)
    assert inverse_cdf(scores, uniform).tolist() == [0, 0, 2, 2, 3, 3]
    last_suppressed = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert inverse_cdf(last_suppressed, torch.ones(1, dtype=torch.float64)).tolist() == [1]


def test_inverse_cdf_of_a_large_vocabulary_is_that_of_one_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 4 * torch.randn(400, 5000, generator=generator)
    scores[:, ::3] = -torch.inf
    scores[:200, 1000:4200] = -torch.inf
    uniform = torch.rand(400, generator=generator, dtype=torch.float64)
    uniform[:3] = torch.tensor([0.0, 1.0 - 2.0**-53, 1.0])
    cumulative = scores.double().softmax(-1).cumsum(-1)
    target = uniform.clamp(max=1 - 2.0**-40).unsqueeze(-1) * cumulative[:, -1:]
    expected = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    assert torch.equal(inverse_cdf(scores, uniform), expected)
    assert scores.gather(1, expected[:, None]).isfinite().all()
    assert inverse_cdf(torch.full((1, 5000), torch.nan), uniform[:1]).item() < 5000


def test_drawn_frequencies_are_the_softmax() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0]])
    sampler = TokenSampler(SamplingSettings(1, temperature=0.7), 5, torch.device("cpu"))
    noise = uniform_noise([11], 20000)[0]
    tokens, logps = sampler.draw(logits.expand(20000, -1), noise, None)
    expected = (logits[0] / 0.7).softmax(-1)
    torch.testing.assert_close(tokens.bincount(minlength=5) / 20000, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(logps, expected.log()[tokens])


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [("top_k", 2, {2, 4}), ("top_p", 0.85, {0, 2, 4}), ("min_p", 0.3, {2, 4}), ("suppressed_token_ids", (2, 4), {0, 1, 3})],
)  # fmt: skip
def test_truncation_keeps_the_likely_and_leaves_logps_alone(field: str, value: object, allowed: set[int]) -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, -0.5, 1.0]])
    settings = dataclasses.replace(SamplingSettings(1), **{field: value})
    tokens, logps = TokenSampler(settings, 5, torch.device("cpu")).draw(
        logits.expand(2000, -1), uniform_noise([3], 2000)[0], None
    )
    assert set(tokens.tolist()) == allowed
    torch.testing.assert_close(logps, logits[0].log_softmax(-1)[tokens])


# --- doing no more than needed -------------------------------------------------------------------------------------------


def count_calls(module: torch.nn.Module, shapes: list[tuple[int, ...]]) -> None:
    module.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple((args[0] if args else kwargs["inputs_embeds"]).shape[:-1])),
        with_kwargs=True,
    )


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every decoding step, as they are taken."""
    rows: list[int] = []
    step = DecodingStep.__call__

    def counted(self: DecodingStep) -> None:
        rows.append(len(self._rows.token))
        step(self)

    monkeypatch.setattr(DecodingStep, "__call__", counted)
    return rows


def test_each_prompt_is_encoded_and_prefilled_once_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    steps = count_steps(monkeypatch)
    prompts = ragged_prompts(model)
    patches: list[tuple[int, ...]] = []
    rows: list[tuple[int, ...]] = []
    last_mlp: list[tuple[int, ...]] = []
    count_calls(model.base_model.visual, patches)
    count_calls(model.base_model.language_model.layers[0].mlp, rows)
    count_calls(model.base_model.language_model.layers[-1].mlp, last_mlp)
    TransformersEngine(model, PAD).generate(
        prompts, num_generations=5, settings=sampling(model, 4), noise_seeds=seeds(3, 5)
    )
    assert patches == [(sum(len(medium.patches) for prompt in prompts for medium in prompt.media),)]
    assert rows == [(1, sum(prompt.num_tokens - 1 for prompt in prompts))]
    assert steps == [15] * 4
    assert last_mlp == [(1, 0)]


def test_decoding_keeps_and_reads_one_copy_of_each_prompts_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    prompts = ragged_prompts(model)
    lengths = sorted(prompt.num_tokens - 1 for prompt in prompts)
    monkeypatch.setattr(prefix_cache, "_LITTLE_PADDING", 0)
    kept: set[int] = set()
    read: list[int] = []
    attend = prefix_cache.SharedPrefixCache.attend
    kernel = prefix_cache.choose_kernel(torch.device("cpu"), torch.float32, 32)

    def watched(self, layer_idx, query, scale):
        kept.add(
            sum(
                keys.shape[0] * keys.shape[1]
                for level in self.levels
                for keys in (block.keys[layer_idx] for block in level)
            )
        )
        read.append(0)
        return attend(self, layer_idx, query, scale)

    def forward(query, key, value, *args):
        read[-1] += key.shape[0] * key.shape[2]
        return kernel.forward(query, key, value, *args)

    monkeypatch.setattr(prefix_cache.SharedPrefixCache, "attend", watched)
    monkeypatch.setattr(prefix_cache, "choose_kernel", lambda *args: dataclasses.replace(kernel, forward=forward))
    TransformersEngine(model, PAD).generate(
        prompts, num_generations=5, settings=sampling(model, 4), noise_seeds=seeds(3, 5)
    )
    # Prompts of nearly one length are padded to it; there is no factor of 5.
    (tokens,) = kept
    assert sum(lengths) <= tokens <= 1.25 * sum(lengths)
    assert set(read) == {tokens}


def test_ended_rows_are_dropped_and_all_ended_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    prompts = ragged_prompts(model)
    settings = sampling(model, 400, eos_token_ids=tuple(range(100, 400)))
    rows = count_steps(monkeypatch)
    groups = TransformersEngine(model, PAD).generate(
        prompts, num_generations=8, settings=settings, noise_seeds=seeds(3, 8)
    )
    flat = [rollout for group in groups for rollout in group]
    lengths = [len(rollout.completion_ids) for rollout in flat]
    assert {rollout.ended for rollout in flat} == {Ended.STOP}
    assert len(rows) == max(lengths) < 400
    assert rows[0] == 24
    assert rows[-1] < 12
    for rollout in flat:
        assert len(rollout.logps) == len(rollout.completion_ids)
        assert [token in settings.eos_token_ids for token in rollout.completion_ids].index(True) == len(
            rollout.logps
        ) - 1


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 0.0}, {}, {"top_k": 20, "top_p": 0.9, "min_p": 0.01}, {"repetition_penalty": 1.3}],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_between_two_checks_for_the_end_the_host_waits_for_nothing(
    family: str, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_engine, "_STEPS_BETWEEN_CHECKS", {})
    model = make_model(family)
    settings = sampling(model, 7, eos_token_ids=tuple(range(100, 400)), **changes)
    waits: list[dict[str, int]] = []
    decode = TransformersEngine._decode

    def counted(self: TransformersEngine, *args: Any) -> None:
        with counted_host_waits() as found:
            decode(self, *args)
        waits.append(dict(found))

    monkeypatch.setattr(TransformersEngine, "_decode", counted)
    groups = TransformersEngine(model, PAD).generate(
        ragged_prompts(model), num_generations=4, settings=settings, noise_seeds=seeds(3, 4)
    )
    assert any(rollout.ended == Ended.STOP for group in groups for rollout in group)
    assert waits == [{}]


@pytest.mark.parametrize("family", FAMILIES)
def test_autocast_keeps_keys_and_values_in_its_precision(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(family)
    dtypes: set[torch.dtype] = set()
    attend = prefix_cache.SharedPrefixCache.attend

    def seen(self: prefix_cache.SharedPrefixCache, layer_idx: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        kept = [tensor for level in self.levels for block in level for tensor in (*block.keys, *block.values)]
        dtypes.update(tensor.dtype for tensor in (*kept, *self.own.stores, query))
        return attend(self, layer_idx, query, scale)

    monkeypatch.setattr(prefix_cache.SharedPrefixCache, "attend", seen)
    with torch.autocast("cpu", torch.bfloat16):
        one(model, sampling(model, 4))
    assert dtypes == {torch.bfloat16}


def test_a_rollout_at_the_length_limit_ended_for_it() -> None:
    model = make_model()
    (group,) = TransformersEngine(model, PAD).generate(
        ragged_prompts(model)[:1], num_generations=2, settings=sampling(model, 6), noise_seeds=seeds(1, 2)
    )
    assert [(len(rollout.completion_ids), rollout.ended) for rollout in group] == [(6, Ended.LENGTH)] * 2


def loop_over_sets(query, keys, values, query_starts, key_starts, longest, scale, lengths=None):
    """`ragged_attention` where there is no CUDA: set by set."""
    outs, lses = [], []
    for index, (begin, end) in enumerate(itertools.pairwise(query_starts.tolist())):
        first = int(key_starts[index])
        last = int(key_starts[index + 1]) if lengths is None else first + int(lengths[index])
        parts = (query[begin:end], keys[first:last], values[first:last])
        assert end - begin <= longest[0]
        assert last - first <= longest[1]
        out, lse, _ = MATH.forward(*(part.transpose(0, 1).unsqueeze(0) for part in parts), False, scale)
        outs.append(out[0].transpose(0, 1))
        lses.append(lse[0].t())
    return torch.cat(outs), torch.cat(lses)


@pytest.mark.parametrize(("way", "blocks"), [("padded", [3, 2]), ("unpadded", [4, 5]), ("ragged", [1, 2])])
def test_levels_and_unequal_lengths_by_every_kernel(
    way: str, blocks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    prompts, noise = questions(model), seeds(8, 2)
    settings = sampling(model, 24, eos_token_ids=tuple(range(100, 260)))
    engine = TransformersEngine(model, PAD)
    expected = ids_of(engine.generate(prompts, num_generations=2, settings=settings, noise_seeds=noise))
    kernel = dataclasses.replace(MATH, takes_bias=way == "padded")
    monkeypatch.setattr(prefix_cache, "choose_kernel", lambda *args: kernel)
    if way == "ragged":
        for module in (prefix_cache, own_keys):
            monkeypatch.setattr(module, "has_ragged_attention", lambda *args: True)
            monkeypatch.setattr(module, "ragged_attention", loop_over_sets)
    shapes: list[list[int]] = []
    attend = prefix_cache.SharedPrefixCache.attend

    def watched(self: prefix_cache.SharedPrefixCache, *args: Any) -> torch.Tensor:
        shapes.append([len(level) for level in self.levels])
        return attend(self, *args)

    monkeypatch.setattr(prefix_cache.SharedPrefixCache, "attend", watched)
    made = engine.generate(prompts, num_generations=2, settings=settings, noise_seeds=noise)
    assert ids_of(made) == expected
    assert shapes[0] == blocks
    # A question of one token has no branch of its own, so there are two runs of branches below.


def test_features_computed_once_give_the_same_rollouts() -> None:
    model = make_model()
    prompts, settings = ragged_prompts(model), sampling(model, 8)
    engine = TransformersEngine(model, PAD)
    expected = engine.generate(prompts, num_generations=2, settings=settings, noise_seeds=seeds(3, 2))
    features = [encode_media(model, prompt) for prompt in prompts]
    patches: list[tuple[int, ...]] = []
    count_calls(model.base_model.visual, patches)
    made = engine.generate(
        prompts, num_generations=2, settings=settings, noise_seeds=seeds(3, 2), media_features=features
    )
    assert ids_of(made) == ids_of(expected)
    assert patches == []


# --- leaving the model as it was, refusing what cannot work --------------------------------------------------------------


def test_training_mode_and_checkpointing_are_no_hindrance_and_stay() -> None:
    model = make_model()
    prompts, settings = ragged_prompts(model), sampling(model, 8)
    engine: RolloutEngine = TransformersEngine(model, PAD)
    expected = engine.generate(prompts, num_generations=2, settings=settings, noise_seeds=seeds(3, 2))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    model.base_model.visual.eval()
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    before = {name: module.training for name, module in model.named_modules()}
    assert ids_of(engine.generate(prompts, num_generations=2, settings=settings, noise_seeds=seeds(3, 2))) == ids_of(
        expected
    )
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.is_grad_enabled()


def one(model: torch.nn.Module, settings: SamplingSettings, noise: Sequence[Sequence[int]] | None = ((1, 2),)) -> None:
    TransformersEngine(model, PAD).generate(
        [make_prompt(model, 1, (2, 4, 4), 0.5)], num_generations=2, settings=settings, noise_seeds=noise
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"top_k": -1},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"eos_token_ids": (10**6,)},
        {"suppressed_token_ids": (3,), "eos_token_ids": (3,)},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    model = make_model()
    with pytest.raises(ConfigError, match=r"out of its range|do not exist|suppressed"):
        one(model, sampling(model, **changes))


def test_noise_that_does_not_fit_is_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="noise_seeds"):
        one(model, sampling(model), None)
    with pytest.raises(ValueError, match="noise seeds for 1 prompts"):
        one(model, sampling(model), [[1, 2, 3]])


# --- a conversation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_goes_on_from_a_kept_one(family: str) -> None:
    """Equal to an engine that keeps nothing, and only what is new is computed: again after something else, not after too much."""
    model = make_model(family)
    words = torch.randint(10, 250, (250,), generator=torch.Generator().manual_seed(3)).tolist()
    first, second, third, changed = (
        make_media_prompt(model, 1, "video", [(4, 4, 6)], 0.7, rest=rest)
        for rest in (words[:5], words[:90], words[:200], [*words[:40], *words[200:]])
    )
    other = make_media_prompt(model, 2, "image", [(1, 4, 6)], rest=words[:80])
    settings = sampling(model, 10, temperature=0.0)
    keeping = TransformersEngine(model, PAD, max_kept_tokens=third.num_tokens + other.num_tokens)
    towers, prefilled = counted_forwards(model)
    asked = (first, second, other, third, third, changed)
    answers = [keeping.generate([prompt], num_generations=1, settings=settings)[0] for prompt in asked]
    assert len(towers) == 2, "one for each medium"
    assert prefilled == [first.num_tokens - 1, 85, other.num_tokens - 1, 110, 49]
    fresh = TransformersEngine(model, PAD)
    again = [fresh.generate([prompt], num_generations=1, settings=settings)[0] for prompt in asked]
    assert ids_of(answers) == ids_of(again)
    for [one], [same] in zip(answers, again, strict=True):
        assert one.logps == pytest.approx(same.logps, abs=1e-5)
    keeping.kept.forget()
    prefilled.clear()
    keeping.generate([third], num_generations=1, settings=settings)
    assert prefilled == [third.num_tokens - 1]


def counted_forwards(model: PreTrainedModel) -> tuple[list[None], list[int]]:
    """Filled from now on: an entry for each forward of the tower, and the tokens of each row that the decoder computes."""
    towers: list[None] = []
    tokens: list[int] = []
    family_of(model.config).tower(model).register_forward_hook(lambda *_: towers.append(None))
    layer = model.base_model.language_model.layers[0]
    layer.register_forward_pre_hook(lambda _, arguments: tokens.append(int(arguments[0].shape[1])))
    return towers, tokens


def test_who_watches_sees_every_token_and_can_end_it() -> None:
    model = make_model()
    prompts = ragged_prompts(model)
    engine = TransformersEngine(model, PAD, max_batch_rows=4)
    settings = sampling(model, 12, eos_token_ids=tuple(range(100, 160)))
    seen: dict[int, list[list[list[int]]]] = {0: [], 1: [], 2: []}
    noise = seeds(3, 2)
    groups = engine.generate(
        prompts,
        num_generations=2,
        settings=settings,
        noise_seeds=noise,
        watch=lambda prompt, group: seen[prompt].append(group),
    )
    assert [told[-1] for told in seen.values()] == ids_of(groups)
    for told, group in zip(seen.values(), ids_of(groups), strict=True):
        steps = range(1, len(told) + 1)
        assert told == [[ids[:step] for ids in group] for step in steps]

    def enough(prompt: int, group: list[list[int]]) -> None:
        if len(group[0]) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.generate(prompts, num_generations=2, settings=settings, noise_seeds=noise, watch=enough)
    again = engine.generate(prompts, num_generations=2, settings=settings, noise_seeds=noise)
    assert ids_of(again) == ids_of(groups)
