"""The code for CUDA, of models of published size in bf16, on a GPU that computes shapes, integers and bytes (`fake_cuda`)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PretrainedConfig, PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from tests.fake_cuda import DEVICE, HostWaitError, fake_cuda
from tests.tiny_prompts import PAD, make_completions, make_media_prompt
from videochat_r1.doctor.memory import Strategy, model_shape, rollout_bytes, update_bytes
from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix
from videochat_r1.modeling.attention_kernels import _CUDA_FLASH, MATH
from videochat_r1.modeling.families import family_of, published_config
from videochat_r1.modeling.inputs import PromptInputs, on_device
from videochat_r1.modeling.media_features import encode_media
from videochat_r1.rollout.base import SamplingSettings
from videochat_r1.rollout.ragged_attention import ragged_attention
from videochat_r1.rollout.transformers_engine import TransformersEngine

NAMES = ("Qwen2-VL-7B", "Qwen2.5-VL-7B", "Qwen3-VL-8B")
GRID = (30, 18, 26)
"""3,510 tokens: 60 frames of 336 x 252 with 4:3 patches cut off at the right and at the bottom of a window."""
TOKENS, LAYERS = 200, 2


def few_layers(name: str, layers: int = LAYERS) -> PretrainedConfig:
    """A published size with few layers; every kind of layer is among them."""
    config: Any = published_config(name)
    text, tower = config.text_config, config.vision_config
    text.num_hidden_layers = tower.depth = layers
    if hasattr(text, "layer_types"):
        text.layer_types = text.layer_types[:layers]
    if hasattr(tower, "fullatt_block_indexes"):
        tower.fullatt_block_indexes = [layers - 1]
    if hasattr(tower, "deepstack_visual_indexes"):
        tower.deepstack_visual_indexes = [0]
    config._attn_implementation = "sdpa"
    return config


def make_policy(config: PretrainedConfig) -> PreTrainedModel:
    """On the GPU, in evaluation mode, prepared for log-probabilities."""
    with DEVICE:
        model = family_of(config).model_class._from_config(config, dtype=torch.bfloat16).eval()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    install_shared_prefix(model)
    return model


def on_gpu(model: PreTrainedModel, grid: tuple[int, int, int] = GRID) -> list[PromptInputs]:
    """Two questions about one video."""
    questions = [make_media_prompt(model, 1, "video", [grid], 1.0, num_text=90, rest=[token] * 9) for token in (7, 8)]
    return on_device(questions, DEVICE)


@torch.no_grad()
def decode(model: PreTrainedModel, prompts: list[PromptInputs], tokens: int, **settings: Any) -> None:
    sampling = SamplingSettings(tokens, eos_token_ids=(5,), **{"temperature": 1.0, **settings})
    TransformersEngine(model, PAD).generate(
        prompts, num_generations=8, settings=sampling, noise_seeds=[list(range(8))] * len(prompts)
    )


# Norms of heads are two kernels more; a question after a common video is a level more.
@pytest.mark.parametrize(("name", "a_layer"), zip(NAMES, (20, 20, 22), strict=True))
def test_a_decoding_step_waits_for_nothing_and_is_few_kernels(name: str, a_layer: int) -> None:
    with fake_cuda() as gpu:
        model = make_policy(few_layers(name))
        for prompts, more in ((on_gpu(model)[:1], 0), (on_gpu(model), 6)):
            waits, kernels = [], []
            for tokens in (1, 4):  # fewer than lie between two checks for the end
                gpu.waits.clear()
                gpu.kernels.clear()
                decode(model, prompts, tokens)
                waits.append(gpu.waits.copy())
                kernels.append(gpu.kernels.copy())
            assert not waits[1] - waits[0]
            step = kernels[1] - kernels[0]
            assert step.total() / 3 <= (a_layer + more) * LAYERS + 53
    assert {name: count / 3 / LAYERS for name, count in step.items() if "flash" in name} == {
        "_flash_attention_forward": 2,  # what the rows have said; what the questions differ in
        "_scaled_dot_product_flash_attention": 1,  # the video
    }


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"top_k": 20, "top_p": 0.9, "min_p": 0.01}, {"repetition_penalty": 1.3}]
)
def test_no_way_of_drawing_waits(settings: dict[str, float]) -> None:
    waits = []
    with fake_cuda() as gpu:
        model = make_policy(few_layers("Qwen2.5-VL-7B"))
        prompts = on_gpu(model, (2, 4, 4))
        for tokens in (1, 4):
            gpu.waits.clear()
            decode(model, prompts, tokens, **settings)
            waits.append(gpu.waits.copy())
    assert not waits[1] - waits[0]


@pytest.mark.parametrize(("name", "calls"), zip(NAMES, (LAYERS, 3 * (LAYERS - 1) + 1, LAYERS), strict=True))
def test_the_encoder_attends_in_few_calls_and_waits_for_nothing(name: str, calls: int) -> None:
    with fake_cuda() as gpu:
        model = make_policy(few_layers(name))
        prompts = on_gpu(model)
        encode_media(model, prompts[0])  # plans the calls for this grid
        gpu.kernels.clear()
        with gpu.without_waits():
            features = encode_media(model, prompts[0])
        assert features is not None
        assert (len(features), features.dtype, features.device) == (3510, torch.bfloat16, DEVICE)
        assert gpu.kernels["_scaled_dot_product_flash_attention"] == calls


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [True, False])
def test_forward_and_backward_of_a_packed_row(name: str, share: bool) -> None:
    with fake_cuda() as gpu:
        model = make_policy(few_layers(name)).train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        prompts = on_gpu(model, GRID if share else (2, 4, 4))
        encode_media(model, prompts[0])  # plans the calls for this grid
        completions = [tensor.to(DEVICE) for tensor in make_completions([TOKENS, *[TOKENS - 9] * 7])]
        live = gpu.live
        gpu.waits.clear()
        rows = [prompt for prompt in prompts for _ in range(4)]
        logps, entropy = completion_logps(
            model, rows, *completions, share_prompt=share, compute_entropy=True, pad_token_id=PAD
        )
        assert entropy is not None and logps.shape == entropy.shape == (8, TOKENS)
        assert (logps.dtype, logps.device) == (torch.float32, DEVICE)
        (-logps.mean()).backward()
        # Ids and mask of the completions; transformers' count of placeholders; the rest in TRL's head and in the backward pass.
        assert gpu.waits.total() <= 8 or not share, gpu.waits
        del logps, entropy
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert len(gradients) == len(list(model.parameters()))
        assert {(grad.dtype, grad.device) for grad in gradients} == {(torch.bfloat16, DEVICE)}
        # Nothing else is left but the plan of a grid.
        assert 0 <= gpu.live - live - sum(grad.nbytes for grad in gradients) < 2**20


@pytest.mark.parametrize(
    ("name", "layers", "tokens", "checkpointing", "frozen"),
    [
        ("Qwen2.5-VL-7B", 8, 200, True, False),
        ("Qwen2.5-VL-7B", LAYERS, 200, False, False),
        ("Qwen2.5-VL-7B", LAYERS, 1024, True, True),
        ("Qwen3-VL-8B", LAYERS, 1024, True, False),
        ("Qwen3-VL-8B", LAYERS, 200, False, False),
        ("Qwen2-VL-7B", LAYERS, 200, False, True),
    ],
)
def test_peak_bytes_are_what_the_doctor_estimates(
    name: str, layers: int, tokens: int, checkpointing: bool, frozen: bool
) -> None:
    """Of rollout and update, above weights, gradients and the patches of the prompt."""
    config = few_layers(name, layers)
    shape = model_shape(config)
    with fake_cuda() as gpu:
        model = make_policy(config)
        if frozen:
            shape.family.tower(model).requires_grad_(False)
        prompt = on_gpu(model)[0]
        encode_media(model, prompt)  # plans the calls for this grid
        before = gpu.peak = gpu.live
        decode(model, [prompt], 1)
        rollout = gpu.peak - before
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
        completions = [tensor.to(DEVICE) for tensor in make_completions([tokens] * 8)]
        before = gpu.peak = gpu.live
        features = [encode_media(model, prompt)] * 8 if frozen else None
        arguments = {"share_prompt": True, "compute_entropy": False, "pad_token_id": PAD, "media_features": features}
        (-completion_logps(model, [prompt] * 8, *completions, **arguments)[0].mean()).backward()
        update = gpu.peak - before
    common = {"video_tokens": prompt.media[0].num_tokens, "bf16": True}
    assert rollout == pytest.approx(
        rollout_bytes(
            shape, Strategy(0), tokens=prompt.num_tokens + 8, groups=1, prompt_tokens=prompt.num_tokens, **common
        ),
        rel=0.15,
    )
    assert update == pytest.approx(
        update_bytes(
            shape,
            Strategy(0),
            tokens=prompt.num_tokens + 8 * tokens,
            rows=1,
            scored_tokens=8 * tokens,
            checkpointing=checkpointing,
            frozen_vision=frozen,
            trained_head=True,
            **common,
        ),
        rel=0.15,
    )


def halves(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=DEVICE)


def flash(size: int, dtype: torch.dtype = torch.bfloat16) -> Any:
    query = halves(1, 2, 3, size, dtype=dtype)
    return _CUDA_FLASH.forward(query, query, query, True, 1.0)


def flash_backward(lse_tokens: int = 3, *, swapped: bool = False) -> Any:
    query, key = halves(1, 4, 3, 64), halves(1, 2, 5, 64)
    out, _, state = _CUDA_FLASH.forward(query, key, key, False, 1.0)
    merged = [out, torch.empty(1, 4, lse_tokens, device=DEVICE)]
    return _CUDA_FLASH.backward(query, query, key, key, *merged[:: -1 if swapped else 1], state, False, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: halves(2) + torch.ones(2), "device"),
        (lambda: halves(2, 3) @ halves(2, 3), "reduction dim"),
        (lambda: torch.nn.Linear(3, 2, device=DEVICE)(halves(1, 3)), "one dtype"),
        (lambda: flash(85), "head size 85"),
        (lambda: flash(64, torch.float32), "half precision"),
        (lambda: flash_backward(2), "logsumexp has shape"),
        (lambda: flash_backward(swapped=True), "out is torch.float32"),
        (
            lambda: _CUDA_FLASH.forward(halves(1, 4, 3, 64), halves(1, 2, 5, 64), halves(1, 2, 6, 64), False, 1.0),
            "value",
        ),
    ],
)
def test_what_a_gpu_refuses_raises(call: Callable[[], Any], message: str) -> None:
    with fake_cuda(), pytest.raises((RuntimeError, ValueError), match=message):
        call()


def flags() -> torch.Tensor:
    return torch.tensor([True, False, True]).to(DEVICE, non_blocking=True)


@pytest.mark.parametrize(
    ("call", "waits"),
    [
        (lambda: flags().tolist(), True),
        (lambda: bool(flags().any()), True),
        (lambda: halves(1).item(), True),
        (lambda: halves(3)[flags()], True),
        (lambda: halves(3)[[0, 1]], True),
        (lambda: halves(3).cpu(), True),
        (lambda: torch.tensor([1, 2], device=DEVICE), True),
        (lambda: halves(3).repeat_interleave(flags().long()), True),
        (lambda: halves(3).masked_fill(flags(), 0.0)[flags().long()], False),
        (lambda: halves(3).repeat_interleave(flags().long(), output_size=2), False),
        (lambda: torch.full((2,), 3, device=DEVICE) + torch.arange(2, device=DEVICE), False),
    ],
)
def test_what_makes_the_host_wait_is_seen(call: Callable[[], Any], waits: bool) -> None:
    with fake_cuda() as gpu, gpu.without_waits():
        if waits:
            with pytest.raises(HostWaitError, match=r"test_fake_cuda\.py"):
                call()
        else:
            call()


def test_integers_have_values_and_floats_shapes_and_bytes() -> None:
    with fake_cuda() as gpu:
        mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).to(DEVICE)
        assert mask.sum(1).tolist() == [2, 1]
        assert mask.bool().nonzero().tolist() == [[0, 0], [0, 1], [1, 0]]
        values = halves(2, 3)
        assert values[mask.bool()].shape == (3,)
        assert (values > 0).tolist() == [[False] * 3] * 2
        mask[0].fill_(7)
        assert mask.cpu().tolist() == [[7, 7, 7], [1, 0, 0]]
        assert gpu.live == mask.nbytes + values.nbytes
        gpu.peak = gpu.live
        assert halves(500).to(torch.float32).sum().shape == ()
        assert gpu.live < gpu.peak == gpu.live + 500 * (2 + 4) + 4


class _CudaKernelsOnTheCpu(TorchDispatchMode):
    """CUDA's flash kernels as their schemas describe them, of tensors on the CPU, by plain products."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if "flash_attention" not in func._opname:
            return func(*args, **kwargs)
        described = func._schema.arguments
        given = {argument.name: argument.default_value for argument in described if argument.has_default_value()}
        given |= dict(zip((argument.name for argument in described), args, strict=False)) | kwargs
        part = [given[name] for name in ("query", "key", "value")]
        if func._opname.endswith("_backward"):
            merged = given["out"], given["logsumexp"]
            return MATH.backward(given["grad_out"], *part, *merged, (), given["is_causal"], given["scale"])
        nothing = torch.zeros(0, dtype=torch.long)
        if func._opname == "_scaled_dot_product_flash_attention":
            out, lse, _ = MATH.forward(*part, given["is_causal"], given["scale"])
            return out, lse, nothing, nothing, out.shape[2], part[1].shape[2], nothing, nothing, nothing
        outs, lses = [], []
        counts = given["seqused_k"]
        for index in range(len(given["cum_seq_q"]) - 1):
            begin, end = given["cum_seq_k"][index : index + 2].tolist()
            keys = slice(begin, end if counts is None else begin + int(counts[index]))
            queries = slice(*given["cum_seq_q"][index : index + 2].tolist())
            own = [
                tensor[rows].transpose(0, 1).unsqueeze(0)
                for tensor, rows in zip(part, (queries, keys, keys), strict=True)
            ]
            out, lse, _ = MATH.forward(*own, given["is_causal"], given["scale"])
            outs.append(out[0].transpose(0, 1))
            lses.append(lse[0])
        return torch.cat(outs), torch.cat(lses, 1), nothing, nothing, nothing


@pytest.mark.parametrize("causal", [True, False])
def test_the_cuda_kernels_are_given_what_the_plain_one_is(causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, grad, out = (torch.randn(2, 6, 5, 8, generator=generator) for _ in range(3))
    key, value = (torch.randn(2, 3, 5 if causal else 7, 8, generator=generator) for _ in range(2))
    with _CudaKernelsOnTheCpu():
        found = _CUDA_FLASH.forward(query, key, value, causal, 0.3)
        lse = found[1] + 0.5
        grads = _CUDA_FLASH.backward(grad, query, key, value, out, lse, found[2], causal, 0.3)
    for mine, theirs in zip(found[:2], MATH.forward(query, key, value, causal, 0.3), strict=False):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(grads, MATH.backward(grad, query, key, value, out, lse, (), causal, 0.3), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("counted", [True, False])
def test_the_ragged_kernel_is_given_the_sets_of_keys(counted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(rows, 2, 8, generator=generator) for rows in (6, 9, 9))
    query_starts, key_starts = (torch.tensor(starts, dtype=torch.int32) for starts in ([0, 3, 4, 6], [0, 1, 5, 9]))
    lengths = torch.tensor([1, 4, 2], dtype=torch.int32) if counted else None
    with _CudaKernelsOnTheCpu():
        out, lse = ragged_attention(query, keys, values, query_starts, key_starts, (3, 4), 0.3, lengths)
    for asked, read in (
        (slice(0, 3), slice(0, 1)),
        (slice(3, 4), slice(1, 5)),
        (slice(4, 6), slice(5, 7 if counted else 9)),
    ):
        own = [
            tensor[rows].transpose(0, 1).unsqueeze(0)
            for tensor, rows in zip((query, keys, values), (asked, read, read), strict=True)
        ]
        right, right_lse, _ = MATH.forward(*own, False, 0.3)
        assert torch.allclose(out[asked], right[0].transpose(0, 1)) and torch.allclose(lse[asked], right_lse[0].t())
