"""The formulas of `estimate` against operations counted by torch, and against figures worked out by hand."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.small_shapes import small_shape
from tests.tiny_prompts import PAD, make_completions, make_model, make_prompt, make_questions
from videochat_r1.cli import main as cli
from videochat_r1.commands.estimate import main
from videochat_r1.doctor import flops
from videochat_r1.doctor.gpus import GPUS, gpu_named
from videochat_r1.doctor.memory import Strategy, head_bytes, model_shape, rollout_bytes, update_bytes
from videochat_r1.errors import ConfigError
from videochat_r1.grpo.packing import pack_rows, repeat_rows
from videochat_r1.modeling.families import FAMILIES, family_of, published_config, published_names
from videochat_r1.modeling.inputs import Medium
from videochat_r1.modeling.media_features import media_arguments
from videochat_r1.modeling.prefix_attention import install_prefix_attention
from videochat_r1.modeling.sizes import decoder_sizes
from videochat_r1.modeling.tiny import build_processor, build_tiny, build_tokenizer

ROOT = Path(__file__).resolve().parent.parent
JOINT = str(ROOT / "configs" / "grpo" / "joint.yaml")
GRID = flops.VideoGrid(steps=6, rows=5, columns=7)
LENGTH, COMPLETIONS = 40, 4


def attention_flops(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    """torch counts none for the CPU's kernel: two products for each (query, key) pair, half the pairs where causal."""
    batch, heads, queries, size = query
    causal = len(rest) > 1 and rest[1]
    return 4 * batch * heads * size * queries * key[2] // (2 if causal else 1)


def counted(call: Any) -> float:
    counts = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
        torch.ops.mkldnn._linear_pointwise: lambda inputs, weight, *rest, **named: 2 * math.prod(inputs) * weight[0],
    }
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=counts) as counter:
        call()
    return float(counter.get_total_flops())


@pytest.mark.parametrize("family", FAMILIES)
def test_vision_tower_as_counted(family: str) -> None:
    model = make_model(family)
    prompt = make_prompt(model, 1, (GRID.steps, 2 * GRID.rows, 2 * GRID.columns), 0.5)
    actual = counted(
        lambda: model.base_model.visual(prompt.media[0].patches, grid_thw=torch.tensor([prompt.media[0].grid]))
    )
    assert flops.vision_forward(family_of(model.config).tower_sizes(model.config), GRID) == pytest.approx(
        actual, rel=0.01
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [True, False])
def test_log_probabilities_as_counted(share: bool, family: str) -> None:
    """The decoder's layers; the head is added, because TRL's fused one scores padding too on the CPU."""
    model = make_model(family)
    install_prefix_attention(model)
    prompt = make_prompt(model, 1, (GRID.steps, 2 * GRID.rows, 2 * GRID.columns), 0.5)
    batch = ([prompt] * COMPLETIONS, *make_completions([LENGTH] * COMPLETIONS))
    rows = pack_rows(*batch) if share else repeat_rows(*batch, PAD)
    packed = {"shared_prefix": rows.layout, "scored_positions": rows.scored_positions} if share else {}

    def forward() -> None:
        # Without a mask, as the rows are equally long and causal.
        model.base_model(
            position_ids=rows.position_ids,
            use_cache=False,
            **packed,
            **media_arguments(model.config, rows.input_ids, batch[0], None, rows.shown),
        )

    sizes = decoder_sizes(model.config)
    head = 2 * sizes.hidden * sizes.vocabulary * LENGTH * COMPLETIONS
    towers = flops.vision_forward(family_of(model.config).tower_sizes(model.config), GRID) * (
        1 if share else COMPLETIONS
    )
    formula = flops.logps_shared if share else flops.logps_repeated
    expected = formula(sizes, prompt.num_tokens, COMPLETIONS, LENGTH)
    assert expected - head + towers == pytest.approx(counted(forward), rel=0.02)


def test_decoder_by_hand() -> None:
    """2 layers, H 4, A 4, K 2, I 3, V 5: a token costs 2 x 4 x (8 + 4 + 9) = 168 in a layer, a pair 16, a word 8."""
    sizes = flops.DecoderSizes(layers=2, hidden=4, query_width=4, key_width=2, intermediate=3, vocabulary=5)
    assert sizes.per_token == 168
    # One whole layer over 10 tokens and 50 pairs, and keys and values in the other: 4 x 4 x 2 a token.
    assert flops.prefill(sizes, 10) == 1680 + 800 + 320
    assert flops.prefill_repeated(sizes, 10, 3) == 3 * (2 * (1680 + 800) + 40)
    # 3 completions of 2 tokens: 3 x (20 + 2) pairs in each layer.
    assert flops.decode(sizes, 10, 3, 2) == 6 * (336 + 40) + 2 * 66 * 16
    assert flops.logps_shared(sizes, 10, 3, 2) == flops.prefill(sizes, 10) + flops.decode(sizes, 10, 3, 2)
    assert flops.logps_repeated(sizes, 10, 3, 2) == 3 * (2 * (12 * 168 + 72 * 16) + 2 * 40)


def test_windows_that_are_cut_off_hold_fewer_patches() -> None:
    assert flops._mean_window(8, 4) == 4
    assert flops._mean_window(9, 4) == (2 * 16 + 1) / 9
    assert flops._mean_window(3, 4) == 3
    assert flops._mean_window(7, 0) == 7


def test_head_bytes_by_hand() -> None:
    shape = small_shape(vocabulary=40000)
    same = {"scored_tokens": 10, "bf16": True}
    assert head_bytes(shape, Strategy(3), trained=True, **same) == 10 * 32768 * 2 + 160000 * (2 + 4 + 2)
    in_float = {"scored_tokens": 10, "bf16": False}
    assert head_bytes(shape, Strategy(3), trained=True, **in_float) == 10 * 32768 * 4 + 160000 * (4 + 4)
    assert head_bytes(shape, Strategy(2), trained=False, **same) == 10 * 32768 * 2


@pytest.mark.parametrize("name", published_names())
def test_published_sizes_give_the_published_numbers_of_parameters(name: str) -> None:
    billions = {"Qwen2-VL-2B": 2.209, "Qwen2-VL-7B": 8.291, "Qwen2.5-VL-3B": 3.755, "Qwen2.5-VL-7B": 8.292,
                "Qwen2.5-VL-32B": 33.453, "Qwen2.5-VL-72B": 73.411, "Qwen3-VL-2B": 2.128, "Qwen3-VL-4B": 4.438,
                "Qwen3-VL-8B": 8.767, "Qwen3-VL-32B": 33.357}  # fmt: skip
    config = published_config(f"Qwen/{name}-Instruct")
    assert config is not None
    assert model_shape(config).parameters / 1e9 == pytest.approx(billions[name], abs=5e-4)
    assert published_config(f"{name}5") is None


@pytest.mark.parametrize(
    ("name", "cached", "features"),
    [
        ("Qwen2.5-VL-7B", 57_344, 7_168),
        ("Qwen3-VL-2B", 114_688, 16_384),
        ("Qwen3-VL-4B", 147_456, 20_480),
        ("Qwen3-VL-8B", 147_456, 32_768),
        ("Qwen3-VL-32B", 262_144, 40_960),
    ],
)
def test_bytes_of_a_token_in_bf16(name: str, cached: int, features: int) -> None:
    """Keys and values; and what is kept of a token of video: 110 MB of 3,360 in Qwen3-VL-8B."""
    config = published_config(name)
    assert config is not None
    shape = model_shape(config)
    common = {"groups": 1, "prompt_tokens": 0, "video_tokens": 0, "bf16": True}
    without, one = (rollout_bytes(shape, Strategy(0), tokens=tokens, **common) for tokens in (0, 1))
    assert one - without == cached
    update = {"tokens": 0, "rows": 1, "scored_tokens": 0, "bf16": True, "checkpointing": True, "frozen_vision": True}
    assert update_bytes(shape, Strategy(0), video_tokens=1, trained_head=False, **update) == features


@pytest.mark.parametrize("duration", [4.0, 30.0, 180.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_text_of_times_as_tokenised(family: str, duration: float) -> None:
    """Qwen's tokenizer has a token for every digit and for ` seconds`; the last step's time is the longest."""
    processor = build_processor(build_tokenizer(), family)
    steps = round(duration)
    medium = Medium("video", torch.empty(0), (steps, 2, 2), 2, tuple(k / 2 for k in range(2 * steps)), 2.0)
    pieces = re.findall(r"<\|\w+\|>| seconds|[<.>\d]", FAMILIES[family].medium_text(medium, processor))
    in_text, most = len(pieces) - steps, steps * FAMILIES[family].seconds_tokens(duration - 1.0)
    shorter = 10 * (steps > 10) + 100 * (steps > 100)
    assert in_text == (most - shorter if most else 0)


@pytest.mark.parametrize(
    ("model", "times"), [("Qwen2-VL-7B", 0), ("Qwen2.5-VL-7B", 0), ("Qwen3-VL-2B", 270), ("Qwen3-VL-8B", 270)]
)
def test_every_family_has_the_papers_tokens_of_a_video(
    model: str, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    update = run(capsys, "--model", model)["update"]
    assert (update["video_tokens"], update["time_tokens"]) == (3240, times)
    assert update["prompt_tokens"] == 3240 + times + 150


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["--config", JOINT, *arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_joint_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "--gpu", "H200", "--num_gpus", "4", "--mfu", "0.5")
    assert result["update"] == {
        "prompts": 8,
        "completions": 64,
        "prompt_tokens": 3390,
        "video_tokens": 3240,
        "time_tokens": 0,
        "completion_tokens": 200,
        "questions_of_a_video": 1,
        "further_look_tokens": [],
    }
    shared, repeated = result["shared"], result["repeated"]
    assert shared["tokens"]["reference"] == 8 * (3390 + 8 * 200)
    assert repeated["tokens"]["policy"] == 8 * 8 * 3590
    assert shared["flops"]["old_policy"] == shared["seconds"]["old_policy"] == 0
    # Forward and backward are three forwards; with checkpointing a fourth.
    assert shared["flops"]["policy"] == pytest.approx(3 * shared["flops"]["reference"])
    assert shared["flops"]["recomputation"] == pytest.approx(shared["flops"]["reference"])
    per_second = 4 * GPUS["H200"].teraflops * 1e12
    assert shared["seconds"]["policy"] == pytest.approx(shared["flops"]["policy"] / (0.5 * per_second))
    assert repeated["flops"]["vision tower"] == pytest.approx(8 * shared["flops"]["vision tower"])
    assert 5 < result["ratio"]["flops"] < 8
    assert result["ratio"]["gigabytes"] > 1


def test_questions_about_one_video_share_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 3,390 prompt tokens 3,240 are the video's: four questions compute them once."""
    one, four = run(capsys), run(capsys, "--questions", "4")
    assert four["update"]["questions_of_a_video"] == 4
    assert one["repeated"] == four["repeated"]
    assert four["shared"]["tokens"]["prefill"] == 8 * (3240 / 4 + 150)
    assert four["shared"]["tokens"]["reference"] == 8 * (3240 / 4 + 150 + 8 * 200)
    assert four["shared"]["flops"]["vision tower"] == pytest.approx(one["shared"]["flops"]["vision tower"] / 4)
    assert four["shared"]["flops"]["decode"] == one["shared"]["flops"]["decode"]
    assert one["shared"]["flops"]["total"] > 1.5 * four["shared"]["flops"]["total"]
    # What a recipe asks for is what is estimated, and refused where micro-batches cannot hold it.
    asked = ["--mixture.0.questions_together", "4", "--mixture.0.queries_per_video", "all"]
    assert run(capsys, *asked, "--per_device_train_batch_size", "32")["shared"]["flops"] == four["shared"]["flops"]
    with pytest.raises(ConfigError, match=r"questions_together=4.* 1 prompt, .*per_device_train_batch_size=32"):
        main(["--config", JOINT, *asked])


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_of_questions_as_counted(family: str) -> None:
    """Two questions cost what two groups do without the beginning of one."""
    model = make_model(family)
    install_prefix_attention(model)
    grid = (GRID.steps, 2 * GRID.rows, 2 * GRID.columns)
    first, second = make_questions(model, 1, (4, 4), grids=[grid])
    prompts = [prompt for prompt in (first, second) for _ in range(COMPLETIONS)]
    rows = pack_rows(prompts, *make_completions([LENGTH] * 2 * COMPLETIONS))

    def forward() -> None:
        model.base_model(
            position_ids=rows.position_ids,
            use_cache=False,
            shared_prefix=rows.layout,
            scored_positions=rows.scored_positions,
            **media_arguments(model.config, rows.input_ids, prompts, None, rows.shown),
        )

    sizes = decoder_sizes(model.config)
    head = 2 * sizes.hidden * sizes.vocabulary * LENGTH * COMPLETIONS
    tower = flops.vision_forward(family_of(model.config).tower_sizes(model.config), GRID)
    expected = 2 * (flops.logps_shared(sizes, first.num_tokens, COMPLETIONS, LENGTH) - head)
    expected += tower - flops.prefill(sizes, first.num_tokens - 4)
    assert expected == pytest.approx(counted(forward), rel=0.02)


def test_decoding_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """8 GPUs decode a group each; a step reads 7.07e9 weights and the keys of 3,390 + 8 x 100 tokens."""
    read = 2 * (8_292_166_656 - 676_550_144 - 152064 * 3584 + 2 * 28 * 512 * (3390 + 800))
    slow = run(capsys, "--launch_ms", "0", "--bandwidth_use", "0.5")
    assert slow["shared"]["seconds"]["decode"] == pytest.approx(200 * read / (0.5 * 3.35e12))
    copies = 2 * 2 * 28 * 512 * 7 * 3390
    assert slow["repeated"]["seconds"]["decode"] == pytest.approx(200 * (read + copies) / (0.5 * 3.35e12))
    unrecorded = ("--launch_ms", "2", "--rollout_cuda_graph", "false")
    assert run(capsys, "--launch_ms", "2")["shared"] == run(capsys)["shared"]
    launched = run(capsys, *unrecorded)
    assert launched["shared"]["seconds"]["decode"] == pytest.approx(200 * 28 * 2e-3)
    # Half of the rows at a time take twice as many steps.
    parts = run(capsys, *unrecorded, "--num_gpus", "4", "--rollout_batch_rows", "8")
    assert parts["shared"]["seconds"]["decode"] == pytest.approx(2 * 200 * 28 * 2e-3)


def test_recipe_flags_change_what_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(capsys)["shared"]["flops"]
    no_reference = run(capsys, "--beta", "0", "--gradient_checkpointing", "false")["shared"]["flops"]
    assert no_reference["reference"] == no_reference["recomputation"] == 0
    assert no_reference["policy"] == plain["policy"]
    frozen = run(capsys, "--freeze_vision_tower", "true")
    tower = frozen["shared"]["flops"]["vision tower"]
    assert frozen["repeated"]["flops"]["vision tower"] == pytest.approx(8 * 3 * tower)
    assert plain["vision tower"] == pytest.approx((1 + 1 + 3 + 1) * tower)
    iterations = run(capsys, "--num_iterations", "2")["shared"]["flops"]
    assert iterations["prefill"] == plain["prefill"] / 2
    assert iterations["old_policy"] == iterations["reference"] == plain["reference"] / 2
    lora = run(capsys, "--lora.r", "16")["shared"]["flops"]
    assert lora["policy"] == pytest.approx(2 * lora["reference"])


def test_shuffled_frames_cost_a_prefill_and_their_own_completions(capsys: pytest.CaptureFixture[str]) -> None:
    plain, contrast = run(capsys), run(capsys, "--temporal_contrast", "release")
    shared, without = contrast["shared"], plain["shared"]
    assert shared["tokens"]["prefill"] == 2 * without["tokens"]["prefill"]
    assert shared["flops"]["prefill"] == pytest.approx(2 * without["flops"]["prefill"])
    assert contrast["repeated"]["tokens"]["prefill"] == 1.5 * plain["repeated"]["tokens"]["prefill"]
    for way in ("shared", "repeated"):
        for quantity in ("tokens", "flops"):
            assert contrast[way][quantity]["decode"] == pytest.approx(1.5 * plain[way][quantity]["decode"])
        # Nothing is learned from them.
        for phase in ("reference", "policy", "recomputation"):
            assert contrast[way]["flops"][phase] == plain[way]["flops"][phase]
        assert contrast[way]["gigabytes"]["rollout"] > plain[way]["gigabytes"]["rollout"]
    # They are decoded with the others: as many steps, each over more keys.
    slow = ("--launch_ms", "2", "--rollout_cuda_graph", "false")
    launched = [run(capsys, *slow, *flags) for flags in ((), ("--temporal_contrast", "release"))]
    assert launched[0]["shared"]["seconds"]["decode"] == launched[1]["shared"]["seconds"]["decode"]


def test_further_looks_are_counted_at_their_most(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 3,584 tokens at most, frames of 9 x 12 tokens come in 33 pairs: each of 8 completions looks again at 3,564 + 150."""
    one, two = run(capsys), run(capsys, "--second_look.rounds", "2", "--second_look.max_tokens", "3584")
    assert two["update"]["further_look_tokens"] == [3714, 3714]
    shape = model_shape(published_config("Qwen/Qwen2.5-VL-7B-Instruct"))
    video = flops.vision_forward(shape.tower, flops.VideoGrid(33, 9, 12))
    alone = (shape.decoder, 3714, 1, 200)
    for way, logps, begun in (
        ("shared", flops.logps_shared(*alone), flops.prefill(shape.decoder, 3714)),
        ("repeated", flops.logps_repeated(*alone), flops.prefill_repeated(shape.decoder, 3714, 1)),
    ):
        more = {
            quantity: {name: value - one[way][quantity][name] for name, value in two[way][quantity].items()}
            for quantity in ("tokens", "flops", "seconds")
        }
        looks = 8 * 8 * 2
        assert (more["tokens"]["prefill"], more["tokens"]["decode"]) == (looks * 3714, looks * 200)
        assert more["tokens"]["policy"] == more["tokens"]["reference"] == looks * (3714 + 200)
        assert more["flops"]["prefill"] == pytest.approx(looks * (begun + video))
        assert more["flops"]["decode"] == pytest.approx(looks * flops.decode(*alone))
        assert more["flops"]["reference"] == pytest.approx(looks * (logps + video))
        assert more["flops"]["policy"] == pytest.approx(looks * 3 * (logps + video))
        # Each of 8 GPUs decodes its group's looks one after the other; a step reads the weights and the keys of 8 prompts.
        read = 2 * (8_292_166_656 - 676_550_144 - 152064 * 3584 + 2 * 28 * 512 * 8 * (3714 + 100))
        assert more["seconds"]["decode"] == pytest.approx(2 * 200 * read / (0.43 * 3.35e12))
        # Keys of 8 prompts and their completions at their longest, and 8 prefilled together, as drawn alone.
        rows = {"tokens": 8 * (3714 + 1024), "groups": 1, "prompt_tokens": 8 * 3714, "video_tokens": 8 * 3564}
        assert two[way]["gigabytes"]["rollout"] == pytest.approx(
            max(one[way]["gigabytes"]["rollout"], rollout_bytes(shape, Strategy(3), **rows, bf16=True) / 1e9)
        )
    assert main(["--config", JOINT, "--second_look.rounds", "1"]) == 0
    assert "at most 64 further looks of 3,714" in capsys.readouterr().out
    few = run(capsys, "--second_look.fps_boost", "1", "--second_look.resolution_boost", "1.5", "--clip", "4:120:90")
    assert few["update"]["further_look_tokens"][0] > few["update"]["prompt_tokens"] > 150


def test_text_and_sft(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", JOINT]) == 0
    text = capsys.readouterr().out
    assert "8,292,166,656 parameters" in text and "ratio" in text
    assert main(["--config", str(ROOT / "configs" / "sft" / "joint.yaml")]) == 0
    text = capsys.readouterr().out
    assert "repeated" not in text and "decode" not in text and "policy" in text


def test_a_small_model_is_estimated_in_small_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_tiny(tmp_path / "model", hidden=64, layers=2, vision_hidden=32)
    recipe = ["--config", str(ROOT / "configs/grpo/tiny.yaml"), "--rollout_cuda_graph", "false"]
    assert main([*recipe, "--model", str(tmp_path / "model")]) == 0
    text = capsys.readouterr().out
    assert "MB of a GPU" in text and "ms of an update" in text and "FLOP of an update" in text
    assert not {"0.00", "0.0"} & set(text.split())


@pytest.mark.parametrize("flag", ["--model", "--model_name_or_path"])
def test_the_model_is_named_as_for_the_doctor_or_as_in_the_recipe(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, flag, "Qwen/Qwen2.5-VL-3B-Instruct")["model"]["parameters"] == 3_754_622_976
    assert run(capsys, "--num-gpus", "4")["gpu"]["number"] == 4


def test_vllm_takes_its_share_of_a_gpu_unless_it_sleeps(capsys: pytest.CaptureFixture[str]) -> None:
    """0.3 of 80 GB; on its own it needs 16.6 GB of weights, and the keys of a prompt and 1,024 tokens."""
    plain = run(capsys)["shared"]["gigabytes"]
    assert plain["vllm"] == 0
    resident = run(capsys, "--use_vllm", "true")["shared"]["gigabytes"]
    assert resident["vllm"] == pytest.approx(24) and resident["rollout"] == 0
    assert resident["peak"] == pytest.approx(plain["state"] + plain["update"] + 24)
    sleeping = run(capsys, "--use_vllm", "true", "--vllm_enable_sleep_mode", "true")["shared"]["gigabytes"]
    assert sleeping["peak"] == pytest.approx(plain["state"] + max(24, plain["update"]))
    small = run(capsys, "--use_vllm", "true", "--vllm_gpu_memory_utilization", "0.1")["shared"]["gigabytes"]
    assert small["vllm"] == pytest.approx(2 * (8_292_166_656 + 2 * 28 * 512 * (3390 + 1024)) / 1e9)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("h100", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA H200", "H200"),
        ("4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("rtx4090", "RTX-4090"),
    ],
)
def test_gpus_by_the_names_that_people_and_drivers_give_them(name: str, key: str) -> None:
    assert gpu_named(name) == key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_name_or_path", "Qwen/Qwen9-VL"], "no folder here and no checkpoint whose sizes are known"),
        (["--mfu", "1.5"], "--mfu 1.5 is a share"),
        (["--clip", "30x480"], "expected seconds:width:height"),
        (["--clip", "1:4800:20"], "no video whose sides differ by a factor of 200"),
        (["--launch_ms", "nan"], "--launch_ms nan is a time"),
        (["--questions", "0.5"], "--questions 0.5 is how many questions"),
        (["--gpu", "A100"], "'A100' may be A100-40GB or A100-80GB"),
        (["--gpu", "H100 PCIe"], "is none of the GPUs whose data sheet is known; known are A100-40GB"),
        (["--num_gpus", "3"], "nearest that can"),
        (["--learning_rat", "1"], "did you mean"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["estimate", "--config", JOINT, *arguments]) == 2
    assert message in capsys.readouterr().err
