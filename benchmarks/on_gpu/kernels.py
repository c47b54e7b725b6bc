"""Attention kernels against float64, forward and backward, on the shapes that training and decoding give them.

The rule of half precision: an error may be one and a half times that of torch's own attention on the same inputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from on_gpu.report import Record
from on_gpu.sizes import Sizes

from videochat_r1.modeling.attention_kernels import AttentionKernel, choose_kernel
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.modeling.packed_attention import Branch, dense_mask, lay_out
from videochat_r1.rollout.ragged_attention import ragged_attention

Heads = tuple[int, int, int]
_LARGEST_RATIO = 1.5
_LARGEST_LSE_DIFFERENCE = 0.02


def run(record: Record, sizes: Sizes) -> None:
    """See the module."""
    rows = [row for heads, models in published_heads().items() for row in _kernel_rows(heads, models, sizes)]
    wrong = [f"{row['heads']} {row['queries x keys']}" for row in rows if not row["right"]]
    record("shapes", rows)
    text_heads = max(published_heads(), key=lambda heads: heads[0] // heads[1])
    for name, forest in _forests(sizes).items():
        ratios = packed_ratios(text_heads, forest, sizes)
        record(f"packed row, {name}: error over that of a dense mask", ratios)
        wrong += [f"packed {name} {what}" for what, ratio in ratios.items() if not ratio <= _LARGEST_RATIO]
    record("decoding with lengths in a tensor", lengths_in_a_tensor(text_heads, sizes))
    record("wrong", wrong)


def published_heads() -> dict[Heads, str]:
    """(query heads, key heads, head size) of every published language model and tower -> who has them."""
    found: dict[Heads, list[str]] = {}
    for family in FAMILIES.values():
        for name in family.published:
            config = family.published_config(name)
            text, tower = config.text_config, config.vision_config
            size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
            found.setdefault((text.num_attention_heads, text.num_key_value_heads, size), []).append(name)
            width = getattr(tower, "embed_dim", None) or tower.hidden_size
            found.setdefault((tower.num_heads, tower.num_heads, width // tower.num_heads), []).append("tower")
    return {heads: ", ".join(dict.fromkeys(names)) for heads, names in found.items()}


def _kernel_rows(heads: Heads, models: str, sizes: Sizes) -> list[dict[str, Any]]:
    own, prompt = sizes.own, sizes.prompt
    lengths = [
        (own, own, True),
        (33, 33, True),
        (1, 1, True),
        (own, prompt, False),
        (1, prompt, False),
        (56, 17, False),
    ]
    rows = []
    for queries, keys, causal in lengths:
        found = _kernel_errors(heads, queries, keys, causal, sizes)
        ratios = {name: ours / max(theirs, 1e-4) for name, (ours, theirs) in found["errors"].items()}
        right = found["lse"] <= _LARGEST_LSE_DIFFERENCE and all(value <= _LARGEST_RATIO for value in ratios.values())
        rows.append(
            {
                "heads": "x".join(map(str, heads)),
                "models": models,
                "queries x keys": f"{queries} x {keys}{' causal' if causal else ''}",
                "kernel": found["kernel"],
                "error": found["errors"]["out"][0],
                "of torch's": found["errors"]["out"][1],
                "worst ratio": max(ratios.values()),
                "log-sum-exp apart": found["lse"],
                "right": right,
            }
        )
    return rows


def _inputs(heads: Heads, queries: int, keys: int, sizes: Sizes) -> list[torch.Tensor]:
    """Query, key and value as a projection gives them: (B, tokens, heads, D) turned, so not contiguous; and the gradient of out."""
    generator = torch.Generator(sizes.device).manual_seed(queries * keys)
    shapes = [(queries, heads[0]), (keys, heads[1]), (keys, heads[1]), (queries, heads[0])]
    return [
        torch.randn(2, tokens, number, heads[2], generator=generator, device=sizes.device)
        .to(sizes.dtype)
        .transpose(1, 2)
        for tokens, number in shapes
    ]


def _kernel_errors(heads: Heads, queries: int, keys: int, causal: bool, sizes: Sizes) -> dict[str, Any]:
    query, key, value, grad_out = _inputs(heads, queries, keys, sizes)
    scale = heads[2] ** -0.5
    kernel: AttentionKernel = choose_kernel(query.device, query.dtype, heads[2])
    out, lse, state = kernel.forward(query, key, value, causal, scale)
    ours = [out, *kernel.backward(grad_out, query, key, value, out, lse, state, causal, scale)]
    mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril() if causal else None
    exact, exact_lse = plain_attention([query, key, value], grad_out, mask, scale)
    theirs = torch_attention([query, key, value], grad_out, None, causal, scale)
    names = ("out", "query", "key", "value")
    return {
        "kernel": kernel.name,
        "errors": {
            name: (relative(our, right), relative(their, right))
            for name, our, their, right in zip(names, ours, theirs, exact, strict=True)
        },
        "lse": float((lse.double() - exact_lse).abs().max()),
    }


def plain_attention(
    inputs: Sequence[torch.Tensor], grad_out: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Out, three gradients and log-sum-exp in float64, written out."""
    query, key, value = (tensor.detach().double().requires_grad_() for tensor in inputs)
    repeats = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(repeats, 1).transpose(-1, -2) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    out = scores.softmax(-1) @ value.repeat_interleave(repeats, 1)
    gradients = torch.autograd.grad(out, (query, key, value), grad_out.double())
    return [out.detach(), *gradients], scores.logsumexp(-1).detach()


def torch_attention(
    inputs: Sequence[torch.Tensor], grad_out: torch.Tensor, mask: torch.Tensor | None, causal: bool, scale: float
) -> list[torch.Tensor]:
    """Out and three gradients by torch's public function, in the inputs' precision."""
    query, key, value = (tensor.detach().clone().requires_grad_() for tensor in inputs)
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True
    )
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), grad_out)]


def relative(ours: torch.Tensor, right: torch.Tensor) -> float:
    """Norm of the difference over norm of what is right; infinite where there is no number."""
    difference = float((ours.double() - right).norm() / right.norm().clamp_min(1e-12))
    return difference if difference == difference else float("inf")


# --- whole rows ------------------------------------------------------------------------------------------------------


def _forests(sizes: Sizes) -> dict[str, list[Branch]]:
    own, prompt = sizes.own, sizes.prompt // 3
    questions = (Branch(9, (own,) * 3), Branch(17, (own, 1, own // 3)), Branch(0, (5,)))
    return {
        "a group of equal lengths": [Branch(prompt, (own,) * 4)],
        "ragged groups, a prompt alone, no prompt": [
            Branch(prompt, (own, 1, own // 3, 17)),
            Branch(prompt // 2),
            Branch(0, (5, own // 2)),
        ],
        "questions about one video": [Branch(prompt, (), questions)],
        "three levels": [Branch(prompt // 2, (own,), (Branch(prompt // 2, (3,), questions), Branch(7, (own,))))],
    }


def packed_ratios(heads: Heads, forest: Sequence[Branch], sizes: Sizes) -> dict[str, float]:
    """Errors of the packed row against float64 over those of a dense mask in the same precision."""
    layout = lay_out(forest, torch.device(sizes.device))
    tokens = layout.num_tokens
    query, key, value, grad_out = (tensor[:1] for tensor in _inputs(heads, tokens, tokens, sizes))
    scale = heads[2] ** -0.5
    mask = dense_mask(forest)[0].to(sizes.device)
    exact, _ = plain_attention([query, key, value], grad_out, mask, scale)
    theirs = torch_attention([query, key, value], grad_out, mask, False, scale)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (query, key, value)]
    out = layout.attend(0, *leaves, scale).transpose(1, 2)
    ours = [out.detach(), *torch.autograd.grad(out, leaves, grad_out)]
    names = ("out", "query", "key", "value")
    return {
        name: relative(our, right) / max(relative(their, right), 1e-4)
        for name, our, their, right in zip(names, ours, theirs, exact, strict=True)
    }


# --- what one recorded graph for all steps would need ----------------------------------------------------------------------


def lengths_in_a_tensor(heads: Heads, sizes: Sizes) -> str:
    """Whether torch's flash kernel reads how far a row's keys are filled from the device, and gives a right log-sum-exp."""
    if sizes.device != "cuda":
        return "not on a CPU"
    rows, places = 8, sizes.own
    queries = heads[0] // heads[1]
    lengths = torch.randint(1, places, (rows,), device="cuda", dtype=torch.int32)
    query = torch.randn(rows * queries, heads[1], heads[2], device="cuda").to(sizes.dtype)
    keys, values = (torch.randn(rows, places, heads[1], heads[2], device="cuda").to(sizes.dtype) for _ in range(2))
    starts = torch.arange(rows + 1, device="cuda", dtype=torch.int32)
    scale = heads[2] ** -0.5
    flat = (query, keys.flatten(0, 1), values.flatten(0, 1))
    longest = (queries, places)
    out, lse = ragged_attention(*flat, starts * queries, starts * places, longest, scale, lengths)
    mask = (torch.arange(places, device="cuda") < lengths[:, None])[:, None, None, :]
    inputs = [tensor.unflatten(0, (rows, -1)).transpose(1, 2) for tensor in (query, *flat[1:])]
    exact, exact_lse = plain_attention(inputs, torch.zeros_like(inputs[0]), mask, scale)
    apart = relative(out, exact[0].transpose(1, 2).flatten(0, 1))
    lse_apart = float((lse.double() - exact_lse.transpose(1, 2).flatten(0, 1)).abs().max())
    return f"shape of the log-sum-exp {tuple(lse.shape)}, out apart by {apart:.2g}, log-sum-exp by {lse_apart:.2g}"
