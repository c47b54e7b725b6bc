"""Shared prompts give the numbers of repeated prompts, and the comparison notices every wrong position or mask entry."""

import copy
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from tests.tiny_prompts import (
    PAD,
    change_one_pixel,
    make_completions,
    make_media_prompt,
    make_model,
    make_prompt,
    plain_arguments,
    question_batch,
    ragged_batch,
    shift_one_position,
    without_last_token,
)
from videochat_r1.errors import ConfigError
from videochat_r1.grpo import shared_prefix
from videochat_r1.grpo.packing import TokenRows, pack_rows, token_counts
from videochat_r1.grpo.shared_prefix import (
    completion_logps,
    encode_media,
    install_shared_prefix,
    sharing_pays,
    verify_shared,
)
from videochat_r1.modeling import attention_kernels
from videochat_r1.modeling.families import DEFAULT_FAMILY, FAMILIES
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.packed_attention import Branch, dense_mask, lay_out

TEMPERATURE = 0.9
TOLERANCE = 1e-5


def prepare(model: PreTrainedModel) -> PreTrainedModel:
    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    install_shared_prefix(model)
    return model


def logps_and_gradients(
    model: torch.nn.Module,
    prompts: Sequence[PromptInputs],
    ids: torch.Tensor,
    mask: torch.Tensor,
    *,
    share_prompt: bool,
    media_features: Sequence[torch.Tensor | None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    model.zero_grad()
    logps, entropy = completion_logps(
        model, prompts, ids, mask, share_prompt=share_prompt, compute_entropy=True, pad_token_id=PAD,
        media_features=media_features,
    )  # fmt: skip
    assert entropy is not None
    weights = torch.randn(logps.shape, generator=torch.Generator().manual_seed(3)).to(logps.device)
    (logps * weights).sum().backward()
    grads = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return logps.detach(), entropy.detach(), torch.cat(grads)


def largest_difference(model: torch.nn.Module, *batch, media_features=None) -> tuple[float, float]:
    """Largest absolute difference of log-probabilities and entropies, relative one of gradients."""
    shared = logps_and_gradients(model, *batch, share_prompt=True, media_features=media_features)
    repeated = logps_and_gradients(model, *batch, share_prompt=False)
    values = max(float((shared[i] - repeated[i]).abs().max()) for i in (0, 1))
    return values, float((shared[2] - repeated[2]).norm() / repeated[2].norm())


def mixed_batch(model: torch.nn.Module) -> tuple[list[PromptInputs], torch.Tensor, torch.Tensor]:
    """A group that is shown two pictures, one that is shown a video, and one that is shown a picture."""
    pictures = make_media_prompt(model, 1, "image", [(1, 4, 6), (1, 4, 4)])
    video, picture = make_prompt(model, 2, (2, 4, 4), 1.3), make_media_prompt(model, 3, "image", [(1, 6, 4)])
    return [pictures, pictures, video, video, picture], *make_completions([7, 3, 5, 8, 4])


BATCHES = [ragged_batch, mixed_batch, question_batch]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
def test_shared_prompts_equal_repeated_prompts(family: str, tied: bool, batch: Callable[..., Any]) -> None:
    model = prepare(make_model(family, tied=tied))
    logps, gradients = largest_difference(model, *batch(model))
    assert logps < TOLERANCE
    assert gradients < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", BATCHES)
def test_repeated_prompts_equal_the_plain_model_row_by_row(family: str, batch: Callable[..., Any]) -> None:
    plain = make_model(family)
    model = prepare(copy.deepcopy(plain))
    prompts, ids, mask = batch(model)
    logps, entropy = completion_logps(
        model, prompts, ids, mask, share_prompt=False, compute_entropy=True, pad_token_id=PAD
    )
    assert entropy is not None
    for row, (prompt, length) in enumerate(zip(prompts, mask.sum(1).tolist(), strict=True)):
        following = prompt.next_position + torch.arange(length)
        logits = plain(
            input_ids=torch.cat([prompt.input_ids, ids[row, :length]])[None],
            position_ids=torch.cat([prompt.position_ids, following.expand(3, -1)], 1)[:, None],
            **plain_arguments([prompt]),
        ).logits[0, prompt.num_tokens - 1 : -1]
        expected = torch.log_softmax(logits[:length] / TEMPERATURE, -1)
        torch.testing.assert_close(logps[row, :length], expected.gather(1, ids[row, :length, None])[:, 0])
        torch.testing.assert_close(entropy[row, :length], -(expected.exp() * expected).sum(-1))
        assert (logps[row, length:] == 0).all()
        assert (entropy[row, length:] == 0).all()


@pytest.mark.parametrize("lengths", [[9, 9, 9, 9], [12], [1, 1]])
def test_one_group_of_any_size(lengths: list[int]) -> None:
    model = prepare(make_model())
    prompt = make_prompt(model, 1, (2, 4, 4), 0.4)
    logps, gradients = largest_difference(model, [prompt] * len(lengths), *make_completions(lengths))
    assert logps < TOLERANCE
    assert gradients < TOLERANCE


def test_part_of_a_group_gives_the_rows_of_the_whole() -> None:
    model = prepare(make_model())
    prompt = make_prompt(model, 1, (4, 4, 4), 0.7)
    ids, mask = make_completions([7, 9, 4, 9])
    arguments = {"share_prompt": True, "compute_entropy": False, "pad_token_id": PAD}
    whole, _ = completion_logps(model, [prompt] * 4, ids, mask, **arguments)
    parts = [completion_logps(model, [prompt] * 2, ids[i : i + 2], mask[i : i + 2], **arguments)[0] for i in (0, 2)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=TOLERANCE, rtol=0)


def test_prompts_without_video() -> None:
    model = prepare(make_model())
    ids = torch.randint(10, 250, (12,))
    text = PromptInputs(ids, torch.arange(12).expand(3, -1), (), "")
    video = make_prompt(model, 2, (2, 4, 4), 0.7)
    logps, gradients = largest_difference(model, [text, text, video], *make_completions([5, 3, 4]))
    assert logps < TOLERANCE
    assert gradients < TOLERANCE


@pytest.mark.parametrize("make_batch", [ragged_batch, question_batch])
def test_lora(make_batch: Callable[..., Any]) -> None:
    model = prepare(make_model())
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    wrapped = get_peft_model(model, config)
    wrapped.train()
    batch = make_batch(model)
    logps, gradients = largest_difference(wrapped, *batch)
    assert logps < TOLERANCE
    assert gradients < TOLERANCE
    with_adapter, _, _ = logps_and_gradients(wrapped, *batch, share_prompt=True)
    with wrapped.disable_adapter(), torch.no_grad():
        without, _ = completion_logps(wrapped, *batch, share_prompt=True, compute_entropy=False, pad_token_id=PAD)
    assert (with_adapter - without).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make_batch", [mixed_batch, question_batch])
def test_frozen_tower_with_features_computed_once(family: str, make_batch: Callable[..., Any]) -> None:
    model = prepare(make_model(family))
    model.base_model.visual.requires_grad_(False)
    batch = make_batch(model)
    features = {id(prompt): encode_media(model, prompt) for prompt in batch[0]}
    logps, gradients = largest_difference(model, *batch, media_features=[features[id(prompt)] for prompt in batch[0]])
    assert logps < TOLERANCE
    assert gradients < TOLERANCE


def test_vision_tower_sees_each_medium_once_and_all_in_one_call() -> None:
    model = prepare(make_model())
    patches: list[int] = []
    model.base_model.visual.register_forward_pre_hook(lambda module, args: patches.append(len(args[0])))
    for batch in BATCHES:
        prompts, ids, mask = batch(model)
        completion_logps(model, prompts, ids, mask, share_prompt=True, compute_entropy=False, pad_token_id=PAD)
    assert patches == [
        4 * 4 * 6 + 3 * 4 * 4,
        4 * 6 + 4 * 4 + 2 * 4 * 4 + 6 * 4,
        4 * 4 * 6 + 4 * 4 * 6 + 4 * 6 + 4 * 4 + 4 * 4,
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make_batch", [ragged_batch, question_batch])
def test_gradient_checkpointing(family: str, make_batch: Callable[..., Any]) -> None:
    model = prepare(make_model(family))
    batch = make_batch(model)
    expected = logps_and_gradients(model, *batch, share_prompt=True)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    logps, gradients = largest_difference(model, *batch)
    assert logps < TOLERANCE
    assert gradients < TOLERANCE
    actual = logps_and_gradients(model, *batch, share_prompt=True)
    torch.testing.assert_close(actual[2], expected[2])


@pytest.mark.parametrize("make_batch", [ragged_batch, question_batch])
def test_bf16_is_as_exact_as_repeated_prompts(make_batch: Callable[..., Any]) -> None:
    exact = prepare(make_model())
    batch = make_batch(exact)
    arguments = {"compute_entropy": False, "pad_token_id": PAD}
    exact.requires_grad_(False)
    reference, _ = completion_logps(exact, *batch, share_prompt=False, **arguments)
    half = prepare(make_model().to(torch.bfloat16)).requires_grad_(False)
    mask = batch[2].bool()
    errors = {
        share: float(
            (completion_logps(half, *batch, share_prompt=share, **arguments)[0] - reference)[mask].abs().mean()
        )
        for share in (True, False)
    }
    assert 0 < errors[True] <= 1.5 * errors[False]


def test_autocast() -> None:
    """As the trainer runs with float32 weights and bf16=True: rotary positions promote queries and keys, not values."""
    model = prepare(make_model())
    batch = ragged_batch(model)
    with torch.autocast("cpu", torch.bfloat16):
        difference = verify_shared(model, *batch, pad_token_id=PAD)
    assert difference.logps < 0.1


# --- the comparison can fail -----------------------------------------------------------------------------------------


def shared_logps(model: torch.nn.Module, *batch) -> torch.Tensor:
    with torch.no_grad():
        logps, _ = completion_logps(model, *batch, share_prompt=True, compute_entropy=False, pad_token_id=PAD)
    return logps


def test_wrong_seconds_per_grid_show() -> None:
    model = prepare(make_model())
    prompt, ids, mask = make_prompt(model, 1, (4, 4, 6), 0.7), *make_completions([6, 4])
    wrong = make_prompt(model, 1, (4, 4, 6), 1.0)
    assert torch.equal(prompt.input_ids, wrong.input_ids)
    difference = shared_logps(model, [prompt] * 2, ids, mask) - shared_logps(model, [wrong] * 2, ids, mask)
    assert difference.abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("place", [2, 10, -1])
def test_one_wrong_position_shows(place: int) -> None:
    model = prepare(make_model())
    prompt, ids, mask = make_prompt(model, 1, (4, 4, 6), 0.7), *make_completions([6, 4])
    positions = prompt.position_ids.clone()
    positions[0, place] -= 2
    wrong = dataclasses.replace(prompt, position_ids=positions)
    difference = shared_logps(model, [prompt] * 2, ids, mask) - shared_logps(model, [wrong] * 2, ids, mask)
    assert difference.abs().max() > 10 * TOLERANCE


@pytest.mark.parametrize("variant", ["plain", "part", "qwen2_vl", "qwen3_vl", "lora", "frozen tower", "checkpointing"])
@pytest.mark.parametrize("wrong", ["nothing", "seconds", "position", "pixel", "mask"])
def test_every_comparison_with_repeated_prompts_notices_one_wrong_entry(variant: str, wrong: str) -> None:
    """Shared prompts with one thing wrong against repeated ones without, in log-probabilities and in gradients."""
    model = prepare(make_model(variant if variant in FAMILIES else DEFAULT_FAMILY))
    prompts, ids, mask = ragged_batch(model)
    if variant == "part":  # of two groups
        prompts, ids, mask = prompts[1:4], ids[1:4], mask[1:4]
    own = prompts.count(prompts[0])
    features = None
    wrapped: torch.nn.Module = model
    if variant == "lora":
        wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    elif variant == "frozen tower":
        model.base_model.visual.requires_grad_(False)
        made = {id(prompt): encode_media(model, prompt) for prompt in prompts}
        features = [made[id(prompt)] for prompt in prompts]
    elif variant == "checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    repeated = logps_and_gradients(wrapped, prompts, ids, mask, share_prompt=False)
    if wrong == "seconds":
        if variant in FAMILIES:
            pytest.skip("only Qwen2.5-VL's positions know seconds")
        first = make_prompt(model, 1, (4, 4, 6), 1.0)
        prompts = [first] * own + prompts[own:]
    elif wrong == "position":
        prompts = [shift_one_position(prompts[0])] * own + prompts[own:]
    elif wrong == "pixel":
        changed = change_one_pixel(prompts[0])
        prompts = [changed] * own + prompts[own:]
        if features is not None:
            features = [encode_media(model, changed)] * own + features[own:]
    elif wrong == "mask":
        mask = without_last_token(mask)
    shared = logps_and_gradients(wrapped, prompts, ids, mask, share_prompt=True, media_features=features)
    logps = (shared[0] - repeated[0]).abs().max()
    gradients = (shared[2] - repeated[2]).norm() / repeated[2].norm()
    if wrong == "nothing":
        assert logps < TOLERANCE and gradients < TOLERANCE
    else:
        assert logps > 10 * TOLERANCE and gradients > 10 * TOLERANCE


def wrong_rows(rows: TokenRows) -> Iterator[tuple[str, TokenRows]]:
    """The same packed row with one thing wrong at a time: each branch's first position, each edge of what attends to what, and
    which media are shown where."""
    layout = rows.layout
    assert layout is not None
    for run in layout.runs:
        positions = rows.position_ids.clone()
        positions[0, 0, run.start] += 1
        yield f"position of token {run.start}", dataclasses.replace(rows, position_ids=positions)
    for index, link in enumerate(layout.links):
        for name, edges in itertools.product(("queries", "keys"), ((1, 0), (0, -1), (-1, 0), (0, 1))):
            if (name, edges) == ("queries", (-1, 0)):
                continue  # the branch's last token sees all of it already, and each key twice is each key once
            whole = getattr(link, name)
            part = slice(whole.start + edges[0], whole.stop + edges[1])
            if 0 <= part.start < part.stop <= layout.num_tokens:
                links = list(layout.links)
                links[index] = dataclasses.replace(link, **{name: part})
                moved = dataclasses.replace(layout, links=tuple(links))
                yield f"{name} of {link} by {edges}", dataclasses.replace(rows, layout=moved)
    for index in range(1, len(rows.shown)):
        shown = list(rows.shown)
        shown[index - 1], shown[index] = shown[index], shown[index - 1]
        yield f"media {index - 1} and {index} swapped", dataclasses.replace(rows, shown=tuple(shown))
    yield "completions in another order", dataclasses.replace(rows, read=rows.read.roll(1, 0))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_wrong_entry_of_a_row_of_questions_shows(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepare(make_model(family))
    prompts, (ids, mask) = question_batch(model)[0], make_completions([4, 6, 11, 3, 8, 5, 2, 7, 2, 3, 9])
    repeated = logps_and_gradients(model, prompts, ids, mask, share_prompt=False)
    for name, rows in wrong_rows(pack_rows(prompts, ids, mask)):
        monkeypatch.setattr(shared_prefix, "pack_rows", lambda *batch, rows=rows: rows)
        shared = logps_and_gradients(model, prompts, ids, mask, share_prompt=True)
        assert (shared[0] - repeated[0]).abs().max() > 10 * TOLERANCE, name
        assert (shared[2] - repeated[2]).norm() > 5 * TOLERANCE * repeated[2].norm(), name


def test_one_wrong_completion_mask_entry_shows() -> None:
    model = prepare(make_model())
    prompt, ids, mask = make_prompt(model, 1, (4, 4, 6), 0.7), *make_completions([6, 4])
    wrong = mask.clone()
    wrong[1, 3] = 0
    difference = shared_logps(model, [prompt] * 2, ids, mask) - shared_logps(model, [prompt] * 2, ids, wrong)
    assert difference.abs().max() > 100 * TOLERANCE
    hole = mask.clone()
    hole[0, 2] = 0
    with pytest.raises(ValueError, match="ones followed by zeros"):
        shared_logps(model, [prompt] * 2, ids, hole)


TREES = {
    "group": [Branch(7, (3, 3, 3))],
    "groups": [Branch(5, (4, 1, 2)), Branch(9, (2,)), Branch(3)],
    "no prompt": [Branch(0, (3, 2))],
    "questions": [Branch(9, (), (Branch(4, (3, 1, 2)), Branch(2, (4, 4)), Branch(0, (2,)))), Branch(2, (1,))],
    "deep": [Branch(5, (2,), (Branch(3, (1, 2), (Branch(2, (2, 3)), Branch(1))), Branch(4))), Branch(3, (2, 2))],
}


@pytest.mark.parametrize("last_layer", [False, True])
@pytest.mark.parametrize("tree", TREES)
def test_packed_attention_is_the_dense_mask_to_the_entry(tree: str, last_layer: bool) -> None:
    layout = lay_out(TREES[tree], torch.device("cpu"))
    mask, is_leaf = dense_mask(TREES[tree])
    tokens = layout.num_tokens
    layout, read = (layout.leaves_only(), is_leaf) if last_layer else (layout, torch.ones_like(is_leaf))
    query, key, value = (torch.randn(1, heads, tokens, 8, requires_grad=True) for heads in (4, 2, 2))
    weights = torch.randn(1, tokens, 4, 8) * read[:, None, None]

    def dense(mask: torch.Tensor) -> torch.Tensor:
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=0.5, enable_gqa=True
        )
        return out.transpose(1, 2)

    actual, expected = layout.attend(0, query, key, value, 0.5), dense(mask)
    torch.testing.assert_close(actual[:, read], expected[:, read])
    gradients = [torch.autograd.grad((out * weights).sum(), (query, key, value)) for out in (actual, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    for entry in itertools.product(read.nonzero().flatten().tolist(), range(tokens)):
        wrong = mask.clone()
        wrong[entry] ^= True
        if wrong[entry[0]].any():
            assert (dense(wrong) - actual)[:, read].abs().max() > 100 * TOLERANCE


def test_what_nobody_reads_leaves_no_trace_however_large_its_scores_are() -> None:
    """In the last layer a question's own tokens are among the queries of its video; exp of their scores would overflow."""
    layout = lay_out([Branch(9, (), (Branch(4, (3, 2)), Branch(2, (4,))))], torch.device("cpu")).leaves_only()
    query, key, value = (torch.randn(1, heads, layout.num_tokens, 8) for heads in (4, 2, 2))
    query[:, :, 9:13] *= 1000
    for tensor in (query, key, value):
        tensor.requires_grad_()
    layout.attend(0, query, key, value, 1.0)[:, 13:18].sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("causal", [True, False])
def test_plain_kernel_equals_flash(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_kernels, "_MATH_QUERIES", 16)
    num_keys = 40 if causal else 23
    query, key, value = (
        torch.randn(2, heads, size, 8) for heads, size in ((6, 40), (2, num_keys), (2, num_keys))
    )  # fmt: skip
    flash = attention_kernels.choose_kernel(torch.device("cpu"), torch.float32, 8)
    assert flash is not attention_kernels.MATH
    grad_out = torch.randn(2, 6, 40, 8)
    results = []
    for kernel in (flash, attention_kernels.MATH):
        out, lse, state = kernel.forward(query, key, value, causal, 0.4)
        results.append((out, lse, *kernel.backward(grad_out, query, key, value, out, lse, state, causal, 0.4)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_cuda_kernel_is_called_as_torch_declares_it(causal: bool) -> None:
    """Without a GPU: shapes only, on tensors without data."""
    kernel = attention_kernels.choose_kernel(torch.device("cuda"), torch.bfloat16, 128)
    assert kernel.name == "cuda flash"
    query, key = (
        torch.empty(1, tokens, heads, 128, device="meta", dtype=torch.bfloat16).transpose(1, 2)
        for tokens, heads in ((40, 28), (40 if causal else 90, 4))
    )
    out, lse, state = kernel.forward(query, key, key, causal, 0.1)
    assert (out.shape, lse.shape, lse.dtype) == (query.shape, (1, 28, 40), torch.float32)
    gradients = kernel.backward(out, query, key, key, out, lse, state, causal, 0.1)
    assert [gradient.shape for gradient in gradients] == [query.shape, key.shape, key.shape]


@pytest.mark.gpu
def test_cuda_is_as_exact_as_repeated_prompts() -> None:
    exact = prepare(make_model())
    prompts, ids, mask = ragged_batch(exact)
    reference = logps_and_gradients(exact, prompts, ids, mask, share_prompt=False)
    half = prepare(make_model().to("cuda", torch.bfloat16))
    moved = {id(prompt): prompt.to("cuda") for prompt in prompts}
    batch = ([moved[id(prompt)] for prompt in prompts], ids.cuda(), mask.cuda())
    errors = {}
    for share_prompt in (True, False):
        logps, _, gradients = logps_and_gradients(half, *batch, share_prompt=share_prompt)
        errors[share_prompt] = torch.stack(
            [(logps.cpu() - reference[0]).abs().mean(), (gradients.cpu() - reference[2]).norm()]
        )
    assert (errors[True] <= 1.5 * errors[False]).all()


def test_devices_without_a_flash_kernel_say_so(caplog: pytest.LogCaptureFixture) -> None:
    assert attention_kernels.choose_kernel(torch.device("meta"), torch.float32, 64) is attention_kernels.MATH
    assert "no flash attention kernel" in caplog.text


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "name"),
    [
        ((9, 0), torch.bfloat16, 128, "cuda flash"),
        ((8, 0), torch.float16, 80, "cuda flash"),
        ((7, 5), torch.float16, 128, "math"),
        ((9, 0), torch.float32, 128, "math"),
        ((9, 0), torch.bfloat16, 85, "math"),
        ((9, 0), torch.bfloat16, 512, "math"),
    ],
)
def test_the_cuda_kernel_is_chosen_where_it_runs(
    capability: tuple[int, int], dtype: torch.dtype, head_dim: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_kernels, "_capability", lambda device: capability)
    assert attention_kernels.choose_kernel(torch.device("cuda"), dtype, head_dim).name == name


def test_zero3_shards_of_two_processes(tmp_path: Path, project_root: Path) -> None:
    result = tmp_path / "differences.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run = subprocess.run(
        [*command, "-m", "tests.zero3_shared_prefix", str(result)],
        cwd=project_root,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    by_family = json.loads(result.read_text())
    assert set(by_family) == set(FAMILIES)
    for family, differences in by_family.items():
        assert max(differences.pop("nothing")) < TOLERANCE, family
        assert set(differences) == {"position", *(("mask", "seconds") if family == DEFAULT_FAMILY else ())}
        for wrong, found in differences.items():
            assert min(found) > 10 * TOLERANCE, (family, wrong)


# --- installing ------------------------------------------------------------------------------------------------------


def test_installing_changes_nothing_for_ordinary_forwards(tmp_path: Path) -> None:
    plain = make_model()
    model = copy.deepcopy(plain)
    install_shared_prefix(model)
    install_shared_prefix(model)
    prompt = make_prompt(model, 1, (4, 4, 6), 0.7)
    inputs = {
        "input_ids": torch.stack([prompt.input_ids] * 2),
        "position_ids": prompt.position_ids[:, None].expand(-1, 2, -1),
        "attention_mask": torch.ones(2, prompt.num_tokens, dtype=torch.long).index_fill(1, torch.tensor([0]), 0),
        **plain_arguments([prompt] * 2),
    }
    # The vision tower and products add up in another order.
    torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    assert "sdpa" not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen2_5_vl"
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(again(**inputs).logits, plain(**inputs).logits)


def test_unprepared_models_are_refused() -> None:
    model = make_model()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    batch = ragged_batch(model)
    with pytest.raises(ConfigError, match="install_shared_prefix"):
        verify_shared(model, *batch, pad_token_id=PAD)
    install_shared_prefix(model)
    verify_shared(model, *batch, pad_token_id=PAD)
    model.set_attn_implementation("eager")
    with pytest.raises(ConfigError, match="install_shared_prefix"):
        verify_shared(model, *batch, pad_token_id=PAD)


def test_dropout_is_refused_in_training_only() -> None:
    model = prepare(make_model())
    batch = ragged_batch(model)
    model.base_model.language_model.layers[1].self_attn.attention_dropout = 0.1
    verify_shared(model, *batch, pad_token_id=PAD)
    model.train()
    with pytest.raises(ConfigError, match=r"layers\.1\.self_attn has dropout 0\.1"):
        verify_shared(model, *batch, pad_token_id=PAD)
    wrapped = get_peft_model(prepare(make_model()), LoraConfig(target_modules=["q_proj"], lora_dropout=0.05)).train()
    with pytest.raises(ConfigError, match=r"lora_dropout.* has dropout 0\.05"):
        verify_shared(wrapped, *batch, pad_token_id=PAD)


def test_sliding_windows_are_refused() -> None:
    model = make_model()
    model.base_model.language_model.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ConfigError, match="use_sliding_window"):
        install_shared_prefix(model)


def test_verify_shared_is_small() -> None:
    model = prepare(make_model())
    difference = verify_shared(model, *ragged_batch(model), pad_token_id=PAD)
    assert 0 <= difference.logps < TOLERANCE
    assert 0 <= difference.entropy < TOLERANCE


def test_all_rows_masked_out_still_reach_the_parameters() -> None:
    model = prepare(make_model())
    prompt = make_prompt(model, 1, (2, 4, 4), 0.7)
    ids, _ = make_completions([3, 3])
    logps, _, gradients = logps_and_gradients(model, [prompt] * 2, ids, torch.zeros_like(ids), share_prompt=True)
    assert (logps == 0).all()
    assert (gradients == 0).all()


def test_packed_row_has_no_padding_and_scores_every_segment_token() -> None:
    model = make_model()
    prompts, ids, mask = ragged_batch(model)
    rows = pack_rows(prompts, ids, mask)
    lengths = [11, 6, 1, 1, 8]
    assert rows.input_ids.shape[1] == (prompts[0].num_tokens - 1) + 18 + (prompts[3].num_tokens - 1) + 9
    assert rows.labels.shape == (1, sum(lengths))
    first = prompts[0].num_tokens - 1
    assert rows.scored_positions[:18].tolist() == list(range(first, first + 18))
    assert rows.input_ids[0, first] == prompts[0].input_ids[-1]
    assert rows.position_ids[:, 0, first + 1].tolist() == [prompts[0].next_position] * 3
    assert rows.input_ids[0, first + 1 : first + 11].tolist() == ids[0, :10].tolist()
    assert rows.labels[0, :11].tolist() == ids[0].tolist()


def test_sharing_pays_where_it_saves_tokens() -> None:
    def text(num_tokens: int) -> PromptInputs:
        ids = torch.arange(num_tokens)
        return PromptInputs(ids, ids.expand(3, -1), (), "")

    def mask(*lengths: int) -> torch.Tensor:
        return make_completions(lengths)[1]

    long, short = text(100), text(4)
    # 99 + 3 x 10 tokens instead of 3 x 109.
    assert token_counts([long] * 3, mask(10, 10, 10)) == (129, 327)
    # A masked-out row still computes its first token; two groups share apart.
    assert token_counts([long, long, short], mask(5, 0, 7)) == (99 + 6 + 3 + 7, 3 * 104)
    assert sharing_pays([long] * 3, mask(10, 10, 10))
    assert not sharing_pays([long], mask(10))
    assert not sharing_pays([short] * 8, mask(*[64] * 8))
    # Single completions of very different lengths: the packed row has no padding.
    assert sharing_pays([long, short], mask(3, 20))


def test_shapes_that_do_not_fit_are_refused() -> None:
    model = prepare(make_model())
    prompts, ids, mask = ragged_batch(model)
    with pytest.raises(ValueError, match="4 prompts"):
        shared_logps(model, prompts[:4], ids, mask)
