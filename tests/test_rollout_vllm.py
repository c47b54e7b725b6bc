"""vLLM's rollouts against the trainer's own computation, on vLLM's CPU build and a tiny model.

An engine takes seconds to start and gigabytes to hold, so most tests share one, behind a trainer's model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig

from tests.tiny_prompts import make_media_prompt, plain_arguments
from tests.tiny_runs import by_letters, logged_rollouts, make_corpus, make_trainer
from videochat_r1.errors import ConfigError
from videochat_r1.grpo import looks
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import eos_token_ids, load_config, load_model, load_processor, vision_token_ids
from videochat_r1.modeling.media_features import encode_media
from videochat_r1.modeling.prompt_tree import common_beginning
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.rollout.base import Rollout, SamplingSettings
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.video.frames import Frames, VideoBudget
from videochat_r1.video.probe import VideoInfo

pytestmark = pytest.mark.vllm

QUESTIONS = ("When is the object visible in the video?", "Which option is right?", "x")

one_family = pytest.mark.parametrize("world", [DEFAULT_FAMILY], indirect=True)


def make_frames(num_frames: int, height: int, width: int, fps: float, seed: int) -> Frames:
    """An odd last frame is repeated."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (num_frames, 3, height, width), generator=generator, dtype=torch.uint8)
    pixels = torch.cat([pixels, pixels[-1:]]) if num_frames % 2 else pixels
    times = tuple(index / fps for index in range(len(pixels)))
    return Frames(pixels, times, VideoInfo(num_frames / fps, num_frames, fps, width, height), fps, num_frames)


def randomise(model: torch.nn.Module, seed: int) -> None:
    """New values for every weight, large enough that outputs vary with the input."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if "norm" in name else 0.15 * noise)


@torch.no_grad()
def trainer_logps(model: torch.nn.Module, prompt: PromptInputs, rollout: Rollout, temperature: float) -> torch.Tensor:
    """(C,) the slow, obvious way: one plain forward over prompt and completion, all tokens of the vocabulary."""
    completion = torch.tensor(rollout.completion_ids)
    positions = prompt.next_position + torch.arange(len(completion))
    logits = model(
        input_ids=torch.cat([prompt.input_ids, completion])[None],
        position_ids=torch.cat([prompt.position_ids, positions.expand(3, -1)], 1)[:, None],
        **plain_arguments([prompt]),
    ).logits[0, prompt.num_tokens - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, completion[:, None])[:, 0]


def largest_difference(model, prompts, groups, temperature) -> float:
    return max(
        float((torch.tensor(rollout.logps) - trainer_logps(model, prompt, rollout, temperature)).abs().max())
        for prompt, group in zip(prompts, groups, strict=True)
        for rollout in group
    )


@pytest.fixture(scope="module", params=FAMILIES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A trainer's model (tied embeddings) with a vLLM engine behind it; prompts of three videos, a picture, three pictures."""
    # Not at the top: where vLLM is not installed this file is still collected.
    from videochat_r1.rollout.vllm_training import VideoVLLMGeneration

    path = tmp_path_factory.mktemp("vllm") / "model"
    family = FAMILIES[request.param]
    build_tiny(path, hidden=64, layers=3, vision_hidden=32, vision_layers=3, family=request.param)
    processor = load_processor(path)
    model = load_model(path, dtype=torch.float32).eval()
    randomise(model, 0)
    builder = PromptBuilder(processor, load_config(path), VideoBudget())
    # 2 fps is exact in every precision; 3 and 1.7 are not; one prompt is longer than two of vLLM's cache blocks.
    shapes = [(32, 4, 4, 2.0), (12, 2, 3, 3.0), (9, 3, 2, 1.7)]
    frames = [
        make_frames(count, rows * builder.factor, columns * builder.factor, fps, seed)
        for seed, (count, rows, columns, fps) in enumerate(shapes)
    ]
    videos = [builder.from_frames(f, builder.render_text(q)) for f, q in zip(frames, QUESTIONS, strict=True)]
    pictures = []
    for seed, grids in enumerate([[(1, 4, 6)], [(1, 8, 4), (1, 4, 4), (1, 4, 10)]]):
        media = make_media_prompt(model, seed, "image", grids).media
        pictures.append(builder.from_media(media, builder.render_text(QUESTIONS[seed], "image", len(media))))
    generation = VideoVLLMGeneration(model, Accelerator(cpu=True), processor, max_model_length=1024, max_num_seqs=64)
    generation.sync_weights()
    settings = SamplingSettings(
        max_new_tokens=24,
        eos_token_ids=eos_token_ids(model, processor),
        suppressed_token_ids=vision_token_ids(processor),
    )
    yield SimpleNamespace(
        family=family,
        model=model,
        processor=processor,
        builder=builder,
        frames=frames,
        videos=videos,
        prompts=[videos[0], pictures[0], *videos[1:], pictures[1]],
        generation=generation,
        vllm_model=generation.engine._model,
        # Not the decoder around it, which vLLM calls past torch's hooks. Positions are its first argument.
        first_layer=generation.engine._model.language_model.model.layers[0],
        settings=settings,
    )
    generation.engine.close()


@contextmanager
def hooked(module: torch.nn.Module, record: Callable[[dict], None]) -> Iterator[None]:
    """`record` gets every call's arguments by name."""
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: record({**dict(enumerate(args)), **kwargs}), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


def seeds_of(num_prompts: int, num_generations: int, first: int = 0) -> list[list[int]]:
    return [[first + 1000 * i + g + (1 << 62) for g in range(num_generations)] for i in range(num_prompts)]


def ids_of(groups: list[list[Rollout]]) -> list[list[list[int]]]:
    return [[rollout.completion_ids for rollout in group] for group in groups]


def test_greedy_output_is_that_of_transformers(world: SimpleNamespace) -> None:
    greedy = replace(world.settings, temperature=0.0)
    ours = TransformersEngine(world.model, world.processor.tokenizer.pad_token_id).generate(
        world.prompts, num_generations=1, settings=greedy
    )
    theirs = world.generation.generate(world.prompts, num_generations=1, settings=greedy)
    assert [group[0].completion_ids for group in theirs] == [group[0].completion_ids for group in ours]
    assert [group[0].ended for group in theirs] == [group[0].ended for group in ours]
    assert len({tuple(group[0].completion_ids) for group in theirs}) == 5
    for a, b in zip(theirs, ours, strict=True):
        assert a[0].logps == pytest.approx(b[0].logps, abs=1e-4)


def test_inputs_are_those_of_vllms_own_processor(world: SimpleNamespace) -> None:
    """Prompt ids and pixels that vLLM would make of the same frames, so bypassing its processor loses nothing."""
    llm = world.generation.llm
    for frames, prompt in zip(world.frames, world.videos, strict=True):
        # Alone, it would leave a template's start and end around a video that the family writes step by step.
        text = prompt.text.replace(world.family.mark("video", world.processor), world.processor.video_token)
        metadata = {
            "fps": frames.sample_fps,
            "frames_indices": list(range(frames.num_frames)),
            "total_num_frames": frames.num_frames,
            "duration": frames.duration,
            "do_sample_frames": False,
        }
        video = (frames.pixels[: frames.num_frames].permute(0, 2, 3, 1).numpy(), metadata)
        theirs = llm._preprocess_cmpl_one(
            {"prompt": text, "multi_modal_data": {"video": video}}, mm_processor_kwargs={"do_resize": False}
        )
        item = theirs["mm_kwargs"]["video"][0].get_data()
        assert theirs["prompt_token_ids"] == prompt.input_ids.tolist()
        assert torch.allclose(item["pixel_values_videos"], prompt.media[0].patches, atol=1e-5)
        assert tuple(item["video_grid_thw"].tolist()) == prompt.media[0].grid


def test_positions_are_the_trainers(world: SimpleNamespace) -> None:
    """Those that vLLM's decoder computes with, in prompt and completion."""
    world.generation.sync_weights()
    seen: list[torch.Tensor] = []
    for prompt in world.prompts:
        seen.clear()
        # A buffer, which vLLM fills anew for every step.
        with hooked(world.first_layer, lambda call: seen.append(call[0].clone())):
            world.generation.generate([prompt], num_generations=1, settings=replace(world.settings, temperature=0.0))
        positions = torch.cat(seen, 1)
        assert torch.equal(positions[:, : prompt.num_tokens], prompt.position_ids)
        completion = positions[:, prompt.num_tokens :]
        expected = prompt.next_position + torch.arange(completion.shape[1])
        assert completion.shape[1] >= 1 and torch.equal(completion, expected.expand(3, -1))


def vllms_own_positions(world: SimpleNamespace, prompt: PromptInputs) -> torch.Tensor:
    """(3, P) what vLLM computes of the engine's request, with the rate that its processor would state beside a video."""
    engine = world.generation.engine
    request = engine._request(prompt, None)
    engine._controls._positions.clear()
    ((kind, places),) = request["mm_placeholders"].items()
    features = []
    for medium, place, item in zip(prompt.media, places, request["mm_kwargs"][kind], strict=True):
        rate = SimpleNamespace(data=torch.tensor(2 / (medium.sample_fps or 1.0)))
        features.append(SimpleNamespace(modality=kind, mm_position=place, data={**item, "second_per_grid_ts": rate}))
    return engine._controls._own_positions(prompt.input_ids.tolist(), features)[0]


def test_vllms_own_positions_are_ours_where_its_rates_are_exact(world: SimpleNamespace) -> None:
    times_are_text = world.family.seconds_tokens(1.0) > 0
    for prompt in world.prompts if times_are_text else world.prompts[:2] + world.prompts[4:]:
        assert torch.equal(vllms_own_positions(world, prompt), prompt.position_ids)


@one_family
def test_vllm_alone_would_misplace_some_videos(world: SimpleNamespace) -> None:
    """Why positions are given: with a repeated frame, or at other rates, vLLM's need not be ours."""
    frames = make_frames(8, 56, 56, 2.0, 3)
    last = frames.timestamps[-2]
    cut = replace(frames, timestamps=(*frames.timestamps[:-2], last + 1.0, last + 1.5))
    prompt = world.builder.from_frames(cut, world.builder.render_text("x"))
    assert not torch.equal(vllms_own_positions(world, prompt), prompt.position_ids)
    groups = world.generation.generate([prompt], num_generations=2, settings=world.settings, noise_seeds=seeds_of(1, 2))
    assert largest_difference(world.model, [prompt], groups, 1.0) < 1e-4


@one_family
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 1.3, "top_p": 0.8, "top_k": 50, "min_p": 0.01},
        {"temperature": 0.9, "repetition_penalty": 1.2},
    ],
    ids=["plain", "cold", "truncated", "penalty"],
)
def test_logps_are_of_the_whole_vocabulary_at_the_temperature(world: SimpleNamespace, changes: dict) -> None:
    settings = replace(world.settings, **changes)
    groups = world.generation.generate(world.prompts, num_generations=4, settings=settings, noise_seeds=seeds_of(5, 4))
    assert largest_difference(world.model, world.prompts, groups, settings.temperature) < 1e-4
    assert len({tuple(rollout.completion_ids) for group in groups for rollout in group}) == 20


def test_a_shifted_position_or_pixel_shows(world: SimpleNamespace) -> None:
    """The comparison above can fail: it sees one token a step later, or one patch brighter, of a video and of pictures."""
    for prompt in (world.videos[1], world.prompts[4]):
        positions = prompt.position_ids.clone()
        positions[0, prompt.num_tokens // 2] += 1
        first, *rest = prompt.media
        brighter = first.patches.clone()
        brighter[0] += 1
        for other in (
            replace(prompt, position_ids=positions),
            replace(prompt, media=(replace(first, patches=brighter), *rest)),
        ):
            groups = world.generation.generate(
                [other], num_generations=2, settings=world.settings, noise_seeds=seeds_of(1, 2)
            )
            assert largest_difference(world.model, [other], groups, 1.0) < 1e-4
            assert largest_difference(world.model, [prompt], groups, 1.0) > 1e-3


@one_family
def test_no_vision_token_among_thousands(world: SimpleNamespace) -> None:
    # Flat enough that every token is about as likely, so that many vision tokens would be drawn.
    settings = replace(world.settings, temperature=20.0, max_new_tokens=100, eos_token_ids=())
    vision = set(settings.suppressed_token_ids)

    def draw(settings: SamplingSettings) -> list[int]:
        groups = world.generation.generate(
            world.videos[1:], num_generations=16, settings=settings, noise_seeds=seeds_of(2, 16)
        )
        return [token for group in groups for rollout in group for token in rollout.completion_ids]

    tokens = draw(settings)
    assert len(tokens) == 3200 and not vision & set(tokens)
    assert vision & set(draw(replace(settings, suppressed_token_ids=())))


@one_family
def test_noise_depends_on_the_seed_alone(world: SimpleNamespace) -> None:
    def tokens(prompts: list[PromptInputs], seeds: list[list[int]]) -> list[list[list[int]]]:
        groups = world.generation.generate(
            prompts, num_generations=[len(row) for row in seeds], settings=world.settings, noise_seeds=seeds
        )
        return [[rollout.completion_ids for rollout in group] for group in groups]

    both = tokens(world.videos[1:], [[5, 6, 7], [8, 9, 10]])
    assert tokens([world.videos[2]], [[10, 8]]) == [[both[1][2], both[1][0]]]
    assert tokens(world.videos[1:], [[6], [8, 9]]) == [both[0][1:2], both[1][:2]]
    assert len({tuple(row) for row in both[0]}) == 3


def test_media_and_prompt_are_computed_once_per_group(world: SimpleNamespace) -> None:
    media: list[int] = []
    computed: list[int] = []
    world.generation.sync_weights()
    settings = replace(world.settings, max_new_tokens=1)
    with (
        hooked(world.vllm_model.visual, lambda call: media.append(len(call["grid_thw"]))),
        hooked(world.first_layer, lambda call: computed.append(call[0].shape[1])),
    ):
        world.generation.generate(world.prompts, num_generations=8, settings=settings, noise_seeds=seeds_of(5, 8))
    assert sum(media) == sum(len(prompt.media) for prompt in world.prompts)
    block = world.generation.llm.llm_engine.vllm_config.cache_config.block_size
    once = sum(prompt.num_tokens for prompt in world.prompts)
    rest = sum(prompt.num_tokens % block for prompt in world.prompts)
    assert world.prompts[0].num_tokens > 2 * block
    assert sum(computed) == once + 7 * rest


def test_a_video_is_encoded_once_for_all_its_questions(world: SimpleNamespace) -> None:
    """Also where questions about two videos come in turns; what they share is prefilled once, up to a block of the cache."""
    words = ("What happens first?", "And what then?", "Why?")
    prompts = [
        world.builder.from_frames(frames, world.builder.render_text(question))
        for question in words
        for frames in world.frames[:2]
    ]
    media: list[int] = []
    computed: list[int] = []
    settings = replace(world.settings, max_new_tokens=1)
    world.generation.sync_weights()
    with (
        hooked(world.vllm_model.visual, lambda call: media.append(len(call["grid_thw"]))),
        hooked(world.first_layer, lambda call: computed.append(call[0].shape[1])),
    ):
        groups = world.generation.generate(prompts, num_generations=2, settings=settings, noise_seeds=seeds_of(6, 2))
    assert largest_difference(world.model, prompts, groups, 1.0) < 1e-4
    assert sum(media) == 2
    block = world.generation.llm.llm_engine.vllm_config.cache_config.block_size
    apart = sum(prompt.num_tokens + prompt.num_tokens % block for prompt in prompts)
    common = [common_beginning(prompts[video], prompts[video + 2]) for video in range(2)]
    assert sum(computed) == apart - 2 * sum(tokens - tokens % block for tokens in common)


def test_weights_are_the_trainers_after_every_update(world: SimpleNamespace) -> None:
    for update in range(1, 4):
        randomise(world.model, update)
        stale = world.generation.generate(
            world.prompts, num_generations=2, settings=world.settings, noise_seeds=seeds_of(5, 2)
        )
        world.generation.sync_weights()
        fresh = world.generation.generate(
            world.prompts, num_generations=2, settings=world.settings, noise_seeds=seeds_of(5, 2)
        )
        assert largest_difference(world.model, world.prompts, stale, 1.0) > 1e-2
        assert largest_difference(world.model, world.prompts, fresh, 1.0) < 1e-4


def test_only_a_frozen_vision_tower_keeps_its_features(world: SimpleNamespace) -> None:
    tower = world.model.model.visual
    videos: list[int] = []
    runs = []
    with hooked(world.vllm_model.visual, lambda call: videos.append(1)):
        for frozen in (False, True, False):
            tower.requires_grad_(not frozen)
            world.generation.sync_weights()
            world.generation.generate(
                world.videos[2:], num_generations=2, settings=world.settings, noise_seeds=seeds_of(1, 2)
            )
            runs.append(len(videos))
    assert runs == [1, 1, 2]


def test_features_of_a_frozen_tower_take_the_place_of_pixels(world: SimpleNamespace) -> None:
    media: list[int] = []
    world.generation.sync_weights()

    def difference(features: list[torch.Tensor]) -> float:
        groups = world.generation.generate(
            world.prompts,
            num_generations=2,
            settings=world.settings,
            noise_seeds=seeds_of(5, 2),
            media_features=features,
        )
        return largest_difference(world.model, world.prompts, groups, 1.0)

    with hooked(world.vllm_model.visual, lambda call: media.append(1)):
        features = [encode_media(world.model, prompt) for prompt in world.prompts]
        assert difference(features) < 1e-4
        # Where a token has several features, as with DeepStack, the last too counts.
        for feature in features:
            feature.flatten(1)[:, -world.model.config.text_config.hidden_size :] = 0
        assert difference(features) > 1e-2
    assert not media


@one_family
def test_who_watches_sees_every_token_and_can_end_it(world: SimpleNamespace) -> None:
    settings = replace(world.settings, temperature=0.0)
    seen: dict[int, list[list[list[int]]]] = {0: [], 1: []}

    def watch(prompt: int, group: list[list[int]]) -> None:
        seen[prompt].append(group)

    groups = world.generation.engine.generate(world.prompts[:2], num_generations=2, settings=settings, watch=watch)
    unwatched = world.generation.engine.generate(world.prompts[:2], num_generations=2, settings=settings)
    assert ids_of(groups) == ids_of(unwatched)
    for told, group in zip(seen.values(), ids_of(groups), strict=True):
        assert told[-1] == group
        assert len(told) > 10 and all(ids == told[-1][row][: len(ids)] for step in told for row, ids in enumerate(step))

    def enough(prompt: int, group: list[list[int]]) -> None:
        if len(group[0]) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        world.generation.engine.generate(world.prompts[:2], num_generations=2, settings=settings, watch=enough)
    again = world.generation.engine.generate(world.prompts[:2], num_generations=2, settings=settings)
    assert ids_of(again) == ids_of(unwatched)


@one_family
def test_a_prompt_without_media_and_no_prompt(world: SimpleNamespace) -> None:
    ids = torch.tensor(world.processor.tokenizer("When is the object visible?")["input_ids"])
    prompt = PromptInputs(ids, torch.arange(len(ids)).expand(3, -1), (), "")
    groups = world.generation.generate([prompt], num_generations=2, settings=world.settings, noise_seeds=seeds_of(1, 2))
    assert largest_difference(world.model, [prompt], groups, 1.0) < 1e-4
    assert world.generation.generate([], num_generations=[], settings=world.settings, noise_seeds=[]) == []


@one_family
def test_mistakes_are_refused(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = world.generation.engine
    weights = [(name, weight) for name, weight in world.model.named_parameters() if "layers.1.mlp" not in name]
    with pytest.raises(ConfigError, match=r"weights of vLLM's model were not given.*layers\.1\.mlp"):
        engine.load_weights(weights)
    with pytest.raises(ConfigError, match="vLLM was started for 1024"):
        engine.generate(
            world.prompts, num_generations=1, settings=replace(world.settings, max_new_tokens=1000, temperature=0.0)
        )
    greedy = replace(world.settings, temperature=0.0)
    with (
        monkeypatch.context() as patch,
        pytest.raises(ConfigError, match="picture takes 256 tokens, vLLM was started for 255"),
    ):
        patch.setattr(engine.llm.llm_engine.input_processor, "mm_encoder_cache_size", 255)
        engine.generate(world.prompts, num_generations=1, settings=greedy)
    with pytest.raises(ValueError, match="noise seeds for 5 prompts"):
        engine.generate(world.prompts, num_generations=2, settings=world.settings, noise_seeds=seeds_of(2, 2))
    with pytest.raises(ValueError, match="needs noise_seeds"):
        engine.generate(world.prompts, num_generations=2, settings=world.settings)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("vllm_mode", "server", "TRL's server takes images only"),
        ("vllm_model_impl", "transformers", "vllm_model_impl"),
        ("generation_kwargs", {"seed": 3}, "generation_kwargs"),
    ],
)
def test_options_that_cannot_work_with_video(tmp_path: Path, option: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoGRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, use_vllm=True, **{option: value})


TRUTHS = {
    "truth_as_rollout": True,
    "max_completion_length": 12,
    "temporal_contrast": {"accuracy": ["chatty_parse_reward"], "shuffled_generations": 3},
}
LOOKS = {"second_look": {"padding": 0.1, "credit": {"answer": ["chatty_parse_reward"]}}}


@pytest.mark.parametrize(
    ("kind", "family", "options"),
    [("untied", "qwen3_vl", TRUTHS), ("lora", "qwen2_5_vl", LOOKS)],
    ids=["untied, truths", "lora, looks"],
)
def test_grpo_with_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, family: str, options: dict[str, Any]
) -> None:
    """Three updates that change all weights (untied embeddings), or an adapter; TRL's correction is in use. Some rows are true
    answers, or further looks that nobody takes: what the policy has not drawn has nothing to correct."""
    if kind == "untied":
        path = tmp_path / f"model_{family}"
        build_tiny(path, hidden=64, layers=2, vision_hidden=32, tie_word_embeddings=False, family=family)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    monkeypatch.setattr(looks, "read", by_letters)
    trainer = make_trainer(
        tmp_path,
        family=family,
        samples=make_corpus(tmp_path)[2::3],
        peft_config=lora if kind == "lora" else None,
        use_vllm=True,
        temperature=0.8,
        max_steps=3,
        learning_rate=1e-2,
        num_iterations=1,
        **options,
    )
    try:
        before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
        trainer.train()
        changed = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
        assert changed == {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
        log = [row for row in trainer.state.log_history if "loss" in row]
        assert len(log) == 3
        for row in log:
            assert row["sampling/sampling_logp_difference/max"] < 1e-4
            assert row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-4)
        for part in trainer._buffered_inputs:
            not_drawn = part["row_truth"] | ~part["row_valid"]
            assert (part["importance_sampling_ratio"][not_drawn] == 1.0).all()
            assert part["sampling_per_token_logps"][part["row_truth"]].isnan().any(1).all()
        rows = logged_rollouts(tmp_path / "run")
        if kind == "untied":
            assert all(0.0 < row["temporal_contrast/shuffled_accuracy"] < 1.0 for row in log)
            assert {len(row["shuffled_accuracy"]) for row in rows} == {3}
            assert [row.get("truth") for row in rows] == [None, None, None, True] * 6
            assert all(set(row["tokens"]["logps"] + row["tokens"]["differences"]) == {None} for row in rows[3::4])
        else:
            numbers = [len(row["looks"]) for row in rows]
            assert len(numbers) == 24 and set(numbers) == {1, 2}
            assert [row["looks/2/share"] for row in log] == [numbers[at : at + 8].count(2) / 8 for at in (0, 8, 16)]
    finally:
        trainer.vllm_generation.engine.close()
