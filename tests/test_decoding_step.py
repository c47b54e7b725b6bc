"""A decoding step can be recorded and repeated: nothing that changes from step to step is known to the host alone."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from tests.decoding_check import differences
from tests.tiny_prompts import PAD, make_model
from videochat_r1.errors import ConfigError
from videochat_r1.modeling.families import FAMILIES
from videochat_r1.rollout import decoding_step
from videochat_r1.rollout.transformers_engine import TransformersEngine


class Tape(TorchDispatchMode):
    """Records the calls of a step and repeats them on the same tensors, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self._calls:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(out), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def pool(self) -> None:
        return None


def _tensors(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    tree_map_only(torch.Tensor, found.append, tree)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recorded_step_is_the_step(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tapes: list[Tape] = []

    def record(step: Any, earlier: Any) -> Tape:
        tapes.append(Tape())
        before = [tensor.clone() for tensor in _state(step)]
        with tapes[-1]:
            step()
        # Recording computes nothing on a GPU.
        for tensor, old in zip(_state(step), before, strict=True):
            tensor.copy_(old)
        return tapes[-1]

    monkeypatch.setattr(decoding_step, "record", record)
    monkeypatch.setattr("videochat_r1.rollout.transformers_engine.can_record", lambda device: True)
    found = differences(family, torch.float32, torch.device("cpu"))
    assert found["recorded tokens"] == found["generated tokens"] == 0
    assert found["recorded log-probabilities"] < 1e-5
    assert found["the trainer's log-probabilities"] < 1e-5
    # Rows of different lengths were dropped on the way, and each time the step was recorded again.
    assert found["lengths"] > 4
    assert len(tapes) > 6
    assert sum(tape.replays for tape in tapes) > 80


def _state(step: decoding_step.DecodingStep) -> list[torch.Tensor]:
    """What a step leaves behind."""
    own, rows = step._cache.own, step._rows
    parts = [*own.stores, *vars(own).values(), *vars(rows).values()]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def test_a_decoder_of_unknown_parts_is_refused() -> None:
    model = make_model()
    model.base_model.language_model.layers[1].self_attn.gate_proj = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"Attention .* differs in gate_proj"):
        TransformersEngine(model, PAD)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_recorded_step_on_a_gpu(family: str, dtype: torch.dtype) -> None:
    found = differences(family, dtype, torch.device("cuda"))
    exact = dtype == torch.float32
    assert found["recorded tokens"] == 0
    assert found["recorded log-probabilities"] < 1e-5
    assert found["generated tokens"] == 0 or not exact
    assert found["the trainer's log-probabilities"] < (1e-4 if exact else 0.5)
