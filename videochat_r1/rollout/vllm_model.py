"""Everything that is changed inside vLLM: three replacements, each with its reason."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from vllm.model_executor.layers import utils as vllm_layers
from vllm.platforms import current_platform

from videochat_r1.errors import ConfigError

# Identifiers of the media of a prompt, and its tokens.
_Key = tuple[tuple[str, ...], tuple[int, ...]]


class ModelControls:
    """Positions and temperature of the requests in flight, put into vLLM's model by replacing two of its methods.

    * `get_mrope_input_positions`: vLLM floors (grid step * float32 seconds per grid * tokens per second), so a rate like
      1.7 frames per second, a repeated last frame or a video of several clips gets other positions than the model is
      trained with. Requests bring the trainer's positions instead.
    * `compute_logits`: divides by the temperature, in float32, and requests are sampled at temperature 1. vLLM reports
      log-probabilities either before temperature and suppression or after both; the trainer's are after the temperature
      and before suppression and truncation. Those now are vLLM's "raw" ones.

    Both belong to the interface that vLLM's model runners (V1 and V2) ask the model through, outside compiled graphs.

    Args:
        model: vLLM's model, in this process.

    Raises:
        ConfigError: the model is none of those that have video positions, or normalises pixels itself.
    """

    def __init__(self, model: Any) -> None:
        if not hasattr(model, "get_mrope_input_positions"):
            raise ConfigError(
                f"vLLM loaded {type(model).__name__}, which has no M-RoPE positions; set vllm_model_impl: vllm"
            )
        norm = getattr(model.visual, "input_norm", None)
        if norm is not None and type(norm).__name__ != "IdentityInputNorm":
            raise ConfigError(
                "vLLM would normalise pixels that are normalised already: mm_device_do_normalize must be off"
            )
        self.temperature = 1.0
        self._positions: dict[_Key, torch.Tensor] = {}
        self._used: set[_Key] = set()
        self._own_positions = model.get_mrope_input_positions
        self._own_logits = model.compute_logits
        model.get_mrope_input_positions = self._get_mrope_input_positions
        model.compute_logits = self._compute_logits

    @contextmanager
    def requests(self, temperature: float) -> Iterator[None]:
        """For requests that are made and finished inside.

        Raises:
            ConfigError: on leaving, when vLLM did not ask for the positions of every request.
        """
        self.temperature = temperature
        try:
            yield
            if unused := self._positions.keys() - self._used:
                raise ConfigError(
                    f"vLLM took no positions for {len(unused)} prompts: this release computes them elsewhere. Use vllm 0.32."
                )
        finally:
            self.temperature = 1.0
            self._positions.clear()
            self._used.clear()

    def add_positions(self, identifiers: Sequence[str], input_ids: Sequence[int], position_ids: torch.Tensor) -> None:
        """Positions (3, P) of a prompt, known by the identifiers of its media and its P tokens."""
        self._positions[tuple(identifiers), tuple(input_ids)] = position_ids

    def _get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[torch.Tensor, int]:
        """Positions (3, P), and what has to be added to a completion token's index to give its position."""
        if not mm_features:
            return self._own_positions(input_tokens, mm_features)
        key = (tuple(feature.identifier for feature in mm_features), tuple(input_tokens))
        positions = self._positions[key]
        self._used.add(key)
        return positions, int(positions.max()) + 1 - len(input_tokens)

    def _compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        logits = self._own_logits(hidden_states)
        # Ranks of a tensor-parallel group that do not sample get none.
        return None if logits is None else logits.float().div_(self.temperature)


@contextmanager
def loadable_weights() -> Iterator[None]:
    """For building an engine whose weights will be replaced later.

    vLLM's CPU backend repacks the weights of linear layers into a format that nothing can be loaded into: parameters become
    empty, and a tied head keeps its old copy without saying so. Inside, its layers keep plain weights and compute with
    torch's `linear`. On a GPU nothing is repacked and nothing is changed.
    """
    if not current_platform.is_cpu():
        yield
        return
    original = vllm_layers.dispatch_cpu_unquantized_gemm
    vllm_layers.dispatch_cpu_unquantized_gemm = _plain_linear
    try:
        yield
    finally:
        vllm_layers.dispatch_cpu_unquantized_gemm = original


def _plain_linear(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]
