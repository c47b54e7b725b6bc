"""One decoding step of all rows, as little as there is to compute: the text decoder's modules without the forward around them.

A step takes no argument, gives no result and asks the host for nothing: it reads and writes tensors whose addresses stay until
rows are dropped. So a CUDA graph can record it once and repeat it.

Letters: R rows, H query heads, K key heads, D head size.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from videochat_r1.errors import ConfigError
from videochat_r1.modeling.products import prepared, prepared_sum
from videochat_r1.rollout.decoding_rows import DecodingRows
from videochat_r1.rollout.prefix_cache import SharedPrefixCache
from videochat_r1.rollout.sampling import TokenSampler

_LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION_PARTS = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
_OPTIONAL_PARTS = {"q_norm", "k_norm", "rotary_emb"}


class DecodingStep:
    """Draws one token for every row.

    Linear layers and head are `prepared` once for all steps, where adapters and autocast act.

    Args:
        model: plain, in evaluation mode.
        cache: with the prompts.
        rows: nothing drawn yet.
        sampler: how to draw.
    """

    def __init__(
        self, model: PreTrainedModel, cache: SharedPrefixCache, rows: DecodingRows, sampler: TokenSampler
    ) -> None:
        self._text = model.base_model.language_model
        self._cache, self._rows, self._sampler = cache, rows, sampler
        self._table = self._rotations()
        count = len(rows.token)
        self._layers = [_Layer(layer, count) for layer in self._text.layers]
        self._head = prepared([model.get_output_embeddings()], count)

    def _rotations(self) -> torch.Tensor:
        """(places, 2, 1, 1, D) cosines and sines of the rows' places, such that `x cos + swapped halves of x sin` turns x."""
        like = self._text.embed_tokens(self._rows.token[:1])
        cos, sin = self._text.rotary_emb(like, self._rows.positions.unsqueeze(1))
        half = cos.shape[-1] // 2
        return torch.stack([cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)], 1)[:, :, None, None]

    def __call__(self) -> None:
        """One token more for every row."""
        rows, cache = self._rows, self._cache
        hidden = self._text.embed_tokens(rows.token)
        cos, sin = self._table.index_select(0, rows.place).unbind(1)
        cache.own.begin_step()
        for index, layer in enumerate(self._layers):
            hidden = layer.project(self._attend(index, layer, hidden, cos, sin), hidden)
            hidden = layer.mlp(hidden)
        cache.own.end_step()
        logits = self._head(_normed(self._text.norm, hidden))
        rows.record(*self._sampler.draw(logits, rows.noise(), rows.context))

    def _attend(
        self, index: int, layer: "_Layer", hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        """(R, H D) of hidden states (R, hidden size)."""
        together = layer.attended(hidden)
        turned = together[:, :-1]
        torch.addcmul(turned * cos, turned.roll(cos.shape[-1] // 2, -1), sin, out=turned)
        self._cache.own.write(index, together[:, -2:])
        return self._cache.attend(index, together[:, :-2], layer.scaling)


class _Layer:
    """The parts of a decoder layer.

    Args:
        layer: of the model.
        rows: R.
    """

    def __init__(self, layer: Any, rows: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.scaling: float = attention.scaling
        self._head_dim: int = attention.head_dim
        self._norms = layer.input_layernorm, layer.post_attention_layernorm
        self._head_norm = _head_norm(attention) if hasattr(attention, "q_norm") else None
        self._query_key_value = prepared([attention.q_proj, attention.k_proj, attention.v_proj], rows, self._join)
        self.project = prepared_sum(attention.o_proj, rows)
        """Hidden states (R, hidden size), which it may change, and what was attended to, (R, H D)."""
        self._gate, self._up = (prepared([part], rows) for part in (mlp.gate_proj, mlp.up_proj))
        self._down = prepared_sum(mlp.down_proj, rows)
        self._act = mlp.act_fn

    def _join(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(N, H/K + 2, K, D), key heads each with its query heads, its key and its value."""
        query, key, value = (part.unflatten(-1, (-1, self._head_dim)) for part in (query, key, value))
        grouped = query.unflatten(1, (key.shape[1], -1)).transpose(1, 2)
        return torch.cat([grouped, key.unsqueeze(1), value.unsqueeze(1)], 1)

    def attended(self, hidden: torch.Tensor) -> torch.Tensor:
        """Queries, key and value, not yet turned, (R, H/K + 2, K, D), of hidden states (R, hidden size)."""
        together = self._query_key_value(_normed(self._norms[0], hidden))
        if self._head_norm is not None:
            scale, epsilon = self._head_norm
            queries_and_key = together[:, :-1]
            normed = torch.nn.functional.rms_norm(queries_and_key.to(scale.dtype), scale.shape[-1:], None, epsilon)
            torch.mul(normed, scale, out=queries_and_key)
        return together

    def mlp(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (R, hidden size), which it may change, and what the MLP makes of them."""
        normed = _normed(self._norms[1], hidden)
        return self._down(self._act(self._gate(normed)) * self._up(normed), hidden)


def _head_norm(attention: Any) -> tuple[torch.Tensor, float]:
    """(H/K + 1, 1, D) weights of the norms of a key head's query heads and its key, and their epsilon."""
    queries = attention.q_proj.out_features // attention.k_proj.out_features
    scale = torch.stack([*[attention.q_norm.weight] * queries, attention.k_norm.weight]).unsqueeze(1)
    return scale, attention.q_norm.variance_epsilon


def check_decoder(model: PreTrainedModel) -> None:
    """Refuse a text decoder that `DecodingStep` would compute otherwise than the model does.

    Raises:
        ConfigError: a layer or its attention has parts that are not known.
    """
    for layer in model.base_model.language_model.layers:
        for module, needed, optional in (
            (layer, _LAYER_PARTS, set()),
            (layer.self_attn, _ATTENTION_PARTS, _OPTIONAL_PARTS),
            (layer.mlp, _MLP_PARTS, set()),
        ):
            parts = {name for name, _ in module.named_children()}
            if strange := sorted((parts - optional) ^ needed):
                raise ConfigError(
                    f"the decoding step knows {type(module).__name__} with the parts {', '.join(sorted(needed))} and this one "
                    f"differs in {', '.join(strange)}: draw rollouts with vLLM (use_vllm) instead"
                )


def can_record(device: torch.device) -> bool:
    """Whether there is a GPU. Without a driver "cuda" tensors are fake, and start nothing that could be recorded."""
    return device.type == "cuda" and torch.cuda.is_available()


def _normed(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    """RMS norm, on CUDA as one kernel."""
    weight: torch.Tensor = norm.weight
    return torch.nn.functional.rms_norm(hidden.to(weight.dtype), weight.shape, weight, norm.variance_epsilon)


class Recording(Protocol):
    """What `torch.cuda.CUDAGraph` is used for here."""

    def replay(self) -> None:
        """Do again what was recorded."""

    def pool(self) -> Any:
        """The memory that it uses."""


class RecordedStep:
    """The same step, recorded as a CUDA graph and repeated for as long as nothing changes its address or shape.

    Args:
        step: to record.
        version: what changes with addresses and shapes.
    """

    def __init__(self, step: Callable[[], None], version: Callable[[], object]) -> None:
        self._step, self._version = step, version
        self._graph: Recording | None = None
        self._recorded: object = None
        self._seen: object = None

    def __call__(self) -> None:
        """One token more for every row."""
        version = self._version()
        if version != self._seen:
            # Once as it is, so that libraries choose and load their kernels.
            self._seen = version
            self._step()
            return
        if self._graph is None or self._recorded != version:
            # An earlier recording lives until the new one has taken over its memory.
            self._graph, self._recorded = record(self._step, self._graph), version
        self._graph.replay()


def record(step: Callable[[], None], earlier: Recording | None) -> Recording:
    """A graph of what `step` starts, in the memory of an earlier one."""
    graph = torch.cuda.CUDAGraph()
    stream, current = _recording_stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    # Casts of weights made here would be kept for later forwards, which must not read a graph's memory.
    autocast = torch.autocast(
        "cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False
    )
    with torch.cuda.stream(stream), autocast:
        graph.capture_begin(pool=None if earlier is None else earlier.pool(), capture_error_mode="thread_local")
        step()
        graph.capture_end()
    current.wait_stream(stream)
    return graph


@cache
def _recording_stream() -> torch.cuda.Stream:
    """One for all: libraries keep a workspace for every stream."""
    return torch.cuda.Stream()
